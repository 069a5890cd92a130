//! Every resource: create, read back, list, replace, delete; absent and duplicate objects.

use atoll_mock_controller::{Dialect, PROVIDER_ROUTER_NAME, provider_router, tunnel_zone, uplink_port};
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fixture::{BOTH, Fixture, id};

/// The paths of one kind of object, and its properties in the reference.
struct Kind {
    name: &'static str,
    /// The path of its list; `prepare` creates objects 1 to 9.
    create: String,
    /// The path of one.
    one: &'static str,
    body: Value,
    /// The class in messages of 5.x.
    class: &'static str,
    /// The fields that GET must show besides those of the body.
    shows: Value,
    /// The answer of 5.x to a DELETE of an absent one.
    absent: u16,
}

/// Router 1, bridge 2, chain 3, a port of the router 4, of the bridge 5.
fn prepare(fixture: &Fixture) {
    let (router, bridge) = (fixture.router(1, "t"), fixture.bridge(2, "t"));
    fixture.chain(3, "t");
    fixture.router_port(4, router, "10.0.0.1");
    fixture.bridge_port(5, bridge);
}

fn kinds() -> Vec<Kind> {
    let owned = json!({ "tenantId": "t", "name": "n" });
    let kind = |name, create: &str, one, body, class, shows, absent| Kind {
        name,
        create: create.to_owned(),
        one,
        body,
        class,
        shows,
        absent,
    };
    vec![
        kind("router", "/routers", "/routers", owned.clone(), "Router", json!({ "adminStateUp": true }), 204),
        kind("bridge", "/bridges", "/bridges", owned.clone(), "Network", json!({ "adminStateUp": true }), 404),
        kind("chain", "/chains", "/chains", owned.clone(), "Chain", json!({}), 404),
        kind("port group", "/port_groups", "/port_groups", owned, "PortGroup", json!({ "stateful": false }), 204),
        kind(
            "router port",
            &format!("/routers/{}/ports", id(1)),
            "/ports",
            json!({ "type": "Router", "networkAddress": "10.1.0.0", "networkLength": 16, "portAddress": "10.1.0.1",
                "portMac": "02:00:00:00:00:01", "vifId": id(77), "inboundFilterId": id(3) }),
            "Port",
            json!({ "deviceId": id(1), "adminStateUp": true, "peerId": null, "hostId": null, "active": false }),
            404,
        ),
        kind(
            "bridge port",
            &format!("/bridges/{}/ports", id(2)),
            "/ports",
            json!({ "type": "Bridge", "vlanId": 7, "adminStateUp": false }),
            "Port",
            json!({ "deviceId": id(2), "interfaceName": null, "vifId": null }),
            404,
        ),
        kind(
            "rule",
            &format!("/chains/{}/rules", id(3)),
            "/rules",
            json!({ "type": "accept", "matchReturnFlow": true, "nwProto": 6, "tpDst": { "start": 80, "end": 90 } }),
            "Rule",
            json!({ "chainId": id(3), "position": 1, "fragmentPolicy": "header", "condInvert": false }),
            404,
        ),
        kind(
            "ip address group",
            "/ip_addr_groups",
            "/ip_addr_groups",
            json!({ "name": "n" }),
            "IPAddrGroup",
            json!({}),
            204,
        ),
        kind(
            "tunnel zone",
            "/tunnel_zones",
            "/tunnel_zones",
            json!({ "name": "z", "type": "gre" }),
            "TunnelZone",
            json!({}),
            204,
        ),
        kind(
            "route",
            &format!("/routers/{}/routes", id(1)),
            "/routes",
            json!({ "type": "Normal", "srcNetworkAddr": "0.0.0.0", "srcNetworkLength": 0, "dstNetworkAddr": "10.9.0.0",
                "dstNetworkLength": 16, "nextHopPort": id(4), "nextHopGateway": "10.0.0.9", "weight": 5 }),
            "Route",
            json!({ "routerId": id(1), "learned": false }),
            204,
        ),
    ]
}

fn contains(whole: &Value, part: &Value) -> bool {
    part.as_object().is_some_and(|part| part.iter().all(|(key, value)| whole.get(key) == Some(value)))
}

