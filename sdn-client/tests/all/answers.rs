//! Answers of servers, valid and invalid.

use std::time::Duration;

use atoll_model::error::{Class, Classify};
use atoll_sdn_client::answer;
use atoll_sdn_client::api::Port;
use atoll_sdn_client::error::{AttemptedOperation, ErrorClass};
use atoll_sdn_client::transport::{ApiRequest, ApiResponse};
use atoll_sdn_client::{Dialect, Resource};
use atoll_testkit::mutate::Mutator;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, DATE, LOCATION, RETRY_AFTER, SET_COOKIE};
use http::{HeaderMap, HeaderValue};
use uuid::Uuid;

use crate::{everything, fixtures};

fn response(status: u16, body: impl Into<Bytes>) -> ApiResponse {
    ApiResponse { status, headers: HeaderMap::new(), body: body.into() }
}

const SEVEN: &str = "00000000-0000-0000-0000-000000000007";

/// A request for object 7.
fn some_request() -> ApiRequest {
    let (method, path) = (http::Method::GET, format!("/ports/{SEVEN}"));
    ApiRequest { method, path, headers: HeaderMap::new(), body: Bytes::new() }
}

fn attempt() -> AttemptedOperation {
    AttemptedOperation::new("create", "port 1")
}

fn class(dialect: Dialect, resource: Resource, status: u16, message: &str) -> ErrorClass {
    let body = serde_json::json!({ "message": message, "code": status }).to_string();
    answer::refusal(&attempt(), Some(dialect), resource, &some_request(), &response(status, body)).class
}

#[test]
fn refusals_are_classified_by_status_and_dialect() {
    use ErrorClass::{Absent, Broken, Busy, Denied, Invalid, NotApi, OtherExists, SameExists, Unreachable, Vague};
    let (old, new) = (Dialect::V1, Dialect::V5);
    let exists = "A(n) Network with ID 7 already exists.";
    let race = "A conflict caused by concurrent modification while performing storage operations.";
    for (dialect, resource, status, message, expected) in [
        (new, Resource::Router, 404, "There is no Port with ID 00000000-0000-0000-0000-000000000007.", Absent),
        (old, Resource::Router, 404, "No port with ID 00000000-0000-0000-0000-000000000007 exists.", Absent),
        // About another object, about none, in words that a gateway may use.
        (new, Resource::Router, 404, "There is no Port with ID 00000000-0000-0000-0000-000000000008.", Vague),
        (old, Resource::Router, 404, "", Vague),
        (new, Resource::Router, 404, "Not Found", Vague),
        (new, Resource::Router, 404, "Cannot GET /ports/00000000-0000-0000-0000-000000000007", Vague),
        (new, Resource::Router, 410, "There is no Port with ID 00000000-0000-0000-0000-000000000007.", NotApi),
        (new, Resource::Bridge, 409, exists, SameExists),
        (new, Resource::HostInterfacePort, 409, "Interface at0 is already bound to a port.", OtherExists),
        (new, Resource::PortLink, 409, "Ports are not linkable.", OtherExists),
        (new, Resource::TunnelZone, 409, "Tunnel zone name already exists.", OtherExists),
        (new, Resource::Chain, 409, race, Busy),
        (old, Resource::Chain, 503, "API server currently in restricted mode.", Busy),
        (old, Resource::PortLink, 400, "Validation error(s) found", OtherExists),
        (new, Resource::PortLink, 400, "Validation error(s) found", Invalid),
        (old, Resource::Rule, 400, "Validation error(s) found", Invalid),
        (new, Resource::Rule, 406, "", Invalid),
        (new, Resource::Rule, 401, "", Denied),
        (old, Resource::Rule, 403, "Not authorized to add rule", Denied),
        (old, Resource::Rule, 500, "An internal server error has occurred, please try again.", Broken),
        (new, Resource::Rule, 502, "", Unreachable),
        (new, Resource::Rule, 504, "", Unreachable),
        (new, Resource::Rule, 302, "", NotApi),
    ] {
        assert_eq!(class(dialect, resource, status, message), expected, "{dialect} {resource} {status} {message}");
    }
}

