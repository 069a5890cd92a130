//! Endpoints that refuse, swallow, freeze or come back, with a real etcd behind one of them. Loopback only.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use atoll_records::{Key, Query, Snapshot};

use atoll_store::{Committed, Compare, Etcd, Limits, Store, StoreChange, StoreError, Txn, Watch, WatchEvent};
use atoll_testkit::etcd::{EtcdServer, config};
use atoll_testkit::process::free_ports;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const LIMITS: Limits = Limits {
    connect: Duration::from_millis(300),
    // Long enough for an endpoint that is there, on a machine that does other things.
    request: Duration::from_secs(2),
    penalty: Duration::from_secs(10),
    answer: 64 << 20,
};

fn store(urls: &[&str]) -> Etcd {
    Etcd::with_limits(&config(urls), LIMITS).expect("the settings are right")
}

fn put(n: u8) -> Txn {
    let key = Key::raw(format!("v2/t/{n}"));
    let then = vec![StoreChange::Put { key: key.clone(), value: vec![n], lease: None }];
    Txn { compare: vec![Compare::Absent(key)], then, read: Vec::new(), otherwise: vec![] }
}

fn get(n: u8) -> Vec<Query> {
    vec![Query::Key(Key::raw(format!("v2/t/{n}")))]
}

async fn is_there(store: &Etcd, n: u8) -> bool {
    let snapshot = store.read(get(n)).await.expect("a read");
    snapshot.entry(&Key::raw(format!("v2/t/{n}"))).expect("asked").is_some()
}

/// An endpoint without a listener.
fn dead() -> String {
    format!("http://127.0.0.1:{}", free_ports::<1>()[0])
}

/// An endpoint whose queue of connections is full: the kernel drops further connections, as a firewall would.
async fn black_hole() -> (String, TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port");
    let listener = socket.listen(0).expect("a listener");
    let address = listener.local_addr().expect("bound");
    let mut held = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
        held.push(stream);
    }
    (format!("http://{address}"), listener, held)
}

/// An endpoint that accepts connections and never answers. A request that was sent to it may have taken effect.
async fn mute() -> (String, TcpListener) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a listener");
    (format!("http://{}", listener.local_addr().expect("bound")), listener)
}

#[tokio::test]
async fn a_dead_endpoint_is_passed_by() {
    let server = EtcdServer::start().await;
    let dead = dead();
    let store = store(&[&dead, &server.url]);
    assert!(matches!(store.commit(put(1)).await, Ok(Committed::Yes(_))));
    assert_eq!(store.preferred(), server.url, "the one that answers is asked first from now on");
    assert!(is_there(&store, 1).await);
}

#[tokio::test]
async fn the_next_process_begins_with_the_one_that_answered() {
    let server = EtcdServer::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let memory = directory.path().join("etcd-endpoint");
    let dead = dead();
    for content in [dead.as_str(), "damaged", &server.url] {
        std::fs::write(&memory, content).expect("works");
        let store = store(&[&dead, &server.url]);
        store.remember(memory.clone());
        assert!(!is_there(&store, 1).await);
        assert_eq!(std::fs::read_to_string(&memory).expect("there"), server.url, "after {content}");
    }
    let store = store(&[&dead, &server.url]);
    store.remember(memory.clone());
    assert_eq!(store.preferred(), server.url);
    let (mute, _listener) = mute().await;
    let store = self::store(&[&mute, &server.url]);
    store.remember(memory);
    assert!(matches!(store.commit(put(1)).await, Ok(Committed::Yes(_))), "it is asked first as well");
    assert_eq!(std::fs::read_dir(directory.path()).expect("there").count(), 1, "nothing is left beside the file");
}

#[tokio::test]
async fn a_black_hole_is_not_waited_for_while_others_answer() {
    let server = EtcdServer::start().await;
    let (hole, _listener, _held) = black_hole().await;
    let store = Etcd::connect(&config(&[&hole, &server.url])).expect("the settings are right");
    // What a DEL has for this: with less haste it would never come to ask the other one.
    let second = Duration::from_secs(1);
    let answer = tokio::time::timeout(second, store.commit(put(1))).await;
    assert!(matches!(answer, Ok(Ok(Committed::Yes(_)))), "{answer:?}");
}