#[test]
fn every_kind_lives_its_life() {
    for dialect in BOTH {
        for kind in kinds() {
            let fixture = Fixture::new(dialect);
            prepare(&fixture);
            let before = fixture.mock.dump();
            let what = format!("{} in {dialect}", kind.name);
            let wanted = id(0x100);
            let mut body = kind.body.clone();
            body["id"] = json!(wanted);

            let made = fixture.post(&kind.create, &body);
            assert_eq!(made.body, Value::Null, "{what}: a created object has an empty body");
            let given = made.created();
            let server_chooses = dialect == Dialect::V1 && kind.name == "route";
            assert_eq!(given == wanted, !server_chooses, "{what}: the id");
            let location = made.header(&LOCATION).expect("just parsed");
            assert!(location.ends_with(&format!("/midonet-api{}/{given}", kind.one)), "{what}: {location}");

            let path = format!("{}/{given}", kind.one);
            let read = fixture.get(&path);
            assert_eq!(read.status, 200, "{what}: {read:?}");
            assert!(contains(&read.body, &kind.body), "{what}: {} lacks {}", read.body, kind.body);
            assert!(contains(&read.body, &kind.shows), "{what}: {} lacks {}", read.body, kind.shows);
            assert_eq!(read.body["id"], json!(given), "{what}");
            assert_eq!(read.body["uri"].as_str(), Some(location), "{what}");
            let listed = fixture.list(&kind.create);
            let same = listed.iter().find(|one| one["id"] == json!(given)).expect("the new one is listed");
            assert_eq!(*same, read.body, "{what}: the list and the object agree");

            let again = fixture.post(&kind.create, &body);
            match (dialect, kind.name) {
                (Dialect::V1, "route") => assert_ne!(again.created(), given, "{what}: every route is another one"),
                (Dialect::V1, "tunnel zone") => assert_eq!(again.status, 500, "{what}"),
                (Dialect::V1, "bridge port") => {
                    assert_eq!(again.status, 500, "{what}: the id is judged before the VLAN");
                }
                (Dialect::V1, _) => {
                    let text = "An internal server error has occurred, please try again.";
                    assert_eq!((again.status, again.message()), (500, text), "{what}");
                }
                (Dialect::V5, _) => {
                    let text = format!("A(n) {} with ID {given} already exists.", kind.class);
                    assert_eq!((again.status, again.message()), (409, text.as_str()), "{what}");
                }
            }

            assert_eq!(fixture.delete(&path), 204, "{what}");
            assert_eq!(fixture.get(&path).status, 404, "{what}");
            let absent = if dialect == Dialect::V1 { 204 } else { kind.absent };
            assert_eq!(fixture.delete(&path), absent, "{what}: deleted twice");
            if !server_chooses {
                let after = fixture.mock.dump();
                assert_eq!(after, before, "{what}: nothing is left of it");
            }
        }
    }
}

#[test]
fn an_absent_object_is_named_by_its_class() {
    let missing = id(0xdead);
    for (path, class, word) in [
        ("/routers", "Router", "router"),
        ("/bridges", "Network", "bridge"),
        ("/ports", "Port", "port"),
        ("/routes", "Route", "route"),
        ("/chains", "Chain", "chain"),
        ("/rules", "Rule", "rule"),
        ("/hosts", "Host", "host"),
        ("/tunnel_zones", "TunnelZone", "tunnel zone"),
        ("/port_groups", "PortGroup", "port group"),
        ("/ip_addr_groups", "IPAddrGroup", "IP address group"),
    ] {
        let path = format!("{path}/{missing}");
        let answer = Fixture::new(Dialect::V5).get(&path);
        assert_eq!(
            (answer.status, answer.message()),
            (404, format!("There is no {class} with ID {missing}.").as_str())
        );
        assert_eq!(answer.body["code"], 404);
        let answer = Fixture::new(Dialect::V1).get(&path);
        assert_eq!((answer.status, answer.message()), (404, format!("No {word} with ID {missing} exists.").as_str()));
    }
}

#[test]
fn a_parent_that_is_missing_is_a_404() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        prepare(&fixture);
        for kind in kinds().into_iter().filter(|kind| kind.create != kind.one) {
            let orphan = [id(1), id(2), id(3)]
                .iter()
                .fold(kind.create.clone(), |path, parent| path.replace(&parent.to_string(), &id(0xdead).to_string()));
            let answer = fixture.post(&orphan, &kind.body);
            assert_eq!(answer.status, 404, "{} in {dialect}: {answer:?}", kind.name);
        }
    }
}

#[test]
fn a_reference_that_leads_nowhere_is_refused() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        prepare(&fixture);
        let before = fixture.mock.dump();
        let dead = id(0xdead);
        let router_port = json!({ "type": "Router", "networkAddress": "10.1.0.0", "networkLength": 16,
            "portAddress": "10.1.0.1", "outboundFilterId": dead });
        for (path, body) in [
            ("/routers".to_owned(), json!({ "tenantId": "t", "name": "n", "inboundFilterId": dead })),
            ("/routers".to_owned(), json!({ "tenantId": "t", "name": "n", "loadBalancerId": dead })),
            ("/bridges".to_owned(), json!({ "tenantId": "t", "name": "n", "outboundFilterId": dead })),
            ("/bridges".to_owned(), json!({ "tenantId": "t", "name": "n", "inboundMirrorIds": [dead] })),
            (format!("/routers/{}/ports", id(1)), router_port),
            (format!("/chains/{}/rules", id(3)), json!({ "type": "jump", "jumpChainId": dead })),
            (format!("/ports/{}/link", id(4)), json!({ "peerId": dead })),
            (format!("/hosts/{}/ports", fixture.host()), json!({ "portId": dead, "interfaceName": "v" })),
            (format!("/tunnel_zones/{}/hosts", tunnel_zone()), json!({ "hostId": dead, "ipAddress": "10.0.0.1" })),
        ] {
            let answer = fixture.post(&path, &body);
            let wanted = if dialect == Dialect::V5 { 404 } else { 400 };
            assert_eq!(answer.status, wanted, "{path} {body} in {dialect}: {answer:?}");
        }
        assert_eq!(fixture.mock.dump(), before);
    }
}

