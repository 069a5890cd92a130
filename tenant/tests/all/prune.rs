//! Idle tenants are found by two observations; a tenant that is used in between is not among them.

use atoll_testkit::controller::InProcess;
use atoll_testkit::fault::{Fault, FaultPlan};
use atoll_testkit::store::{FaultyStore, MemoryStore};
use atoll_testkit::transport::FaultyTransport;
use std::time::Duration;

use atoll_ipam::{Claimed, release};
use atoll_mock_controller::Dialect;

use atoll_model::ids::TenantName;
use atoll_model::topology::Topology;

use atoll_records::{IdleRecord, Key, decode, encode};

use atoll_network::Engine;
use atoll_store::{Store, StoreChange, Txn};
use atoll_tenant::admin::{self, Admin};
use atoll_tenant::{TenantBinding, TenantError};

use crate::fixture::{Fixture, engine, namespace, request};

fn admin<'a, E: Engine>(fixture: &'a Fixture, controller: &'a E) -> Admin<'a, MemoryStore, E> {
    Admin { store: &fixture.store, engine: controller, config: &fixture.config }
}

/// A recorded observation: the idle tenants, and whether it is known since when.
async fn observe(fixture: &Fixture) -> Vec<(String, bool)> {
    let engine = fixture.engine();
    let idle = admin::idle(&admin(fixture, &engine), true).await.expect("inspected");
    idle.into_iter().map(|idle| (idle.tenant.to_string(), idle.since.is_some())).collect()
}

/// A pod comes and goes.
async fn brief_pod(fixture: &Fixture, binding: &TenantBinding) {
    let attachment = Fixture::attachment(&fixture.node, "brief");
    let answer = atoll_ipam::claim(&fixture.store, &request(binding, &fixture.node, &attachment, false)).await;
    let Ok(Claimed::New(claim)) = answer else { panic!("{answer:?}") };
    release(&fixture.store, &claim, None, Duration::ZERO).await.expect("released");
}

fn marks(fixture: &Fixture) -> Vec<IdleRecord> {
    let entries = fixture.store.dump().into_iter().filter(|entry| entry.key.begins_with(&Key::from(IdleRecord::all())));
    entries.map(|entry| decode(&entry.value).expect("readable")).collect()
}

