//! A controller, and helpers for requests.

use atoll_testkit::controller::InProcess;
use std::future::Future;
use std::net::SocketAddr;

use atoll_mock_controller::server::MockServer;
use atoll_mock_controller::state::objects::{Port, PortKind};
use atoll_mock_controller::{Dialect, MockSettings, provider_router};
use atoll_sdn_client::transport::{ApiRequest, ApiResponse};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

pub(crate) const BOTH: [Dialect; 2] = [Dialect::V5, Dialect::V1];

/// An id that is readable in a failure message.
pub(crate) fn id(number: u128) -> Uuid {
    Uuid::from_u128(0xaaaa_0000_0000_4000_8000_0000_0000_0000 | number)
}

/// A port of a bridge, bound to nothing.
pub(crate) fn bare_port(bridge: Uuid, tunnel_key: u32) -> Port {
    Port {
        device: bridge,
        kind: PortKind::Bridge { vlan: 0 },
        up: true,
        inbound: None,
        outbound: None,
        vif_id: None,
        binding: None,
        peer: None,
        tunnel_key,
    }
}

/// A server over TCP, for as long as `test` runs.
pub(crate) async fn served<F: Future>(server: MockServer, test: impl FnOnce(SocketAddr) -> F) -> F::Output {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let address = listener.local_addr().expect("an address");
    let local = tokio::task::LocalSet::new();
    local.spawn_local(async move { server.serve(listener, std::future::pending()).await });
    local.run_until(test(address)).await
}

pub(crate) struct Fixture {
    pub(crate) mock: InProcess,
    pub(crate) dialect: Dialect,
}

/// A parsed answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Null when there is no body.
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn of(response: &ApiResponse) -> Self {
        let body = if response.body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&response.body).expect("an answer is JSON")
        };
        Self { status: response.status, headers: response.headers.clone(), body }
    }

    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("header values are text"))
    }

    /// The last segment of `Location`.
    pub(crate) fn created(&self) -> Uuid {
        assert_eq!(self.status, 201, "{self:?}");
        let location = self.header(&LOCATION).expect("a created object has a Location");
        location.rsplit('/').next().and_then(|id| id.parse().ok()).expect("a Location ends with an id")
    }

    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    /// `property: message` of every violation.
    pub(crate) fn violations(&self) -> Vec<String> {
        let text = |violation: &Value, key: &str| violation[key].as_str().unwrap_or_default().to_owned();
        let list = self.body["violations"].as_array().cloned().unwrap_or_default();
        list.iter().map(|v| format!("{}: {}", text(v, "property"), text(v, "message"))).collect()
    }
}

/// The media type that a correct client sends, by the first segment of the path and the kind of request.
fn media(dialect: Dialect, path: &str, list: bool) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let (name, v1, v5) = match segments[..] {
        [""] => ("Application", 5, 5),
        ["tenants", ..] => ("Tenant", 1, 2),
        ["system_state"] => ("SystemState", 2, 2),
        ["bridges", _, "mac_table", ..] | ["bridges", _, "vlans", _, "mac_table", ..] => ("MacPort", 2, 2),
        ["bridges", _, "arp_table", ..] => ("IP4Mac", 1, 1),
        ["ports", _, "link"] => ("PortLink", 1, 1),
        ["ports", _, "port_groups"] | ["port_groups", _, "ports", ..] => ("PortGroupPort", 1, 1),
        ["hosts", _, "interfaces", ..] => ("Interface", 1, 1),
        ["hosts", _, "ports", ..] => ("HostInterfacePort", 1, 1),
        ["ports", ..] | ["routers" | "bridges", _, "ports" | "peer_ports"] => ("Port", 2, 3),
        ["routes", ..] | ["routers", _, "routes"] => ("Route", 1, 1),
        ["rules", ..] | ["chains", _, "rules"] => ("Rule", 2, 2),
        ["routers", ..] => ("Router", 2, 3),
        ["bridges", ..] => ("Bridge", 3, 4),
        ["chains", ..] => ("Chain", 1, 1),
        ["port_groups", ..] => ("PortGroup", 1, 1),
        ["ip_addr_groups", _, "ip_addrs" | "versions", ..] => ("IpAddrGroupAddr", 1, 1),
        ["ip_addr_groups", ..] => ("IpAddrGroup", 1, 1),
        ["hosts", ..] => ("Host", 3, 3),
        ["tunnel_zones", _, "hosts", ..] => ("TunnelZoneHost", 1, 1),
        ["tunnel_zones", ..] => ("TunnelZone", 1, 1),
        _ => ("Unknown", 1, 1),
    };
    let version = if dialect == Dialect::V1 { v1 } else { v5 };
    let collection = if list { "collection." } else { "" };
    format!("application/vnd.org.midonet.{collection}{name}-v{version}+json")
}

