//! An unknown outcome is no lost race: the cause that etcd gives reaches the caller, and ends the attempts where it would
//! be given again. What did happen is found all the same.

use atoll_testkit::cell::SyncCell;
use std::net::IpAddr;
use std::time::Duration;

use atoll_ipam::{
    Claimed, IpamError, Lifted, Released, ReserveRequest, claim, lift, put_tombstone, release, remove_tombstone,
    reserve,
};
use atoll_model::error::{Class, Classify};
use atoll_model::ids::{Namespace, PodName};
use atoll_records::{FIRST_ENGINE, Phase, SCHEMA, TombstoneKind, TombstoneRecord, Unknown};
use atoll_testkit::fixture::{Fixture, attachment, subnet, tenant_name};
use atoll_testkit::store::{MemoryStore, unknown_commits};

const COOL_DOWN: Duration = Duration::from_mins(1);
const FULL: &str = "etcdserver: mvcc: database space exceeded";
const PASSING: &str = "etcdserver: leader changed";

async fn fixture(store: &MemoryStore) -> Fixture {
    Fixture::new(store, vec![subnet(0, "10.128.0.0/28", Phase::Active)]).await
}

fn keep(pod: &str) -> ReserveRequest {
    ReserveRequest {
        tenant: tenant_name(),
        address: IpAddr::from([10, 128, 0, 9]),
        namespace: Namespace::new("red").expect("valid"),
        pod: PodName::new(pod).expect("valid"),
        mac: None,
    }
}

fn tombstone() -> TombstoneRecord {
    TombstoneRecord {
        v: SCHEMA,
        engine: FIRST_ENGINE.to_owned(),
        kind: TombstoneKind::Delete,
        attachment: attachment("a"),
        port: None,
        not_before: 0,
        since: 0,
        note: String::new(),
        deletion_sent: false,
        unknown: Unknown::new(),
    }
}

#[track_caller]
fn reports<T: std::fmt::Debug>(
    result: Result<T, IpamError>,
    cause: &str,
    commits: &SyncCell<usize>,
    expected: Option<usize>,
) {
    let error = result.expect_err("nothing can be written");
    let IpamError::Store { source, .. } = &error else { panic!("{error:?}") };
    assert!(source.to_string().contains(cause), "{error}: {source}");
    assert_eq!(error.class(), Class::Unavailable, "{error}");
    if cause == FULL {
        assert!(error.hint().is_some_and(|hint| hint.contains("etcd is full")), "{:?}", error.hint());
    }
    let commits = commits.replace(0);
    assert!(expected.map_or(commits > 1, |expected| commits == expected), "{commits} attempts");
}

#[tokio::test]
async fn the_cause_is_reported_and_ends_attempts_that_cannot_succeed() {
    // A transient cause is retried, and reported if it lasts.
    for (cause, attempts) in [(FULL, Some(1)), (PASSING, None)] {
        let memory = MemoryStore::new();
        let fixture = fixture(&memory).await;
        let running = fixture.claim(&memory, "running").await;
        let kept = match reserve(&memory, &keep("kept"), false).await {
            Ok(atoll_ipam::Reserved::New(record)) => record,
            other => panic!("{other:?}"),
        };
        let (store, commits) = unknown_commits(&memory, cause, false);
        let a = attachment("a");
        reports(claim(&store, &fixture.request(&a, None)).await, cause, &commits, attempts);
        reports(release(&store, &running, None, COOL_DOWN).await, cause, &commits, attempts);
        reports(put_tombstone(&store, &tombstone(), None).await, cause, &commits, attempts);
        let other = ReserveRequest { address: IpAddr::from([10, 128, 0, 10]), ..keep("other") };
        reports(reserve(&store, &other, false).await, cause, &commits, attempts);
        reports(lift(&store, &kept, false).await, cause, &commits, attempts);
        put_tombstone(&memory, &tombstone(), None).await.expect("works");
        let seen = atoll_ipam::find(&memory, &a).await.expect("works").tombstone.expect("there").mod_revision;
        match remove_tombstone(&store, &a, seen).await {
            // It is tried once; the caller reads again.
            Ok(gone) => assert!(cause == PASSING && !gone),
            error => reports(error, cause, &commits, attempts),
        }
    }
}

#[tokio::test]
async fn what_happened_all_the_same_is_found() {
    let memory = MemoryStore::new();
    let fixture = fixture(&memory).await;
    let running = fixture.claim(&memory, "running").await;
    let (store, _) = unknown_commits(&memory, FULL, true);
    let a = attachment("a");
    let claimed = claim(&store, &fixture.request(&a, None)).await;
    assert!(matches!(claimed, Ok(Claimed::New(_) | Claimed::Already(_))), "{claimed:?}");
    assert_eq!(release(&store, &running, None, COOL_DOWN).await.expect("it is released"), Released::Done);
    put_tombstone(&store, &tombstone(), None).await.expect("it is there");
    let reserved = reserve(&store, &keep("kept"), false).await.expect("it is there");
    let (atoll_ipam::Reserved::New(record) | atoll_ipam::Reserved::Already(record)) = reserved;
    assert!(matches!(lift(&store, &record, false).await, Ok(Lifted::Done | Lifted::Already)));
}