#[test]
fn put_replaces_everything_but_what_is_not_in_the_body() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        prepare(&fixture);
        let (router, bridge, chain) = (id(1), id(2), id(3));
        for path in [format!("/routers/{router}"), format!("/bridges/{bridge}")] {
            let full = json!({ "tenantId": "t2", "name": "new", "adminStateUp": false, "inboundFilterId": chain });
            assert_eq!(fixture.put(&path, &full).status, 204);
            assert!(contains(&fixture.get(&path).body, &full), "{path}");
            assert_eq!(fixture.put(&path, &json!({ "tenantId": "t2", "name": "new" })).status, 204);
            let body = fixture.get(&path).body;
            assert_eq!((&body["adminStateUp"], &body["inboundFilterId"]), (&json!(true), &Value::Null), "{path}");
            assert_eq!(fixture.put(&path.replace(&path[9..], &id(0xdead).to_string()), &full).status, 404);
        }
        assert_eq!(fixture.ids("/routers?tenant_id=t2"), [router]);
        assert!(fixture.ids("/routers?tenant_id=t").is_empty(), "the index follows the owner");
        assert_eq!(fixture.ids(&format!("/routers/{router}/ports")), [id(4)], "children stay");
    }
}

#[test]
fn put_of_a_port_takes_what_the_dialect_allows() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        prepare(&fixture);
        let free = fixture.bridge_port(6, id(2));
        let path = format!("/ports/{}", id(4));
        let before = fixture.port(id(4));
        let mut body = before.clone();
        body["portAddress"] = json!("10.0.0.99");
        body["vifId"] = json!(id(9));
        body["peerId"] = json!(free);
        body["hostId"] = json!(fixture.host());
        body["interfaceName"] = json!("v0");
        body["tunnelKey"] = json!(4242);
        body["id"] = json!(id(0xbad));
        assert_eq!(fixture.put(&path, &body).status, 204, "{dialect}");
        let after = fixture.port(id(4));
        assert_eq!(after["vifId"], json!(id(9)));
        assert_eq!(after["tunnelKey"], before["tunnelKey"]);
        if dialect == Dialect::V1 {
            assert_eq!(after["portAddress"], "10.0.0.1");
            assert_eq!((&after["peerId"], &after["hostId"]), (&Value::Null, &Value::Null));
            continue;
        }
        assert_eq!(after["portAddress"], "10.0.0.99");
        assert_eq!((&after["peerId"], &after["interfaceName"]), (&json!(free), &json!("v0")));
        assert_eq!(fixture.port(free)["peerId"], json!(id(4)), "linked both ways");
        body["peerId"] = Value::Null;
        body["hostId"] = Value::Null;
        body["interfaceName"] = Value::Null;
        assert_eq!(fixture.put(&path, &body).status, 204);
        let kept = fixture.port(id(4));
        assert_eq!((&kept["peerId"], &kept["interfaceName"]), (&json!(free), &json!("v0")), "PUT never undoes them");
    }
}

#[test]
fn a_router_port_brings_its_local_route() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        prepare(&fixture);
        let routes = fixture.list(&format!("/routers/{}/routes", id(1)));
        assert_eq!(routes.len(), 1, "only the LOCAL route, none to the subnet: {routes:?}");
        let (kind, gateway) = match dialect {
            Dialect::V5 => ("Local", json!("255.255.255.255")),
            Dialect::V1 => ("Normal", Value::Null),
        };
        let expected = json!({ "type": kind, "nextHopGateway": gateway, "dstNetworkAddr": "10.0.0.1",
            "dstNetworkLength": 32, "srcNetworkAddr": "0.0.0.0", "srcNetworkLength": 0, "weight": 0, "nextHopPort": id(4) });
        assert!(contains(&routes[0], &expected), "{}", routes[0]);
        assert_eq!(fixture.delete(&format!("/ports/{}", id(4))), 204);
        assert!(fixture.list(&format!("/routers/{}/routes", id(1))).is_empty());
    }
}

#[test]
fn the_initial_topology_has_a_provider() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        assert_eq!(fixture.get("/").body["version"], if dialect == Dialect::V5 { "v5.0" } else { "v1.9" });
        let routers = fixture.list("/routers");
        assert_eq!(routers.len(), 1);
        assert!(contains(
            &routers[0],
            &json!({ "id": provider_router(), "name": PROVIDER_ROUTER_NAME, "tenantId": "admin" })
        ));
        let uplink = json!({ "deviceId": provider_router(), "portAddress": "203.0.113.2", "networkLength": 24,
            "hostId": fixture.host(), "interfaceName": "uplink0", "active": true });
        assert!(contains(&fixture.port(uplink_port()), &uplink));
        let default = json!({ "dstNetworkLength": 0, "nextHopGateway": "203.0.113.1", "nextHopPort": uplink_port() });
        let routes = fixture.list(&format!("/routers/{}/routes", provider_router()));
        assert!(routes.iter().any(|route| contains(route, &default)), "{routes:?}");
        assert_eq!(fixture.list(&format!("/tunnel_zones/{}/hosts", tunnel_zone()))[0]["hostId"], json!(fixture.host()));
        assert_eq!(fixture.get(&format!("/hosts/{}/interfaces/uplink0", fixture.host())).status, 200);
        assert_eq!(fixture.get(&format!("/hosts/{}/interfaces/eth7", fixture.host())).status, 404);
    }
}