fn known(names: [(&str, bool); 2]) -> Vec<(String, bool)> {
    names.into_iter().map(|(name, since)| (name.to_owned(), since)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_tenant_is_idle_since_the_first_observation_after_its_last_pod() {
    let fixture = Fixture::new(Dialect::V5);
    fixture.resolve(&namespace("blue")).await.expect("resolved");
    let red = fixture.resolve(&namespace("red")).await.expect("resolved");
    assert_eq!(observe(&fixture).await, known([("blue", false), ("red", false)]), "seen for the first time");
    assert_eq!(observe(&fixture).await, known([("blue", true), ("red", true)]));
    // A pod is created and deleted between two observations.
    brief_pod(&fixture, &red).await;
    assert_eq!(observe(&fixture).await, known([("blue", true), ("red", false)]), "red was used");
    assert_eq!(observe(&fixture).await, known([("blue", true), ("red", true)]));
    // One that is there: not idle, and the mark is gone.
    let attachment = Fixture::attachment(&fixture.node, "lasting");
    atoll_ipam::claim(&fixture.store, &request(&red, &fixture.node, &attachment, false)).await.expect("claimed");
    assert_eq!(observe(&fixture).await, [("blue".to_owned(), true)]);
    assert_eq!(marks(&fixture).len(), 1);
    // An observation that is not recorded changes nothing.
    let (before, engine) = (fixture.store.dump(), fixture.engine());
    admin::idle(&admin(&fixture, &engine), false).await.expect("inspected");
    assert_eq!(fixture.store.dump(), before);
}

#[tokio::test(start_paused = true)]
async fn a_mark_belongs_to_one_incarnation_of_a_tenant_and_goes_with_it() {
    let fixture = Fixture::new(Dialect::V5);
    fixture.resolve(&namespace("red")).await.expect("resolved");
    observe(&fixture).await;
    let (engine, red) = (fixture.engine(), TenantName::new("red").expect("valid"));
    let admin = admin(&fixture, &engine);
    let done = admin::prune(&admin, std::slice::from_ref(&red), Duration::from_secs(45)).await;
    assert!(matches!(done[..], [(_, Ok(()))]), "{done:?}");
    assert_eq!(fixture.made(), Topology::default());
    assert_eq!(format!("{:?}", fixture.keys()), r#"{"cluster": 1, "nodes": 1}"#);

    // A mark of an earlier incarnation does not apply to this one.
    fixture.resolve(&namespace("red")).await.expect("recreated");
    observe(&fixture).await;
    let mut mark = marks(&fixture).remove(0);
    mark.incarnation = atoll_model::ids::Incarnation::random();
    let change = StoreChange::Put { key: Key::from(IdleRecord::at(&red)), value: encode(&mark), lease: None };
    fixture.store.commit(Txn { then: vec![change], ..Txn::default() }).await.expect("memory does not fail");
    assert_eq!(observe(&fixture).await, [("red".to_owned(), false)]);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_is_used_again_is_not_pruned_and_an_operators_is_only_listed() {
    let fixture = Fixture::new(Dialect::V5);
    let (engine, lab) = (fixture.engine(), TenantName::new("lab").expect("valid"));
    let admin = admin(&fixture, &engine);
    admin::create(&admin, &lab).await.expect("created");
    let red = fixture.resolve(&namespace("red")).await.expect("resolved");
    let idle = admin::idle(&admin, true).await.expect("inspected");
    let kept: Vec<_> = idle.iter().map(|idle| (idle.tenant.as_str(), idle.kept)).collect();
    assert_eq!(kept, [("lab", Some("made by an operator")), ("red", None)]);
    let attachment = Fixture::attachment(&fixture.node, "late");
    atoll_ipam::claim(&fixture.store, &request(&red, &fixture.node, &attachment, false)).await.expect("claimed");
    let done = admin::prune(&admin, std::slice::from_ref(&red.tenant.record.name), Duration::ZERO).await;
    assert!(matches!(done[..], [(_, Err(TenantError::InUse { .. }))]), "{done:?}");
    fixture.assert_exactly(&["lab", "red"], "nothing is gone");
}

#[tokio::test(start_paused = true)]
async fn no_failed_observation_makes_a_used_tenant_idle() {
    let effects = {
        let (fixture, plan) = (Fixture::new(Dialect::V5), FaultPlan::none());
        fixture.resolve(&namespace("red")).await.expect("resolved");
        plan.run(disturbed(&fixture, &plan)).await.expect("no call dies");
        plan.passed()
    };
    assert!(effects.len() >= 6, "{effects:?}");
    for (at, effect) in effects.iter().enumerate() {
        for fault in Fault::ALL {
            let context = format!("{fault:?} at effect {at} ({effect})");
            let (fixture, plan) = (Fixture::new(Dialect::V5), FaultPlan::none());
            let binding = fixture.resolve(&namespace("red")).await.expect("resolved");
            plan.arm(at, fault);
            plan.run(disturbed(&fixture, &plan)).await;
            plan.reset();
            // A pod is created and deleted; then requests in flight arrive, or the lease of the dead observation ends.
            brief_pod(&fixture, &binding).await;
            plan.deliver_late().await;
            tokio::time::advance(Duration::from_secs(61)).await;
            let marks = marks(&fixture);
            assert!(marks.iter().all(|mark| !mark.lasting), "{context}: {marks:?}");
            assert_eq!(observe(&fixture).await, [("red".to_owned(), false)], "{context}");
            assert_eq!(observe(&fixture).await, [("red".to_owned(), true)], "{context}");
        }
    }
}

async fn disturbed(fixture: &Fixture, plan: &FaultPlan) {
    let store = FaultyStore::new(fixture.store.clone(), plan.clone());
    let controller = engine(FaultyTransport::<InProcess>::new(fixture.mock.clone(), plan.clone()));
    let admin = Admin { store: &store, engine: &controller, config: &fixture.config };
    // The next observation has to recover from its error.
    drop(admin::idle(&admin, true).await);
}