#[test]
fn an_error_names_object_and_field_and_has_the_servers_message() {
    let body = fixtures::text("error.validation.1.9.json");
    let error =
        answer::refusal(&attempt(), Some(Dialect::V1), Resource::PortLink, &some_request(), &response(400, body));
    assert_eq!(
        error.to_string(),
        "create port 1: status 400: Validation error(s) found; link: Ports are not linkable.; the object: whole"
    );
    assert_eq!(Classify::class(&error), Class::Rejected);
    let body = fixtures::text("error.null.5.json");
    let error = answer::refusal(&attempt(), Some(Dialect::V5), Resource::Port, &some_request(), &response(401, body));
    assert_eq!(error.to_string(), "create port 1: status 401: the server gave no reason");
    let html = answer::refusal(&attempt(), None, Resource::Port, &some_request(), &response(500, "<html>Oops</html>"));
    assert_eq!(html.to_string(), "create port 1: status 500: the server gave no reason, but an HTML page");
    let body = serde_json::json!({ "message": format!("a\nb\u{1b}[31m{}", "x".repeat(100_000)) }).to_string();
    let error = answer::refusal(&attempt(), None, Resource::Port, &some_request(), &response(500, body));
    assert!(error.message.starts_with("a b [31mxxx") && error.message.len() <= 400, "one line of bounded length");
}

