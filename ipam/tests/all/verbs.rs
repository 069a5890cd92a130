//! The guarantees of claim, release and tombstones for a single caller, in memory and with a real etcd.

use atoll_testkit::fault::{Fault, FaultPlan};
use atoll_testkit::store::{FaultyStore, MemoryStore};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use atoll_ipam::{
    ClaimRequest, Claimed, Found, IpamError, Released, claim, claims_of, find, put_tombstone, release,
    remove_tombstone, tombstones_of,
};
use atoll_model::error::{Class, Classify};

use atoll_records::{
    AddressRecord, ClaimRecord, CoolDown, FIRST_ENGINE, Key, NodeRecord, Phase, Query, ReservationRecord, SCHEMA,
    TombstoneKind, TombstoneRecord, Unknown,
};
use atoll_store::{Store, StoreChange};
use atoll_testkit::fixture::{Fixture, address, attachment, keys, node_name, put, subnet, tenant_name, write};

const COOL_DOWN: Duration = Duration::from_mins(1);

suite![
    the_same_attachment_gets_the_same_answer,
    what_the_caller_has_cached_is_compared,
    a_full_subnet_is_reported_with_its_figures,
    every_address_is_given_once,
    reservations_are_respected,
    subnets_are_used_when_they_are_ready,
    a_quota_bounds_the_range,
    an_address_in_cool_down_is_reused_oldest_first,
    a_tenant_grows_when_pods_fill_it_and_reuses_early_when_they_only_pass_through,
    a_node_whose_record_changed_learns_that_before_its_claims,
    a_release_frees_what_it_read_and_nothing_else,
    a_release_leaves_what_is_not_its_own,
    tombstones_stand_in_the_way,
    tombstones_are_never_weakened,
    lists_skip_what_is_damaged,
];

fn tombstone(container: &str, kind: TombstoneKind, not_before: u64) -> TombstoneRecord {
    TombstoneRecord {
        v: SCHEMA,
        engine: FIRST_ENGINE.to_owned(),
        kind,
        attachment: attachment(container),
        port: None,
        not_before,
        since: 1,
        note: "a test".to_owned(),
        deletion_sent: false,
        unknown: Unknown::new(),
    }
}

async fn the_same_attachment_gets_the_same_answer(store: impl Store) {
    let fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/24", Phase::Active)]).await;
    let first = fixture.claim(&store, "a").await;
    assert_eq!(first.record.mac, attachment("a").mac());
    assert_eq!(first.record.host_interface, attachment("a").host_interface());
    assert_eq!(first.record.addresses[0].address.prefix(), 24);
    assert_eq!(first.record.addresses[0].gateway, IpAddr::from([10, 128, 0, 1]));
    for _ in 0..3 {
        let again = claim(&store, &fixture.request(&attachment("a"), None)).await.expect("an answer");
        assert_eq!(again, Claimed::Already(first.clone()));
    }
    assert_ne!(address(&fixture.claim(&store, "b").await), address(&first));
    assert_eq!(find(&store, &attachment("a")).await.expect("found").claim, Some(first));
    assert_eq!(find(&store, &attachment("c")).await.expect("found"), Found::default());
}

async fn what_the_caller_has_cached_is_compared(store: impl Store) {
    let fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/24", Phase::Active)]).await;
    for spoil in [
        |fixture: &mut Fixture| fixture.guards.cluster -= 1,
        |fixture: &mut Fixture| fixture.guards.node -= 1,
        |fixture: &mut Fixture| fixture.guards.tenant -= 1,
        |fixture: &mut Fixture| fixture.guards.namespace = Some(0),
        |fixture: &mut Fixture| fixture.guards.namespace = None,
    ] {
        let mut old = fixture.clone();
        spoil(&mut old);
        let answer = claim(&store, &old.request(&attachment("a"), None)).await.expect("an answer");
        let Claimed::Stale(current) = answer else { panic!("{answer:?}") };
        assert_eq!(
            current.cluster.map(|c| (c.record, c.mod_revision)),
            Some((fixture.cluster.clone(), fixture.guards.cluster))
        );
        assert_eq!(current.node.map(|n| n.record), Some(fixture.node.clone()));
        assert_eq!(current.tenant.map(|t| t.mod_revision), Some(fixture.guards.tenant));
        assert_eq!(current.namespace.map(|n| n.mod_revision), fixture.guards.namespace);
    }
    assert_eq!(keys(&store, Key::from(AddressRecord::of_tenant(&tenant_name()))).await, Vec::<String>::new());
    // A runtime that names no namespace is not asked for one.
    let at = attachment("a");
    let mut nameless = fixture.request(&at, None);
    (nameless.namespace, nameless.guards.namespace) = (None, None);
    assert!(matches!(claim(&store, &nameless).await, Ok(Claimed::New(_))));
    // A record that is gone is as good a reason.
    write(&store, vec![StoreChange::delete(NodeRecord::at(&node_name()))]).await;
    let answer = claim(&store, &fixture.request(&attachment("b"), None)).await;
    assert!(matches!(&answer, Ok(Claimed::Stale(current)) if current.node.is_none()), "{answer:?}");
}

