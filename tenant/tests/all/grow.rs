//! A tenant that is full gets another subnet: once, however many ask, wherever it fails, until it may not or cannot.

use atoll_testkit::fault::{Fault, FaultPlan};
use atoll_testkit::store::FaultyStore;
use atoll_testkit::transport::FaultyTransport;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use atoll_records::{ClaimRecord, Key, Phase, TenantRecord, Versioned, decode, encode};

use atoll_model::config::Addressing;

use atoll_ipam::{Released, release};
use atoll_mock_controller::Dialect;
use atoll_model::error::{Class, Classify};

use atoll_network::Engine;
use atoll_store::{Store, StoreChange, Txn, Watch as _, WatchEvent};
use atoll_tenant::{Admission, Admitted, Applicant, Cache, Resolver, TenantError};
use futures_util::future::join_all;

use crate::fixture::{DIALECTS, Fixture, Slow, engine, namespace};

/// Pods that a subnet of these fixtures has room for.
const ROOM: usize = 5;

fn fixture(dialect: Dialect) -> Fixture {
    let mut fixture = Fixture::new(dialect);
    fixture.config.subnet_prefix = 29;
    fixture
}

/// A pod gets its address as the plugin does it.
async fn attach<S: Store, E: Engine>(
    resolver: &Resolver<'_, S, E>,
    name: &str,
) -> Result<Versioned<ClaimRecord>, TenantError> {
    let attachment = Fixture::attachment(resolver.node, name);
    let mut admission = Admission::begin(*resolver, namespace("red")).await?;
    let applicant = Applicant {
        attachment: &attachment,
        pod: None,
        pod_uid: None,
        requested: &atoll_model::address_request::NOTHING,
        fence: None,
        deletions_until: 0,
    };
    match admission.claim(applicant).await? {
        Admitted::New(claim) | Admitted::Already(claim) => Ok(claim),
        Admitted::Full(full) => Err(full),
        Admitted::Blocked(tombstone) => panic!("no pod was deleted: {tombstone:?}"),
        Admitted::Refused(error) => Err(TenantError::Contended { what: error.to_string(), attempts: 1 }),
        Admitted::Unsteady => Err(TenantError::Contended { what: "its records changed".to_owned(), attempts: 8 }),
    }
}

async fn attach_here(fixture: &Fixture, name: &str) -> Result<Versioned<ClaimRecord>, TenantError> {
    let (engine, cache) = (fixture.engine(), Cache::none());
    attach(&fixture.resolver(&engine, &cache), name).await
}

/// A fixture whose tenant has one subnet, full of pods.
async fn full(dialect: Dialect) -> Fixture {
    let fixture = fixture(dialect);
    for n in 0..ROOM {
        attach_here(&fixture, &format!("pod-{n}")).await.expect("there is room");
    }
    assert_eq!(fixture.records("red").1.subnets.len(), 1);
    fixture
}

/// The tenant's record, each time it was written.
async fn records(fixture: &Fixture) -> Vec<TenantRecord> {
    let mut watch = fixture.store.watch(Key::from(TenantRecord::all()), 0).await.expect("memory does not fail");
    let mut records = Vec::new();
    while let Ok(event) = tokio::time::timeout(Duration::from_millis(1), watch.next()).await {
        if let WatchEvent::Put(entry) = event.expect("memory does not fail") {
            records.push(decode(&entry.value).expect("readable"));
        }
    }
    records
}

async fn edit(fixture: &Fixture, edit: impl FnOnce(&mut TenantRecord)) {
    let mut record = fixture.records("red").1;
    edit(&mut record);
    let change =
        StoreChange::Put { key: Key::from(TenantRecord::at(&record.name)), value: encode(&record), lease: None };
    fixture.store.commit(Txn { then: vec![change], ..Txn::default() }).await.expect("memory does not fail");
}