#[tokio::test]
async fn who_keeps_a_caller_waiting_in_vain_is_asked_last_by_the_next_process() {
    let server = EtcdServer::start().await;
    let (mute, _listener) = mute().await;
    let directory = tempfile::tempdir().expect("a directory");
    let process = || {
        let store = Etcd::connect(&config(&[&mute, &server.url])).expect("the settings are right");
        store.remember(directory.path().join("etcd-endpoint"));
        store
    };
    let patience = Duration::from_millis(400);
    // A caller that gives up at once is no evidence against the endpoint.
    for (patience, then) in [(patience / 8, &mute), (patience, &server.url)] {
        let given_up = process();
        assert!(tokio::time::timeout(patience, given_up.read(get(1))).await.is_err(), "no member answers");
        drop(given_up);
        assert_eq!(process().preferred(), then);
    }
    assert!(!is_there(&process(), 1).await);
}

#[tokio::test]
async fn a_black_hole_costs_one_connect_limit_once() {
    let server = EtcdServer::start().await;
    let (hole, _listener, _held) = black_hole().await;
    let store = store(&[&hole, &server.url]);
    let start = Instant::now();
    assert!(matches!(store.commit(put(1)).await, Ok(Committed::Yes(_))));
    let first = start.elapsed();
    assert!((LIMITS.connect..LIMITS.connect * 3).contains(&first), "{first:?}");
    let start = Instant::now();
    assert!(matches!(store.commit(put(2)).await, Ok(Committed::Yes(_))));
    assert!(start.elapsed() < LIMITS.connect / 2, "it is not asked again: {:?}", start.elapsed());
}

