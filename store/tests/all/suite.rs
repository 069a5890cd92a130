//! One suite for every store: what holds of etcd holds of the memory store, or the tests above it prove nothing.

use atoll_testkit::send::sent;
use atoll_testkit::store::MemoryStore;
use std::future::Future;
use std::time::Duration;

use atoll_model::ids::TenantName;
use atoll_records::{AddressRecord, Answer, Entry, Key, Lease, Query, Revision};
use atoll_store::{
    Case, Choice, Chosen, Committed, Compare, Etcd, Store, StoreChange, StoreError, Txn, Watch, WatchEvent,
};
use tokio::time::{Instant, sleep, timeout};

/// A store with what the trait does not offer.
trait Backend {
    type Store: Store + Clone;
    fn store(&self) -> Self::Store;
    /// Forgets the past.
    fn compact(&self, revision: Revision) -> impl Future<Output = ()>;
}

struct InMemory(MemoryStore);

impl Backend for InMemory {
    type Store = MemoryStore;

    fn store(&self) -> MemoryStore {
        self.0.clone()
    }

    async fn compact(&self, _: Revision) {
        self.0.compact();
    }
}

impl Backend for atoll_testkit::etcd::EtcdServer {
    type Store = Etcd;

    fn store(&self) -> Etcd {
        self.store()
    }

    async fn compact(&self, revision: Revision) {
        self.etcdctl(&["compact", &revision.to_string()]);
    }
}

macro_rules! suite {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name(&super::InMemory(super::MemoryStore::new())).await;
            })*
        }
        mod etcd {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&atoll_testkit::etcd::EtcdServer::start().await).await;
            })*
        }
    };
}

suite![
    a_commit_makes_one_revision,
    conditions_hold_or_nothing_happens,
    the_first_case_that_holds_happens,
    a_key_is_changed_at_most_once,
    ranges_are_ordered_and_bounded,
    values_are_any_bytes,
    one_of_many_succeeds,
    a_read_has_one_revision,
    keys_go_with_their_lease,
    leases_expire,
    leases_are_shared_by_name,
    a_watch_misses_nothing,
    a_watch_sees_leases_expire,
    a_watch_survives_compaction,
    the_futures_of_a_store_are_send,
];

fn key(name: &str) -> Key {
    Key::raw(format!("v2/t/{name}"))
}

fn put(name: &str, value: &str) -> StoreChange {
    StoreChange::Put { key: key(name), value: value.as_bytes().to_vec(), lease: None }
}

fn leased(name: &str, lease: Lease) -> StoreChange {
    StoreChange::Put { key: key(name), value: b"leased".to_vec(), lease: Some(lease) }
}

fn delete(name: &str) -> StoreChange {
    StoreChange::Delete(key(name))
}

fn all() -> Query {
    Query::all(Key::raw("v2/t/"))
}

async fn commit(store: &impl Store, then: Vec<StoreChange>) -> Revision {
    match store.commit(Txn { then, ..Txn::default() }).await {
        Ok(Committed::Yes(done)) => done.revision,
        other => panic!("{other:?}"),
    }
}

async fn get(store: &impl Store, name: &str) -> Option<Entry> {
    let snapshot = store.read(vec![Query::Key(key(name))]).await.expect("a read");
    snapshot.entry(&key(name)).expect("asked").cloned()
}

async fn names(store: &impl Store, query: Query) -> (Vec<String>, bool) {
    let snapshot = store.read(vec![query.clone()]).await.expect("a read");
    let Answer { entries, more, .. } = snapshot.answer(&query).expect("asked");
    let name = |entry: &Entry| entry.key.as_str().trim_start_matches("v2/t/").to_owned();
    (entries.iter().map(name).collect(), *more)
}