#[tokio::test(start_paused = true)]
async fn forty_pods_at_once_grow_their_tenant_by_what_they_need_and_no_more() {
    const PODS: usize = 40;
    for dialect in DIALECTS {
        for seed in 0..12 {
            println!("dialect {dialect:?}, seed {seed}");
            let mut fixture = fixture(dialect);
            let unique = seed % 2 == 0;
            fixture.config.addressing = if unique { Addressing::Unique } else { Addressing::Overlapping };
            let (store, cache) = (Slow::new(fixture.store.clone(), seed), Cache::none());
            let controllers: Vec<_> =
                (0..PODS as u64).map(|n| engine(Slow::new(fixture.mock.clone(), seed * 64 + n))).collect();
            let pods = controllers.iter().enumerate().map(|(n, controller)| {
                let resolver = Resolver {
                    store: &store,
                    engine: controller,
                    config: &fixture.config,
                    node: &fixture.node,
                    cache: &cache,
                };
                async move { attach(&resolver, &format!("pod-{n}")).await }
            });
            let claims: Vec<_> = join_all(pods).await.into_iter().map(|claim| claim.expect("all get one")).collect();
            let addresses: BTreeSet<IpAddr> =
                claims.iter().map(|claim| claim.record.addresses[0].address.ip()).collect();
            assert_eq!(addresses.len(), PODS, "no address twice");
            let grown: Vec<_> = records(&fixture).await.iter().map(|record| record.subnets.len()).collect();
            assert!(grown.is_sorted(), "no subnet was ever lost: {grown:?}");
            assert_eq!(grown.len(), 2 * PODS / ROOM, "each was added once and activated once: {grown:?}");
            let record = fixture.records("red").1;
            assert_eq!(record.subnets.len(), PODS / ROOM, "each subnet was added when the others were full");
            assert!(record.subnets.iter().all(|subnet| subnet.phase == Phase::Active));
            let keys = fixture.keys();
            assert_eq!(keys.get("subnets"), unique.then_some(&(PODS / ROOM)), "{keys:?}");
            assert_eq!(keys.get("build-leases"), None, "{keys:?}");
            if dialect == Dialect::V5 {
                // On 1.9 two builds may make a route twice, which is harmless.
                fixture.assert_exactly(&["red"], "forty pods at once");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_there_is_not_touched_when_a_tenant_grows() {
    for dialect in DIALECTS {
        let fixture = full(dialect).await;
        let (before, plan) = (fixture.made(), FaultPlan::none());
        assert_eq!(disturbed(&fixture, &plan).await, Some(true), "another subnet");
        let after = fixture.made();
        assert!(before.routers.iter().all(|(id, router)| after.routers.get(id) == Some(router)));
        assert!(before.bridges.iter().all(|(id, bridge)| after.bridges.get(id) == Some(bridge)));
        assert!(before.ports.iter().all(|(id, port)| after.ports.get(id) == Some(port)));
        assert!(before.routes.iter().all(|(id, route)| after.routes.get(id) == Some(route)));
        assert_eq!(before.chains, after.chains);
        let requests = plan.passed();
        let changes = |effect: &&String| effect.contains(": DELETE ") || effect.contains(": PUT ");
        assert_eq!(requests.iter().find(changes), None, "{dialect:?}: {requests:?}");
        assert!(requests.iter().any(|effect| effect.contains(": POST ")), "{dialect:?}: {requests:?}");
        fixture.assert_exactly(&["red"], "two subnets");
    }
}

#[tokio::test(start_paused = true)]
async fn wherever_growing_fails_the_next_pod_completes_it() {
    let mut points = 0;
    for dialect in DIALECTS {
        let effects = {
            let (fixture, plan) = (full(dialect).await, FaultPlan::none());
            assert_eq!(disturbed(&fixture, &plan).await, Some(true), "nothing goes wrong");
            plan.passed()
        };
        for (at, effect) in effects.iter().enumerate() {
            for fault in Fault::ALL {
                let context = format!("{dialect:?}: {fault:?} at effect {at} ({effect})");
                let (fixture, plan) = (full(dialect).await, FaultPlan::none());
                plan.arm(at, fault);
                disturbed(&fixture, &plan).await;
                plan.reset();
                points += 1;
                attach_here(&fixture, "next").await.unwrap_or_else(|error| panic!("{context}: {error}"));
                let grown = fixture.records("red").1;
                assert_eq!(grown.subnets.len(), 2, "{context}");
                fixture.assert_exactly(&["red"], &context);
                plan.deliver_late().await;
                attach_here(&fixture, "last").await.unwrap_or_else(|error| panic!("late: {context}: {error}"));
                assert_eq!(fixture.records("red").1, grown, "late: {context}");
                assert_eq!(
                    (fixture.keys()["subnets"], fixture.keys().get("build-leases")),
                    (2, None),
                    "late: {context}"
                );
                if dialect == Dialect::V5 {
                    fixture.assert_exactly(&["red"], &format!("late: {context}"));
                }
            }
        }
        println!("{dialect:?}: {} effects", effects.len());
    }
    println!("growing: {points} points covered");
}

/// One pod that finds its tenant full; the plan may disturb it. None: its process died. True: it got an address.
async fn disturbed(fixture: &Fixture, plan: &FaultPlan) -> Option<bool> {
    let store = FaultyStore::new(fixture.store.clone(), plan.clone());
    let controller = engine(FaultyTransport::new(fixture.mock.clone(), plan.clone()));
    let cache = Cache::none();
    let resolver =
        Resolver { store: &store, engine: &controller, config: &fixture.config, node: &fixture.node, cache: &cache };
    plan.run(attach(&resolver, "disturbed")).await.map(|claim| claim.is_ok())
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_completes_the_growth_of_one_that_died() {
    let fixture = full(Dialect::V5).await;
    let plan = FaultPlan::none();
    // It dies at its first request to the controller: the subnet is in the record, the turn is taken.
    let dying = engine(FaultyTransport::new(fixture.mock.clone(), plan.clone()));
    plan.arm(0, Fault::CrashBefore);
    let cache = Cache::none();
    assert!(plan.run(attach(&fixture.resolver(&dying, &cache), "dying")).await.is_none(), "it died");
    assert_eq!(fixture.records("red").1.subnets[1].phase, Phase::Building);

    let began = tokio::time::Instant::now();
    let controllers: Vec<_> = (0..ROOM as u64).map(|n| engine(Slow::new(fixture.mock.clone(), n))).collect();
    let resolvers: Vec<_> = controllers.iter().map(|controller| fixture.resolver(controller, &cache)).collect();
    let names: Vec<_> = (0..ROOM).map(|n| format!("next-{n}")).collect();
    for claim in join_all(resolvers.iter().zip(&names).map(|(resolver, name)| attach(resolver, name))).await {
        assert_eq!(claim.expect("attached").record.addresses[0].ordinal, 2);
    }
    let waited = began.elapsed().as_secs();
    assert!((1..=11).contains(&waited), "until the dead one's lease ended, and no longer: {waited} s");
    fixture.assert_exactly(&["red"], "completed by another");
}

#[tokio::test]
async fn a_tenant_that_may_not_or_cannot_grow_is_reported_with_its_figures() {
    let fixture = full(Dialect::V5).await;
    edit(&fixture, |record| record.quota.subnets = Some(1)).await;
    let error = attach_here(&fixture, "x").await.expect_err("it may not");
    assert_eq!(
        error.to_string(),
        "tenant red is full: 1 subnet with 5 addresses, 5 in use and 0 in cool-down; quota: 1 subnet"
    );
    assert_eq!(error.class(), Class::Exhausted);
    assert!(error.hint().expect("a hint").contains("atollctl tenant set red --max-subnets"), "{:?}", error.hint());

    // Addresses are counted, too: the second subnet is used in part, a third is not worth it.
    edit(&fixture, |record| (record.quota.subnets, record.quota.addresses) = (None, Some(7))).await;
    for n in 5..7 {
        attach_here(&fixture, &format!("pod-{n}")).await.expect("there is room");
    }
    let error = attach_here(&fixture, "x").await.expect_err("it may not");
    assert_eq!(
        error.to_string(),
        "tenant red is full: 2 subnets with 7 addresses, 7 in use and 0 in cool-down; quota: 7 addresses"
    );
    assert_eq!(fixture.records("red").1.subnets.len(), 2);

    let fixture = fixture_with_two_subnets();
    for n in 0..2 * ROOM {
        attach_here(&fixture, &format!("pod-{n}")).await.expect("there is room");
    }
    let error = attach_here(&fixture, "x").await.expect_err("the pool ends");
    assert_eq!(
        error.to_string(),
        "tenant red is full: 2 subnets with 10 addresses, 10 in use and 0 in cool-down; quota: none"
    );
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    assert_eq!(cause, "no room for tenant red: all 2 subnets of 10.128.0.0/28 are taken");
}

fn fixture_with_two_subnets() -> Fixture {
    let mut fixture = fixture(Dialect::V5);
    fixture.config.pod_cidr = "10.128.0.0/28".parse().expect("valid");
    fixture
}

#[tokio::test]
async fn a_tenant_that_cannot_or_need_not_grow_reuses_addresses_in_cool_down() {
    // It may not grow: addresses in cool-down go to the next pod.
    let fixture = full(Dialect::V5).await;
    edit(&fixture, |record| record.quota.subnets = Some(1)).await;
    let gone = attach_here(&fixture, "pod-0").await.expect("its claim of before");
    let cool = Duration::from_secs(30);
    assert_eq!(release(&fixture.store, &gone, None, cool).await.expect("released"), Released::Done);
    let next = attach_here(&fixture, "next").await.expect("early");
    assert_eq!(next.record.addresses, gone.record.addresses);

    // Most of its addresses are in cool-down: its pods come and go, and it does not grow with them.
    let fixture = fixture_with_two_subnets();
    for n in 0..50 {
        let claim = attach_here(&fixture, &format!("brief-{n}")).await.expect("there is always one");
        assert_eq!(release(&fixture.store, &claim, None, cool).await.expect("released"), Released::Done);
    }
    assert_eq!(fixture.records("red").1.subnets.len(), 1);
}