#[test]
fn what_is_not_from_the_api_is_neither_success_nor_absence() {
    let pages = ["<!doctype html><title>Sign in</title>", " \n<html>", "default backend - 404", "OK", "\u{feff}{}"];
    let json = ["{}", " []", "null", r#"{"message":"no route matched"}"#, r#"{"code":200,"message":"There is no"}"#];
    for (status, body) in pages
        .iter()
        .flat_map(|page| [200, 204, 404, 410].map(|status| (status, page)))
        .chain(json.iter().chain([&""]).flat_map(|body| [404, 410].map(|status| (status, body))))
    {
        let answer = response(status, *body);
        assert!(!answer::succeeded(&answer) && answer::may_have_happened(&answer), "{status} {body:?}");
        let error = answer::refusal(&attempt(), Some(Dialect::V5), Resource::Port, &some_request(), &answer);
        assert_eq!((error.class, error.status), (ErrorClass::NotApi, Some(status)), "{body:?}");
        assert_eq!(Classify::class(&error), Class::Unavailable);
    }
    for body in ["", "{}", " []", "null"] {
        assert!(answer::succeeded(&response(200, body)), "{body:?}");
    }
}

#[test]
fn an_error_names_what_answered_instead_of_the_api() {
    for (status, headers, body, part) in [
        (404, vec![("server", "nginx/1.25")], "", "nothing, served by nginx/1.25"),
        (200, vec![], "<!DOCTYPE html><html><head><TITLE> Sign\nin </TITLE>", r#"an HTML page "Sign in""#),
        (404, vec![], "<html><body>", "an HTML page"),
        (404, vec![], r#"{"message":"no route"}"#, r#"JSON that is not the API's: "{\"message\""#),
        (
            404,
            vec![("via", "1.1 squid")],
            "default backend - 404",
            r#"a text: "default backend - 404", served by 1.1 squid"#,
        ),
        (301, vec![("location", "https://m.example/x?token=t0ken")], "", "a redirect to https://m.example/x"),
        (302, vec![], "", "a redirect to nowhere"),
        (407, vec![], "", "a proxy that wants credentials"),
        (511, vec![], "", "a network that wants a login first"),
        (200, vec![("content-encoding", "gzip")], "\u{1f}\u{8b}", "a compressed body (gzip)"),
    ] {
        let mut answer = response(status, body.to_owned());
        for (name, value) in headers {
            answer.headers.insert(name, HeaderValue::from_static(value));
        }
        assert!(!answer::succeeded(&answer), "{status} {body}");
        let error = answer::refusal(&attempt(), Some(Dialect::V5), Resource::Port, &some_request(), &answer);
        assert_eq!(error.class, ErrorClass::NotApi, "{error}");
        let message = error.to_string();
        assert!(message.contains(part) && !message.contains("t0ken") && !message.contains('\n'), "{message}");
        assert!(error.hint().is_some_and(|hint| hint.contains("controller.endpoints")), "{error}");
    }
}

#[test]
fn only_a_server_that_says_it_is_read_only_has_certainly_done_nothing() {
    let message = |text: &str| serde_json::json!({ "message": text, "code": 503 }).to_string();
    assert!(!answer::may_have_happened(&response(503, message("API server currently in restricted mode."))));
    for (status, body) in [
        (502, String::new()),
        (504, String::new()),
        (503, String::new()),
        (503, message("The storage did not answer in time.")),
        (503, "upstream connect error or disconnect/reset before headers".to_owned()),
    ] {
        assert!(answer::may_have_happened(&response(status, body.clone())), "{status} {body}");
    }
    for status in [200, 201, 400, 401, 409, 500] {
        assert!(!answer::may_have_happened(&response(status, "")), "{status}");
    }
    assert!(!answer::may_have_happened(&response(404, r#"{"message":null,"code":404}"#)));
}

#[test]
fn a_time_to_wait_is_read_in_both_its_forms() {
    let now = 784_111_777;
    for (wait, date, expected) in [
        ("0", "", Some(0)),
        (" 120 ", "", Some(120)),
        ("Sun, 06 Nov 1994 08:49:47 GMT", "", Some(10)),
        // The server's clock is an hour behind ours; the date means ten seconds from now.
        ("Sun, 06 Nov 1994 07:49:47 GMT", "Sun, 06 Nov 1994 07:49:37 GMT", Some(10)),
        ("Sun, 06 Nov 1994 08:49:00 GMT", "", Some(0)),
        ("", "", None),
        ("soon", "", None),
        ("-1", "", None),
        ("1.5", "", None),
    ] {
        let mut answer = response(429, "");
        answer.headers.insert(RETRY_AFTER, HeaderValue::from_static(wait));
        if !date.is_empty() {
            answer.headers.insert(DATE, HeaderValue::from_static(date));
        }
        assert_eq!(answer::retry_after(&answer, now), expected.map(Duration::from_secs), "{wait:?} {date:?}");
    }
}

#[test]
fn of_a_location_only_the_last_segment_counts() {
    let (sent, theirs) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let created = |location: &str| {
        let mut response = response(201, "");
        if let Ok(value) = HeaderValue::from_str(location) {
            response.headers.insert(LOCATION, value);
        }
        answer::created_id(&response, Some(sent))
    };
    for location in [
        format!("http://localhost:8080/midonet-api/routes/{theirs}"),
        format!("http://evil.example/{theirs}/?a=b#c"),
        format!("/{theirs}"),
        theirs.to_string(),
    ] {
        assert_eq!(created(&location), Some(theirs), "{location}");
    }
    for location in ["", "/", "http://c/ports/x/link", "http://c/ports/", "::::"] {
        assert_eq!(created(location), Some(sent), "{location}");
    }
    assert_eq!(answer::created_id(&response(201, ""), None), None);
}

#[test]
fn a_token_comes_from_the_key_or_from_the_cookie() {
    let login = AttemptedOperation::new("log in", "user");
    let key = answer::token(&login, &response(200, fixtures::text("token.5.json"))).expect("key");
    assert_eq!(key.reveal(), "00000000");
    for (body, expected) in [("", "c00kie"), (r#"{"key":null}"#, "c00kie"), (r#"{"key":"k"}"#, "k"), ("<x>", "c00kie")]
    {
        let mut response = response(200, body);
        response.headers.append(SET_COOKIE, HeaderValue::from_static("other=1"));
        response.headers.append(SET_COOKIE, HeaderValue::from_static("sessionId=c00kie; Expires=never"));
        assert_eq!(answer::token(&login, &response).expect("token").reveal(), expected, "{body}");
    }
    let error = answer::token(&login, &response(200, "{}")).expect_err("no token at all");
    assert_eq!(error.class, ErrorClass::Broken);
}

#[test]
fn the_dialect_is_in_the_root_document() {
    let dialect = |body: &str| answer::dialect(&attempt(), &response(200, body.to_owned()));
    assert_eq!(dialect(&String::from_utf8(fixtures::text("application.1.9.json")).expect("text")), Ok(Dialect::V1));
    assert_eq!(dialect(&String::from_utf8(fixtures::text("application.5.json")).expect("text")), Ok(Dialect::V5));
    assert_eq!(dialect(r#"{"version":"v1.10"}"#), Ok(Dialect::V1));
    for wrong in [r#"{"version":"v6.0"}"#, r#"{"version":"5.0"}"#, r#"{"version":null}"#, "{}", "[]", "", "<html>"] {
        let error = dialect(wrong).expect_err(wrong);
        assert!(matches!(error.class, ErrorClass::Broken | ErrorClass::NotApi), "{wrong}");
    }
}

#[test]
fn a_list_may_be_null_and_holds_what_it_holds() {
    let list = |body: String| {
        let mut response = response(200, body);
        let media = "application/vnd.org.midonet.collection.Port-v3+json;charset=UTF-8";
        response.headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
        answer::list::<Port>(&attempt(), &response, None)
    };
    assert_eq!(list("null".to_owned()).expect("null"), vec![]);
    assert_eq!(list(" [] ".to_owned()).expect("empty"), vec![]);
    let port = String::from_utf8(fixtures::text("port.bridge.5.json")).expect("text");
    assert_eq!(list(format!("[{port},{port}]")).expect("two").len(), 2);
    for wrong in [port.clone(), format!("[{port}"), format!("[{port}] x"), "[1]".to_owned()] {
        assert_eq!(list(wrong).expect_err("no list").class, ErrorClass::Broken);
    }
}

#[test]
fn from_a_list_follows_what_is_missing_only_if_it_is_the_apis() {
    let port = String::from_utf8(fixtures::text("port.bridge.5.json")).expect("text");
    let device: Port = atoll_sdn_client::api::read(port.as_bytes()).expect("port");
    let list = |body: &str, parent| answer::list::<Port>(&attempt(), &response(200, body.to_owned()), parent);
    for body in ["[]", "null", "", "[{}]", r#"[{"name":"x"}]"#] {
        let class = list(body, None).expect_err(body).class;
        assert!(matches!(class, ErrorClass::NotApi | ErrorClass::Broken), "{body}");
    }
    let body = format!("[{port}]");
    assert_eq!(list(&body, device.device_id).expect("its own").len(), 1);
    assert_eq!(list(&body, Some(Uuid::from_u128(1))).expect_err("of another").class, ErrorClass::NotApi);
}

#[test]
fn every_fixture_cut_anywhere_is_an_error_and_no_panic() {
    for (_, text) in fixtures::all() {
        for end in 0..text.len() {
            everything::read(200, &text[..end]);
        }
    }
}

#[test]
fn mutated_answers_do_not_panic() {
    let corpus: Vec<Vec<u8>> = fixtures::all().into_iter().map(|(_, text)| text).collect();
    let corpus: Vec<&[u8]> = corpus.iter().map(Vec::as_slice).collect();
    let mut mutator = Mutator::seeded(0x5eed_0001);
    for _ in 0..20_000 {
        let text = mutator.mutation(&corpus, &[], 4);
        // The statuses that servers use most, counted from 200.
        everything::fuzz(([0, 1, 200, 201, 204, 209, 300, 303][mutator.below(8)], &text));
    }
}

#[test]
fn deep_and_wide_bodies_are_answered() {
    let deep = "[".repeat(1_000_000);
    everything::read(200, deep.as_bytes());
    everything::read(200, r#"{"a":"#.repeat(200_000).as_bytes());
    let wide = format!("[{}]", vec!["{}"; 200_000].join(","));
    everything::read(200, wide.as_bytes());
    let violations = vec![r#"{"property":"p","message":"m"}"#; 50_000].join(",");
    let body = format!(r#"{{"message":"m","violations":[{violations}]}}"#);
    let error = answer::refusal(&attempt(), None, Resource::Port, &some_request(), &response(400, body));
    assert_eq!(error.violations.len(), 20, "enough to see what is wrong");
}