async fn every_address_is_given_once(store: impl Store) {
    // More than a window of addresses, to the very last.
    let fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/25", Phase::Active)]).await;
    let mut given = BTreeSet::new();
    for n in 0..125 {
        assert!(given.insert(address(&fixture.claim(&store, &format!("c{n}")).await)), "given twice");
    }
    let expected: BTreeSet<_> = (2..=126).map(|last| IpAddr::from([10, 128, 0, last])).collect();
    assert_eq!(given, expected);
}

async fn a_full_subnet_is_reported_with_its_figures(store: impl Store) {
    let fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/29", Phase::Active)]).await;
    for n in 0..5 {
        fixture.claim(&store, &format!("c{n}")).await;
    }
    let error = claim(&store, &fixture.request(&attachment("x"), None)).await.expect_err("full");
    assert_eq!(error.class(), Class::Exhausted);
    let expected = "tenant red has no free address (10.128.0.0/29: all 5 addresses taken, 0 of them in cool-down)";
    assert_eq!(error.to_string(), expected);
    assert_eq!(find(&store, &attachment("x")).await.expect("found"), Found::default());
}

async fn reservations_are_respected(store: impl Store) {
    let fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/29", Phase::Active)]).await;
    let reserve = |last| {
        let key = Key::from(ReservationRecord::at(&tenant_name(), 0, IpAddr::from([10, 128, 0, last])));
        StoreChange::Put { key, value: Vec::new(), lease: None }
    };
    write(&store, vec![reserve(2), reserve(4), reserve(6)]).await;
    let given: BTreeSet<_> =
        [fixture.claim(&store, "a").await, fixture.claim(&store, "b").await].iter().map(address).collect();
    assert_eq!(given, [3, 5].map(|last| IpAddr::from([10, 128, 0, last])).into());
    assert!(matches!(claim(&store, &fixture.request(&attachment("c"), None)).await, Err(IpamError::Exhausted { .. })));
    // Not even during its cool-down.
    write(&store, vec![reserve(3), reserve(5)]).await;
    let a = find(&store, &attachment("a")).await.expect("found").claim.expect("claimed");
    assert_eq!(release(&store, &a, None, COOL_DOWN).await.expect("released"), Released::Done);
    assert!(matches!(claim(&store, &fixture.request(&attachment("c"), None)).await, Err(IpamError::Exhausted { .. })));
}

async fn subnets_are_used_when_they_are_ready(store: impl Store) {
    let entries = vec![
        subnet(0, "10.128.0.0/30", Phase::Active),
        subnet(1, "10.128.1.0/30", Phase::Active),
        subnet(2, "10.128.2.0/30", Phase::Building),
        subnet(3, "10.128.3.0/32", Phase::Active),
    ];
    let mut fixture = Fixture::new(&store, entries).await;
    // Each has room for one pod: the newest first, then what is left, then none.
    assert_eq!(address(&fixture.claim(&store, "a").await), IpAddr::from([10, 128, 1, 2]));
    assert_eq!(address(&fixture.claim(&store, "b").await), IpAddr::from([10, 128, 0, 2]));
    let full = claim(&store, &fixture.request(&attachment("c"), None)).await;
    assert!(matches!(&full, Err(IpamError::Exhausted { subnets, .. }) if subnets.len() == 2), "{full:?}");
    fixture.tenant.subnets[2].phase = Phase::Active;
    fixture.rewrite_tenant(&store).await;
    let claimed = fixture.claim(&store, "c").await;
    assert_eq!((address(&claimed), claimed.record.addresses[0].ordinal), (IpAddr::from([10, 128, 2, 2]), 2));
    // No subnet, or a tenant that goes: no address.
    fixture.tenant.subnets.iter_mut().for_each(|subnet| subnet.phase = Phase::Building);
    fixture.rewrite_tenant(&store).await;
    let answer = claim(&store, &fixture.request(&attachment("d"), None)).await;
    assert!(matches!(answer, Err(IpamError::NoSubnet { .. })), "{answer:?}");
    fixture.tenant.phase = Phase::Deleting;
    fixture.rewrite_tenant(&store).await;
    let answer = claim(&store, &fixture.request(&attachment("d"), None)).await;
    assert!(matches!(answer, Err(IpamError::Deleting { .. })), "{answer:?}");
}

