//! Claims and releases through a real etcd of three members while leaders are killed, members freeze, and members are
//! cut off from each other: requests fail, are lost and arrive late, and still no address has two owners and nothing is
//! left.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use atoll_records::{
    AddressRecord, ClaimRecord, FIRST_ENGINE, Key, Phase, SCHEMA, TombstoneKind, TombstoneRecord, Unknown, Versioned,
};

use atoll_ipam::{
    Claimed, IpamError, Released, claim, claims_of, find, put_tombstone, release, remove_tombstone, tombstones_of,
};
use atoll_model::attachment::Attachment;
use atoll_model::error::{Class, Classify};
use atoll_store::{Etcd, Limits};
use atoll_testkit::etcd::{Cable, EtcdServer, config};
use atoll_testkit::fixture::{Fixture, address, attachment, keys, node_name, subnet, tenant_name};
use futures_util::future::join_all;
use tokio::time::sleep;

const LIMITS: Limits = Limits {
    connect: Duration::from_millis(300),
    request: Duration::from_millis(800),
    penalty: Duration::from_secs(3),
    answer: 64 << 20,
};

#[derive(Default)]
struct Run {
    /// Who runs on which address.
    alive: RefCell<BTreeMap<IpAddr, Attachment>>,
    over: Cell<bool>,
    cycles: Cell<u32>,
    failures: Cell<u32>,
}

fn fence(at: &Attachment) -> TombstoneRecord {
    TombstoneRecord {
        v: SCHEMA,
        engine: FIRST_ENGINE.to_owned(),
        kind: TombstoneKind::Fence,
        attachment: at.clone(),
        port: None,
        not_before: 0,
        since: 0,
        note: String::new(),
        deletion_sent: false,
        unknown: Unknown::new(),
    }
}

/// Tries until it works: the combination of the runtime's retries and the retry of pending cleanup.
async fn insist<T>(run: &Run, mut attempt: impl AsyncFnMut() -> Result<T, IpamError>) -> T {
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => {
                assert_eq!(error.class(), Class::Unavailable, "{error}");
                run.failures.set(run.failures.get() + 1);
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn give_back(store: &Etcd, claim: &Versioned<ClaimRecord>) -> Result<(), IpamError> {
    match release(store, claim, None, Duration::ZERO).await? {
        Released::Done => Ok(()),
        Released::Changed(found) => panic!("released by another call: {found:?}"),
    }
}

async fn worker(run: &Run, store: &Etcd, fixture: &Fixture, number: usize) {
    for cycle in 0.. {
        if run.over.get() {
            return;
        }
        let at = attachment(&format!("w{number}-{cycle}"));
        match claim(store, &fixture.request(&at, None)).await {
            Ok(Claimed::New(claim)) => {
                let other = run.alive.borrow_mut().insert(address(&claim), at.clone());
                assert_eq!(other, None, "{at} was given the address of a running pod");
                sleep(Duration::from_millis(2)).await;
                let own = run.alive.borrow_mut().remove(&address(&claim));
                assert_eq!(own.as_ref(), Some(&at));
                insist(run, async || give_back(store, &claim).await).await;
                run.cycles.set(run.cycles.get() + 1);
            }
            Ok(other) => panic!("{at}: {other:?}"),
            Err(error) => {
                assert_eq!(error.class(), Class::Unavailable, "{error}");
                run.failures.set(run.failures.get() + 1);
                // It may have taken effect, or may still do so: a fence is put, and this attachment is not used again.
                insist(run, async || put_tombstone(store, &fence(&at), None).await).await;
            }
        }
    }
}

/// Kills the leader twice, brings it back each time, and freezes members for a while.
async fn trouble(run: &Run, servers: &mut [EtcdServer]) {
    for _ in 0..2 {
        sleep(Duration::from_millis(700)).await;
        let leader = servers.iter().position(EtcdServer::is_leader).expect("a leader");
        servers[leader].stop();
        sleep(Duration::from_millis(1500)).await;
        servers[leader].restart().await;
    }
    sleep(Duration::from_millis(500)).await;
    // The leader freezes: another one is elected, and the old one wakes up with pending requests. Then a second member
    // freezes, and with it the majority: no request succeeds, for longer than any timeout.
    let leader = servers.iter().position(EtcdServer::is_leader).expect("a leader");
    servers[leader].signal("STOP");
    sleep(Duration::from_secs(2)).await;
    let other = &servers[(leader + 1) % servers.len()];
    other.signal("STOP");
    sleep(Duration::from_secs(4)).await;
    other.signal("CONT");
    servers[leader].signal("CONT");
    sleep(Duration::from_secs(1)).await;
    run.over.set(true);
}

/// Cuts members off from each other, never from their clients: first the leader from both others, so that two members
/// consider themselves leader; then what the leader sends; then what it receives; a follower; and each from each.
async fn cuts(run: &Run, servers: &[EtcdServer], cable: &Cable) {
    let others = |one: u8| [(one + 1) % 3, (one + 2) % 3];
    let leader = async || loop {
        if let Some(leader) = servers.iter().position(EtcdServer::is_leader) {
            return u8::try_from(leader).expect("few");
        }
        sleep(Duration::from_millis(100)).await;
    };
    let healed = async || {
        cable.heal();
        sleep(Duration::from_millis(800)).await;
    };
    sleep(Duration::from_millis(500)).await;
    let old = leader().await;
    for other in others(old) {
        cable.cut(old, other);
        cable.cut(other, old);
    }
    sleep(Duration::from_millis(2500)).await;
    healed().await;
    let old = leader().await;
    for other in others(old) {
        cable.cut(old, other);
    }
    sleep(Duration::from_secs(2)).await;
    healed().await;
    let old = leader().await;
    for other in others(old) {
        cable.cut(other, old);
    }
    sleep(Duration::from_secs(2)).await;
    healed().await;
    let [follower, _] = others(leader().await);
    for other in others(follower) {
        cable.cut(follower, other);
        cable.cut(other, follower);
    }
    sleep(Duration::from_secs(1)).await;
    healed().await;
    for (from, to) in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)] {
        cable.cut(from, to);
    }
    sleep(Duration::from_secs(3)).await;
    healed().await;
    run.over.set(true);
}

