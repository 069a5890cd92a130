//! Deletions: which objects are deleted with which, and which remain.

use std::collections::BTreeSet;

use atoll_mock_controller::provider_router;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fixture::{BOTH, Fixture, Tenant, id};

/// The ids of every object, by the names of a dump.
fn everything(fixture: &Fixture) -> BTreeSet<String> {
    let dump = serde_json::to_value(fixture.mock.dump()).expect("a dump is JSON");
    let tables = dump.as_object().expect("tables").iter().filter_map(|(name, rows)| Some((name, rows.as_object()?)));
    tables.flat_map(|(name, rows)| rows.keys().map(move |id| format!("{name}/{id}"))).collect()
}

fn named(table: &str, ids: &[Uuid]) -> BTreeSet<String> {
    ids.iter().map(|id| format!("{table}/{id}")).collect()
}

/// What disappears when `path` is deleted.
fn lost(fixture: &Fixture, path: &str) -> BTreeSet<String> {
    let before = everything(fixture);
    assert_eq!(fixture.delete(path), 204, "DELETE {path}");
    let after = everything(fixture);
    assert!(after.is_subset(&before));
    before.difference(&after).cloned().collect()
}

/// Routes of a router, by their destinations.
fn routes_via(fixture: &Fixture, router: Uuid, port: Uuid) -> Vec<Uuid> {
    let routes = fixture.list(&format!("/routers/{router}/routes"));
    let via = routes.into_iter().filter(|route| route["nextHopPort"] == json!(port));
    via.map(|route| serde_json::from_value(route["id"].clone()).expect("an id")).collect()
}

#[test]
fn deleting_a_router_deletes_its_ports_and_routes() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        let Tenant { router, uplink, gateway, provider_port, bridge_port, inbound, .. } = fixture.tenant(0x10, "t");
        let routes = fixture.ids(&format!("/routers/{router}/routes"));
        assert_eq!(routes.len(), 3, "two LOCAL routes and the default");
        let mut expected = named("routers", &[router]);
        expected.extend(named("ports", &[uplink, gateway]));
        expected.extend(named("routes", &routes));
        assert_eq!(lost(&fixture, &format!("/routers/{router}")), expected);
        for peer in [provider_port, bridge_port] {
            assert_eq!(fixture.port(peer)["peerId"], Value::Null, "the other side is free again");
        }
        assert_eq!(fixture.get(&format!("/chains/{inbound}")).status, 200, "chains outlive their router");
    }
}

#[test]
fn deleting_a_bridge_deletes_its_ports_and_tables() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        let Tenant { bridge, bridge_port, pod, gateway, .. } = fixture.tenant(0x10, "t");
        let mut expected = named("bridges", &[bridge]);
        expected.extend(named("ports", &[bridge_port, pod]));
        assert_eq!(lost(&fixture, &format!("/bridges/{bridge}")), expected);
        assert_eq!(fixture.port(gateway)["peerId"], Value::Null);
        assert!(
            fixture.list(&format!("/hosts/{}/ports", fixture.host())).iter().all(|one| one["portId"] != json!(pod))
        );
        assert_eq!(fixture.bind(fixture.host(), gateway, "vif16").status, 201, "the interface is free again");
    }
}

#[test]
fn deleting_a_port_deletes_its_link_binding_and_routes() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        let Tenant { provider_port, uplink, back, pod, outbound, .. } = fixture.tenant(0x10, "t");
        let routes = routes_via(&fixture, provider_router(), provider_port);
        assert!(routes.contains(&back) && routes.len() == 2, "LOCAL and the way back");
        let mut expected = named("ports", &[provider_port]);
        expected.extend(named("routes", &routes));
        assert_eq!(lost(&fixture, &format!("/ports/{provider_port}")), expected);
        assert_eq!(fixture.port(uplink)["peerId"], Value::Null);
        assert_eq!(lost(&fixture, &format!("/ports/{pod}")), named("ports", &[pod]));
        assert_eq!(fixture.list(&format!("/hosts/{}/ports", fixture.host())).len(), 1, "the uplink's binding only");

        fixture.delete(&format!("/ports/{uplink}"));
        let rules = fixture.list(&format!("/chains/{outbound}/rules"));
        assert_eq!(rules[0]["outPorts"], json!([uplink]), "a rule keeps the id of a port that is gone");
    }
}

