//! Requests, byte by byte.

use atoll_model::secret::Secret;
use atoll_sdn_client::api::{
    self, ApiObject, HostInterfacePort, Ip4Mac, IpAddrGroupAddr, MacPort, Port, PortGroupPort, Route, Router, Rule,
    TunnelZoneHost,
};
use atoll_sdn_client::request::{self, Scope};
use atoll_sdn_client::transport::ApiRequest;
use atoll_sdn_client::{Dialect, Resource};
use uuid::Uuid;

use crate::fixtures::text;

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

/// Method, path, headers and body in one text.
fn show(request: &ApiRequest) -> String {
    let mut parts = vec![format!("{} {}", request.method, request.path)];
    let headers = request.headers.iter();
    parts.extend(headers.map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))));
    if !request.body.is_empty() {
        parts.push(String::from_utf8_lossy(&request.body).into_owned());
    }
    parts.join(" | ")
}

fn create<O: ApiObject>(dialect: Dialect, object: &O) -> String {
    show(&request::create(dialect, object).expect("complete"))
}

const ONE: &str = "00000000-0000-0000-0000-000000000001";
const TWO: &str = "00000000-0000-0000-0000-000000000002";
const VND: &str = "application/vnd.org.midonet.";

#[test]
fn reading_sends_one_accept_of_the_dialect() {
    let get = |dialect, resource| show(&request::get(dialect, resource, id(1)));
    assert_eq!(get(Dialect::V1, Resource::Router), format!("GET /routers/{ONE} | accept: {VND}Router-v2+json"));
    assert_eq!(get(Dialect::V5, Resource::Router), format!("GET /routers/{ONE} | accept: {VND}Router-v3+json"));
    assert_eq!(get(Dialect::V5, Resource::Bridge), format!("GET /bridges/{ONE} | accept: {VND}Bridge-v4+json"));
    assert_eq!(get(Dialect::V1, Resource::Port), format!("GET /ports/{ONE} | accept: {VND}Port-v2+json"));
    assert_eq!(show(&request::root()), format!("GET / | accept: {VND}Application-v5+json"));
    assert_eq!(
        show(&request::system_state(Dialect::V5)),
        format!("GET /system_state | accept: {VND}SystemState-v2+json")
    );
    let list = |scope: &Scope, resource| show(&request::list(Dialect::V5, resource, scope));
    assert_eq!(
        list(&Scope::Tenant("a b/ü&=".to_owned()), Resource::Router),
        format!("GET /routers?tenant_id=a%20b%2F%C3%BC%26%3D | accept: {VND}collection.Router-v3+json")
    );
    assert_eq!(
        list(&Scope::Of(Resource::Chain, id(1)), Resource::Rule),
        format!("GET /chains/{ONE}/rules | accept: {VND}collection.Rule-v2+json")
    );
    assert_eq!(
        list(&Scope::PeersOf(Resource::Router, id(1)), Resource::Port),
        format!("GET /routers/{ONE}/peer_ports | accept: {VND}collection.Port-v3+json")
    );
    assert_eq!(
        list(&Scope::Of(Resource::Bridge, id(1)), Resource::Ip4Mac),
        format!("GET /bridges/{ONE}/arp_table | accept: {VND}collection.IP4Mac-v1+json")
    );
    assert_eq!(list(&Scope::All, Resource::Host), format!("GET /hosts | accept: {VND}collection.Host-v3+json"));
}

