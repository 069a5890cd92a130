//! Fault injection, in process and over HTTP.

use std::time::Duration;

use atoll_mock_controller::Dialect;
use atoll_mock_controller::faults::{FaultKind, RequestFault};
use atoll_sdn_client::transport::{ApiRequest, ApiResponse, Transport, TransportError};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::fixture::{Fixture, id};
use crate::http_life::Running;

fn request(method: Method, path: &str, body: &Value) -> ApiRequest {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    ApiRequest { method, path: path.to_owned(), headers, body: Bytes::from(body.to_string()) }
}

/// Creates router 1 through the transport with one pending fault: the answer, and whether the router exists.
async fn create_with(fault: FaultKind) -> (Result<ApiResponse, TransportError>, bool) {
    let fixture = Fixture::new(Dialect::V5);
    fixture.mock.controller().inject(RequestFault::always("/routers", fault)).expect("taken");
    let answer = fixture.mock.send(request(Method::POST, "/routers", &json!({ "id": id(1) }))).await;
    (answer, fixture.mock.dump().routers.contains_key(&id(1)))
}

#[tokio::test(start_paused = true)]
async fn every_fault_in_process() {
    let status = |after| FaultKind::Status { status: 503, message: Some("busy".to_owned()), after };
    let (answer, there) = create_with(status(false)).await;
    let answer = answer.expect("an answer");
    assert_eq!((answer.status, there), (503, false));
    assert_eq!(serde_json::from_slice::<Value>(&answer.body).expect("JSON"), json!({ "message": "busy", "code": 503 }));
    let (answer, there) = create_with(status(true)).await;
    assert_eq!((answer.expect("an answer").status, there), (503, true));

    for (after, expected) in [(false, false), (true, true)] {
        let (answer, there) = create_with(FaultKind::Cut { after }).await;
        assert!(matches!(answer, Err(TransportError::NoAnswer { .. })));
        assert_eq!(there, expected, "after: {after}");
    }
    let (answer, there) = create_with(FaultKind::Body { text: "<html>".to_owned() }).await;
    assert_eq!((answer.expect("an answer").body.as_ref(), there), (&b"<html>"[..], true));
    let (answer, _) = create_with(FaultKind::Truncate { bytes: 0 }).await;
    assert!(answer.is_err());

    let started = Instant::now();
    let (answer, there) = create_with(FaultKind::Delay { milliseconds: 1500 }).await;
    assert_eq!((answer.expect("an answer").status, there), (201, true));
    assert_eq!(started.elapsed(), Duration::from_millis(1500));
}

#[tokio::test(start_paused = true)]
async fn a_delayed_port_becomes_active_by_the_clock() {
    let fixture = Fixture::new(Dialect::V5);
    fixture.admin(Method::PUT, "/activation", &json!({ "mode": "after", "milliseconds": 300 }));
    let port = fixture.bridge_port(2, fixture.bridge(1, "t"));
    assert_eq!(fixture.bind(fixture.host(), port, "v0").status, 201);
    for (wait, active) in [(0, false), (299, false), (2, true)] {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        assert_eq!(fixture.port(port)["active"], active, "after {wait} ms more");
    }
}

#[test]
fn faults_are_listed_counted_and_forgotten() {
    let fixture = Fixture::new(Dialect::V5);
    let add = |fault: Value| fixture.admin(Method::POST, "/faults", &fault).status;
    assert_eq!(
        add(json!({ "fault": { "kind": "status", "status": 500 }, "path": "/routers/**", "skip": 1, "times": 3 })),
        204
    );
    assert_eq!(add(json!({ "fault": { "kind": "expire-tokens" } })), 204);
    for bad in [
        json!({ "fault": { "kind": "cut" }, "path": "/router" }),
        json!({ "fault": { "kind": "cut" }, "method": "GTE" }),
        json!({ "fault": { "kind": "cut" }, "method": "PUT", "path": "/routes/*" }),
        json!({ "fault": { "kind": "magic" } }),
        json!({}),
        json!({ "fault": { "kind": "status", "status": 99 } }),
        json!({ "fault": { "kind": "cut", "x": 1 } }),
        json!({ "fault": { "kind": "cut" }, "pathh": "/" }),
    ] {
        assert_eq!(add(bad.clone()), 400, "{bad}");
    }
    let waiting = || fixture.admin(Method::GET, "/faults", &Value::Null).body;
    assert_eq!(waiting().as_array().map(Vec::len), Some(2));
    assert_eq!(waiting()[0]["times"], 3);
    fixture.admin(Method::DELETE, "/faults", &Value::Null);
    assert_eq!(waiting(), json!([]));
    for _ in 0..1000 {
        assert_eq!(add(json!({ "fault": { "kind": "cut" } })), 204);
    }
    assert_eq!(add(json!({ "fault": { "kind": "cut" } })), 400, "they are bounded");
}

#[test]
fn every_fault_over_http() {
    let server = Running::start(&[]);
    let fault = |fault: Value| {
        assert_eq!(server.send("POST", "/mock/faults", "application/json", &fault).0, 204, "{fault}");
    };
    let create = |n: u128| server.send("POST", "/midonet-api/routers", "application/json", &json!({ "id": id(n) }));
    let there = |n: u128| !server.dump()["routers"][id(n).to_string()].is_null();

    fault(json!({ "method": "POST", "fault": { "kind": "status", "status": 409, "message": "concurrent" } }));
    assert_eq!(create(1).0, 409);
    assert!(!there(1));
    assert_eq!(create(1).0, 201, "once only");
    fault(json!({ "path": "/routers", "fault": { "kind": "cut" } }));
    assert_eq!((create(2).0, there(2)), (0, false));
    fault(json!({ "path": "/routers", "fault": { "kind": "cut", "after": true } }));
    assert_eq!((create(3).0, there(3)), (0, true));

    fault(json!({ "path": "/routers", "fault": { "kind": "truncate", "bytes": 10 } }));
    let request =
        format!("GET /midonet-api/routers HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\n\r\n", server.address);
    let (status, head, body) = server.raw(request.as_bytes());
    assert_eq!((status, body.len()), (200, 10), "{head}");
    let promised = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    assert!(promised.parse::<usize>().expect("a number") > 10);

    fault(json!({ "path": "/routers", "fault": { "kind": "delay", "milliseconds": 300 } }));
    let started = std::time::Instant::now();
    assert_eq!(create(4).0, 201);
    assert!(started.elapsed() >= Duration::from_millis(300));

    fault(json!({ "times": 0, "fault": { "kind": "cut" } }));
    assert_eq!((create(5).0, create(6).0), (0, 0), "the endpoint is down");
    assert!(there(1), "what is under /mock/ is not");
    assert_eq!(server.send("DELETE", "/mock/faults", "*/*", &Value::Null).0, 204);
    assert_eq!(create(5).0, 201);
}