#[test]
fn lists_are_filtered_by_owner_and_by_nothing_else() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        for (n, tenant) in [(1, "a"), (2, "a"), (3, "b b")] {
            fixture.router(10 + n, tenant);
            fixture.bridge(20 + n, tenant);
            fixture.chain(30 + n, tenant);
            fixture.post("/port_groups", &json!({ "id": id(40 + n), "tenantId": tenant, "name": "g" })).created();
        }
        for (path, from) in [("/routers", 10), ("/bridges", 20), ("/chains", 30), ("/port_groups", 40)] {
            assert_eq!(fixture.ids(&format!("{path}?tenant_id=a")), [id(from + 1), id(from + 2)], "{path}");
            assert_eq!(fixture.ids(&format!("{path}?tenant_id=b%20b")), [id(from + 3)], "{path}");
            assert_eq!(fixture.ids(&format!("{path}?tenant_id=b+b&limit=0")), [id(from + 3)], "{path}");
            assert!(fixture.ids(&format!("{path}?tenant_id=absent")).is_empty(), "{path}");
            let all = fixture.ids(path).len();
            assert_eq!(fixture.ids(&format!("{path}?name=x")).len(), all, "unknown parameters are ignored");
        }
        let names: Vec<Value> = fixture.list("/tenants").into_iter().map(|tenant| tenant["id"].clone()).collect();
        match dialect {
            Dialect::V1 => assert_eq!(names, ["a", "admin", "b b"]),
            Dialect::V5 => assert_eq!(names, ["admin"]),
        }
        assert_eq!(fixture.get("/tenants/any").body["id"], "any");
        assert_eq!(fixture.post("/tenants", &json!({ "id": "x" })).status, 405);
    }
}

#[test]
fn all_violations_of_a_request_are_reported_together() {
    let port = json!({ "type": "Router", "networkAddress": "10.0.0.x", "networkLength": 33, "portMac": "zz" });
    let fixture = Fixture::new(Dialect::V5);
    prepare(&fixture);
    let answer = fixture.post(&format!("/routers/{}/ports", id(1)), &port);
    assert_eq!((answer.status, answer.message()), (400, "Validation error(s) found"));
    let fields: Vec<String> =
        answer.violations().iter().map(|v| v.split(':').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(fields, ["networkAddress", "portAddress", "networkLength", "portMac"]);

    for (dialect, status) in [(Dialect::V5, 201), (Dialect::V1, 400)] {
        for path in ["/routers", "/bridges", "/chains", "/port_groups"] {
            assert_eq!(Fixture::new(dialect).post(path, &json!({})).status, status, "{path} without name in {dialect}");
            let long = json!({ "tenantId": "t", "name": "x".repeat(256) });
            assert_eq!(Fixture::new(dialect).post(path, &long).status, 400, "{path} with a long name in {dialect}");
        }
    }
    for (body, status) in [
        (json!({ "type": "Reject" }), 400),
        (json!({ "type": "Sideways" }), 400),
        (json!({ "type": "Normal", "nextHopPort": id(5) }), 400),
        (json!({ "type": "Normal" }), 400),
        (json!({ "type": "BlackHole", "weight": -1 }), 400),
        (json!({ "type": "BlackHole", "dstNetworkLength": 33 }), 400),
        (json!({ "type": "BlackHole" }), 201),
        (json!({ "type": "Reject", "dstNetworkLength": "24" }), 201),
    ] {
        for dialect in BOTH {
            let fixture = Fixture::new(dialect);
            prepare(&fixture);
            let mut route = json!({ "srcNetworkAddr": "0.0.0.0", "srcNetworkLength": 0, "dstNetworkAddr": "1.0.0.0" });
            if body == json!({ "type": "Reject" }) {
                route.as_object_mut().expect("an object").remove("dstNetworkAddr");
            } else {
                route["dstNetworkLength"] = json!(8);
            }
            for (key, value) in body.as_object().expect("an object") {
                route[key] = value.clone();
            }
            let answer = fixture.post(&format!("/routers/{}/routes", id(1)), &route);
            assert_eq!(answer.status, status, "{route} in {dialect}: {answer:?}");
        }
    }
}

#[test]
fn numbers_may_come_as_texts_and_nulls_are_absent() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        prepare(&fixture);
        let body = json!({ "type": "Router", "networkAddress": "10.1.0.0", "networkLength": "16",
            "portAddress": "10.1.0.1", "adminStateUp": "false", "vifId": null, "unheardOf": { "a": [1] } });
        let port = fixture.post(&format!("/routers/{}/ports", id(1)), &body).created();
        let read = fixture.port(port);
        assert_eq!((&read["networkLength"], &read["adminStateUp"]), (&json!(16), &json!(false)));
        assert!(read["portMac"].as_str().is_some_and(|mac| mac.starts_with("ac:ca:ba:")), "{read}");
    }
}

#[test]
fn sentinels_differ_between_the_dialects() {
    for (dialect, vlan, proto) in [(Dialect::V5, json!(0), Value::Null), (Dialect::V1, Value::Null, json!(0))] {
        let fixture = Fixture::new(dialect);
        prepare(&fixture);
        assert_eq!(fixture.port(id(5))["vlanId"], vlan);
        let rule = fixture.post(&format!("/chains/{}/rules", id(3)), &json!({ "type": "drop" })).created();
        let rule = fixture.get(&format!("/rules/{rule}")).body;
        assert_eq!((&rule["nwProto"], &rule["nwTos"]), (&proto, &proto));
        assert_eq!(fixture.get(&format!("/routers/{}", id(1))).body.get("asNumber").is_some(), dialect == Dialect::V5);
    }
}

