//! The crash sweep of tenant creation: a fault at every store call and every request. The next call completes the
//! creation, and the result is that of an undisturbed run.

use std::time::Duration;

use atoll_mock_controller::Dialect;
use atoll_testkit::fault::{Fault, FaultPlan};
use atoll_testkit::store::FaultyStore;
use atoll_testkit::transport::FaultyTransport;

use atoll_model::ids::TenantName;
use atoll_network::Engine;
use atoll_store::Store;
use atoll_tenant::admin::{self, Admin};
use atoll_tenant::{Cache, Resolver, TenantError};

use crate::fixture::{DIALECTS, Fixture, engine, namespace};

#[tokio::test(start_paused = true)]
async fn whatever_goes_wrong_the_next_resolution_completes_the_tenant() {
    let who = namespace("red");
    let mut points = 0;
    for dialect in DIALECTS {
        let effects = {
            let (fixture, plan) = (Fixture::new(dialect), FaultPlan::none());
            assert_eq!(disturbed(&fixture, &plan).await, Some(true), "nothing goes wrong");
            fixture.assert_exactly(&["red"], "undisturbed");
            plan.passed()
        };
        let undisturbed = {
            let fixture = Fixture::new(dialect);
            fixture.resolve(&who).await.expect("resolved");
            fixture.keys()
        };
        for (at, effect) in effects.iter().enumerate() {
            for fault in Fault::ALL {
                let context = format!("{dialect:?}: {fault:?} at effect {at} ({effect})");
                let (fixture, plan) = (Fixture::new(dialect), FaultPlan::none());
                plan.arm(at, fault);
                let lived = disturbed(&fixture, &plan).await;
                plan.reset();
                if fault == Fault::LostReply && !effect.contains("read") && !effect.contains("lease") {
                    // A commit or creation with a lost answer is found by a read: no further call is needed.
                    assert_eq!(lived, Some(true), "{context}");
                }
                points += 1;

                let place = fixture.resolve(&who).await.unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_eq!(place.tenant.record, fixture.records("red").1, "{context}");
                fixture.assert_exactly(&["red"], &context);
                assert_eq!(fixture.keys(), undisturbed, "{context}");

                // What was still on its way arrives, and changes nothing that matters.
                plan.deliver_late().await;
                let late = fixture.resolve(&who).await.unwrap_or_else(|error| panic!("late: {context}: {error}"));
                assert_eq!(late.tenant.record.incarnation, place.tenant.record.incarnation, "late: {context}");
                assert_eq!(fixture.keys(), undisturbed, "late: {context}");
                if dialect == Dialect::V5 {
                    // On 1.9 a late request may make a second route like the first, which is harmless.
                    fixture.assert_exactly(&["red"], &format!("late: {context}"));
                }
            }
        }
        println!("{dialect:?}: {} effects", effects.len());
    }
    println!("tenant creation: {points} points covered");
}

/// One resolution that the plan may disturb. None: its process died. True: it succeeded.
async fn disturbed(fixture: &Fixture, plan: &FaultPlan) -> Option<bool> {
    let store = FaultyStore::new(fixture.store.clone(), plan.clone());
    let controller = engine(FaultyTransport::new(fixture.mock.clone(), plan.clone()));
    let cache = Cache::none();
    let resolver =
        Resolver { store: &store, engine: &controller, config: &fixture.config, node: &fixture.node, cache: &cache };
    plan.run(resolver.resolve(&namespace("red"))).await.map(|place| place.is_ok())
}

/// `red` and `blue`, created together; what an earlier call has begun is finished.
async fn create_both<S: Store, E: Engine>(admin: &Admin<'_, S, E>) -> Result<(), TenantError> {
    let names = ["red", "blue"].map(|name| TenantName::new(name).expect("valid"));
    for (name, created) in names.iter().zip(admin::create_together(admin, &names).await?) {
        match created {
            Err(TenantError::Exists { .. }) => drop(admin::repair(admin, name, Duration::from_secs(45)).await?),
            created => drop(created?),
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn whatever_goes_wrong_two_tenants_that_are_created_together_are_completed() {
    let disturbed = async |fixture: &Fixture, plan: &FaultPlan| {
        let store = FaultyStore::new(fixture.store.clone(), plan.clone());
        let controller = engine(FaultyTransport::new(fixture.mock.clone(), plan.clone()));
        let admin = Admin { store: &store, engine: &controller, config: &fixture.config };
        plan.run(create_both(&admin)).await.map(|done| done.is_ok())
    };
    let (fixture, plan) = (Fixture::new(Dialect::V5), FaultPlan::none());
    assert_eq!(disturbed(&fixture, &plan).await, Some(true), "nothing goes wrong");
    fixture.assert_exactly(&["red", "blue"], "undisturbed");
    let (effects, undisturbed) = (plan.passed(), fixture.keys());
    for (at, effect) in effects.iter().enumerate() {
        for fault in Fault::ALL {
            let context = format!("{fault:?} at effect {at} ({effect})");
            let (fixture, plan) = (Fixture::new(Dialect::V5), FaultPlan::none());
            plan.arm(at, fault);
            disturbed(&fixture, &plan).await;
            plan.reset();
            for late in ["", "late: "] {
                let engine = fixture.engine();
                let admin = Admin { store: &fixture.store, engine: &engine, config: &fixture.config };
                create_both(&admin).await.unwrap_or_else(|error| panic!("{late}{context}: {error}"));
                fixture.assert_exactly(&["red", "blue"], &format!("{late}{context}"));
                assert_eq!(fixture.keys(), undisturbed, "{late}{context}");
                if plan.deliver_late().await == 0 {
                    break;
                }
            }
        }
    }
    println!("two tenants: {} points covered", effects.len() * Fault::ALL.len());
}