#[tokio::test]
async fn no_server_there_is_unavailable_and_names_all() {
    let (hole, _listener, _held) = black_hole().await;
    let dead = dead();
    let store = store(&[&dead, &hole]);
    let start = Instant::now();
    let error = store.commit(put(1)).await.expect_err("no member is reachable");
    assert!(start.elapsed() < LIMITS.connect * 3, "{:?}", start.elapsed());
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    let text = error.to_string();
    for part in [dead.as_str(), &hole, "refused", "300ms"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[tokio::test]
async fn a_commit_without_an_answer_is_unknown_and_not_sent_again() {
    let server = EtcdServer::start().await;
    let (mute, _listener) = mute().await;
    let store = store(&[&mute, &server.url]);
    let error = store.commit(put(1)).await.expect_err("no answer");
    assert!(matches!(&error, StoreError::Unknown { endpoint, .. } if *endpoint == mute), "{error}");
    assert!(error.to_string().contains("no answer within 2s"), "{error}");
    // Asked by another client: a read of this one would find out by itself whom to leave.
    assert!(!is_there(&self::store(&[&server.url]), 1).await, "the other endpoint was not given the commit");
    assert!(matches!(store.commit(put(1)).await, Ok(Committed::Yes(_))), "the next one goes there");
}

#[tokio::test]
async fn a_read_without_an_answer_is_asked_elsewhere() {
    let server = EtcdServer::start().await;
    let (mute, _listener) = mute().await;
    let store = store(&[&mute, &server.url]);
    assert!(!is_there(&store, 1).await);
    assert_eq!(store.preferred(), server.url);
    assert!(store.lease(Duration::from_mins(1)).await.is_ok());
}

#[tokio::test]
async fn what_twice_is_once_is_asked_elsewhere() {
    let server = EtcdServer::start().await;
    let (mute, _listener) = mute().await;
    let ttl = Duration::from_mins(1);
    // Each of them meets the endpoint without an answer first.
    let fresh = || self::store(&[&mute, &server.url]);
    let lease = fresh().lease(ttl).await.expect("a lease");
    assert_eq!(fresh().keep_alive(lease).await, Ok(true));
    assert_eq!(fresh().lease_as(lease, ttl).await, Ok(()));
    assert_eq!(fresh().revoke(lease).await, Ok(()));
    assert_eq!(server.store().keep_alive(lease).await, Ok(false));
}

/// Connects what comes to `listener` with `to`, for as long as the process runs.
fn forward(listener: TcpListener, to: String) {
    let listener = listener.into_std().expect("a listener");
    listener.set_nonblocking(false).expect("our own listener");
    std::thread::spawn(move || {
        for from in listener.incoming().flatten() {
            let to = std::net::TcpStream::connect(&to).expect("the server");
            let copy = |mut from: std::net::TcpStream, mut to: std::net::TcpStream| {
                // It ends with the connection.
                std::thread::spawn(move || drop(std::io::copy(&mut from, &mut to)));
            };
            copy(from.try_clone().expect("a handle"), to.try_clone().expect("a handle"));
            copy(to, from);
        }
    });
}

#[tokio::test]
async fn who_is_slow_to_connect_gets_his_time_when_no_other_is_there() {
    let server = EtcdServer::start().await;
    let (slow, listener, held) = black_hole().await;
    let (other, asked) = mute().await;
    let limits = Limits { connect: Duration::from_secs(20), ..Limits::default() };
    let store = Etcd::with_limits(&config(&[&slow, &other]), limits).expect("the settings are right");
    let opened = async {
        // The other one is asked: the first was left. It takes connections from now on.
        drop(asked.accept().await.expect("a connection"));
        drop(held);
        forward(listener, server.url.trim_start_matches("http://").to_owned());
    };
    let (outcome, ()) = tokio::join!(store.read(get(1)), opened);
    assert!(outcome.is_ok(), "{outcome:?}");
    assert_eq!(store.preferred(), slow);
}

#[tokio::test]
async fn a_member_without_a_leader_is_unavailable_and_commits_are_not_in_doubt() {
    let mut servers = EtcdServer::cluster(3).await;
    let alone = servers.pop().expect("three");
    let store = alone.store();
    assert!(matches!(store.commit(put(1)).await, Ok(Committed::Yes(_))));
    for server in &mut servers {
        server.stop();
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match store.commit(put(2)).await {
            Err(StoreError::Unavailable { reason, .. }) if reason.contains("no leader") => break,
            // It has not detected that yet.
            Err(StoreError::Unknown { .. }) => {
                assert!(Instant::now() < deadline, "it never reports that there is no leader");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_watch_of_a_frozen_etcd_ends_by_itself() {
    let server = EtcdServer::start().await;
    let store = server.store();
    let Ok(Committed::Yes(Snapshot { revision: first, .. })) = store.commit(put(1)).await else {
        panic!("the first commit")
    };
    let mut watch = store.watch(Key::raw("v2/t/"), first).await.expect("a watch");
    server.signal("STOP");
    // The kernel of a frozen process keeps its connections: only a question that is not answered shows it.
    let ended = tokio::time::timeout(Duration::from_mins(1), watch.next()).await;
    server.signal("CONT");
    assert!(matches!(ended, Ok(Err(StoreError::Unavailable { .. }))), "{ended:?}");
    let Ok(Committed::Yes(_)) = store.commit(put(2)).await else { panic!("the second commit") };
    let event = tokio::time::timeout(Duration::from_mins(1), watch.next()).await.expect("in time");
    assert!(matches!(&event, Ok(WatchEvent::Put(entry)) if entry.value == [2]), "{event:?}");
}

/// Two servers that know nothing of each other show which of them is asked.
#[tokio::test]
async fn a_watch_that_broke_goes_on_elsewhere_for_a_while() {
    for (penalty, elsewhere) in [(LIMITS.penalty, true), (Duration::ZERO, false)] {
        let (mut one, other) = (EtcdServer::start().await, EtcdServer::start().await);
        let urls = config(&[&one.url, &other.url]);
        let both = Etcd::with_limits(&urls, Limits { penalty, ..Limits::default() }).expect("the settings are right");
        let Ok(Committed::Yes(Snapshot { revision: first, .. })) = both.commit(put(1)).await else {
            panic!("the first commit")
        };
        let mut watch = both.watch(Key::raw("v2/t/"), first).await.expect("a watch");
        one.restart().await;
        for (server, n) in [(&one, 2), (&other, 3), (&other, 4)] {
            assert!(matches!(server.store().commit(put(n)).await, Ok(Committed::Yes(_))));
        }
        let event = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.expect("in time");
        let expected = if elsewhere { 4 } else { 2 };
        assert!(matches!(&event, Ok(WatchEvent::Put(entry)) if entry.value == [expected]), "{penalty:?}: {event:?}");
    }
}

#[tokio::test]
async fn a_watch_that_is_not_permitted_is_reported() {
    let server = EtcdServer::start().await;
    for line in ["user add root:secret", "user grant-role root root", "auth enable"] {
        // Of all versions only some make the role of root by themselves.
        server.etcdctl(&line.split(' ').collect::<Vec<_>>());
    }
    let store = server.store();
    let read = store.read(get(1)).await;
    assert!(matches!(read, Err(StoreError::Denied(_))), "{read:?}");
    let outcome =
        tokio::time::timeout(Duration::from_secs(20), async { store.watch(Key::raw("v2/t/"), 0).await?.next().await });
    let outcome = outcome.await.expect("in time");
    assert!(matches!(outcome, Err(StoreError::Denied(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_frozen_etcd_makes_commits_unknown_and_reads_unavailable() {
    let server = EtcdServer::start().await;
    let store = store(&[&server.url]);
    assert!(matches!(store.commit(put(1)).await, Ok(Committed::Yes(_))));
    server.signal("STOP");
    let commit = store.commit(put(2)).await;
    let read = store.read(get(1)).await;
    server.signal("CONT");
    assert!(matches!(commit, Err(StoreError::Unknown { .. })), "{commit:?}");
    assert!(matches!(read, Err(StoreError::Unavailable { .. })), "{read:?}");
    // Whether it arrived when etcd woke up is a race: that is what unknown means. Another read resolves it.
    let there = is_there(&store, 2).await;
    let again = store.commit(put(2)).await;
    assert!(matches!((there, &again), (true, Ok(Committed::Lost(_))) | (false, Ok(_))), "{there} {again:?}");
}

#[tokio::test]
async fn connections_and_watches_survive_a_restart() {
    let mut server = EtcdServer::start().await;
    let store = store(&[&dead(), &server.url]);
    let Ok(Committed::Yes(Snapshot { revision: first, .. })) = store.commit(put(1)).await else {
        panic!("the first commit")
    };
    let mut watch = store.watch(Key::raw("v2/t/"), first).await.expect("a watch");
    assert!(matches!(store.commit(put(3)).await, Ok(Committed::Yes(_))));
    let event = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.expect("in time");
    assert!(matches!(&event, Ok(WatchEvent::Put(entry)) if entry.value == [3]), "{event:?}");
    server.stop();
    assert!(matches!(store.read(get(1)).await, Err(StoreError::Unavailable { .. })));
    server.restart().await;
    assert!(is_there(&store, 1).await);
    assert!(matches!(store.commit(put(2)).await, Ok(Committed::Yes(_))));
    let event = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.expect("in time");
    assert!(matches!(&event, Ok(WatchEvent::Put(entry)) if entry.value == [2]), "{event:?}");
}

#[tokio::test]
async fn answers_may_be_larger_than_a_message_usually_is() {
    let server = EtcdServer::start().await;
    // With the usual limits of time: megabytes take theirs.
    let store = server.store();
    for n in 0..6_u8 {
        let then =
            vec![StoreChange::Put { key: Key::raw(format!("v2/t/{n}")), value: vec![n; 1_000_000], lease: None }];
        assert!(store.commit(Txn { then, ..Txn::default() }).await.is_ok());
    }
    let all = Query::all(Key::all());
    let snapshot = store.read(vec![all.clone()]).await.expect("6 MB in one answer");
    let entries = &snapshot.answer(&all).expect("asked").entries;
    assert_eq!(entries.iter().map(|entry| entry.value.len()).sum::<usize>(), 6_000_000);
    let mut watch = store.watch(Key::all(), 1).await.expect("a watch");
    for n in 0..6_u8 {
        let event = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.expect("in time");
        assert!(matches!(&event, Ok(WatchEvent::Put(entry)) if entry.value[0] == n), "event {n}");
    }
}

#[tokio::test]
async fn a_member_reports_its_status() {
    let servers = EtcdServer::cluster(3).await;
    let mut leaders = 0;
    for server in &servers {
        let member = store(&[&server.url]).status().await.expect("an answer");
        assert!(member.has_leader && !member.is_learner && member.troubles.is_empty(), "{member:?}");
        assert!(member.version.starts_with("3.") && member.size > 0, "{member:?}");
        leaders += usize::from(member.is_leader);
    }
    assert_eq!(leaders, 1);
}