#[test]
fn hosts_are_changed_and_deleted_under_conditions() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        let host = fixture.host();
        let path = format!("/hosts/{host}");
        let one = json!({ "floodingProxyWeight": 7 });
        let all = json!({ "floodingProxyWeight": 7, "containerWeight": 1, "containerLimit": 5,
            "enforceContainerLimit": true });
        assert_eq!(fixture.put(&path, &json!({})).status, 400);
        assert_eq!(fixture.put(&path, &one).status, if dialect == Dialect::V5 { 400 } else { 200 });
        assert_eq!(fixture.put(&path, &all).status, 200, "PUT of a host is 200");
        assert_eq!(fixture.get(&path).body["floodingProxyWeight"], 7);
        let delete = || fixture.raw(Method::DELETE, &path, &[], b"");
        let alive = delete();
        assert_eq!(alive.message(), format!("Cannot delete host {host} because it is active."));
        assert_eq!(alive.status, 403);
        fixture.admin(Method::PUT, &format!("/hosts/{host}/alive"), &json!({ "alive": false }));
        let bound = delete();
        assert_eq!(bound.message(), format!("Cannot delete host {host} because it has 1 binding(s)."));
        fixture.delete(&format!("/ports/{}", uplink_port()));
        assert_eq!(delete().status, if dialect == Dialect::V5 { 200 } else { 204 });
        assert!(fixture.list(&format!("/tunnel_zones/{}/hosts", tunnel_zone())).is_empty());
        let create = fixture.post("/hosts", &json!({ "id": host, "name": "h" }));
        assert_eq!(create.status, if dialect == Dialect::V5 { 201 } else { 405 });
    }
}

#[test]
fn the_tables_of_a_bridge_take_static_entries() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        prepare(&fixture);
        let (bridge, port) = (id(2), id(5));
        let mac = json!({ "macAddr": "02:00:00:00:00:0A", "portId": port });
        let made = fixture.post(&format!("/bridges/{bridge}/mac_table"), &mac);
        assert_eq!(made.status, 201, "{made:?}");
        let entry = format!("/bridges/{bridge}/mac_table/02-00-00-00-00-0a_{port}");
        assert!(made.header(&LOCATION).is_some_and(|location| location.ends_with(&entry)), "{made:?}");
        assert_eq!(fixture.get(&entry).body["macAddr"], "02:00:00:00:00:0a");
        assert_eq!(fixture.get(&entry.replace("-0a_", ":0a_")).status, 400, "a path has hyphens");
        let foreign = json!({ "macAddr": "02:00:00:00:00:0b", "portId": id(4) });
        assert_eq!(fixture.post(&format!("/bridges/{bridge}/mac_table"), &foreign).status, 400);
        let arp = json!({ "ip": "10.0.0.7", "mac": "02:00:00:00:00:0a" });
        assert_eq!(fixture.post(&format!("/bridges/{bridge}/arp_table"), &arp).status, 201);
        let entry = format!("/bridges/{bridge}/arp_table/10.0.0.7_02-00-00-00-00-0a");
        assert_eq!(fixture.get(&entry).body["ip"], "10.0.0.7");
        assert_eq!(fixture.delete(&entry), 204);
        assert_eq!(fixture.get(&entry).status, 404);
        assert_eq!(fixture.list(&format!("/bridges/{bridge}/mac_table")).len(), 1);
        let vlan = fixture.post(&format!("/bridges/{bridge}/vlans/9/mac_table"), &mac);
        assert_eq!(vlan.status, 201, "{vlan:?}");
        assert_eq!(fixture.list(&format!("/bridges/{bridge}/vlans/9/mac_table")).len(), 1);
        assert_eq!(fixture.list(&format!("/bridges/{bridge}/mac_table")).len(), 2, "all VLANs");

        // The path's VLAN wins over the body's; without one in the path the body's counts.
        let in_7 = json!({ "macAddr": "02:00:00:00:00:0c", "portId": port, "vlanId": 7 });
        assert_eq!(fixture.post(&format!("/bridges/{bridge}/vlans/9/mac_table"), &in_7).status, 201);
        assert_eq!(fixture.list(&format!("/bridges/{bridge}/vlans/9/mac_table")).len(), 2);
        assert_eq!(fixture.post(&format!("/bridges/{bridge}/mac_table"), &in_7).status, 201);
        assert_eq!(fixture.list(&format!("/bridges/{bridge}/vlans/7/mac_table")).len(), 1);
        let wide = json!({ "macAddr": "02:00:00:00:00:0c", "portId": port, "vlanId": 4096 });
        assert_eq!(fixture.post(&format!("/bridges/{bridge}/mac_table"), &wide).status, 400);
        // A port of a VLAN is reached in that one only.
        let tagged = json!({ "id": id(6), "type": "Bridge", "vlanId": 5 });
        let tagged = fixture.post(&format!("/bridges/{bridge}/ports"), &tagged).created();
        let entry = |vlan: Option<u16>| json!({ "macAddr": "02:00:00:00:00:0d", "portId": tagged, "vlanId": vlan });
        for (path, body, status) in [
            ("mac_table", entry(None), 400),
            ("mac_table", entry(Some(0)), 400),
            ("mac_table", entry(Some(6)), 400),
            ("vlans/6/mac_table", entry(Some(5)), 400),
            ("vlans/5/mac_table", entry(None), 201),
            ("mac_table", entry(Some(5)), 201),
        ] {
            let answer = fixture.post(&format!("/bridges/{bridge}/{path}"), &body);
            assert_eq!(answer.status, status, "{dialect}: {path} {body}: {answer:?}");
            if status == 400 {
                let body = answer.body.to_string();
                assert!(body.contains("must match the port's VLAN ID, which is 5"), "{body}");
            }
        }
    }
}

