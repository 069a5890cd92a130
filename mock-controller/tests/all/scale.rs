//! A hundred thousand ports: the cost of a request depends on its answer, not on the number of objects.

use std::collections::BTreeMap;

use atoll_mock_controller::state::objects::{Bridge, DeviceFields};
use atoll_mock_controller::state::visited;
use atoll_mock_controller::{Dialect, MockController, MockSettings, Tables};
use serde_json::json;
use uuid::Uuid;

use crate::fixture::{Fixture, bare_port, id};

/// Tenants of 100 ports each, beside the initial objects.
fn full(tenants: u128) -> Tables {
    let mut tables = Fixture::new(Dialect::V5).mock.dump();
    for tenant in 0..tenants {
        let bridge = Uuid::from_u128(1 << 100 | tenant);
        let device = DeviceFields { tenant: Some(format!("t{tenant}")), up: true, ..DeviceFields::default() };
        tables.bridges.insert(bridge, Bridge { device, ..Bridge::default() });
        for port in 0..100 {
            let key = u32::try_from(tenant * 100 + port + 2).expect("small");
            tables.ports.insert(Uuid::from_u128(2 << 100 | u128::from(key)), bare_port(bridge, key));
        }
    }
    tables
}

/// The rows that all requests for a pod read on a controller with this many tenants.
fn rows_read(tenants: u128) -> BTreeMap<&'static str, u64> {
    let fixture = Fixture::new(Dialect::V5);
    *fixture.mock.controller() = MockController::with_tables(MockSettings::default(), full(tenants));
    let bridge = Uuid::from_u128(1 << 100);
    let mut rows = BTreeMap::new();
    let mut counted = |what, act: &mut dyn FnMut()| {
        let before = visited();
        act();
        rows.insert(what, visited() - before);
    };
    let port = id(1);
    let body = json!({ "id": port, "type": "Bridge" });
    counted("create", &mut || assert_eq!(fixture.post(&format!("/bridges/{bridge}/ports"), &body).created(), port));
    counted("bind", &mut || assert_eq!(fixture.bind(fixture.host(), port, "v0").status, 201));
    counted("poll", &mut || assert_eq!(fixture.port(port)["active"], true));
    counted("list of a bridge", &mut || assert_eq!(fixture.list(&format!("/bridges/{bridge}/ports")).len(), 101));
    counted("list of a tenant", &mut || assert_eq!(fixture.ids("/bridges?tenant_id=t0").len(), 1));
    counted("list of a host", &mut || assert_eq!(fixture.list(&format!("/hosts/{}/ports", fixture.host())).len(), 2));
    counted("delete", &mut || assert_eq!(fixture.delete(&format!("/ports/{port}")), 204));
    rows
}

#[test]
fn requests_do_not_grow_with_the_number_of_ports() {
    let (few, many) = (rows_read(10), rows_read(1000));
    println!("rows read with 1 000 ports: {few:?}");
    assert!(few.values().all(|rows| *rows > 0), "every request reads some: {few:?}");
    assert_eq!(few, many, "the same with 100 000 ports");
}
