//! Links and bindings: which requests are refused, with which message, and what is not checked.

use atoll_mock_controller::{Activation, Dialect, MockSettings, tunnel_zone};
use http::Method;
use http::header::LOCATION;
use serde_json::{Value, json};

use crate::fixture::{BOTH, Fixture, id};

/// Router ports 11 and 12 of routers 1 and 2, router port 13 of router 1, bridge ports 21 to 23 of bridge 3.
fn ports(dialect: Dialect) -> Fixture {
    let fixture = Fixture::new(dialect);
    let (one, two, bridge) = (fixture.router(1, "t"), fixture.router(2, "t"), fixture.bridge(3, "t"));
    fixture.router_port(11, one, "10.0.0.1");
    fixture.router_port(12, two, "10.0.0.2");
    fixture.router_port(13, one, "10.0.1.1");
    for number in [21, 22, 23] {
        fixture.bridge_port(number, bridge);
    }
    fixture
}

const UNLINKABLE: &str = "Ports are not linkable.";

#[test]
fn a_link_is_symmetric_and_either_side_ends_it() {
    for dialect in BOTH {
        for end in [11, 21] {
            let fixture = ports(dialect);
            let made = fixture.link(id(11), id(21));
            assert_eq!(made.status, 201);
            assert_eq!(made.header(&LOCATION).is_some(), dialect == Dialect::V1, "5.x cannot say where a link is");
            assert_eq!(fixture.port(id(11))["peerId"], json!(id(21)));
            assert_eq!(fixture.port(id(21))["peerId"], json!(id(11)));
            assert_eq!(fixture.ids(&format!("/routers/{}/peer_ports", id(1))), [id(21)]);
            assert_eq!(fixture.ids(&format!("/bridges/{}/peer_ports", id(3))), [id(11)]);
            assert_eq!(fixture.delete(&format!("/ports/{}/link", id(end))), 204);
            assert_eq!(fixture.delete(&format!("/ports/{}/link", id(end))), 204, "an absent link is deleted already");
            assert_eq!(
                (&fixture.port(id(11))["peerId"], &fixture.port(id(21))["peerId"]),
                (&Value::Null, &Value::Null)
            );
        }
    }
}

#[test]
fn links_that_are_refused() {
    for dialect in BOTH {
        let fixture = ports(dialect);
        assert_eq!(fixture.link(id(11), id(21)).status, 201);
        // The same link again, from the other side, and a link to a third port.
        for (one, other) in [(11, 21), (21, 11), (12, 21), (11, 12)] {
            let answer = fixture.link(id(one), id(other));
            match dialect {
                Dialect::V5 => assert_eq!((answer.status, answer.message()), (409, UNLINKABLE)),
                Dialect::V1 => {
                    assert_eq!((answer.status, answer.violations()), (400, vec![format!("link: {UNLINKABLE}")]));
                }
            }
        }
        let bad = fixture.post(&format!("/ports/{}/link", id(12)), &json!({}));
        assert_eq!(bad.status, 400);
        let missing = fixture.link(id(12), id(0xdead));
        match dialect {
            Dialect::V5 => assert_eq!(missing.status, 404),
            Dialect::V1 => assert_eq!(missing.violations(), ["peerId: Port ID is not valid."]),
        }
        assert_eq!(fixture.link(id(0xdead), id(12)).status, 404);
        let with_port =
            fixture.post(&format!("/ports/{}/link", id(12)), &json!({ "portId": id(12), "peerId": id(22) }));
        assert_eq!(with_port.status, if dialect == Dialect::V5 { 500 } else { 201 });
        let unlinked = fixture.delete(&format!("/ports/{}/link", id(0xdead)));
        assert_eq!(unlinked, if dialect == Dialect::V5 { 404 } else { 204 });
    }
}

#[test]
fn links_that_only_1_9_checks() {
    // Two ports of one router; two untagged bridge ports; a bound port; a port with itself.
    for (one, other) in [(11, 13), (21, 22), (11, 23), (12, 12)] {
        for dialect in BOTH {
            let fixture = ports(dialect);
            assert_eq!(fixture.bind(fixture.host(), id(23), "v").status, 201);
            let expected = if dialect == Dialect::V5 { 201 } else { 400 };
            assert_eq!(fixture.link(id(one), id(other)).status, expected, "{one} with {other} in {dialect}");
        }
    }
}