#[test]
fn groups_have_members() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        prepare(&fixture);
        let group = fixture.post("/port_groups", &json!({ "tenantId": "t", "name": "g", "stateful": true })).created();
        let members = format!("/port_groups/{group}/ports");
        assert_eq!(fixture.post(&members, &json!({ "portId": id(5) })).status, 201);
        let twice = fixture.post(&members, &json!({ "portId": id(5) }));
        assert_eq!(twice.status, if dialect == Dialect::V5 { 409 } else { 400 });
        if dialect == Dialect::V5 {
            assert_eq!(twice.body, Value::Null, "5.x says nothing");
        }
        // A port reports its groups as memberships, as midonetclient reads it.
        let of_port = fixture.list(&format!("/ports/{}/port_groups", id(5)));
        assert_eq!(of_port.len(), 1);
        assert_eq!((&of_port[0]["portGroupId"], &of_port[0]["portId"]), (&json!(group), &json!(id(5))));
        assert!(of_port[0]["uri"].as_str().is_some_and(|uri| uri.ends_with(&format!("{members}/{}", id(5)))));
        assert_eq!(of_port, fixture.list(&members));
        assert_eq!(fixture.ids(&format!("/port_groups?port_id={}", id(5))), [group]);
        assert_eq!(fixture.put(&format!("/port_groups/{group}"), &json!({ "tenantId": "t", "name": "h" })).status, 204);
        assert_eq!(fixture.list(&members).len(), 1, "PUT keeps the members");
        fixture.delete(&format!("/ports/{}", id(5)));
        assert!(fixture.list(&members).is_empty(), "a port that is gone is no member");

        let group = fixture.post("/ip_addr_groups", &json!({ "name": "a" })).created();
        let members = format!("/ip_addr_groups/{group}/ip_addrs");
        for (address, version) in [("10.0.0.1", "4"), ("fd00::1", "6")] {
            let body = json!({ "addr": address, "version": version });
            assert_eq!(fixture.post(&members, &body).status, 201);
            let twice = fixture.post(&members, &body);
            assert_eq!(twice.status, 201, "the same again is no news");
            assert_eq!(fixture.list(&members).len(), 1, "and no second one");
            let one = format!("/ip_addr_groups/{group}/versions/{version}/ip_addrs/{address}");
            assert_eq!(fixture.get(&one).body["addr"], address);
            assert_eq!(fixture.delete(&one), 204);
            assert_eq!(fixture.get(&one).status, 404);
        }
        assert_eq!(fixture.post(&members, &json!({ "addr": "10.0.0.1", "version": 6 })).status, 400);
    }
}

#[test]
fn what_is_not_built_is_refused() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        for path in ["/load_balancers/x", "/neutron/networks", "/qos_policies/x", "/bgp_peers/x", "/bridges/x/dhcp/y"] {
            for method in [Method::GET, Method::POST, Method::DELETE] {
                assert_eq!(fixture.raw(method, path, &[], b"{}").status, 501, "{path}");
            }
        }
    }
}

/// Clients read such lists on the way to other objects: they are empty, and no element can be created.
#[test]
fn lists_of_what_is_not_built_are_empty() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        prepare(&fixture);
        let (router, bridge, router_port, bridge_port) = (id(1), id(2), id(4), id(5));
        let both = [
            ("/load_balancers".to_owned(), "LoadBalancer-v1"),
            ("/pools".to_owned(), "Pool-v1"),
            ("/pool_members".to_owned(), "PoolMember-v1"),
            ("/vips".to_owned(), "VIP-v1"),
            ("/health_monitors".to_owned(), "HealthMonitor-v1"),
            ("/traces".to_owned(), "TraceRequest-v1"),
            ("/vteps".to_owned(), "VTEP-v2"),
            (format!("/bridges/{bridge}/dhcp"), "DhcpSubnet-v2"),
            (format!("/bridges/{bridge}/dhcpV6"), "DhcpV6Subnet-v1"),
            (format!("/bridges/{bridge}/vxlan_ports"), if dialect == Dialect::V5 { "Port-v3" } else { "Port-v2" }),
        ];
        let new = [
            ("/qos_policies".to_owned(), "QOSPolicy-v1"),
            (format!("/routers/{router}/bgp_networks"), "BgpNetwork-v1"),
            (format!("/routers/{router}/bgp_peers"), "BgpPeer-v1"),
            (format!("/routers/{router}/ports/{router_port}/peering_table"), "MacIp-v1"),
        ];
        let old = [(format!("/ports/{router_port}/bgps"), "Bgp-v1")];
        let (own, other) = if dialect == Dialect::V5 { (&new[..], &old[..]) } else { (&old[..], &new[..]) };
        let ask = |path: &str, media: &str| {
            let media = format!("application/vnd.org.midonet.collection.{media}+json");
            fixture.raw(Method::GET, path, &[(ACCEPT, &media)], b"")
        };
        for (path, media) in both.iter().chain(own) {
            let answer = ask(path, media);
            assert_eq!((answer.status, &answer.body), (200, &json!([])), "{dialect}: {path}: {answer:?}");
            let made = fixture.raw(Method::POST, path, &[(CONTENT_TYPE, "application/json")], b"{}");
            assert_eq!(made.status, 501, "{dialect}: nothing can be made at {path}");
        }
        for (path, media) in other {
            assert_eq!(ask(path, media).status, 404, "{dialect}: {path} is of the other family");
        }
        let dead = id(0xdead).to_string();
        for (path, media) in both.iter().chain(own).filter(|(path, _)| path.matches('/').count() > 1) {
            let path =
                [router, bridge, router_port].iter().fold(path.clone(), |p, id| p.replace(&id.to_string(), &dead));
            assert_eq!(ask(&path, media).status, 404, "{dialect}: {path}");
        }
        if dialect == Dialect::V5 {
            let foreign = format!("/routers/{router}/ports/{bridge_port}/peering_table");
            assert_eq!(ask(&foreign, "MacIp-v1").status, 404, "a port of another device");
        }
    }
}