async fn a_commit_makes_one_revision(backend: &impl Backend) {
    let store = backend.store();
    let first = commit(&store, vec![put("a", "1"), put("b", "1")]).await;
    for name in ["a", "b"] {
        let entry = get(&store, name).await.expect("there");
        assert_eq!((entry.create_revision, entry.mod_revision, entry.lease), (first, first, None));
    }
    let second = commit(&store, vec![put("a", "2"), delete("b"), delete("never")]).await;
    assert_eq!(second, first + 1);
    let a = get(&store, "a").await.expect("there");
    assert_eq!((a.create_revision, a.mod_revision, a.value.as_slice()), (first, second, &b"2"[..]));
    assert_eq!(get(&store, "b").await, None);
    // What changes nothing makes no revision.
    assert_eq!(commit(&store, vec![]).await, second);
    assert_eq!(commit(&store, vec![delete("b")]).await, second);
    // A key that is created again has a new create revision.
    let third = commit(&store, vec![put("b", "2")]).await;
    assert_eq!(get(&store, "b").await.map(|b| b.create_revision), Some(third));
}

async fn conditions_hold_or_nothing_happens(backend: &impl Backend) {
    let store = backend.store();
    let made = commit(&store, vec![put("a", "1")]).await;
    let changed = commit(&store, vec![put("a", "2")]).await;
    let cases = [
        (Compare::Absent(key("a")), false),
        (Compare::Absent(key("b")), true),
        (Compare::Created(key("a"), made), true),
        (Compare::Created(key("a"), changed), false),
        (Compare::Created(key("b"), made), false),
        (Compare::Modified(key("a"), changed), true),
        (Compare::Modified(key("a"), made), false),
        (Compare::Modified(key("b"), made), false),
    ];
    for (one, one_holds) in &cases {
        for (other, other_holds) in &cases {
            let txn = Txn {
                compare: vec![one.clone(), other.clone()],
                then: vec![put("witness", "1")],
                read: Vec::new(),
                otherwise: vec![Query::Key(key("b")), Query::Key(key("a")), all()],
            };
            let before = get(&store, "witness").await;
            let outcome = store.commit(txn).await.expect("an outcome");
            match outcome {
                Committed::Yes(done) => {
                    let revision = done.revision;
                    assert!(*one_holds && *other_holds, "{one:?} {other:?}");
                    assert_eq!(get(&store, "witness").await.map(|w| w.mod_revision), Some(revision));
                }
                Committed::Lost(snapshot) => {
                    assert!(!(*one_holds && *other_holds), "{one:?} {other:?}");
                    assert_eq!(get(&store, "witness").await, before);
                    assert_eq!(snapshot.revision_of(&key("b")).expect("asked"), None);
                    assert_eq!(snapshot.revision_of(&key("a")).expect("asked"), Some(changed));
                    let found = snapshot.answer(&all()).expect("asked").entries.len();
                    assert_eq!(found, 1 + usize::from(before.is_some()));
                    assert!(snapshot.revision >= changed);
                }
            }
        }
    }
}