#[tokio::test]
async fn addresses_survive_a_cluster_in_trouble() {
    let mut servers = EtcdServer::cluster(3).await;
    survive(&mut servers, async |run, servers| trouble(run, servers).await).await;
}

#[tokio::test]
async fn addresses_survive_members_that_are_cut_off_from_each_other() {
    // This thread alone leaves the machine's network; the members' namespaces go with the members.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("network namespaces need root");
    let (mut servers, cable) = EtcdServer::apart(3).await;
    survive(&mut servers, async |run, servers| cuts(run, servers, &cable).await).await;
}

/// Nine workers live through it, and in the end nothing is left.
#[expect(clippy::print_stdout, reason = "how much of it there was")]
async fn survive(servers: &mut [EtcdServer], trouble: impl AsyncFnOnce(&Run, &mut [EtcdServer])) {
    let urls: Vec<_> = servers.iter().map(|server| server.url.clone()).collect();
    // Each worker begins with another member.
    let stores: Vec<_> = (0..9)
        .map(|n| {
            let order: Vec<_> = (0..3).map(|step| urls[(n + step) % 3].as_str()).collect();
            Etcd::with_limits(&config(&order), LIMITS).expect("the settings are right")
        })
        .collect();
    // Room for all workers, and for claims with an unknown outcome: they keep their addresses until their fences are
    // resolved.
    let fixture = Fixture::new(&stores[0], vec![subnet(0, "10.128.0.0/26", Phase::Active)]).await;
    let run = Run::default();
    let workers = join_all((0..9).map(|n| worker(&run, &stores[n], &fixture, n)));
    tokio::join!(workers, trouble(&run, servers));

    // The maximum request lifetime is over: the cleanup of a fence is done now.
    sleep(Duration::from_secs(1)).await;
    let store = &stores[0];
    let fences = insist(&run, async || tombstones_of(store, &node_name(), 0).await).await;
    for tombstone in &fences {
        let at = &tombstone.record.attachment;
        let found = insist(&run, async || find(store, at).await).await;
        let seen = tombstone.mod_revision;
        match &found.claim {
            Some(claim) => {
                let released = insist(&run, async || release(store, claim, Some(seen), Duration::ZERO).await).await;
                assert_eq!(released, Released::Done);
            }
            None => assert!(insist(&run, async || remove_tombstone(store, at, seen).await).await),
        }
    }
    println!("{} cycles, {} failures, {} fences", run.cycles.get(), run.failures.get(), fences.len());
    assert!(run.cycles.get() > 50 && run.failures.get() > 0, "there were cycles and failures");
    assert_eq!(claims_of(store, &node_name()).await.expect("a list"), []);
    assert_eq!(keys(store, Key::from(AddressRecord::of_tenant(&tenant_name()))).await, Vec::<String>::new());
    assert_eq!(keys(store, Key::from(TombstoneRecord::all())).await, Vec::<String>::new());
}