#[test]
fn creating_sends_one_content_type_and_no_defaults() {
    let router =
        Router { id: Some(id(1)), name: Some("r".to_owned()), tenant_id: Some("t".to_owned()), ..Router::default() };
    assert_eq!(
        create(Dialect::V5, &router),
        format!(r#"POST /routers | content-type: {VND}Router-v3+json | {{"id":"{ONE}","name":"r","tenantId":"t"}}"#)
    );
    let route = Route { id: Some(id(1)), router_id: Some(id(2)), ..Route::default() };
    assert_eq!(
        create(Dialect::V1, &route),
        format!(
            r#"POST /routers/{TWO}/routes | content-type: {VND}Route-v1+json | {{"id":"{ONE}","routerId":"{TWO}","weight":0}}"#
        )
    );
    let rule = Rule { kind: Some("accept".to_owned()), chain_id: Some(id(2)), position: Some(1), ..Rule::default() };
    assert_eq!(
        create(Dialect::V1, &rule),
        format!(
            r#"POST /chains/{TWO}/rules | content-type: {VND}Rule-v2+json | {{"chainId":"{TWO}","position":1,"type":"accept"}}"#
        )
    );
    let binding = HostInterfacePort {
        host_id: Some(id(1)),
        port_id: Some(id(2)),
        interface_name: Some("at0".to_owned()),
        ..HostInterfacePort::default()
    };
    assert_eq!(
        create(Dialect::V5, &binding),
        format!(
            r#"POST /hosts/{ONE}/ports | content-type: {VND}HostInterfacePort-v1+json | {{"hostId":"{ONE}","interfaceName":"at0","portId":"{TWO}"}}"#
        )
    );
}

#[test]
fn a_port_is_bound_and_linked_in_the_same_request_on_5_only() {
    let port = Port {
        id: Some(id(1)),
        kind: Some("Bridge".to_owned()),
        device_id: Some(id(2)),
        host_id: Some(id(3)),
        interface_name: Some("at0".to_owned()),
        peer_id: Some(id(4)),
        ..Port::default()
    };
    let new = create(Dialect::V5, &port);
    assert!(new.starts_with(&format!("POST /bridges/{TWO}/ports | content-type: {VND}Port-v3+json | ")), "{new}");
    assert!(new.contains("hostId") && new.contains("interfaceName") && new.contains("peerId"), "{new}");
    let old = create(Dialect::V1, &port);
    assert!(old.starts_with(&format!("POST /bridges/{TWO}/ports | content-type: {VND}Port-v2+json | ")), "{old}");
    assert!(!old.contains("hostId") && !old.contains("interfaceName") && !old.contains("peerId"), "{old}");
}

#[test]
fn a_link_names_the_peer_and_nothing_else() {
    assert_eq!(
        show(&request::link(Dialect::V5, id(1), id(2))),
        format!(r#"POST /ports/{ONE}/link | content-type: {VND}PortLink-v1+json | {{"peerId":"{TWO}"}}"#)
    );
}

#[test]
fn deleting_needs_no_header() {
    assert_eq!(show(&request::delete(Resource::Rule, id(1))), format!("DELETE /rules/{ONE}"));
    assert_eq!(show(&request::unlink(id(1))), format!("DELETE /ports/{ONE}/link"));
    assert_eq!(show(&request::unbind(id(1), id(2))), format!("DELETE /hosts/{ONE}/ports/{TWO}"));
}

#[test]
fn an_object_without_an_id_is_identified_by_its_path() {
    let (bridge, port) = (Some(id(1)), Some(id(2)));
    let mac = MacPort { bridge, port_id: port, mac_addr: Some("02:00:00:00:00:0A".to_owned()), ..MacPort::default() };
    let arp = Ip4Mac { bridge, ip: Some("10.0.0.5".to_owned()), mac: mac.mac_addr.clone(), ..Ip4Mac::default() };
    let host = TunnelZoneHost { tunnel_zone_id: Some(id(1)), host_id: Some(id(2)), ..TunnelZoneHost::default() };
    let member = PortGroupPort { port_group_id: Some(id(1)), port_id: port, ..PortGroupPort::default() };
    let address = |text: &str| IpAddrGroupAddr {
        ip_addr_group_id: Some(id(1)),
        addr: Some(text.to_owned()),
        ..IpAddrGroupAddr::default()
    };
    let remove = |request: Result<ApiRequest, api::Incomplete>| show(&request.expect("complete"));
    assert_eq!(remove(request::remove(&mac)), format!("DELETE /bridges/{ONE}/mac_table/02-00-00-00-00-0a_{TWO}"));
    assert_eq!(remove(request::remove(&arp)), format!("DELETE /bridges/{ONE}/arp_table/10.0.0.5_02-00-00-00-00-0a"));
    assert_eq!(remove(request::remove(&host)), format!("DELETE /tunnel_zones/{ONE}/hosts/{TWO}"));
    assert_eq!(remove(request::remove(&member)), format!("DELETE /port_groups/{ONE}/ports/{TWO}"));
    assert_eq!(
        remove(request::remove(&address("10.1.2.3"))),
        format!("DELETE /ip_addr_groups/{ONE}/versions/4/ip_addrs/10.1.2.3")
    );
    assert_eq!(
        remove(request::find(Dialect::V5, &address("fe80::1"))),
        format!("GET /ip_addr_groups/{ONE}/versions/6/ip_addrs/fe80::1 | accept: {VND}IpAddrGroupAddr-v1+json")
    );
    assert_eq!(
        create(Dialect::V5, &mac),
        format!(
            r#"POST /bridges/{ONE}/mac_table | content-type: {VND}MacPort-v2+json | {{"macAddr":"02:00:00:00:00:0A","portId":"{TWO}"}}"#
        )
    );
    assert_eq!(
        create(Dialect::V5, &host),
        format!(
            r#"POST /tunnel_zones/{ONE}/hosts | content-type: {VND}TunnelZoneHost-v1+json | {{"hostId":"{TWO}","tunnelZoneId":"{ONE}"}}"#
        )
    );
    // Text of a server or a user never becomes a path of its own.
    for odd in ["../../hosts", "10.0.0.1/../x", "", "10.0.0.1?x"] {
        request::remove(&address(odd)).expect_err(odd);
        let odd = Some(odd.to_owned());
        request::remove(&MacPort { mac_addr: odd.clone(), ..mac.clone() }).expect_err("no MAC");
        request::remove(&Ip4Mac { ip: odd, ..arp.clone() }).expect_err("no address");
    }
}

#[test]
fn an_object_without_its_parents_id_is_not_sent() {
    let missing = |result: Result<ApiRequest, api::Incomplete>| result.expect_err("incomplete").field;
    assert_eq!(missing(request::create(Dialect::V5, &Route::default())), "routerId");
    assert_eq!(missing(request::create(Dialect::V5, &Rule::default())), "chainId");
    assert_eq!(missing(request::create(Dialect::V5, &Port::default())), "type");
    let port = Port { kind: Some("Router".to_owned()), ..Port::default() };
    assert_eq!(missing(request::create(Dialect::V5, &port)), "deviceId");
    assert_eq!(missing(request::create(Dialect::V5, &HostInterfacePort::default())), "hostId");
}

#[test]
fn an_object_that_was_read_can_be_sent_with_all_it_had() {
    let rule: Rule = api::read(&text("rule.snat.1.9.json")).expect("rule");
    let sent = create(Dialect::V1, &rule);
    assert!(sent.contains(r#""properties":{"owner":"x"}"#), "{sent}");
}

#[test]
fn secrets_are_sent_and_never_shown() {
    let mut request = request::login("admin", &Secret::new("pa55"), "project");
    // base64("admin:pa55")
    assert_eq!(request.headers["authorization"].to_str().expect("text"), "Basic YWRtaW46cGE1NQ==");
    assert_eq!(request.headers["x-auth-project"].to_str().expect("text"), "project");
    assert_eq!(format!("{} {}", request.method, request.path), "POST /login");
    request::authorize(&mut request, &Secret::new("t0ken"));
    assert_eq!(request.headers["x-auth-token"].to_str().expect("text"), "t0ken");
    let shown = format!("{request:?}");
    assert!(!shown.contains("t0ken") && !shown.contains("YWRtaW46cGE1NQ"), "{shown}");
}