#[test]
fn uris_that_clients_follow_exist() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        prepare(&fixture);
        let bridge = fixture.get(&format!("/bridges/{}", id(2))).body;
        match dialect {
            // A list of URIs of ports; and the URI of a list.
            Dialect::V1 => assert_eq!(bridge["vxLanPorts"], json!([])),
            Dialect::V5 => assert!(bridge["vxLanPorts"].as_str().is_some_and(|uri| uri.ends_with("/vxlan_ports"))),
        }
        let port = fixture.port(id(4));
        if dialect == Dialect::V5 {
            let table = format!("/routers/{}/ports/{}/peering_table", id(1), id(4));
            assert!(port["peeringTable"].as_str().is_some_and(|uri| uri.ends_with(&table)), "{port}");
            assert_eq!(port.get("serviceContainer"), Some(&Value::Null));
        } else {
            assert_eq!((port.get("peeringTable"), port.get("serviceContainer")), (None, None));
        }
    }
}

#[test]
fn addresses_may_have_zeros_before_them() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        prepare(&fixture);
        let port = json!({ "type": "Router", "networkAddress": "010.001.0.0", "networkLength": 16,
            "portAddress": "010.001.000.001" });
        let port = fixture.port(fixture.post(&format!("/routers/{}/ports", id(1)), &port).created());
        assert_eq!((&port["portAddress"], &port["networkAddress"]), (&json!("10.1.0.1"), &json!("10.1.0.0")));
        let route = json!({ "type": "Normal", "srcNetworkAddr": "000.0.0.0", "srcNetworkLength": 0,
            "dstNetworkAddr": "010.9.0.0", "dstNetworkLength": 16, "nextHopPort": id(4), "nextHopGateway": "010.0.0.009" });
        let route = fixture.post(&format!("/routers/{}/routes", id(1)), &route).created();
        let route = fixture.get(&format!("/routes/{route}")).body;
        assert_eq!((&route["dstNetworkAddr"], &route["nextHopGateway"]), (&json!("10.9.0.0"), &json!("10.0.0.9")));
        let rule = json!({ "type": "snat", "flowAction": "accept", "nwSrcAddress": "010.0.0.0", "nwSrcLength": 8,
            "natTargets": [{ "addressFrom": "010.0.0.1", "addressTo": "10.0.0.002", "portFrom": 1, "portTo": 2 }] });
        let rule = fixture.post(&format!("/chains/{}/rules", id(3)), &rule).created();
        let rule = fixture.get(&format!("/rules/{rule}")).body;
        assert_eq!(
            (&rule["nwSrcAddress"], &rule["natTargets"][0]["addressTo"]),
            (&json!("10.0.0.0"), &json!("10.0.0.2"))
        );
        let arp = format!("/bridges/{}/arp_table", id(2));
        let made = fixture.post(&arp, &json!({ "ip": "010.0.0.7", "mac": "2:0:0:0:0:a" }));
        assert_eq!(made.status, 201, "{made:?}");
        assert_eq!(fixture.get(&format!("{arp}/010.000.0.7_02-00-00-00-00-0a")).body["ip"], "10.0.0.7");
        let group = fixture.post("/ip_addr_groups", &json!({ "name": "a" })).created();
        let members = format!("/ip_addr_groups/{group}/ip_addrs");
        assert_eq!(fixture.post(&members, &json!({ "addr": "010.0.0.1", "version": 4 })).status, 201);
        assert_eq!(
            fixture.get(&format!("/ip_addr_groups/{group}/versions/4/ip_addrs/10.00.0.1")).body["addr"],
            "10.0.0.1"
        );
        let zone = fixture.post("/tunnel_zones", &json!({ "name": "z", "type": "gre" })).created();
        let members = format!("/tunnel_zones/{zone}/hosts");
        assert_eq!(fixture.post(&members, &json!({ "hostId": fixture.host(), "ipAddress": "010.0.0.1" })).status, 201);
        assert_eq!(fixture.list(&members)[0]["ipAddress"], "10.0.0.1");
    }
}

