//! Ensuring objects that may exist already, with the answers of both dialects.

use atoll_testkit::cell::SyncRefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use atoll_sdn_client::api::{Port, Route, Router, Rule, TunnelZoneHost};
use atoll_sdn_client::transport::{ApiRequest, ApiResponse, TransportError};
use atoll_sdn_client::{Client, ClientSettings, Ensured, ErrorClass};
use atoll_sdn_client::{Dialect, Resource};
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fake::{Fake, absent, answer, answer_with, no_answer};

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

/// A minimal controller: objects by path, with each dialect's refusal of a duplicate.
#[derive(Default)]
struct Server {
    objects: BTreeMap<String, Value>,
    /// The next POST takes effect and its answer is lost.
    lose_next: bool,
    routes: u128,
}

impl Server {
    fn serve(&mut self, dialect: Dialect, request: &ApiRequest) -> Result<ApiResponse, TransportError> {
        let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        match (&request.method, &parts[..]) {
            (&Method::GET, ["routers", router, "routes"]) => {
                let routes = self.objects.iter().filter(|(path, _)| path.starts_with("/routes/"));
                let routes: Vec<_> = routes.map(|(_, route)| route).filter(|r| r["routerId"] == *router).collect();
                answer(200, &json!(routes).to_string())
            }
            (&Method::GET, _) => match self.objects.get(&request.path) {
                Some(object) => answer(200, &object.to_string()),
                None => absent(&request.path),
            },
            (&Method::DELETE, ["hosts", _, "ports", port]) => {
                let port = self.objects.get_mut(&format!("/ports/{port}")).expect("port");
                port["hostId"] = Value::Null;
                answer(204, "")
            }
            (&Method::DELETE, _) => {
                self.objects.remove(&request.path);
                answer(204, "")
            }
            (&Method::POST, ["ports", port, "link"]) => self.link(dialect, port, &body),
            (&Method::POST, ["hosts", host, "ports"]) => self.bind(dialect, host, &body),
            (&Method::POST, parts) => self.create(dialect, parts[parts.len() - 1], body),
            _ => answer(405, ""),
        }
    }

