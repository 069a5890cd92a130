//! Several networks that are made together.

use atoll_model::ids::ClusterId;
use atoll_network::conformance::samples::{Families, network};
use atoll_network::{Engine as _, EngineFailure, Network, ProviderNetwork};
use atoll_ovn::Ovn;
use atoll_ovn::ovsdb::{Row, RowOperation, Value};
use atoll_testkit::fault::FaultPlan;
use atoll_testkit::ovn::{FaultyDatabase, MemoryDatabase, Schema};
use uuid::Uuid;

type Engine = Ovn<FaultyDatabase<MemoryDatabase>>;

async fn lab(number: u8) -> (Engine, MemoryDatabase, FaultPlan, Vec<Network>) {
    let (database, plan) = (MemoryDatabase::new(Schema::Northbound), FaultPlan::none());
    let engine = Ovn::new(FaultyDatabase::new("northbound", database.clone(), plan.clone()), None, None);
    let cluster = ClusterId(Uuid::from_u128(0xc));
    engine.ensure_provider(&ProviderNetwork { cluster, uplinks: Vec::new() }).await.expect("made");
    let provider = engine.routers().await.expect("listed")[0].id;
    let networks = (1..=number).map(|tenant| network(provider, tenant, 2, Families::Both)).collect();
    plan.reset();
    (engine, database, plan, networks)
}

fn writes(plan: &FaultPlan) -> usize {
    plan.passed().iter().filter(|effect| effect.contains("write")).count()
}

#[tokio::test]
async fn several_networks_are_one_transaction_and_done_again_none() {
    let (engine, _, plan, networks) = lab(5).await;
    let made = engine.ensure_networks(&networks).await;
    assert_eq!(made.len(), 5);
    for (network, made) in networks.iter().zip(made) {
        assert!(made.expect("made").created > 0, "{}", network.tenant);
        assert_eq!(engine.diff_network(network).await.expect("compared"), [], "{}", network.tenant);
    }
    assert_eq!(writes(&plan), 1, "{:?}", plan.passed());
    let again = engine.ensure_networks(&networks).await;
    assert!(again.into_iter().all(|made| made.is_ok_and(|made| made.created == 0 && made.kept > 0)));
    assert_eq!(writes(&plan), 1, "{:?}", plan.passed());
    assert!(engine.ensure_networks(&[]).await.is_empty());
}

#[tokio::test]
async fn a_network_that_cannot_be_made_does_not_stop_the_others() {
    let (engine, database, _, networks) = lab(3).await;
    // A row of another owner has the identity of the second one's router.
    let foreign = RowOperation::Insert {
        table: "Logical_Router",
        uuid: networks[1].id.router(),
        row: Row::from([("name", Value::one("foreign"))]),
    };
    database.execute(&[foreign]).expect("inserted");
    let made = engine.ensure_networks(&networks).await;
    let failures: Vec<_> = made.iter().map(|made| made.as_ref().err().map(|error| error.failure)).collect();
    assert_eq!(failures, [None, Some(EngineFailure::Conflict), None], "{made:?}");
    let error = made[1].as_ref().expect_err("a conflict").to_string();
    assert!(error.contains(networks[1].tenant.as_str()), "{error}");
}