#[test]
fn a_binding_is_shown_on_both_sides() {
    for dialect in BOTH {
        let fixture = ports(dialect);
        let host = fixture.host();
        let made = fixture.bind(host, id(21), "v0");
        let path = format!("/hosts/{host}/ports/{}", id(21));
        assert!(made.header(&LOCATION).is_some_and(|location| location.ends_with(&path)), "{made:?}");
        let read = fixture.get(&path).body;
        assert_eq!((&read["portId"], &read["interfaceName"]), (&json!(id(21)), &json!("v0")));
        let port = fixture.port(id(21));
        assert_eq!(
            (&port["hostId"], &port["interfaceName"], &port["active"]),
            (&json!(host), &json!("v0"), &json!(true))
        );
        assert_eq!(fixture.delete(&path), 204);
        let port = fixture.port(id(21));
        assert_eq!(
            (&port["hostId"], &port["interfaceName"], &port["active"]),
            (&Value::Null, &Value::Null, &json!(false))
        );
        let gone = fixture.get(&path);
        assert_eq!((gone.status, gone.message()), (404, "Host interface port not found"));
        assert_eq!(fixture.delete(&path), 204, "an absent binding is deleted already");
        assert_eq!(fixture.bind(host, id(21), "v0").status, 201);
    }
}

#[test]
fn bindings_that_are_refused() {
    for dialect in BOTH {
        let fixture = ports(dialect);
        let (host, other) = (fixture.host(), id(0x500));
        let body = json!({ "id": other, "name": "other", "address": "10.9.9.9" });
        assert_eq!(fixture.admin(Method::POST, "/hosts", &body).status, 200);
        assert_eq!(fixture.bind(host, id(21), "v0").status, 201);

        // The same again; the same port elsewhere on the host; the same port on another host.
        for (n, (to, interface, text)) in
            [(host, "v0", "same"), (host, "v1", "moved"), (other, "v0", "stolen")].into_iter().enumerate()
        {
            let answer = fixture.bind(to, id(21), interface);
            match dialect {
                Dialect::V5 => {
                    let words = format!("Port {} is already bound to an interface", id(21));
                    assert_eq!((answer.status, answer.message()), (409, words.as_str()), "{text} {n}");
                }
                Dialect::V1 => {
                    assert_eq!(answer.status, 201, "{text}: replaced silently");
                    let port = fixture.port(id(21));
                    assert_eq!((&port["hostId"], &port["interfaceName"]), (&json!(to), &json!(interface)));
                }
            }
        }
        let (taken_on, taken) = if dialect == Dialect::V5 { (host, "v0") } else { (other, "v0") };
        let answer = fixture.bind(taken_on, id(22), taken);
        match dialect {
            Dialect::V5 => {
                assert_eq!((answer.status, answer.message()), (409, "Interface v0 is already bound to a port."));
            }
            Dialect::V1 => {
                assert_eq!(answer.violations(), ["interfaceName: Interface is already bound to a port."]);
            }
        }
        let gone = fixture.bind(host, id(0xdead), "v7");
        match dialect {
            Dialect::V5 => assert_eq!(gone.status, 404),
            Dialect::V1 => assert_eq!(gone.violations(), ["portId: Port ID is not valid."]),
        }
        assert_eq!(fixture.bind(id(0xdead), id(22), "v7").status, 404);
        assert_eq!(fixture.post(&format!("/hosts/{host}/ports"), &json!({ "portId": id(22) })).status, 400);

        let zone = "The specified host is not in any tunnel zone.";
        fixture.delete(&format!("/tunnel_zones/{}/hosts/{other}", tunnel_zone()));
        let answer = fixture.bind(other, id(22), "v8");
        match dialect {
            Dialect::V5 => assert_eq!((answer.status, answer.message()), (409, zone)),
            Dialect::V1 => assert_eq!(answer.violations(), [format!("hostId: {zone}")]),
        }
    }
}

#[test]
fn whose_binding_a_delete_clears() {
    for dialect in BOTH {
        let fixture = ports(dialect);
        fixture.admin(Method::POST, "/hosts", &json!({ "id": id(0x500), "name": "other", "address": "10.9.9.9" }));
        assert_eq!(fixture.bind(fixture.host(), id(21), "v0").status, 201);
        assert_eq!(fixture.delete(&format!("/hosts/{}/ports/{}", id(0x500), id(21))), 204);
        let left = fixture.port(id(21))["hostId"] != Value::Null;
        assert_eq!(left, dialect == Dialect::V1, "5.x clears it whatever host the path names");
        let missing = fixture.delete(&format!("/hosts/{}/ports/{}", fixture.host(), id(0xdead)));
        assert_eq!(missing, if dialect == Dialect::V5 { 404 } else { 204 });
    }
}

