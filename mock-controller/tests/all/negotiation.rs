//! Accept and Content-Type: which types each dialect accepts.

use atoll_mock_controller::Dialect;
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE};
use serde_json::Value;

use crate::fixture::{Answer, Fixture, id};

const VENDOR: &str = "application/vnd.org.midonet.";

fn get(fixture: &Fixture, path: &str, accept: Option<&str>) -> Answer {
    let accept = accept.map(|accept| accept.replace('~', VENDOR));
    let headers: Vec<_> = accept.iter().map(|accept| (ACCEPT, accept.as_str())).collect();
    fixture.raw(Method::GET, path, &headers, b"")
}

fn post(fixture: &Fixture, path: &str, kind: Option<&str>, body: &str) -> u16 {
    let kind = kind.map(|kind| kind.replace('~', VENDOR));
    let headers: Vec<_> = kind.iter().map(|kind| (CONTENT_TYPE, kind.as_str())).collect();
    fixture.raw(Method::POST, path, &headers, body.as_bytes()).status
}

#[test]
fn what_a_get_may_ask_for() {
    // Path, Accept, 5.x, 1.9; a number is a status, a text is the type of a 200.
    let host = Fixture::new(Dialect::V5).host();
    let zone = atoll_mock_controller::tunnel_zone();
    for (path, accept, v5, v1) in [
        ("/routers", Some("~collection.Router-v3+json"), Ok("~collection.Router-v3+json"), Err(406)),
        ("/routers", Some("~collection.Router-v2+json"), Err(406), Ok("~collection.Router-v2+json")),
        ("/routers", Some("~Router-v3+json"), Err(406), Err(406)),
        ("/routers", Some("application/json"), Ok("application/json"), Ok("application/json")),
        ("/routers", Some("*/*"), Ok("~collection.Router-v3+json"), Ok("application/json")),
        ("/routers", Some("application/*"), Ok("~collection.Router-v3+json"), Ok("application/json")),
        ("/routers", Some("text/*"), Err(406), Err(406)),
        ("/routers", Some("application/json; charset=utf-8"), Ok("application/json"), Ok("application/json")),
        ("/routers", Some("application/json;q=0.5"), Ok("application/json"), Ok("application/json")),
        ("/routers", Some("APPLICATION/JSON"), Ok("application/json"), Ok("application/json")),
        ("/routers", Some("text/html, application/json;q=0.001"), Ok("application/json"), Ok("application/json")),
        ("/routers", Some("application/json;q=0"), Err(406), Err(406)),
        ("/routers", Some("*/*;q=0"), Err(406), Err(406)),
        (
            "/routers",
            Some("application/json;q=0, */*"),
            Ok("~collection.Router-v3+json"),
            Ok("~collection.Router-v2+json"),
        ),
        ("/routers", Some("application/*;q=0, */*"), Err(406), Err(406)),
        (
            "/routers",
            Some("application/json;q=0.9, ~collection.Router-v3+json;q=0.1, ~collection.Router-v2+json;q=0.2"),
            Ok("application/json"),
            Ok("application/json"),
        ),
        ("/routers", Some("*/*, application/json"), Ok("application/json"), Ok("application/json")),
        ("/routers", Some("json"), Err(406), Err(406)),
        ("/routers", Some("application/json;q=high"), Err(406), Err(406)),
        ("/routers", Some(""), Err(406), Err(406)),
        ("/routers", Some("~collection.Router-v3+json; charset=UTF-8"), Ok("~collection.Router-v3+json"), Err(406)),
        (
            "/ports/P/port_groups",
            Some("~collection.PortGroupPort-v1+json"),
            Ok("~collection.PortGroupPort-v1+json"),
            Ok("~collection.PortGroupPort-v1+json"),
        ),
        ("/ports/P/port_groups", Some("~collection.PortGroup-v1+json"), Err(406), Ok("~collection.PortGroup-v1+json")),
        ("/load_balancers", None, Err(406), Ok("application/json")),
        (
            "/load_balancers",
            Some("~collection.LoadBalancer-v1+json"),
            Ok("~collection.LoadBalancer-v1+json"),
            Ok("~collection.LoadBalancer-v1+json"),
        ),
        ("/routers", None, Err(406), Ok("application/json")),
        ("/routers", Some("text/html"), Err(406), Err(406)),
        (
            "/routers",
            Some("~collection.Router-v3+json, application/json"),
            Ok("~collection.Router-v3+json"),
            Ok("application/json"),
        ),
        (
            "/bridges",
            Some("~collection.Bridge-v4+json"),
            Ok("~collection.Bridge-v4+json"),
            Ok("~collection.Bridge-v4+json"),
        ),
        ("/bridges", Some("~collection.Bridge-v5+json"), Ok("~collection.Bridge-v5+json"), Err(406)),
        ("/bridges", Some("~collection.Bridge-v1+json"), Err(406), Ok("~collection.Bridge-v1+json")),
        ("/", Some("~Application-v5+json"), Ok("~Application-v5+json"), Ok("~Application-v5+json")),
        ("/", Some("~Application-v4+json"), Err(406), Ok("~Application-v4+json")),
        ("/hosts/H/ports", Some("application/json"), Err(406), Ok("application/json")),
        (
            "/hosts/H/ports",
            Some("~collection.HostInterfacePort-v1+json"),
            Ok("~collection.HostInterfacePort-v1+json"),
            Ok("~collection.HostInterfacePort-v1+json"),
        ),
        ("/tunnel_zones/Z/hosts", Some("application/json"), Err(406), Ok("application/json")),
        (
            "/tunnel_zones/Z/hosts",
            Some("~collection.GreTunnelZoneHost-v1+json"),
            Ok("~collection.GreTunnelZoneHost-v1+json"),
            Ok("~collection.GreTunnelZoneHost-v1+json"),
        ),
        ("/tenants", Some("~collection.Tenant-v2+json"), Ok("~collection.Tenant-v2+json"), Err(406)),
        ("/tenants", Some("~collection.Tenant-v1+json"), Err(406), Ok("~collection.Tenant-v1+json")),
        ("/ip_addr_groups", Some("application/json"), Err(406), Ok("application/json")),
        ("/system_state", None, Ok("~SystemState-v2+json"), Ok("application/json")),
    ] {
        let port = atoll_mock_controller::uplink_port().to_string();
        let path = path.replace('H', &host.to_string()).replace('Z', &zone.to_string()).replace('P', &port);
        for (dialect, expected) in [(Dialect::V5, v5), (Dialect::V1, v1)] {
            let answer = get(&Fixture::new(dialect), &path, accept);
            match expected {
                Ok(kind) => {
                    assert_eq!(answer.status, 200, "GET {path} as {accept:?} in {dialect}");
                    assert_eq!(
                        answer.header(&CONTENT_TYPE),
                        Some(kind.replace('~', VENDOR).as_str()),
                        "{path} {dialect}"
                    );
                }
                Err(status) => assert_eq!(answer.status, status, "GET {path} as {accept:?} in {dialect}"),
            }
        }
    }
}