#[test]
fn deleting_a_chain_deletes_its_rules_and_jumps_and_leaves_its_users_unfiltered() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        let (doomed, other) = (fixture.chain(1, "t"), fixture.chain(2, "t"));
        let rule = |chain: Uuid, body: Value| fixture.post(&format!("/chains/{chain}/rules"), &body).created();
        let own = rule(doomed, json!({ "type": "drop" }));
        let back = rule(doomed, json!({ "type": "jump", "jumpChainId": other }));
        let jump = rule(other, json!({ "type": "jump", "jumpChainId": doomed }));
        let stays = rule(other, json!({ "type": "accept" }));
        let filtered =
            json!({ "id": id(3), "tenantId": "t", "name": "r", "inboundFilterId": doomed, "outboundFilterId": other });
        let router = fixture.post("/routers", &filtered).created();
        let bridge =
            fixture.post("/bridges", &json!({ "id": id(4), "tenantId": "t", "name": "b", "outboundFilterId": doomed }));
        let bridge = bridge.created();
        let port = json!({ "id": id(5), "type": "Bridge", "inboundFilterId": doomed });
        let port = fixture.post(&format!("/bridges/{bridge}/ports"), &port).created();

        let mut expected = named("chains", &[doomed]);
        expected.extend(named("rules", &[own, back, jump]));
        assert_eq!(lost(&fixture, &format!("/chains/{doomed}")), expected);
        assert_eq!(fixture.ids(&format!("/chains/{other}/rules")), [stays]);
        let router = fixture.get(&format!("/routers/{router}")).body;
        assert_eq!((&router["inboundFilterId"], &router["outboundFilterId"]), (&Value::Null, &json!(other)));
        assert_eq!(fixture.get(&format!("/bridges/{bridge}")).body["outboundFilterId"], Value::Null);
        assert_eq!(fixture.port(port)["inboundFilterId"], Value::Null);
        // The users do not refer to it any more: deleting the last chain must not find them.
        assert_eq!(fixture.delete(&format!("/chains/{other}")), 204);
    }
}

#[test]
fn the_recommended_teardown_leaves_nothing() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        let before = everything(&fixture);
        let kept = fixture.tenant(0x200, "other");
        let with_other = everything(&fixture);
        let t = fixture.tenant(0x10, "t");
        for path in [
            format!("/hosts/{}/ports/{}", fixture.host(), t.pod),
            format!("/bridges/{}", t.bridge),
            format!("/routers/{}", t.router),
            format!("/ports/{}", t.provider_port),
            format!("/chains/{}", t.inbound),
            format!("/chains/{}", t.outbound),
        ] {
            assert_eq!(fixture.delete(&path), 204, "{path} in {dialect}");
        }
        assert_eq!(everything(&fixture), with_other, "the other tenant is whole");
        for path in [
            format!("/bridges/{}", kept.bridge),
            format!("/routers/{}", kept.router),
            format!("/ports/{}", kept.provider_port),
            format!("/chains/{}", kept.inbound),
            format!("/chains/{}", kept.outbound),
        ] {
            assert_eq!(fixture.delete(&path), 204, "{path} in {dialect}");
        }
        assert_eq!(everything(&fixture), before);
        let orphans = fixture.admin(http::Method::GET, "/orphans", &Value::Null).body;
        let none = |value: &Value| {
            value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(serde_json::Map::is_empty)
        };
        assert!(orphans.as_object().expect("a report").values().all(none), "{orphans}");
    }
}

#[test]
fn the_report_of_orphans_finds_each_kind() {
    let fixture = Fixture::new(atoll_mock_controller::Dialect::V5);
    let t = fixture.tenant(0x10, "t");
    // Another tenant with the same addresses inside is no fault.
    fixture.tenant(0x200, "u");
    let report = || fixture.admin(http::Method::GET, "/orphans", &Value::Null).body;
    let all = report();
    for (name, found) in all.as_object().expect("a report") {
        assert!(found.as_array().is_some_and(Vec::is_empty) || *found == json!({}), "a whole tenant: {name} {found}");
    }
    let idle = fixture.bridge_port(0x70, t.bridge);
    let unused = fixture.chain(0x71, "t");
    let rule =
        fixture.post(&format!("/chains/{}/rules", t.inbound), &json!({ "type": "drop", "inPorts": [id(0xdead)] }));
    let twin = fixture.router_port(0x72, provider_router(), "203.0.113.2");
    let shared = json!({ "id": id(0x73), "type": "Bridge", "hostId": fixture.host(), "interfaceName": "vif16" });
    fixture.post(&format!("/bridges/{}/ports", t.bridge), &shared).created();
    let report = report();
    let list = |name: &str| report[name].as_array().expect("a list").clone();
    assert!(list("idlePorts").contains(&json!(idle)) && list("idlePorts").contains(&json!(twin)));
    assert_eq!(list("unusedChains"), [json!(unused)]);
    assert_eq!(list("rulesWithMissingPorts"), [json!(rule.created())]);
    assert_eq!(list("sharedTransitAddresses").len(), 1);
    assert_eq!(list("sharedInterfaces").len(), 1);
    assert_eq!(report["oddTenants"], json!({ "t": { "routers": 1, "chains": 3, "bridges": 1 } }));
}