#[test]
fn a_port_may_be_bound_or_linked_as_it_is_made() {
    let fixture = ports(Dialect::V5);
    let path = format!("/bridges/{}/ports", id(3));
    let bound = json!({ "id": id(31), "type": "Bridge", "hostId": fixture.host(), "interfaceName": "v0" });
    fixture.post(&path, &bound).created();
    assert_eq!(fixture.port(id(31))["active"], true);
    assert_eq!(fixture.get(&format!("/hosts/{}/ports/{}", fixture.host(), id(31))).status, 200);
    let linked = json!({ "id": id(32), "type": "Bridge", "peerId": id(11) });
    fixture.post(&path, &linked).created();
    assert_eq!(fixture.port(id(11))["peerId"], json!(id(32)));

    let taken = fixture.post(&path, &json!({ "id": id(33), "type": "Bridge", "peerId": id(11) }));
    assert_eq!(taken.status, 409);
    assert!(taken.message().contains("can only accommodate a single reference"), "{taken:?}");
    assert_eq!(fixture.get(&format!("/ports/{}", id(33))).status, 404, "nothing was made");
    let nowhere = json!({ "id": id(34), "type": "Bridge", "hostId": id(0xdead), "interfaceName": "v1" });
    assert_eq!(fixture.post(&path, &nowhere).status, 404);
    // Checks of the binding resource do not apply here.
    let shared = json!({ "id": id(35), "type": "Bridge", "hostId": fixture.host(), "interfaceName": "v0" });
    fixture.post(&path, &shared).created();

    let fixture = ports(Dialect::V1);
    fixture
        .post(&path, &json!({ "id": id(31), "type": "Bridge", "hostId": fixture.host(), "interfaceName": "v0" }))
        .created();
    assert_eq!(fixture.port(id(31))["hostId"], Value::Null, "1.9 does not bind this way");
}

#[test]
fn the_wrong_kind_of_port_is_refused() {
    for (dialect, path, kind, words) in [
        (Dialect::V5, "bridges", "Router", "Not a bridge port."),
        (Dialect::V5, "routers", "Bridge", "Not a router port."),
        (Dialect::V1, "bridges", "Router", "Invalid port type.  Only Bridge type is accepted."),
        (Dialect::V1, "routers", "Bridge", "Invalid port type.  Only Router type is accepted."),
    ] {
        let fixture = ports(dialect);
        let device = if path == "bridges" { id(3) } else { id(1) };
        let answer = fixture.post(&format!("/{path}/{device}/ports"), &json!({ "type": kind }));
        assert_eq!((answer.status, answer.message()), (400, words));
        assert_eq!(fixture.post(&format!("/{path}/{device}/ports"), &json!({ "type": "Odd" })).status, 400);
        assert_eq!(fixture.post(&format!("/{path}/{device}/ports"), &json!({})).status, 400);
    }
}

#[test]
fn one_vlan_once_per_bridge_on_1_9() {
    for dialect in BOTH {
        let fixture = ports(dialect);
        let path = format!("/bridges/{}/ports", id(3));
        fixture.post(&path, &json!({ "type": "Bridge", "vlanId": 9 })).created();
        let twice = fixture.post(&path, &json!({ "type": "Bridge", "vlanId": 9 }));
        assert_eq!(twice.status, if dialect == Dialect::V5 { 201 } else { 400 });
        assert_eq!(fixture.post(&path, &json!({ "type": "Bridge", "vlanId": 4096 })).status, 400);
    }
}