/// Every pattern of three cases of which each holds or not; all of them change the same key.
async fn the_first_case_that_holds_happens(backend: &impl Backend) {
    let store = backend.store();
    let made = commit(&store, vec![put("a", "1")]).await;
    for pattern in 0..8_u8 {
        let holds = |case: u8| pattern & (1 << case) != 0;
        let case = |case: u8| Case {
            compare: vec![if holds(case) { Compare::Created(key("a"), made) } else { Compare::Absent(key("a")) }],
            then: vec![put("which", &case.to_string()), put(&format!("own/{case}"), &pattern.to_string())],
            // Each case reads something else along, and not the same number of answers.
            read: [Query::Key(key(&format!("own/{case}"))), Query::Key(key("which")), Query::all(key("own/"))]
                .into_iter()
                .take(usize::from(case) + 1)
                .collect(),
        };
        commit(&store, vec![delete("which"), delete("own/0"), delete("own/1"), delete("own/2")]).await;
        let otherwise = vec![Query::Key(key("a")), Query::all(key("own/"))];
        let outcome = store.commit_first(Choice { cases: (0..3).map(case).collect(), otherwise }).await;
        match ((0..3).find(|case| holds(*case)), outcome.expect("an outcome")) {
            (Some(first), Chosen::Case(index, done)) => {
                let revision = done.revision;
                assert_eq!(index, usize::from(first), "{pattern:03b}");
                // What was read along is as it is after the changes.
                let own = key(&format!("own/{first}"));
                let along = done.entry(&own).expect("asked").expect("written");
                assert_eq!((along.value.as_slice(), along.mod_revision), (pattern.to_string().as_bytes(), revision));
                let which = done.entry(&key("which"));
                assert_eq!(which.is_ok(), first >= 1, "{pattern:03b}: what was not asked is no answer");
                if first == 2 {
                    let answer = done.answer(&Query::all(key("own/"))).expect("asked");
                    assert_eq!(answer.entries.iter().map(|entry| &entry.key).collect::<Vec<_>>(), [&own]);
                }
                let which = get(&store, "which").await.expect("written");
                assert_eq!((which.value, which.mod_revision), (first.to_string().into_bytes(), revision));
                assert_eq!(names(&store, Query::keys(key("own/"))).await.0, [format!("own/{first}")]);
            }
            (None, Chosen::Lost(snapshot)) => {
                let a = snapshot.entry(&key("a")).expect("asked");
                assert_eq!(a.map(|a| a.create_revision), Some(made));
                assert_eq!(snapshot.answer(&Query::all(key("own/"))).expect("asked").entries, []);
                assert!(snapshot.revision >= made);
                assert_eq!(get(&store, "which").await, None);
            }
            other => panic!("{pattern:03b}: {other:?}"),
        }
    }
    // Only what happens asks for its lease; and no case at all is a question.
    let gone = Lease(77);
    let cases = vec![
        Case { compare: vec![Compare::Absent(key("a"))], then: vec![leased("b", gone)], read: Vec::new() },
        Case { compare: vec![], then: vec![put("b", "2")], read: Vec::new() },
    ];
    let outcome = store.commit_first(Choice { cases: cases.clone(), otherwise: vec![] }).await;
    assert!(matches!(outcome, Ok(Chosen::Case(1, _))), "{outcome:?}");
    let outcome = store.commit_first(Choice { cases: cases.into_iter().rev().collect(), otherwise: vec![] }).await;
    assert!(matches!(outcome, Ok(Chosen::Case(0, _))), "{outcome:?}");
    let missing =
        Case { compare: vec![Compare::Created(key("a"), made)], then: vec![leased("b", gone)], read: Vec::new() };
    let never = Case { compare: vec![Compare::Absent(key("a"))], then: vec![], read: Vec::new() };
    let outcome = store.commit_first(Choice { cases: vec![never, missing], otherwise: vec![] }).await;
    assert_eq!(outcome, Err(StoreError::LeaseGone(gone)));
    let twice =
        Case { compare: vec![Compare::Absent(key("a"))], then: vec![put("b", "3"), delete("b")], read: Vec::new() };
    let outcome = store.commit_first(Choice { cases: vec![Case::default(), twice], otherwise: vec![] }).await;
    assert!(matches!(outcome, Err(StoreError::Refused(_))), "{outcome:?}");
    let outcome = store.commit_first(Choice { cases: vec![], otherwise: vec![Query::Key(key("a"))] }).await;
    assert!(matches!(&outcome, Ok(Chosen::Lost(snapshot)) if snapshot.entry(&key("a")).is_ok()), "{outcome:?}");
}

async fn a_key_is_changed_at_most_once(backend: &impl Backend) {
    let store = backend.store();
    for then in [vec![put("a", "1"), put("a", "2")], vec![put("a", "1"), delete("a")], vec![delete("a"), delete("a")]] {
        let outcome = store.commit(Txn { then, ..Txn::default() }).await;
        assert!(matches!(outcome, Err(StoreError::Refused(_))), "{outcome:?}");
    }
    assert_eq!(get(&store, "a").await, None);
}