/// The report has the id of each object that an incomplete deletion leaves, for one request after the other.
#[test]
fn the_report_of_orphans_names_what_a_broken_client_leaves() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        let report = |fixture: &Fixture| fixture.admin(http::Method::GET, "/orphans", &Value::Null).body;
        let t = fixture.tenant(0x10, "t");

        // The binding and the link are removed, and the ports remain.
        assert_eq!(fixture.delete(&format!("/hosts/{}/ports/{}", fixture.host(), t.pod)), 204);
        assert_eq!(report(&fixture)["idlePorts"], json!([t.pod]), "{dialect}");
        assert_eq!(fixture.delete(&format!("/ports/{}/link", t.provider_port)), 204);
        assert_eq!(report(&fixture)["idlePorts"].as_array().map(Vec::len), Some(3), "both ends, {dialect}");

        // The router is deleted: the provider's port has no peer, rules name deleted ports, and the tenant lacks its router.
        assert_eq!(fixture.delete(&format!("/routers/{}", t.router)), 204);
        let found = report(&fixture);
        assert!(found["idlePorts"].as_array().is_some_and(|ports| ports.contains(&json!(t.provider_port))), "{found}");
        assert_eq!(found["oddTenants"], json!({ "t": { "routers": 0, "chains": 2, "bridges": 1 } }), "{dialect}");
        assert_eq!(found["unusedChains"], json!([t.inbound, t.outbound]), "{dialect}");

        // Too many objects are reported like too few; a second bridge is allowed.
        for (path, odd) in [
            ("/routers", json!({ "routers": 2, "chains": 2, "bridges": 1 })),
            ("/chains", json!({ "routers": 1, "chains": 3, "bridges": 1 })),
            ("/bridges", Value::Null),
        ] {
            let fixture = Fixture::new(dialect);
            fixture.tenant(0x10, "t");
            fixture.post(path, &json!({ "tenantId": "t", "name": "second" })).created();
            assert_eq!(report(&fixture)["oddTenants"]["t"], odd, "{path} in {dialect}");
        }
    }
}

/// Orphans that the API itself never leaves, because its cascades delete them: a damaged dump may contain them.
#[test]
fn the_report_of_orphans_sees_what_no_request_makes() {
    let fixture = Fixture::new(atoll_mock_controller::Dialect::V5);
    let t = fixture.tenant(0x10, "t");
    let mut tables = fixture.mock.dump();
    let gone = tables.routes.iter().find(|(_, route)| route.router == t.router).map(|(id, _)| *id).expect("a route");
    tables.routes.get_mut(&gone).expect("there").port = Some(id(0xdead));
    tables.ports.get_mut(&t.provider_port).expect("there").peer = None;
    let host = tables.ports.get_mut(&t.pod).and_then(|port| port.binding.as_mut()).expect("bound");
    host.host = id(0xdead);
    let controller =
        atoll_mock_controller::MockController::with_tables(atoll_mock_controller::MockSettings::default(), tables);
    *fixture.mock.controller() = controller;
    let report = fixture.admin(http::Method::GET, "/orphans", &Value::Null).body;
    assert_eq!(report["routesToNowhere"], json!([gone]), "{report}");
    assert_eq!(report["lostBindings"], json!([t.pod]), "{report}");
    assert_eq!(report["halfLinkedPorts"].as_array().map(Vec::len), Some(1), "{report}");
    assert_eq!(report["idlePorts"], json!([t.provider_port]), "{report}");
}