impl Fixture {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self::with(MockSettings { dialect, ..MockSettings::default() })
    }

    pub(crate) fn with(settings: MockSettings) -> Self {
        Self { dialect: settings.dialect, mock: InProcess::new(settings) }
    }

    pub(crate) fn host(&self) -> Uuid {
        self.mock.controller().settings().host
    }

    /// A request with exactly these headers.
    pub(crate) fn raw(&self, method: Method, path: &str, headers: &[(HeaderName, &str)], body: &[u8]) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_str(value).expect("a test sends valid headers"));
        }
        let body = Bytes::copy_from_slice(body);
        Answer::of(&self.mock.call(&ApiRequest { method, path: path.to_owned(), headers: map, body }))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.raw(Method::GET, path, &[(ACCEPT, &media(self.dialect, path, false))], b"")
    }

    pub(crate) fn list(&self, path: &str) -> Vec<Value> {
        let answer = self.raw(Method::GET, path, &[(ACCEPT, &media(self.dialect, path, true))], b"");
        assert_eq!(answer.status, 200, "GET {path}: {answer:?}");
        answer.body.as_array().expect("a list").clone()
    }

    /// The ids of a list.
    pub(crate) fn ids(&self, path: &str) -> Vec<Uuid> {
        self.list(path).iter().map(|one| serde_json::from_value(one["id"].clone()).expect("an id")).collect()
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.raw(Method::POST, path, &[(CONTENT_TYPE, &media(self.dialect, path, false))], body.to_string().as_bytes())
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> Answer {
        self.raw(Method::PUT, path, &[(CONTENT_TYPE, &media(self.dialect, path, false))], body.to_string().as_bytes())
    }

    pub(crate) fn delete(&self, path: &str) -> u16 {
        self.raw(Method::DELETE, path, &[], b"").status
    }

    /// Sends a request to `/mock`.
    pub(crate) fn admin(&self, method: Method, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let request = ApiRequest { method, path: path.to_owned(), headers: HeaderMap::new(), body };
        Answer::of(&self.mock.controller().admin(&request))
    }

    // ---- objects that tests need ---------------------------------------------------------------------------------

    pub(crate) fn router(&self, number: u128, tenant: &str) -> Uuid {
        self.post("/routers", &json!({ "id": id(number), "tenantId": tenant, "name": "r" })).created()
    }

    pub(crate) fn bridge(&self, number: u128, tenant: &str) -> Uuid {
        self.post("/bridges", &json!({ "id": id(number), "tenantId": tenant, "name": "b" })).created()
    }

    pub(crate) fn chain(&self, number: u128, tenant: &str) -> Uuid {
        self.post("/chains", &json!({ "id": id(number), "tenantId": tenant, "name": "c" })).created()
    }

    pub(crate) fn bridge_port(&self, number: u128, bridge: Uuid) -> Uuid {
        let body = json!({ "id": id(number), "type": "Bridge" });
        self.post(&format!("/bridges/{bridge}/ports"), &body).created()
    }

    pub(crate) fn router_port(&self, number: u128, router: Uuid, address: &str) -> Uuid {
        let network = format!("{}.0", address.rsplit_once('.').expect("an address").0);
        let body = json!({ "id": id(number), "type": "Router", "networkAddress": network, "networkLength": 24,
            "portAddress": address });
        self.post(&format!("/routers/{router}/ports"), &body).created()
    }

    pub(crate) fn link(&self, one: Uuid, other: Uuid) -> Answer {
        self.post(&format!("/ports/{one}/link"), &json!({ "peerId": other }))
    }

    pub(crate) fn bind(&self, host: Uuid, port: Uuid, interface: &str) -> Answer {
        self.post(&format!("/hosts/{host}/ports"), &json!({ "portId": port, "interfaceName": interface }))
    }

    pub(crate) fn port(&self, port: Uuid) -> Value {
        self.get(&format!("/ports/{port}")).body
    }

    /// A tenant's whole network as the plugin builds it, with ids from `number` on; the pod's port is the last object.
    pub(crate) fn tenant(&self, number: u128, tenant: &str) -> Tenant {
        let (inbound, outbound) = (self.chain(number, tenant), self.chain(number + 1, tenant));
        let filters = json!({ "id": id(number + 2), "tenantId": tenant, "name": "r", "inboundFilterId": inbound,
            "outboundFilterId": outbound });
        let router = self.post("/routers", &filters).created();
        let last = u8::try_from(number / 16 % 250).expect("below 250") + 1;
        let provider_port = self.router_port(number + 3, provider_router(), &format!("100.64.{last}.1"));
        let uplink = self.router_port(number + 4, router, &format!("100.64.{last}.2"));
        assert_eq!(self.link(uplink, provider_port).status, 201);
        let any = json!({ "id": id(number + 5), "type": "Normal", "srcNetworkAddr": "0.0.0.0", "srcNetworkLength": 0,
            "dstNetworkAddr": "0.0.0.0", "dstNetworkLength": 0, "nextHopPort": uplink,
            "nextHopGateway": format!("100.64.{last}.1"), "weight": 0 });
        self.post(&format!("/routers/{router}/routes"), &any).created();
        let back = json!({ "id": id(number + 6), "type": "Normal", "srcNetworkAddr": "0.0.0.0", "srcNetworkLength": 0,
            "dstNetworkAddr": format!("100.64.{last}.2"), "dstNetworkLength": 32, "nextHopPort": provider_port });
        let back = self.post(&format!("/routers/{}/routes", provider_router()), &back).created();
        let snat = json!({ "id": id(number + 7), "type": "snat", "flowAction": "accept", "outPorts": [uplink],
            "natTargets": [{ "addressFrom": format!("100.64.{last}.2"), "addressTo": format!("100.64.{last}.2"),
                "portFrom": 1024, "portTo": 65535 }] });
        self.post(&format!("/chains/{outbound}/rules"), &snat).created();
        let bridge = self.bridge(number + 8, tenant);
        let gateway = self.router_port(number + 9, router, "10.0.0.1");
        let bridge_port = self.bridge_port(number + 10, bridge);
        assert_eq!(self.link(gateway, bridge_port).status, 201);
        let pod = self.bridge_port(number + 11, bridge);
        assert_eq!(self.bind(self.host(), pod, &format!("vif{number}")).status, 201);
        Tenant { inbound, outbound, router, provider_port, uplink, back, bridge, gateway, bridge_port, pod }
    }
}

/// The parts of a tenant's network.
pub(crate) struct Tenant {
    pub(crate) inbound: Uuid,
    pub(crate) outbound: Uuid,
    pub(crate) router: Uuid,
    pub(crate) provider_port: Uuid,
    pub(crate) uplink: Uuid,
    pub(crate) back: Uuid,
    pub(crate) bridge: Uuid,
    pub(crate) gateway: Uuid,
    pub(crate) bridge_port: Uuid,
    pub(crate) pod: Uuid,
}