#[test]
fn what_a_post_may_bring() {
    for (path, kind, v5, v1) in [
        ("/routers", Some("~Router-v3+json"), 201, 415),
        ("/routers", Some("~Router-v2+json"), 406, 201),
        ("/routers", Some("application/json"), 201, 201),
        ("/routers", Some("application/json; charset=UTF-8"), 201, 201),
        ("/routers", Some("Application/JSON;charset=\"utf-8\""), 201, 201),
        ("/routers", Some("~Router-v3+json; charset=UTF-8"), 201, 415),
        ("/routers", Some("application/*"), 201, 201),
        ("/routers", Some("application/json;"), 201, 201),
        ("/routers", Some("application/json; charset"), 406, 415),
        ("/routers", Some("application/json, text/plain"), 406, 415),
        ("/routers", Some("json"), 406, 415),
        ("/routers", Some(""), 406, 415),
        ("/ports/P/link", Some("link"), 415, 415),
        ("/routers", Some("text/plain"), 406, 415),
        ("/routers", None, 406, 201),
        ("/ports/P/link", Some("~PortLink-v1+json"), 201, 201),
        ("/ports/P/link", Some("application/json"), 201, 201),
        ("/ports/P/link", Some("application/json; charset=UTF-8"), 201, 201),
        ("/ports/P/link", Some("~Port-v3+json"), 415, 415),
        ("/ports/P/link", None, 415, 201),
        ("/tunnel_zones/Z/hosts", Some("application/json"), 415, 400),
        ("/ip_addr_groups", Some("application/json"), 415, 201),
    ] {
        for (dialect, expected) in [(Dialect::V5, v5), (Dialect::V1, v1)] {
            let fixture = Fixture::new(dialect);
            let (one, other) = (fixture.router(1, "t"), fixture.bridge(2, "t"));
            let (port, peer) = (fixture.router_port(3, one, "10.0.0.1"), fixture.bridge_port(4, other));
            let zone = atoll_mock_controller::tunnel_zone();
            let path = path.replace('P', &port.to_string()).replace('Z', &zone.to_string());
            let body = format!("{{\"tenantId\":\"t\",\"name\":\"n\",\"peerId\":\"{peer}\"}}");
            assert_eq!(post(&fixture, &path, kind, &body), expected, "POST {path} with {kind:?} in {dialect}");
        }
    }
}

#[test]
fn a_delete_and_a_login_need_neither() {
    for dialect in [Dialect::V5, Dialect::V1] {
        let fixture = Fixture::new(dialect);
        let router = fixture.router(1, "t");
        assert_eq!(fixture.delete(&format!("/routers/{router}")), 204);
    }
}

#[test]
fn version_one_hides_what_came_later() {
    let fixture = Fixture::new(Dialect::V1);
    let bridge = fixture.bridge(1, "t");
    let port = fixture.bridge_port(2, bridge);
    fixture.bind(fixture.host(), port, "v0");
    let path = format!("/ports/{port}");
    let old = get(&fixture, &path, Some("application/json")).body;
    assert_eq!((old.get("hostId"), &old["type"]), (None, &Value::from("ExteriorBridge")));
    let new = get(&fixture, &path, Some("~Port-v2+json")).body;
    assert_eq!((new["interfaceName"].as_str(), &new["type"]), (Some("v0"), &Value::from("Bridge")));
    fixture.delete(&format!("/hosts/{}/ports/{port}", fixture.host()));
    assert_eq!(get(&fixture, &path, None).body["type"], "InteriorBridge");
    assert_eq!(get(&fixture, "/", Some("~Application-v4+json")).body.get("ports"), None);
    assert!(get(&fixture, "/", Some("~Application-v5+json")).body.get("ports").is_some());

    // Version 1 accepts the oldest names of types.
    let path = format!("/bridges/{bridge}/ports");
    let body = |kind: &str| format!("{{\"type\":\"{kind}\",\"id\":\"{}\"}}", id(0x99));
    assert_eq!(post(&fixture, &path, Some("application/json"), &body("Bridge")), 400);
    assert_eq!(post(&fixture, &path, Some("application/json"), &body("ExteriorBridge")), 201);
}
