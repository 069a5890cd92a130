//! Hosts that are alive, and hosts that are cut off.

use std::time::Duration;

use atoll_model::ids::HostId;
use atoll_network::{Engine as _, EngineFailure};
use atoll_ovn::ovsdb::{Row, RowOperation, Value};
use atoll_ovn::{Ovn, Switch};
use atoll_testkit::ovn::{MemoryDatabase, Schema, agents};
use tokio::task::JoinSet;
use uuid::Uuid;

const CHASSIS: [&str; 3] = ["c1", "c2", "c3"];

fn host(name: &str) -> HostId {
    HostId::new(name).expect("a host")
}

/// An engine over databases with three chassis, of which `dead` confirm nothing.
async fn engine(dead: &[&str]) -> (Ovn<MemoryDatabase>, MemoryDatabase, JoinSet<()>) {
    let (northbound, southbound) = (MemoryDatabase::new(Schema::Northbound), MemoryDatabase::new(Schema::Southbound));
    agents::init(&northbound, &southbound, &CHASSIS).await;
    let dead = dead.iter().map(|name| (*name).to_owned()).collect();
    let mut chassis = JoinSet::new();
    chassis.spawn(agents::confirm(northbound.clone(), southbound.clone(), dead));
    (Ovn::new(northbound, Some(southbound.clone()), None), southbound, chassis)
}

#[tokio::test(start_paused = true)]
async fn a_chassis_is_alive_if_it_confirms_what_was_asked_now() {
    let (engine, _, _chassis) = engine(&["c2"]).await;
    for (name, alive) in [("c1", Some(true)), ("c2", Some(false)), ("c3", Some(true)), ("c4", None)] {
        let state = engine.host(&host(name)).await.expect("asked");
        assert_eq!(state.map(|state| state.alive), alive, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_is_cut_off_when_all_others_have_confirmed_it() {
    let (engine, southbound, _chassis) = engine(&["c2"]).await;
    engine.cut_off(&host("c2"), Duration::from_secs(30)).await.expect("c1 and c3 confirm it");
    let left: Vec<_> = southbound.rows("Chassis").into_values().collect();
    assert_eq!(left.len(), 2, "{left:?}");
    engine.cut_off(&host("c2"), Duration::from_secs(30)).await.expect("again");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_does_not_confirm_it_is_named() {
    let (engine, _, _chassis) = engine(&["c2", "c3"]).await;
    let error = engine.cut_off(&host("c2"), Duration::from_secs(30)).await.expect_err("c3 is silent");
    assert_eq!(error.failure, EngineFailure::Busy);
    assert!(error.message.contains("c3") && !error.message.contains("c1"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn without_northd_nothing_is_said_of_any_host() {
    let (northbound, southbound) = (MemoryDatabase::new(Schema::Northbound), MemoryDatabase::new(Schema::Southbound));
    agents::init(&northbound, &southbound, &CHASSIS).await;
    let engine = Ovn::new(northbound, Some(southbound), None);
    let error = engine.host(&host("c1")).await.expect_err("northd does not run");
    assert!(error.message.contains("northd"), "{error}");
}

#[tokio::test]
async fn this_machine_is_the_chassis_that_open_vswitch_names() {
    let engine = |switch: Option<MemoryDatabase>| {
        let switch = switch.map(|database| Switch::new(database, "br-int".to_owned()));
        Ovn::new(MemoryDatabase::new(Schema::Northbound), None, switch)
    };
    let database = MemoryDatabase::new(Schema::Switch);
    let row = |ids: Value| RowOperation::Insert {
        table: "Open_vSwitch",
        uuid: Uuid::from_u128(1),
        row: Row::from([("external_ids", ids)]),
    };
    database.execute(&[row(Value::map([("hostname", "node-1")]))]).expect("inserted");
    for switch in [None, Some(database)] {
        let error = engine(switch).own_host_id().await.expect_err("there is none");
        assert_eq!(error.failure, EngineFailure::Settings, "{error}");
        assert!(error.remedy.is_some_and(|remedy| remedy.contains("`hostId`") && remedy.contains("system-id")));
    }
    let database = MemoryDatabase::new(Schema::Switch);
    database.execute(&[row(Value::map([("system-id", "node-1.example")]))]).expect("inserted");
    assert_eq!(engine(Some(database)).own_host_id().await.expect("named"), host("node-1.example"));
}