async fn ranges_are_ordered_and_bounded(backend: &impl Backend) {
    let store = backend.store();
    let others = ["v2/s/z", "v2/t", "v2/t0", "v2/t0/x", "v2/u/a"];
    let put_raw = |name: &str| StoreChange::Put { key: Key::raw(name), value: b"x".to_vec(), lease: None };
    commit(&store, others.map(put_raw).into()).await;
    commit(&store, ["m/3", "m/1", "m/2", "n/1", "a"].map(|name| put(name, "value")).into()).await;
    let range = |prefix: &str, from: Option<&str>, limit| Query::Range {
        prefix: Key::raw(format!("v2/t/{prefix}")),
        from: from.map(Key::raw),
        until: None,
        limit,
        keys_only: false,
    };
    let until = |query, end: &str| match query {
        Query::Range { prefix, from, limit, keys_only, .. } => {
            Query::Range { prefix, from, until: Some(Key::raw(format!("v2/{end}"))), limit, keys_only }
        }
        query @ Query::Key(_) => query,
    };
    let cases: [(Query, &[&str], bool); 17] = [
        (range("", None, 0), &["a", "m/1", "m/2", "m/3", "n/1"], false),
        (range("m/", None, 0), &["m/1", "m/2", "m/3"], false),
        (range("m/", None, 2), &["m/1", "m/2"], true),
        (range("m/", None, 3), &["m/1", "m/2", "m/3"], false),
        (range("m/", Some("v2/t/m/2"), 0), &["m/2", "m/3"], false),
        (range("m/", Some("v2/t/m/11"), 1), &["m/2"], true),
        (range("m/", Some("v2/a"), 0), &["m/1", "m/2", "m/3"], false),
        (range("m/", Some("v2/t/n"), 0), &[], false),
        (range("none/", None, 5), &[], false),
        (until(range("m/", None, 0), "t/m/3"), &["m/1", "m/2"], false),
        (until(range("m/", Some("v2/t/m/2"), 0), "t/m/3"), &["m/2"], false),
        (until(range("m/", None, 1), "t/m/3"), &["m/1"], true),
        (until(range("m/", None, 2), "t/m/3"), &["m/1", "m/2"], false),
        (until(range("m/", None, 0), "t/m/1"), &[], false),
        (until(range("m/", Some("v2/t/m/3"), 0), "t/m/2"), &[], false),
        // Never beyond the prefix, nor before it.
        (until(range("m/", None, 0), "t/z"), &["m/1", "m/2", "m/3"], false),
        (until(range("m/", None, 0), "s/z"), &[], false),
    ];
    for (query, expected, expected_more) in cases {
        let (found, more) = names(&store, query.clone()).await;
        assert_eq!(
            (found.iter().map(String::as_str).collect::<Vec<_>>(), more),
            (expected.to_vec(), expected_more),
            "{query:?}"
        );
    }
    let keys_only = Query::keys(key("m/"));
    let with_value = range("m/", None, 1);
    let snapshot = store.read(vec![keys_only.clone(), with_value.clone()]).await.expect("a read");
    let keys = &snapshot.answer(&keys_only).expect("asked").entries;
    assert!(!keys.is_empty() && keys.iter().all(|entry| entry.value.is_empty() && entry.mod_revision > 0));
    assert_eq!(snapshot.answer(&with_value).expect("asked").entries[0].value, b"value");
}

async fn values_are_any_bytes(backend: &impl Backend) {
    let store = backend.store();
    let value: Vec<u8> = (0..=255).collect();
    let change = StoreChange::Put { key: key("bytes%25"), value: value.clone(), lease: None };
    commit(&store, vec![change, put("empty", "")]).await;
    assert_eq!(get(&store, "bytes%25").await.map(|entry| entry.value), Some(value));
    assert_eq!(get(&store, "empty").await.map(|entry| entry.value), Some(Vec::new()));
}