#[test]
fn tunnel_zones_have_names_of_their_own() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        let zone = fixture.post("/tunnel_zones", &json!({ "name": "z", "type": "vxlan" })).created();
        let conflict = if dialect == Dialect::V5 { 409 } else { 400 };
        assert_eq!(fixture.post("/tunnel_zones", &json!({ "name": "z", "type": "gre" })).status, conflict);
        assert_eq!(
            fixture.put(&format!("/tunnel_zones/{zone}"), &json!({ "name": "default", "type": "gre" })).status,
            conflict
        );
        // 5.x compares with every zone, also with the one that is replaced.
        let own = if dialect == Dialect::V5 { 409 } else { 204 };
        assert_eq!(fixture.put(&format!("/tunnel_zones/{zone}"), &json!({ "name": "z", "type": "gre" })).status, own);
        assert_eq!(fixture.put(&format!("/tunnel_zones/{zone}"), &json!({ "name": "z2", "type": "gre" })).status, 204);
        assert_eq!(fixture.get(&format!("/tunnel_zones/{zone}")).body["name"], "z2");
        assert_eq!(fixture.post("/tunnel_zones", &json!({ "name": "y", "type": "pigeon" })).status, 400);
        let members = format!("/tunnel_zones/{zone}/hosts");
        let member = json!({ "hostId": fixture.host(), "ipAddress": "10.0.0.1" });
        assert_eq!(fixture.post(&members, &json!({ "hostId": fixture.host(), "ipAddress": "x" })).status, 400);
        assert_eq!(fixture.post(&members, &member).status, 201);
        assert_eq!(fixture.post(&members, &member).status, conflict);
        assert_eq!(fixture.delete(&format!("{members}/{}", fixture.host())), 204);
        let absent = if dialect == Dialect::V5 { 404 } else { 204 };
        assert_eq!(fixture.delete(&format!("{members}/{}", fixture.host())), absent);
    }
}

#[test]
fn a_port_is_active_when_it_is_set_active() {
    let fixture = Fixture::with(MockSettings { activation: Activation::Explicit, ..MockSettings::default() });
    let port = fixture.bridge_port(21, fixture.bridge(3, "t"));
    fixture.mock.set_active(port, true);
    assert_eq!(fixture.port(port)["active"], false, "a port that is not bound is never active");
    assert_eq!(fixture.bind(fixture.host(), port, "v0").status, 201);
    assert_eq!(fixture.port(port)["active"], false);
    let answer = fixture.admin(Method::PUT, &format!("/ports/{port}/active"), &json!({ "active": true }));
    assert_eq!(answer.status, 204);
    assert_eq!(fixture.port(port)["active"], true);
    fixture.delete(&format!("/hosts/{}/ports/{port}", fixture.host()));
    assert_eq!(fixture.bind(fixture.host(), port, "v0").status, 201);
    assert_eq!(fixture.port(port)["active"], false, "a new binding is not active by the old one's word");
    fixture.admin(Method::PUT, "/activation", &json!({ "mode": "at-once" }));
    let other = fixture.bridge_port(22, id(3));
    assert_eq!(fixture.bind(fixture.host(), other, "v1").status, 201);
    assert_eq!(fixture.port(other)["active"], true);
}

#[test]
fn a_reset_restores_everything() {
    let delay = Activation::After(std::time::Duration::from_millis(70));
    for (first, mode) in [
        (Activation::AtOnce, json!({ "mode": "at-once" })),
        (Activation::Explicit, json!({ "mode": "never" })),
        (delay, json!({ "mode": "after", "milliseconds": 70 })),
    ] {
        let fixture = Fixture::with(MockSettings { activation: first, ..MockSettings::default() });
        let (before, uplink) =
            (fixture.mock.dump(), fixture.port(atoll_mock_controller::uplink_port())["active"].clone());
        let activation = || fixture.admin(Method::GET, "/activation", &Value::Null).body;
        assert_eq!(activation(), mode);
        for other in
            [json!({ "mode": "never" }), json!({ "mode": "after", "milliseconds": 9 }), json!({ "mode": "at-once" })]
        {
            assert_eq!(fixture.admin(Method::PUT, "/activation", &other).status, 204);
            assert_eq!(activation(), other, "what is shown can be set");
        }
        fixture.bind(fixture.host(), fixture.bridge_port(21, fixture.bridge(3, "t")), "v0");
        fixture.admin(Method::PUT, &format!("/ports/{}/active", id(21)), &json!({ "active": true }));
        fixture.admin(Method::POST, "/faults", &json!({ "path": "/chains", "fault": { "kind": "cut" } }));
        assert_eq!(fixture.admin(Method::POST, "/reset", &Value::Null).status, 204);
        assert_eq!(activation(), mode, "also when ports become active");
        assert_eq!(fixture.mock.dump(), before);
        assert_eq!(fixture.port(atoll_mock_controller::uplink_port())["active"], uplink);
        assert_eq!(fixture.admin(Method::GET, "/faults", &Value::Null).body, json!([]));
        assert_eq!(fixture.admin(Method::GET, "/requests", &Value::Null).body["count"], 1, "the one just now");
    }
}