async fn a_quota_bounds_the_range(store: impl Store) {
    let entries = vec![subnet(0, "10.128.0.0/29", Phase::Active), subnet(1, "10.128.1.0/29", Phase::Active)];
    let mut fixture = Fixture::new(&store, entries).await;
    fixture.tenant.quota.addresses = Some(7);
    fixture.rewrite_tenant(&store).await;
    let mut given = BTreeSet::new();
    for n in 0..7 {
        given.insert(address(&fixture.claim(&store, &format!("c{n}")).await));
    }
    let expected =
        (2..=6).map(|last| IpAddr::from([10, 128, 0, last])).chain([2, 3].map(|last| IpAddr::from([10, 128, 1, last])));
    assert_eq!(given, expected.collect());
    assert!(matches!(claim(&store, &fixture.request(&attachment("x"), None)).await, Err(IpamError::Exhausted { .. })));
}

async fn a_tenant_grows_when_pods_fill_it_and_reuses_early_when_they_only_pass_through(store: impl Store) {
    let fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/29", Phase::Active)]).await;
    let mut claims = Vec::new();
    for n in 0..5 {
        claims.push(fixture.claim(&store, &format!("c{n}")).await);
    }
    let at = attachment("x");
    let growing = ClaimRequest { can_grow: true, ..fixture.request(&at, None) };
    for (live, in_cool_down) in [(5, 0), (4, 1), (3, 2)] {
        if let Some(gone) = claims.get(live) {
            assert_eq!(release(&store, gone, None, COOL_DOWN).await.expect("released"), Released::Done);
        }
        let answer = claim(&store, &growing).await;
        let Err(IpamError::Exhausted { subnets, .. }) = &answer else { panic!("{live} live: {answer:?}") };
        assert_eq!((subnets[0].capacity, subnets[0].cool_down), (5, in_cool_down), "{live} live");
    }
    // Two of five: the third room is no longer worth another subnet, and the oldest address in cool-down is reused.
    assert_eq!(release(&store, &claims[2], None, COOL_DOWN).await.expect("released"), Released::Done);
    let Ok(Claimed::New(reused)) = claim(&store, &growing).await else { panic!("not reused") };
    assert_eq!(address(&reused), address(&claims[4]));
    // Full again, and the tenant cannot grow: the next oldest address is reused.
    assert_eq!(address(&fixture.claim(&store, "y").await), address(&claims[3]));
}

async fn a_node_whose_record_changed_learns_that_before_its_claims(store: impl Store) {
    let fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/29", Phase::Active)]).await;
    let first = fixture.claim(&store, "a").await;
    let mut old = fixture.clone();
    old.guards.node -= 1;
    let at = attachment("a");
    let answer = claim(&store, &old.request(&at, None)).await;
    assert!(matches!(answer, Ok(Claimed::Stale(_))), "{answer:?}");
    // Nor may it take a claim over from a fence.
    put_tombstone(&store, &tombstone("a", TombstoneKind::Fence, 7), None).await.expect("the tombstone is written");
    let fence = find(&store, &at).await.expect("found").tombstone.expect("there").mod_revision;
    let answer = claim(&store, &old.request(&at, Some(fence))).await;
    assert!(matches!(answer, Ok(Claimed::Stale(_))), "{answer:?}");
    let found = find(&store, &at).await.expect("found");
    assert_eq!((found.claim.as_ref(), found.tombstone.map(|t| t.mod_revision)), (Some(&first), Some(fence)));
}