/// If a filter were dropped, one tenant would see another's objects.
#[test]
fn a_filter_that_cannot_be_read_is_one_that_nothing_passes() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        prepare(&fixture);
        fixture.post("/port_groups", &json!({ "id": id(9), "tenantId": "t", "name": "g" })).created();
        for path in ["/routers", "/bridges", "/chains", "/port_groups"] {
            for filter in
                ["tenant_id=%ff", "tenant_id=%zz", "tenant_id=%", "tenant_id=", "tenant_id", "tenant%5fid=%ff"]
            {
                assert!(fixture.list(&format!("{path}?{filter}")).is_empty(), "{dialect}: {path}?{filter}");
            }
            assert!(!fixture.list(&format!("{path}?tenant%5Fid=%74")).is_empty(), "{dialect}: {path}");
        }
        for filter in ["port_id=x", "port_id=%ff", "port_id="] {
            assert!(fixture.list(&format!("/port_groups?{filter}")).is_empty(), "{dialect}: {filter}");
        }
    }
}

#[test]
fn every_answer_may_be_read_by_pages_of_other_origins() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        prepare(&fixture);
        for (method, path, status) in [
            (Method::OPTIONS, "/routers".to_owned(), 200),
            (Method::GET, "/nonsense".to_owned(), 404),
            (Method::GET, "/neutron".to_owned(), 501),
            (Method::POST, "/login".to_owned(), 401),
            (Method::PATCH, "/routers".to_owned(), 405),
            (Method::DELETE, format!("/bridges/{}", id(2)), 204),
            (Method::GET, format!("/bridges/{}", id(2)), if dialect == Dialect::V5 { 406 } else { 404 }),
        ] {
            let answer = fixture.raw(method.clone(), &path, &[], b"");
            assert_eq!(answer.status, status, "{dialect}: {method} {path}");
            let header = |name: &'static str| answer.header(&http::HeaderName::from_static(name)).unwrap_or_default();
            assert_eq!(header("access-control-allow-origin"), "*", "{method} {path}");
            for name in ["Origin", "X-Auth-Token", "Content-Type", "Accept", "Authorization"] {
                let names = header("access-control-allow-headers");
                assert!(names.split(", ").any(|one| one == name), "{method} {path}: {name} in {names}");
            }
        }
        // A page of another origin must not use the requests that remove everything.
        assert_eq!(
            fixture.admin(Method::GET, "/faults", &Value::Null).headers.get("access-control-allow-origin"),
            None
        );
    }
}

#[test]
fn methods_that_do_not_exist_are_405() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        prepare(&fixture);
        for (method, path) in [
            (Method::POST, "/ports".to_owned()),
            (Method::PUT, format!("/chains/{}", id(3))),
            (Method::PUT, format!("/routes/{}", id(3))),
            (Method::PUT, format!("/rules/{}", id(3))),
            (Method::PUT, format!("/ip_addr_groups/{}", id(3))),
            (Method::GET, format!("/ports/{}/link", id(4))),
            (Method::PATCH, "/routers".to_owned()),
            (Method::DELETE, "/routers".to_owned()),
        ] {
            assert_eq!(fixture.raw(method.clone(), &path, &[], b"{}").status, 405, "{method} {path} in {dialect}");
        }
        let route = format!("/routers/{}/routes/{}", id(1), id(2));
        assert_eq!(fixture.delete(&route), 404, "routes are not deleted below their router");
    }
}

#[test]
fn read_only_refuses_writes_on_1_9() {
    let fixture = Fixture::new(Dialect::V1);
    assert_eq!(fixture.put("/system_state", &json!({ "availability": "READONLY" })).status, 204);
    let refused = fixture.post("/routers", &json!({ "tenantId": "t", "name": "n" }));
    assert_eq!((refused.status, refused.message()), (503, "API server currently in restricted mode."));
    assert_eq!(fixture.delete(&format!("/routers/{}", Uuid::nil())), 503);
    assert_eq!(fixture.list("/routers").len(), 1, "reading goes on");
    assert_eq!(fixture.put("/system_state", &json!({ "availability": "READWRITE" })).status, 204);
    fixture.router(1, "t");
    let fixture = Fixture::new(Dialect::V5);
    assert_eq!(fixture.put("/system_state", &json!({ "availability": "READONLY" })).status, 405);
    assert_eq!(fixture.get("/system_state").body["availability"], "READWRITE");
}

#[test]
fn the_clients_types_read_every_answer() {
    use atoll_sdn_client::api;

    fn reads<T: serde::de::DeserializeOwned>(list: &[Value]) {
        let text = json!(list).to_string();
        if let Err(error) = serde_json::from_str::<Vec<T>>(&text) {
            panic!("{error}: {text}");
        }
    }
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        let tenant = fixture.tenant(0x10, "t");
        reads::<api::Router>(&fixture.list("/routers"));
        reads::<api::Bridge>(&fixture.list("/bridges"));
        reads::<api::Port>(&fixture.list("/ports"));
        reads::<api::Route>(&fixture.list(&format!("/routers/{}/routes", tenant.router)));
        reads::<api::Chain>(&fixture.list("/chains"));
        reads::<api::Rule>(&fixture.list(&format!("/chains/{}/rules", tenant.outbound)));
        reads::<api::Host>(&fixture.list("/hosts"));
        reads::<api::Interface>(&fixture.list(&format!("/hosts/{}/interfaces", fixture.host())));
        reads::<api::HostInterfacePort>(&fixture.list(&format!("/hosts/{}/ports", fixture.host())));
        reads::<api::TunnelZone>(&fixture.list("/tunnel_zones"));
        reads::<api::TunnelZoneHost>(&fixture.list(&format!("/tunnel_zones/{}/hosts", tunnel_zone())));
    }
}
