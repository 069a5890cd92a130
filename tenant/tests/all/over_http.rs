//! A tenant's whole lifecycle over real HTTP, with a login, in both dialects: the dialect is read from the root document.

use std::time::Duration;

use crate::fixture::Graph;
use atoll_midonet::MidoNet;
use atoll_mock_controller::server::MockServer;
use atoll_mock_controller::{Dialect, MockController, MockSettings};
use atoll_model::attachment::Mac;
use atoll_model::ids::ClaimId;
use atoll_network::{Engine, PodPort, PortLocation, PortRemoval, WriterEpoch};
use atoll_sdn_client::credentials::Credentials;
use atoll_sdn_client::transport::{ApiRequest, Transport};
use atoll_sdn_client::{Client, ClientSettings, Http, HttpSettings};
use http::{HeaderMap, Method};
use serde_json::Value;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::fixture::{DIALECTS, Fixture, namespace};

fn http(base: &str) -> Http {
    let endpoints = vec![base.to_owned()];
    let request_timeout = Duration::from_secs(10);
    Http::new(&HttpSettings { endpoints, request_timeout, ..HttpSettings::default() }).expect("settings")
}

/// Asks what the controller has beside the API.
async fn mock(http: &Http, method: Method, path: &str, body: &str) -> Value {
    let body = body.to_owned().into();
    let answer = http.send(ApiRequest { method, path: path.to_owned(), headers: HeaderMap::new(), body }).await;
    let answer = answer.expect("an answer");
    assert!(answer.status < 300, "{path}: {}", answer.status);
    serde_json::from_slice(&answer.body).unwrap_or(Value::Null)
}

#[tokio::test]
async fn a_tenants_lifecycle_over_http() {
    for dialect in DIALECTS {
        // The graph is made from records: a fixture without a network has some.
        let fixture = Fixture::new(dialect);
        fixture.resolve(&namespace("red")).await.expect("resolved");
        let (cluster, tenant) = fixture.records("red");
        let graph = crate::fixture::graph(&cluster, &tenant);

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("an address");
        let settings = MockSettings { dialect, strict_tokens: true, duplicate_type: true, ..MockSettings::default() };
        let host = settings.host;
        let server = MockServer::new(MockController::new(settings));
        let lifecycle = Box::pin(live(format!("http://{address}"), dialect, &graph, host));
        tokio::task::LocalSet::new().run_until(Box::pin(server.serve(listener, lifecycle))).await;
    }
}

async fn live(url: String, dialect: Dialect, graph: &Graph, host: Uuid) {
    let folder = tempfile::tempdir().expect("a folder");
    let password_file = folder.path().join("password");
    std::fs::write(&password_file, "admin").expect("written");
    std::fs::set_permissions(&password_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
    let credentials = Credentials { username: "admin".to_owned(), password_file, project: "admin".to_owned() };
    let settings = ClientSettings { credentials: Some(credentials), ..ClientSettings::default() };
    let engine = MidoNet::new(Client::new(http(&format!("{url}/midonet-api")), settings));
    let aside = http(&format!("{url}/mock"));
    let before = mock(&aside, Method::GET, "/dump", "").await;

    // Slow enough to detect requests that are not awaited.
    let slow = r#"{"times":0,"fault":{"kind":"delay","milliseconds":200}}"#;
    mock(&aside, Method::POST, "/faults", slow).await;
    engine.ensure_network(&graph.network).await.expect("applied");
    let asked = mock(&aside, Method::GET, "/requests", "").await;
    mock(&aside, Method::DELETE, "/faults", "").await;
    let rounds = asked["rounds"].as_u64().expect("a number");
    assert!(rounds <= 6 + 2, "{dialect}: root document, login and six rounds, not {asked}");
    let refused = |entry: &Value| entry["status"].as_u64().is_none_or(|status| status >= 400);
    let refused: Vec<&Value> = asked["last"].as_array().expect("a list").iter().filter(|one| refused(one)).collect();
    assert!(refused.is_empty(), "{dialect}: {refused:?}");

    let port = PodPort {
        id: Uuid::from_u128(9),
        claim: ClaimId(Uuid::from_u128(9)),
        writer: WriterEpoch { node: "node-1".parse().expect("a name"), epoch: 1 },
        subnet: graph.network.id.subnet(1),
        location: PortLocation { host: host.into(), interface: "at0".parse().expect("a name") },
        mac: Mac([2, 0, 0, 0, 0, 9]),
        addresses: vec![[10, 128, 0, 9].into()],
        unique: false,
        names: Vec::new(),
    };
    engine.ensure_port(&port).await.expect("made");
    assert!(engine.port(port.id).await.expect("asked").is_some_and(|port| port.active), "{dialect}");
    assert_eq!(engine.ports(port.subnet).await.expect("asked"), [port.id], "{dialect}");
    assert_eq!(engine.diff_network(&graph.network).await.expect("inspected"), [], "{dialect}");
    let orphans = mock(&aside, Method::GET, "/orphans", "").await;
    let none = |found: &Value| found.as_array().is_some_and(Vec::is_empty) || *found == serde_json::json!({});
    assert!(orphans.as_object().expect("a report").values().all(none), "{dialect}: {orphans}");

    engine.delete_port(&PortRemoval::by_id(port.id)).await.expect("deleted");
    engine.delete_network(&graph.network).await.expect("removed");
    assert_eq!(mock(&aside, Method::GET, "/dump", "").await, before, "{dialect}: nothing is left");
}