async fn one_of_many_succeeds(backend: &impl Backend) {
    let store = backend.store();
    let tenant = TenantName::new("red").expect("valid");
    let key = Key::from(AddressRecord::at(&tenant, 0, [10, 0, 0, 2].into()));
    let claim = |n: u8| {
        let then = vec![StoreChange::Put { key: key.clone(), value: vec![n], lease: None }];
        store.commit(Txn {
            compare: vec![Compare::Absent(key.clone())],
            then,
            read: Vec::new(),
            otherwise: vec![Query::key(&key)],
        })
    };
    let outcomes = futures_util::future::join_all((0..16).map(claim)).await;
    let mut winners = Vec::new();
    let mut seen = Vec::new();
    for (n, outcome) in (0_u8..).zip(outcomes) {
        match outcome.expect("an outcome") {
            Committed::Yes(_) => winners.push(n),
            Committed::Lost(snapshot) => {
                seen.push(snapshot.entry(&key).expect("asked").expect("the winner's").value[0]);
            }
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(seen, vec![winners[0]; 15]);
}

async fn a_read_has_one_revision(backend: &impl Backend) {
    let store = backend.store();
    let write = async {
        for n in 0..100 {
            commit(&store, vec![put("x", &n.to_string()), put("y", &n.to_string())]).await;
            tokio::task::yield_now().await;
        }
    };
    let read = async {
        for _ in 0..100 {
            let snapshot = store.read(vec![Query::Key(key("x")), Query::Key(key("y"))]).await.expect("a read");
            let value = |name| snapshot.entry(&key(name)).expect("asked").map(|entry| entry.value.clone());
            assert_eq!(value("x"), value("y"));
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(write, read);
}

async fn keys_go_with_their_lease(backend: &impl Backend) {
    let store = backend.store();
    let [one, two] = [store.lease(Duration::from_mins(1)).await, store.lease(Duration::from_mins(1)).await];
    let (one, two) = (one.expect("a lease"), two.expect("a lease"));
    assert_ne!(one, two);
    commit(&store, vec![leased("a", one), leased("b", one), leased("c", two), leased("d", one)]).await;
    assert_eq!(get(&store, "a").await.and_then(|entry| entry.lease), Some(one));
    // Written again without it, or with another, a key no longer goes with the first.
    let last = commit(&store, vec![put("b", "free"), leased("d", two)]).await;
    store.revoke(one).await.expect("revoked");
    assert_eq!(names(&store, all()).await.0, ["b", "c", "d"]);
    let now = store.read(vec![all()]).await.expect("a read").revision;
    assert_eq!(now, last + 1, "the keys of a lease go at one revision");
    store.revoke(one).await.expect("twice is once");
    assert_eq!(store.keep_alive(one).await, Ok(false));
    assert_eq!(store.keep_alive(two).await, Ok(true));
    let gone = store.commit(Txn { then: vec![leased("e", one)], ..Txn::default() }).await;
    assert_eq!(gone, Err(StoreError::LeaseGone(one)));
    // etcd does not report which of several is gone.
    let second = store.commit(Txn { then: vec![leased("e", two), leased("f", one)], ..Txn::default() }).await;
    assert_eq!(second, Err(StoreError::LeaseGone(two)));
    assert!(get(&store, "e").await.is_none());
    // A lost transaction never asks for its lease.
    let lost = Txn {
        compare: vec![Compare::Absent(key("b"))],
        then: vec![leased("e", one)],
        read: Vec::new(),
        otherwise: vec![],
    };
    assert!(matches!(store.commit(lost).await, Ok(Committed::Lost(_))));
}

async fn leases_expire(backend: &impl Backend) {
    let store = backend.store();
    let ttl = Duration::from_secs(3);
    let (short, kept) = (store.lease(ttl).await.expect("a lease"), store.lease(ttl).await.expect("a lease"));
    let start = Instant::now();
    commit(&store, vec![leased("short", short), leased("kept", kept)]).await;
    while get(&store, "short").await.is_some() {
        assert!(start.elapsed() < 5 * ttl, "it does not expire");
        assert_eq!(store.keep_alive(kept).await, Ok(true));
        sleep(Duration::from_millis(100)).await;
    }
    assert!(start.elapsed() + Duration::from_millis(500) >= ttl, "{:?}", start.elapsed());
    assert!(get(&store, "kept").await.is_some());
    assert_eq!(store.keep_alive(short).await, Ok(false));
}

async fn leases_are_shared_by_name(backend: &impl Backend) {
    let store = backend.store();
    let name = Lease(0x1234_5678_9abc_def0);
    let ttl = Duration::from_mins(1);
    let early = store.commit(Txn { then: vec![leased("a", name)], ..Txn::default() }).await;
    assert_eq!(early, Err(StoreError::LeaseGone(name)));
    store.lease_as(name, ttl).await.expect("made");
    commit(&store, vec![leased("a", name)]).await;
    store.lease_as(name, ttl).await.expect("there already");
    assert_eq!(get(&store, "a").await.and_then(|entry| entry.lease), Some(name));
    store.revoke(name).await.expect("revoked");
    assert_eq!(get(&store, "a").await, None);
    assert!(matches!(store.lease_as(Lease(0), ttl).await, Err(StoreError::Refused(_))));
    assert!(matches!(store.lease_as(Lease(-1), ttl).await, Err(StoreError::Refused(_))));
}

async fn next(watch: &mut impl Watch) -> WatchEvent {
    timeout(Duration::from_secs(20), watch.next()).await.expect("an event in time").expect("an event")
}

async fn a_watch_misses_nothing(backend: &impl Backend) {
    let store = backend.store();
    let before = commit(&store, vec![put("w/before", "0")]).await;
    let first = commit(&store, vec![put("w/a", "1"), put("other", "1"), put("w/b", "1")]).await;
    let mut watch = store.watch(key("w/"), before).await.expect("a watch");
    let second = commit(&store, vec![delete("w/a"), put("other", "2")]).await;
    let third = commit(&store, vec![put("w/b", "2")]).await;
    let put_of = |name: &str, value: &str, created, modified| {
        WatchEvent::Put(Entry {
            key: key(name),
            value: value.as_bytes().to_vec(),
            create_revision: created,
            mod_revision: modified,
            lease: None,
        })
    };
    assert_eq!(next(&mut watch).await, put_of("w/a", "1", first, first));
    // Dropping a wait does not lose what comes after it.
    assert_eq!(next(&mut watch).await, put_of("w/b", "1", first, first));
    assert_eq!(next(&mut watch).await, WatchEvent::Delete(key("w/a"), second));
    assert_eq!(next(&mut watch).await, put_of("w/b", "2", first, third));
    assert!(timeout(Duration::from_millis(300), watch.next()).await.is_err(), "nothing happened");
    commit(&store, vec![delete("other")]).await;
    let fourth = commit(&store, vec![put("w/c", "1")]).await;
    assert_eq!(next(&mut watch).await, put_of("w/c", "1", fourth, fourth));
}

async fn a_watch_sees_leases_expire(backend: &impl Backend) {
    let store = backend.store();
    let lease = store.lease(Duration::from_secs(2)).await.expect("a lease");
    let made = commit(&store, vec![leased("w/a", lease)]).await;
    let mut watch = store.watch(key("w/"), made).await.expect("a watch");
    assert_eq!(next(&mut watch).await, WatchEvent::Delete(key("w/a"), made + 1));
}

async fn a_watch_survives_compaction(backend: &impl Backend) {
    let store = backend.store();
    let first = commit(&store, vec![put("w/a", "1")]).await;
    commit(&store, vec![put("w/a", "2"), put("other", "1")]).await;
    let last = commit(&store, vec![put("w/b", "1")]).await;
    backend.compact(last).await;
    let mut watch = store.watch(key("w/"), first).await.expect("a watch");
    let WatchEvent::Resync(snapshot) = next(&mut watch).await else { panic!("a resync is due") };
    let all = snapshot.answer(&Query::all(key("w/"))).expect("asked");
    let found: Vec<_> = all.entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!((snapshot.revision, found), (last, vec!["v2/t/w/a", "v2/t/w/b"]));
    let later = commit(&store, vec![delete("w/a")]).await;
    assert_eq!(next(&mut watch).await, WatchEvent::Delete(key("w/a"), later));
    // Compaction of what a watch has seen does not concern it.
    backend.compact(later).await;
    let later = commit(&store, vec![delete("w/b")]).await;
    assert_eq!(next(&mut watch).await, WatchEvent::Delete(key("w/b"), later));
}

/// A runtime with several threads can move every call, of any store.
async fn the_futures_of_a_store_are_send(backend: &impl Backend) {
    let (store, ttl) = (backend.store(), Duration::from_mins(1));
    let lease = sent(store.lease(ttl)).await.expect("granted");
    sent(store.lease_as(lease, ttl)).await.expect("it is there");
    assert_eq!(sent(store.keep_alive(lease)).await, Ok(true));
    let before = sent(store.read(vec![all()])).await.expect("a read").revision;
    let txn = Txn { then: vec![leased("a", lease)], ..Txn::default() };
    sent(store.commit(txn.clone())).await.expect("committed");
    sent(store.commit_first(txn.into())).await.expect("committed");
    let mut watch = sent(store.watch(key(""), before)).await.expect("watched");
    assert!(matches!(sent(watch.next()).await, Ok(WatchEvent::Put(_))));
    sent(store.revoke(lease)).await.expect("revoked");
}