async fn an_address_in_cool_down_is_reused_oldest_first(store: impl Store) {
    let fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/29", Phase::Active)]).await;
    let mut claims = Vec::new();
    for n in 0..4 {
        claims.push(fixture.claim(&store, &format!("c{n}")).await);
    }
    for n in [2, 0] {
        assert_eq!(release(&store, &claims[n], None, COOL_DOWN).await.expect("released"), Released::Done);
    }
    assert_eq!(keys(&store, Key::from(CoolDown::of_subnet(&tenant_name(), 0))).await.len(), 2);
    // One is still free: it goes first. Then the oldest address in cool-down.
    let free = fixture.claim(&store, "d").await;
    assert!(claims.iter().all(|claim| address(claim) != address(&free)));
    assert_eq!(address(&fixture.claim(&store, "e").await), address(&claims[2]));
    assert_eq!(address(&fixture.claim(&store, "f").await), address(&claims[0]));
    assert_eq!(keys(&store, Key::from(CoolDown::of_subnet(&tenant_name(), 0))).await, Vec::<String>::new());
    let error = claim(&store, &fixture.request(&attachment("g"), None)).await.expect_err("full");
    assert!(matches!(error, IpamError::Exhausted { .. }), "{error}");
    // A claim on an address that was reused early is released like any other.
    let f = find(&store, &attachment("f")).await.expect("found").claim.expect("claimed");
    assert_eq!(release(&store, &f, None, Duration::ZERO).await.expect("released"), Released::Done);
    assert_eq!(address(&fixture.claim(&store, "g").await), address(&claims[0]));
}

async fn a_release_frees_what_it_read_and_nothing_else(store: impl Store) {
    let fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/30", Phase::Active)]).await;
    let first = fixture.claim(&store, "a").await;
    assert_eq!(release(&store, &first, None, Duration::ZERO).await.expect("released"), Released::Done);
    assert_eq!(release(&store, &first, None, Duration::ZERO).await.expect("twice is once"), Released::Done);
    assert_eq!(keys(&store, Key::from(AddressRecord::of_tenant(&tenant_name()))).await, Vec::<String>::new());
    // The same attachment, the same and only address, another claim: an old release must not touch it.
    let second = fixture.claim(&store, "a").await;
    assert_eq!(address(&first), address(&second));
    let late = release(&store, &first, None, Duration::ZERO).await.expect("an answer");
    assert_eq!(late, Released::Changed(Found { claim: Some(second.clone()), tombstone: None }));
    assert_eq!(find(&store, &attachment("a")).await.expect("found").claim, Some(second.clone()));
    // A tombstone that the caller has not seen stops it; one that it has seen goes with the claim.
    put_tombstone(&store, &tombstone("a", TombstoneKind::Delete, 0), None).await.expect("the tombstone is written");
    let Released::Changed(found) = release(&store, &second, None, COOL_DOWN).await.expect("an answer") else {
        panic!("done")
    };
    let seen = found.tombstone.expect("the tombstone").mod_revision;
    assert_eq!(release(&store, &second, Some(seen), COOL_DOWN).await.expect("released"), Released::Done);
    assert_eq!(find(&store, &attachment("a")).await.expect("found"), Found::default());
    // The claim is gone already, its tombstone is not.
    let third = fixture.claim(&store, "a").await;
    put_tombstone(&store, &tombstone("a", TombstoneKind::Delete, 0), None).await.expect("the tombstone is written");
    write(&store, vec![StoreChange::delete(ClaimRecord::at(&attachment("a")))]).await;
    let seen =
        find(&store, &attachment("a")).await.expect("found").tombstone.expect("the tombstone is written").mod_revision;
    assert_eq!(release(&store, &third, Some(seen), COOL_DOWN).await.expect("released"), Released::Done);
    assert_eq!(find(&store, &attachment("a")).await.expect("found"), Found::default());
}