    fn create(&mut self, dialect: Dialect, kind: &str, mut body: Value) -> Result<ApiResponse, TransportError> {
        if kind == "routes" && dialect == Dialect::V1 {
            self.routes += 1;
            body["id"] = json!(id(1000 + self.routes));
        }
        let path = format!("/{kind}/{}", body["id"].as_str().expect("id"));
        if self.objects.contains_key(&path) {
            return match dialect {
                Dialect::V1 => answer(500, r#"{"message":"An internal server error has occurred, please try again."}"#),
                Dialect::V5 => answer(409, r#"{"message":"A(n) X with ID 1 already exists.","code":409}"#),
            };
        }
        if dialect == Dialect::V1 {
            assert!(body["hostId"].is_null() && body["peerId"].is_null(), "1.9 must not get them here");
        }
        self.objects.insert(path.clone(), body);
        if std::mem::take(&mut self.lose_next) { no_answer() } else { answer_with(201, "location", &path) }
    }

    fn link(&mut self, dialect: Dialect, port: &str, body: &Value) -> Result<ApiResponse, TransportError> {
        let port = self.objects.get_mut(&format!("/ports/{port}")).expect("port");
        if port["peerId"].is_string() || body["peerId"] == json!(id(666)) {
            return Self::conflict(dialect, "Ports are not linkable.");
        }
        port["peerId"] = body["peerId"].clone();
        answer(201, "")
    }

    fn bind(&mut self, dialect: Dialect, host: &str, body: &Value) -> Result<ApiResponse, TransportError> {
        let port = body["portId"].as_str().expect("portId");
        let port = self.objects.get_mut(&format!("/ports/{port}")).expect("port");
        if body["interfaceName"] == "taken" {
            return Self::conflict(dialect, "Interface is already bound to a port.");
        }
        if port["hostId"].is_string() && dialect == Dialect::V5 {
            return Self::conflict(dialect, "Port is already bound to an interface");
        }
        // 1.9 removes any earlier binding.
        port["hostId"] = json!(host);
        port["interfaceName"] = body["interfaceName"].clone();
        answer(201, "")
    }

    fn conflict(dialect: Dialect, message: &str) -> Result<ApiResponse, TransportError> {
        let status = if dialect == Dialect::V1 { 400 } else { 409 };
        answer(status, &json!({ "message": message, "code": status }).to_string())
    }
}

struct Fixture {
    dialect: Dialect,
    server: Arc<SyncRefCell<Server>>,
    fake: Arc<Fake>,
    client: Client<Arc<Fake>>,
}

impl Fixture {
    fn both() -> [Self; 2] {
        [Dialect::V1, Dialect::V5].map(|dialect| {
            let server: Arc<SyncRefCell<Server>> = Arc::default();
            let state = Arc::clone(&server);
            let fake = Fake::new(move |request| state.borrow_mut().serve(dialect, request));
            let client =
                Client::new(Arc::clone(&fake), ClientSettings { dialect: Some(dialect), ..ClientSettings::default() });
            Self { dialect, server, fake, client }
        })
    }

    fn set(&self, path: &str, field: &str, value: Value) {
        self.server.borrow_mut().objects.get_mut(path).expect("object")[field] = value;
    }

    fn lines_since(&self, earlier: usize) -> Vec<String> {
        self.fake.lines()[earlier..].to_vec()
    }
}

fn router() -> Router {
    Router { id: Some(id(1)), name: Some("r".to_owned()), tenant_id: Some("t".to_owned()), ..Router::default() }
}

fn fields(ensured: &Ensured) -> Vec<&str> {
    match ensured {
        Ensured::Differs(differences) => differences.iter().map(|d| d.field.as_str()).collect(),
        other => panic!("{other:?} is no difference"),
    }
}

#[tokio::test]
async fn the_first_creates_the_second_keeps_and_what_differs_is_named() {
    for fixture in Fixture::both() {
        let path = format!("/routers/{}", id(1));
        assert_eq!(fixture.client.ensure(&router()).await, Ok(Ensured::Created));
        assert_eq!(fixture.client.ensure(&router()).await, Ok(Ensured::Kept));
        fixture.set(&path, "name", json!("renamed by an operator"));
        assert_eq!(fixture.client.ensure(&router()).await, Ok(Ensured::Kept), "a name is for people");
        fixture.set(&path, "tenantId", json!("another tenant"));
        fixture.set(&path, "inboundFilterId", json!(id(5)));
        let ensured = fixture.client.ensure(&router()).await.expect("answer");
        assert_eq!(fields(&ensured), ["inboundFilterId", "tenantId"], "{}", fixture.dialect);
        let Ensured::Differs(differences) = ensured else { unreachable!("just looked") };
        assert_eq!(differences[1].to_string(), r#"tenantId is "another tenant", should be "t""#);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_no_obstacle() {
    for fixture in Fixture::both() {
        fixture.server.borrow_mut().lose_next = true;
        assert_eq!(fixture.client.ensure(&router()).await, Ok(Ensured::Kept), "{}", fixture.dialect);
        fixture.server.borrow_mut().lose_next = true;
        assert!(fixture.client.ensure_route(&route()).await.is_ok(), "{}", fixture.dialect);
        let routes = fixture.server.borrow().objects.keys().filter(|path| path.starts_with("/routes/")).count();
        assert_eq!(routes, 1, "{}", fixture.dialect);
    }
}

#[tokio::test]
async fn a_refusal_that_is_about_something_else_is_reported() {
    let fake = Fake::new(|request| match request.method {
        Method::POST => answer(500, r#"{"message":"out of memory","code":500}"#),
        _ => absent(&request.path),
    });
    let client =
        Client::new(Arc::clone(&fake), ClientSettings { dialect: Some(Dialect::V1), ..ClientSettings::default() });
    let error = client.ensure(&router()).await.expect_err("not there after all");
    assert_eq!((error.class, error.message.as_str()), (ErrorClass::Broken, "out of memory"));
    assert_eq!(fake.lines().len(), 2);
}

fn route() -> Route {
    serde_json::from_value(json!({
        "id": id(7), "routerId": id(1), "type": "Normal", "nextHopPort": id(3), "nextHopGateway": "10.0.0.1",
        "srcNetworkAddr": "0.0.0.0", "srcNetworkLength": 0, "dstNetworkAddr": "0.0.0.0", "dstNetworkLength": 0,
    }))
    .expect("route")
}

#[tokio::test]
async fn a_route_is_known_by_its_fields_where_the_server_chooses_its_id() {
    for fixture in Fixture::both() {
        assert_eq!(fixture.client.ensure_route(&route()).await, Ok(Ensured::Created));
        assert_eq!(fixture.client.ensure_route(&route()).await, Ok(Ensured::Kept));
        let other = Route { id: Some(id(8)), weight: 1, ..route() };
        assert_eq!(fixture.client.ensure_route(&other).await, Ok(Ensured::Created), "another weight is another route");
        let other = Route { id: Some(id(9)), next_hop_gateway: None, ..route() };
        assert_eq!(fixture.client.ensure_route(&other).await, Ok(Ensured::Created), "and so is another gateway");
        fixture.client.delete_route(&other).await.expect("deleted");
        fixture.client.delete_route(&other).await.expect("deleted twice");
        let routes = fixture.server.borrow().objects.keys().filter(|path| path.starts_with("/routes/")).count();
        assert_eq!(routes, 2, "{}", fixture.dialect);
    }
}

fn pod_port() -> Port {
    Port {
        id: Some(id(3)),
        kind: Some("Bridge".to_owned()),
        device_id: Some(id(2)),
        vif_id: Some(id(4)),
        host_id: Some(id(10)),
        interface_name: Some("at0".to_owned()),
        ..Port::default()
    }
}

#[tokio::test]
async fn a_pod_port_costs_one_request_on_5_and_two_on_1_9() {
    for fixture in Fixture::both() {
        assert_eq!(fixture.client.ensure_port(&pod_port()).await, Ok(Ensured::Created));
        let expected = if fixture.dialect == Dialect::V5 { 1 } else { 2 };
        assert_eq!(fixture.fake.lines().len(), expected, "{:?}", fixture.fake.lines());
        let port = fixture.server.borrow().objects[&format!("/ports/{}", id(3))].clone();
        assert_eq!((&port["hostId"], &port["interfaceName"]), (&json!(id(10)), &json!("at0")));
        assert_eq!(fixture.client.ensure_port(&pod_port()).await, Ok(Ensured::Kept));
    }
}

#[tokio::test]
async fn a_port_that_lacks_its_binding_or_link_gets_it() {
    for fixture in Fixture::both() {
        let path = format!("/ports/{}", id(3));
        let wanted = Port { peer_id: Some(id(6)), ..pod_port() };
        fixture.client.ensure_port(&Port { host_id: None, interface_name: None, ..pod_port() }).await.expect("made");
        assert_eq!(fixture.client.ensure_port(&wanted).await, Ok(Ensured::Created), "{}", fixture.dialect);
        let port = fixture.server.borrow().objects[&path].clone();
        assert_eq!((&port["hostId"], &port["peerId"]), (&json!(id(10)), &json!(id(6))));
        assert_eq!(fixture.client.ensure_port(&wanted).await, Ok(Ensured::Kept));
    }
}

#[tokio::test]
async fn a_port_that_is_bound_or_linked_elsewhere_is_left_alone() {
    for fixture in Fixture::both() {
        let path = format!("/ports/{}", id(3));
        let wanted = Port { peer_id: Some(id(6)), ..pod_port() };
        fixture.client.ensure_port(&wanted).await.expect("made");
        fixture.set(&path, "hostId", json!(id(11)));
        fixture.set(&path, "peerId", json!(id(7)));
        let earlier = fixture.fake.lines().len();
        let ensured = fixture.client.ensure_port(&wanted).await.expect("answer");
        assert_eq!(fields(&ensured), ["hostId", "peerId"], "{}", fixture.dialect);
        let bind = fixture.client.bind(id(3), id(10), "at0").await.expect("answer");
        assert_eq!(fields(&bind), ["hostId"], "{}", fixture.dialect);
        let link = fixture.client.link(id(3), id(6)).await.expect("answer");
        assert_eq!(fields(&link), ["peerId"], "{}", fixture.dialect);
        assert_eq!(
            fixture.server.borrow().objects[&path]["hostId"],
            json!(id(11)),
            "{:?}",
            fixture.lines_since(earlier)
        );
    }
}

#[tokio::test]
async fn binding_and_linking_twice_is_once() {
    for fixture in Fixture::both() {
        fixture.client.ensure_port(&Port { host_id: None, interface_name: None, ..pod_port() }).await.expect("made");
        assert_eq!(fixture.client.bind(id(3), id(10), "at0").await, Ok(Ensured::Created));
        assert_eq!(fixture.client.bind(id(3), id(10), "at0").await, Ok(Ensured::Kept));
        assert_eq!(fixture.client.link(id(3), id(6)).await, Ok(Ensured::Created));
        assert_eq!(fixture.client.link(id(3), id(6)).await, Ok(Ensured::Kept));
    }
}

#[tokio::test]
async fn an_interface_or_peer_that_is_taken_is_an_error() {
    for fixture in Fixture::both() {
        fixture.client.ensure_port(&Port { host_id: None, interface_name: None, ..pod_port() }).await.expect("made");
        let error = fixture.client.bind(id(3), id(10), "taken").await.expect_err("the interface is taken");
        assert_eq!(error.class, ErrorClass::OtherExists, "{}", fixture.dialect);
        let error = fixture.client.link(id(3), id(666)).await.expect_err("the peer is taken");
        assert_eq!(error.class, ErrorClass::OtherExists, "{}", fixture.dialect);
    }
}

#[tokio::test]
async fn only_the_own_host_is_unbound() {
    for fixture in Fixture::both() {
        fixture.client.ensure_port(&pod_port()).await.expect("made");
        let path = format!("/ports/{}", id(3));
        fixture.client.unbind(id(3), id(99)).await.expect("nothing to do");
        assert_eq!(fixture.server.borrow().objects[&path]["hostId"], json!(id(10)));
        fixture.client.unbind(id(3), id(10)).await.expect("unbound");
        assert_eq!(fixture.server.borrow().objects[&path]["hostId"], Value::Null);
        fixture.client.delete(Resource::Port, id(3)).await.expect("deleted");
        fixture.client.unbind(id(3), id(10)).await.expect("nothing to do");
    }
}

/// Every differing field of a rule is found.
#[tokio::test]
async fn a_rule_is_compared_in_every_field_that_restricts() {
    for fixture in Fixture::both() {
        let wanted = Rule {
            id: Some(id(5)),
            chain_id: Some(id(6)),
            kind: Some("drop".to_owned()),
            position: Some(1),
            dl_src: Some("02:00:00:00:00:0a".to_owned()),
            fragment_policy: Some("any".to_owned()),
            ..Rule::default()
        };
        fixture.client.ensure(&wanted).await.expect("made");
        let path = format!("/rules/{}", id(5));
        let shown = if fixture.dialect == Dialect::V1 { json!(0) } else { Value::Null };
        for (field, value) in [
            ("nwProto", shown.clone()),
            ("nwTos", shown),
            ("nwSrcLength", json!(0)),
            ("inPorts", json!([])),
            ("invInPorts", json!(false)),
            ("position", json!(4)),
            ("dlSrc", json!("02:00:00:00:00:0A")),
            ("uri", json!("http://c/rules/5")),
        ] {
            fixture.set(&path, field, value);
        }
        assert_eq!(
            fixture.client.ensure(&wanted).await,
            Ok(Ensured::Kept),
            "{}: sentinels are no difference",
            fixture.dialect
        );
        let shown = fixture.server.borrow().objects[&path].clone();
        for (field, value) in [
            ("type", json!("accept")),
            ("nwProto", json!(6)),
            ("condInvert", json!(true)),
            ("inPorts", json!([id(1)])),
            ("nwDstAddress", json!("10.0.0.0")),
            ("nwDstLength", json!(8)),
            ("tpDst", json!({ "start": 1, "end": 2 })),
            ("matchReturnFlow", json!(true)),
            ("fragmentPolicy", json!("header")),
            ("dlSrc", json!("02:00:00:00:00:0b")),
            ("chainId", json!(id(7))),
            ("matchNwDstRewritten", json!(true)),
        ] {
            fixture.set(&path, field, value);
            let ensured = fixture.client.ensure(&wanted).await.expect("answer");
            assert_eq!(fields(&ensured), [field], "{}", fixture.dialect);
            fixture.set(&path, field, shown[field].clone());
        }
    }
}

#[tokio::test]
async fn a_member_that_is_there_already_is_kept() {
    // 5.x answers 409 with no body, 1.9 answers 400.
    for (dialect, status) in [(Dialect::V5, 409), (Dialect::V1, 400)] {
        let fake = Fake::new(move |request| match request.method {
            Method::POST => answer(status, ""),
            Method::DELETE => answer(204, ""),
            _ => answer(200, &json!({ "tunnelZoneId": id(1), "hostId": id(2), "ipAddress": "10.0.0.1" }).to_string()),
        });
        let client =
            Client::new(Arc::clone(&fake), ClientSettings { dialect: Some(dialect), ..ClientSettings::default() });
        let member = TunnelZoneHost {
            tunnel_zone_id: Some(id(1)),
            host_id: Some(id(2)),
            ip_address: Some("10.0.0.1".to_owned()),
            ..TunnelZoneHost::default()
        };
        assert_eq!(client.ensure(&member).await, Ok(Ensured::Kept));
        let other = TunnelZoneHost { ip_address: Some("10.0.0.2".to_owned()), ..member.clone() };
        assert_eq!(fields(&client.ensure(&other).await.expect("answer")), ["ipAddress"]);
        client.remove(&member).await.expect("removed");
        assert_eq!(fake.lines().last(), Some(&format!("DELETE /tunnel_zones/{}/hosts/{}", id(1), id(2))));
    }
}

#[tokio::test]
async fn unset_fields_of_a_port_are_not_changed() {
    for fixture in Fixture::both() {
        let wanted = Port { host_id: None, interface_name: None, ..pod_port() };
        fixture.client.ensure_port(&wanted).await.expect("made");
        let path = format!("/ports/{}", id(3));
        let open = [
            ("portMac", json!("ac:ca:ba:00:00:01")),
            ("peerId", json!(id(6))),
            ("hostId", json!(id(11))),
            ("interfaceName", json!("x")),
        ];
        for (field, value) in open {
            fixture.set(&path, field, value);
        }
        assert_eq!(fixture.client.ensure_port(&wanted).await, Ok(Ensured::Kept), "{}", fixture.dialect);
        for (field, value) in [("vifId", json!(id(5))), ("deviceId", json!(id(5))), ("adminStateUp", json!(false))] {
            let before = fixture.server.borrow().objects[&path][field].clone();
            fixture.set(&path, field, value);
            let ensured = fixture.client.ensure_port(&wanted).await.expect("answer");
            assert_eq!(fields(&ensured), [field], "{}", fixture.dialect);
            fixture.set(&path, field, if before.is_null() { json!(true) } else { before });
        }
    }
}
