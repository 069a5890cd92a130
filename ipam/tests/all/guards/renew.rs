//! A port and its successor: which claims name the derived port and which another one, for how long that is remembered,
//! and which requests of an earlier attachment can still change a claim that was renewed.

use atoll_testkit::store::MemoryStore;
use std::time::Duration;

use atoll_records::{
    ClaimRecord, FIRST_ENGINE, Key, NodeRecord, Phase, SCHEMA, TombstoneKind, TombstoneRecord, Unknown, Versioned,
};

use atoll_ipam::{
    ClaimRequest, Claimed, LateDeletions, Released, claim, find, put_tombstone, release, release_beside, renew,
};
use atoll_testkit::fixture::{Fixture, attachment, put, subnet, write};

/// How long a deletion may be on its way: longer than the cool-down.
const REQUEST_LIFETIME: Duration = Duration::from_mins(4);
const COOL_DOWN: Duration = Duration::from_secs(5);
const LATE: LateDeletions = LateDeletions { until: 77, within: REQUEST_LIFETIME };

async fn scene() -> (MemoryStore, Fixture) {
    let store = MemoryStore::new();
    let fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/24", Phase::Active)]).await;
    (store, fixture)
}

async fn again(store: &MemoryStore, request: &ClaimRequest<'_>) -> Versioned<ClaimRecord> {
    match claim(store, request).await {
        Ok(Claimed::New(claim)) => claim,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_names_a_port_that_no_deletion_names() {
    let (store, fixture) = scene().await;
    let at = attachment("a");
    let derived = at.port(fixture.cluster.id);
    let request = fixture.request(&at, None);
    let first = fixture.claim(&store, "a").await;
    assert_eq!((first.record.port, first.record.deletions_until), (derived, 0));
    release(&store, &first, None, COOL_DOWN).await.expect("released");
    let second = fixture.claim(&store, "a").await;
    assert_eq!((second.record.port, second.record.deletions_until), (derived, 0), "all was answered");

    assert_eq!(release_beside(&store, &second, None, COOL_DOWN, Some(LATE)).await.expect("released"), Released::Done);
    // The cool-down has been over for long.
    tokio::time::advance(REQUEST_LIFETIME).await;
    let third = fixture.claim(&store, "a").await;
    assert_eq!(third.record.deletions_until, LATE.until, "it remembers");
    assert_ne!(third.record.port, derived);
    release_beside(&store, &third, None, COOL_DOWN, Some(LATE)).await.expect("released");
    let fourth = fixture.claim(&store, "a").await;
    assert!(![derived, third.record.port].contains(&fourth.record.port), "each has its own");
    release_beside(&store, &fourth, None, COOL_DOWN, Some(LATE)).await.expect("released");
    tokio::time::advance(REQUEST_LIFETIME + Duration::from_mins(1)).await;
    let fifth = fixture.claim(&store, "a").await;
    assert_eq!((fifth.record.port, fifth.record.deletions_until), (derived, 0), "none can be on its way any more");
    release(&store, &fifth, None, COOL_DOWN).await.expect("released");

    // What the caller knows counts as well.
    let known = again(&store, &ClaimRequest { deletions_until: 5, ..request.clone() }).await;
    assert_eq!(known.record.deletions_until, 5);
    assert_ne!(known.record.port, derived);
    release(&store, &known, None, COOL_DOWN).await.expect("released");
    let evicted = again(&store, &ClaimRequest { was_evicted: true, ..request }).await;
    assert_eq!(evicted.record.deletions_until, 0);
    assert_ne!(evicted.record.port, derived);
}

#[tokio::test(start_paused = true)]
async fn a_renewed_claim_is_another_one_for_a_caller_that_read_it_before() {
    let (store, fixture) = scene().await;
    let (at, cluster) = (attachment("a"), fixture.cluster.id);
    let old = fixture.claim(&store, "a").await;
    let port = at.port_after(cluster, old.record.port);
    let new = renew(&store, &old, fixture.guards.node, port, 9).await.expect("an answer").expect("renewed");
    assert_eq!(new.record, ClaimRecord { port, deletions_until: 9, ..old.record.clone() });
    assert_eq!(find(&store, &at).await.expect("found").claim, Some(new.clone()), "as it was returned");

    // A release and another renewal that were sent before.
    let answer = release(&store, &old, None, COOL_DOWN).await.expect("an answer");
    assert!(matches!(&answer, Released::Changed(found) if found.claim == Some(new.clone())), "{answer:?}");
    // The same renewal again is the one that happened: its answer may have been lost.
    let same = renew(&store, &old, fixture.guards.node, port, 9).await.expect("an answer");
    assert_eq!(same, Some(new.clone()));
    let other = renew(&store, &old, fixture.guards.node, port, 10).await.expect("an answer");
    assert_eq!(other, None, "it would be the work of another call");
    // The same record written again is another claim, too, for a caller that read the one before.
    let touched = renew(&store, &new, fixture.guards.node, port, 9).await.expect("an answer").expect("renewed");
    assert_eq!(touched.record, new.record);
    let answer = release(&store, &new, None, COOL_DOWN).await.expect("an answer");
    assert!(matches!(answer, Released::Changed(_)), "{answer:?}");
    assert_eq!(release(&store, &touched, None, COOL_DOWN).await.expect("an answer"), Released::Done);
    assert_eq!(renew(&store, &touched, fixture.guards.node, port, 9).await.expect("an answer"), None, "it is gone");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_renewed_for_a_node_that_changed_or_under_a_tombstone() {
    let (store, fixture) = scene().await;
    let at = attachment("a");
    let old = fixture.claim(&store, "a").await;
    let port = at.port_after(fixture.cluster.id, old.record.port);
    let tombstone = TombstoneRecord {
        v: SCHEMA,
        engine: FIRST_ENGINE.to_owned(),
        kind: TombstoneKind::Fence,
        attachment: at.clone(),
        port: None,
        not_before: 1,
        since: 0,
        note: String::new(),
        deletion_sent: false,
        unknown: Unknown::new(),
    };
    put_tombstone(&store, &tombstone, None).await.expect("the tombstone is written");
    assert_eq!(renew(&store, &old, fixture.guards.node, port, 9).await.expect("an answer"), None);
    let found = find(&store, &at).await.expect("found");
    assert_eq!(found.claim, Some(old.clone()), "under a tombstone");
    let seen = found.tombstone.expect("there").mod_revision;
    assert_eq!(release(&store, &old, Some(seen), COOL_DOWN).await.expect("an answer"), Released::Done);

    let old = fixture.claim(&store, "a").await;
    write(&store, vec![put(Key::from(NodeRecord::at(&at.node)), &fixture.node)]).await;
    assert_eq!(renew(&store, &old, fixture.guards.node, port, 9).await.expect("an answer"), None);
    assert_eq!(find(&store, &at).await.expect("found").claim, Some(old), "the node is being evicted, or was");
}

#[tokio::test(start_paused = true)]
async fn a_tombstone_never_forgets_that_a_deletion_is_on_its_way() {
    let (store, _) = scene().await;
    let at = attachment("a");
    let record = |kind, deletion_sent| TombstoneRecord {
        v: SCHEMA,
        engine: FIRST_ENGINE.to_owned(),
        kind,
        attachment: at.clone(),
        port: None,
        not_before: 1,
        since: 0,
        note: String::new(),
        deletion_sent,
        unknown: Unknown::new(),
    };
    put_tombstone(&store, &record(TombstoneKind::Fence, false), None).await.expect("the tombstone is written");
    let may_have_deletion =
        async || find(&store, &at).await.expect("found").tombstone.expect("there").record.may_have_deletion();
    assert!(!may_have_deletion().await, "a fence whose deletion was answered");
    put_tombstone(&store, &record(TombstoneKind::Fence, true), None).await.expect("the tombstone is written");
    assert!(may_have_deletion().await);
    put_tombstone(&store, &record(TombstoneKind::Fence, false), None).await.expect("the tombstone is written");
    assert!(may_have_deletion().await, "merged");

    let (store, _) = scene().await;
    put_tombstone(&store, &record(TombstoneKind::Delete, false), None).await.expect("the tombstone is written");
    put_tombstone(&store, &record(TombstoneKind::Fence, false), None).await.expect("the tombstone is written");
    let there = find(&store, &at).await.expect("found").tombstone.expect("there").record;
    assert_eq!((there.kind, there.may_have_deletion()), (TombstoneKind::Fence, true), "it was perhaps being resolved");
}