async fn a_release_leaves_what_is_not_its_own(store: impl Store) {
    let fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/24", Phase::Active)]).await;
    let (a, b, c) =
        (fixture.claim(&store, "a").await, fixture.claim(&store, "b").await, fixture.claim(&store, "c").await);
    let key = |claim| Key::from(AddressRecord::at(&tenant_name(), 0, address(claim)));
    let read = async |key: Key| {
        let snapshot = store.read(vec![Query::key(&key)]).await.expect("a read");
        snapshot.entry(&key).expect("asked").map(|entry| entry.value.clone())
    };
    // The record of a's address was repaired: same owner, new revision. It is released nevertheless.
    let value = read(key(&a)).await.expect("claimed");
    write(&store, vec![StoreChange::Put { key: key(&a), value: value.clone(), lease: None }]).await;
    // The record of b's address names a, and c's record is damaged: neither is changed.
    write(
        &store,
        vec![
            StoreChange::Put { key: key(&b), value: value.clone(), lease: None },
            StoreChange::Put { key: key(&c), value: b"damaged".to_vec(), lease: None },
        ],
    )
    .await;
    for claim in [&a, &b, &c] {
        assert_eq!(release(&store, claim, None, Duration::ZERO).await.expect("released"), Released::Done);
    }
    assert_eq!(read(key(&a)).await, None);
    assert_eq!(read(key(&b)).await, Some(value));
    assert_eq!(read(key(&c)).await, Some(b"damaged".to_vec()));
    assert_eq!(claims_of(&store, &node_name()).await.expect("a list"), []);
}

async fn tombstones_stand_in_the_way(store: impl Store) {
    let fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/24", Phase::Active)]).await;
    let at = attachment("a");
    put_tombstone(&store, &tombstone("a", TombstoneKind::Fence, 7), None).await.expect("the tombstone is written");
    let Ok(Claimed::Blocked(fence)) = claim(&store, &fixture.request(&at, None)).await else { panic!("not blocked") };
    assert_eq!((fence.record.kind, fence.record.not_before), (TombstoneKind::Fence, 7));
    // A caller that has seen another tombstone has not seen this one.
    let other = claim(&store, &fixture.request(&at, Some(fence.mod_revision - 1))).await;
    assert_eq!(other.expect("an answer"), Claimed::Blocked(fence.clone()));
    let superseding = fixture.request(&at, Some(fence.mod_revision));
    assert!(matches!(claim(&store, &superseding).await, Ok(Claimed::New(_))));
    let found = find(&store, &at).await.expect("found");
    assert_eq!(found.tombstone, None, "superseded");
    // With a claim and a tombstone, the tombstone decides; superseded, the claim stays.
    put_tombstone(&store, &tombstone("a", TombstoneKind::Fence, 8), None).await.expect("the tombstone is written");
    let Ok(Claimed::Blocked(fence)) = claim(&store, &fixture.request(&at, None)).await else { panic!("not blocked") };
    let answer = claim(&store, &fixture.request(&at, Some(fence.mod_revision))).await.expect("an answer");
    assert_eq!(Some(answer), found.claim.clone().map(Claimed::Already));
    assert_eq!(find(&store, &at).await.expect("found"), found);
    // A fence that was removed concurrently is no obstacle.
    let b = attachment("b");
    assert!(matches!(claim(&store, &fixture.request(&b, Some(fence.mod_revision))).await, Ok(Claimed::New(_))));
}

async fn tombstones_are_never_weakened(store: impl Store) {
    let fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/24", Phase::Active)]).await;
    let at = attachment("a");
    let there = async || find(&store, &at).await.expect("found").tombstone.expect("the tombstone is written");
    put_tombstone(&store, &tombstone("a", TombstoneKind::Fence, 100), None).await.expect("the tombstone is written");
    let first = there().await;
    put_tombstone(&store, &tombstone("a", TombstoneKind::Delete, 50), None).await.expect("the tombstone is written");
    assert_eq!(there().await, first, "more was pending already");
    let port = Some(uuid::Uuid::from_u128(9));
    let more = TombstoneRecord { port, ..tombstone("a", TombstoneKind::Delete, 200) };
    put_tombstone(&store, &more, Some(1)).await.expect("written, though it was not the one that was seen");
    let second = there().await;
    assert_eq!((second.record.kind, second.record.port, second.record.not_before), (TombstoneKind::Fence, port, 200));
    // A caller that has read it may replace it.
    put_tombstone(&store, &tombstone("a", TombstoneKind::Delete, 1), Some(second.mod_revision))
        .await
        .expect("replaced");
    let third = there().await;
    assert_eq!((third.record.kind, third.record.not_before), (TombstoneKind::Delete, 1));
    // It goes when it is the one that was seen, and there is no claim.
    assert!(!remove_tombstone(&store, &at, second.mod_revision).await.expect("an answer"));
    assert!(matches!(claim(&store, &fixture.request(&at, None)).await, Ok(Claimed::Blocked(_))));
    assert!(remove_tombstone(&store, &at, third.mod_revision).await.expect("an answer"));
    assert!(remove_tombstone(&store, &at, third.mod_revision).await.expect("gone already"));
    fixture.claim(&store, "a").await;
    put_tombstone(&store, &tombstone("a", TombstoneKind::Delete, 1), None).await.expect("the tombstone is written");
    assert!(!remove_tombstone(&store, &at, there().await.mod_revision).await.expect("an answer"), "there is a claim");
}

async fn lists_skip_what_is_damaged(store: impl Store) {
    let fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/24", Phase::Active)]).await;
    for container in ["a", "b", "c"] {
        fixture.claim(&store, container).await;
        put_tombstone(&store, &tombstone(container, TombstoneKind::Delete, 0), None)
            .await
            .expect("the tombstone is written");
    }
    let damaged = |key| StoreChange::Put { key, value: b"{\"v\":1}".to_vec(), lease: None };
    write(
        &store,
        vec![
            damaged(Key::from(ClaimRecord::at(&attachment("b")))),
            damaged(Key::from(TombstoneRecord::at(&attachment("b")))),
        ],
    )
    .await;
    let node = node_name();
    let claims = claims_of(&store, &node).await.expect("a list");
    assert_eq!(claims.iter().map(|c| c.record.attachment.container.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    let tombstones = tombstones_of(&store, &node, 0).await.expect("a list");
    assert_eq!(tombstones.iter().map(|t| t.record.attachment.container.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(tombstones_of(&store, &node, 1).await.expect("a list").len(), 1);
    // Asked for by name, it is an error that names the key, and nothing is written over it.
    let error = find(&store, &attachment("b")).await.expect_err("damaged");
    assert_eq!(error.class(), Class::Bug);
    assert!(error.to_string().contains("v2/claims/n1/atoll/b/eth0"), "{error}");
    assert!(claim(&store, &fixture.request(&attachment("b"), None)).await.is_err());
    // So is a record of a newer version.
    write(&store, vec![put(Key::from(ClaimRecord::at(&attachment("b"))), &serde_json::json!({"v": SCHEMA + 1}))]).await;
    assert!(find(&store, &attachment("b")).await.is_err());
}

/// The numbers of store calls that the guarantees have.
#[tokio::test]
async fn a_warm_claim_is_one_transaction() {
    let (memory, plan) = (MemoryStore::new(), FaultPlan::none());
    let store = FaultyStore::new(memory.clone(), plan.clone());
    let fixture = Fixture::new(&memory, vec![subnet(0, "10.128.0.0/16", Phase::Active)]).await;
    let calls = async |container: &str| {
        plan.reset();
        fixture.claim(&store, container).await;
        plan.passed().len()
    };
    assert_eq!(calls("first").await, 1);
    // Fill half of it: all three candidates of the first transaction are taken once in eight times.
    let fill = async |percent: u32| {
        let there: BTreeSet<_> = memory.dump().into_iter().map(|entry| entry.key).collect();
        let taken = |n: &u32| (u64::from(*n) * 0x9e37_79b1) % 100 < u64::from(percent);
        let keys = (0..(1 << 16) - 3).filter(taken).map(|n| std::net::Ipv4Addr::from(0x0a80_0002 + n));
        let keys = keys
            .map(|address| Key::from(AddressRecord::at(&tenant_name(), 0, address.into())))
            .filter(|key| !there.contains(key));
        write(&memory, keys.map(|key| StoreChange::Put { key, value: b"{}".to_vec(), lease: None }).collect()).await;
    };
    for (percent, most) in [(50, 1.125), (92, 1.8)] {
        fill(percent).await;
        let mut sum = 0;
        for n in 0..200 {
            sum += calls(&format!("c{percent}-{n}")).await;
        }
        let mean = f64::from(u32::try_from(sum).expect("small")) / 200.0;
        assert!(mean <= most + 0.06, "{percent} %: {mean} calls per claim");
    }
    plan.reset();
    let again = claim(&store, &fixture.request(&attachment("first"), None)).await;
    assert!(matches!(again, Ok(Claimed::Already(_))));
    assert_eq!(plan.passed().len(), 1);
    // A release is one as well, once the lease of the half-minute is there.
    let release_of = async |container: &str| {
        let found = find(&memory, &attachment(container)).await.expect("found").claim.expect("claimed");
        plan.reset();
        release(&store, &found, None, COOL_DOWN).await.expect("released");
        plan.passed().len()
    };
    assert_eq!(release_of("first").await, 3, "a try, the lease, and again");
    let mut counts = Vec::new();
    for n in 0..20 {
        counts.push(release_of(&format!("c50-{n}")).await);
    }
    assert!(counts.iter().filter(|count| **count != 1).count() <= 1, "at most one new half-minute: {counts:?}");
    assert!(memory.leases() <= 3, "one lease per half-minute: {}", memory.leases());
}

/// A /8 costs what a /30 costs: nothing is filled in advance, and nothing is scanned.
#[tokio::test]
async fn every_prefix_from_30_to_8_costs_the_same() {
    for prefix in 8..=30 {
        let (memory, plan) = (MemoryStore::new(), FaultPlan::none());
        let store = FaultyStore::new(memory.clone(), plan.clone());
        let cidr = format!("10.0.0.0/{prefix}");
        let fixture = Fixture::new(&memory, vec![subnet(0, &cidr, Phase::Active)]).await;
        let before = memory.dump().len();
        let claimed = fixture.claim(&store, "a").await;
        assert_eq!((plan.passed().len(), memory.dump().len()), (1, before + 2), "{cidr}");
        let network: ipnetwork::Ipv4Network = cidr.parse().expect("a network");
        let IpAddr::V4(address) = address(&claimed) else { panic!("it is of IPv4") };
        assert!(network.contains(address), "{address} {cidr}");
        assert!(![network.network(), network.broadcast(), [10, 0, 0, 1].into()].contains(&address), "{address}");
    }
}

/// The address is free again when its lease has ended, and not before.
#[tokio::test(start_paused = true)]
async fn an_address_is_free_when_its_cool_down_is_over() {
    let store = MemoryStore::new();
    let fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/29", Phase::Active)]).await;
    let a = fixture.claim(&store, "a").await;
    assert_eq!(release(&store, &a, None, COOL_DOWN).await.expect("released"), Released::Done);
    tokio::time::advance(COOL_DOWN).await;
    assert_eq!(
        keys(&store, Key::from(AddressRecord::of_tenant(&tenant_name()))).await.len(),
        1,
        "it is in cool-down for at least the time"
    );
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(
        keys(&store, Key::from(AddressRecord::of_tenant(&tenant_name()))).await.len(),
        0,
        "and at most a half-minute more"
    );
    assert_eq!(keys(&store, Key::from(CoolDown::of_subnet(&tenant_name(), 0))).await.len(), 0);
}

/// After a lost reply the caller learns the outcome of its request.
#[tokio::test]
async fn lost_replies_are_resolved_by_reading() {
    let (memory, plan) = (MemoryStore::new(), FaultPlan::none());
    let store = FaultyStore::new(memory.clone(), plan.clone());
    let fixture = Fixture::new(&memory, vec![subnet(0, "10.128.0.0/24", Phase::Active)]).await;
    plan.arm(0, Fault::LostReply);
    let claimed = fixture.claim(&store, "a").await;
    assert_eq!(find(&memory, &attachment("a")).await.expect("found").claim, Some(claimed.clone()));
    plan.arm(0, Fault::LostReply);
    put_tombstone(&store, &tombstone("a", TombstoneKind::Delete, 1), None).await.expect("the tombstone is written");
    let seen =
        find(&memory, &attachment("a")).await.expect("found").tombstone.expect("the tombstone is written").mod_revision;
    for at in 0..3 {
        // The try without a lease, the lease, and the release itself.
        plan.arm(at, Fault::LostReply);
        match release(&store, &claimed, Some(seen), COOL_DOWN).await {
            Ok(released) => assert_eq!(released, Released::Done),
            Err(error) => assert_eq!(error.class(), Class::Unavailable, "{error}"),
        }
    }
    assert_eq!(find(&memory, &attachment("a")).await.expect("found"), Found::default());
    plan.arm(0, Fault::Refused);
    let refused = claim(&store, &fixture.request(&attachment("a"), None)).await;
    assert_eq!(refused.expect_err("refused").class(), Class::Unavailable);
    assert_eq!(find(&memory, &attachment("a")).await.expect("found"), Found::default());
}
