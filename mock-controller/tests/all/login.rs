//! Tokens: who gets one and what it permits.

use atoll_mock_controller::{Dialect, MockSettings, User};
use atoll_model::secret::Secret;
use base64::Engine;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderName, Method};
use serde_json::Value;

use crate::fixture::{Answer, BOTH, Fixture};
use crate::http_life::Running;

const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

fn basic(text: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
}

fn login(fixture: &Fixture, credentials: &str) -> Answer {
    fixture.raw(Method::POST, "/login", &[(AUTHORIZATION, &basic(credentials))], b"")
}

fn strict(dialect: Dialect) -> Fixture {
    let user = |password: &str, admin| User { password: Secret::new(password), admin };
    let users = [("root".to_owned(), user("p", true)), ("guest".to_owned(), user("g", false))].into();
    Fixture::with(MockSettings { dialect, users, strict_tokens: true, ..MockSettings::default() })
}

fn routers(fixture: &Fixture, token: Option<&str>) -> Answer {
    let mut headers = vec![(ACCEPT, "application/json")];
    headers.extend(token.map(|token| (TOKEN, token)));
    fixture.raw(Method::GET, "/routers", &headers, b"")
}

#[test]
fn a_token_comes_in_the_body_and_in_a_cookie() {
    for dialect in BOTH {
        let fixture = strict(dialect);
        let answer = login(&fixture, "root:p");
        assert_eq!(answer.status, 200);
        let kind = "application/vnd.org.midonet.Token-v1+json;charset=UTF-8";
        assert_eq!(answer.header(&CONTENT_TYPE), Some(kind));
        let token = answer.body["key"].as_str().expect("a key");
        assert_eq!(answer.body["expires"], Value::Null);
        assert_eq!(answer.header(&SET_COOKIE), Some(format!("sessionId={token}").as_str()));
        assert_eq!(routers(&fixture, Some(token)).status, 200);
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let answer = fixture.raw(method, "/login", &[(AUTHORIZATION, &basic("root:p"))], b"");
            assert_eq!(answer.status, 200, "any method logs in");
        }
        fixture.admin(Method::DELETE, "/tokens", &Value::Null);
        assert_eq!(routers(&fixture, Some(token)).status, 401, "expired");
        let again = login(&fixture, "root:p");
        assert_ne!(again.body["key"], token);
        assert_eq!(routers(&fixture, again.body["key"].as_str()).status, 200);
    }
}

#[test]
fn credentials_that_are_refused() {
    let fixture = strict(Dialect::V5);
    let none = fixture.raw(Method::POST, "/login", &[], b"");
    assert_eq!((none.status, none.message()), (401, "Authorization header is not set."));
    assert_eq!(none.header(&WWW_AUTHENTICATE), Some("Basic  realm=\"BASIC_AUTH_REALM\""));
    let bearer = fixture.raw(Method::POST, "/login", &[(AUTHORIZATION, "Bearer x")], b"");
    assert_eq!(bearer.message(), "Authorization header does not contain Basic.");
    for payload in ["Basic !!!", &basic("nocolon"), &basic("root:p:q")] {
        let answer = fixture.raw(Method::POST, "/login", &[(AUTHORIZATION, payload)], b"");
        assert_eq!((answer.status, answer.message()), (401, "Authorization header is not valid"), "{payload}");
    }
    for credentials in ["root:wrong", "nobody:p", "root:", ":"] {
        assert_eq!(login(&fixture, credentials).status, 401, "{credentials}");
    }
}

#[test]
fn tokens_are_required_where_the_dialect_requires_them() {
    for dialect in BOTH {
        let fixture = strict(dialect);
        let guest = login(&fixture, "guest:g");
        let refused = routers(&fixture, guest.body["key"].as_str());
        assert_eq!(refused.status, if dialect == Dialect::V5 { 401 } else { 403 });
        if dialect == Dialect::V5 {
            assert_eq!(refused.body["message"], Value::Null, "5.x does not say why");
        }
        assert_eq!(routers(&fixture, None).status, 401);
        assert_eq!(routers(&fixture, Some("made-up")).status, 401);

        let lenient = Fixture::new(dialect);
        assert_eq!(routers(&lenient, None).status, 200, "mock authentication takes silence for the admin");
        let unknown = routers(&lenient, Some("made-up")).status;
        assert_eq!(unknown, if dialect == Dialect::V5 { 401 } else { 200 });
        let preflight = strict(dialect).raw(Method::OPTIONS, "/routers", &[], b"");
        assert_eq!(preflight.status, 200, "a pre-flight needs no token");
    }
}

#[test]
fn secrets_are_not_printed() {
    let fixture = strict(Dialect::V5);
    let token = login(&fixture, "root:p").body["key"].as_str().expect("a key").to_owned();
    let printed = format!("{:?}", fixture.mock.controller());
    assert!(!printed.contains(&token) && !printed.contains("\"p\""), "{printed}");
}

/// The program's answer to a request with these headers: status and body.
fn ask(server: &Running, method: &str, path: &str, headers: &str) -> (u16, String, Value) {
    let request = format!(
        "{method} /midonet-api{path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let (status, head, body) = server.raw(request.as_bytes());
    (status, head, serde_json::from_slice(&body).unwrap_or_default())
}

#[test]
fn the_program_takes_users_from_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("users.json");
    let users = r#"{"root": {"password": "s3cret pass"}, "ops": {"password": "", "admin": true},
        "guest": {"password": "g", "admin": false}}"#;
    std::fs::write(&file, users).expect("written");
    let path = file.to_str().expect("a path");
    for dialect in ["5", "1.9"] {
        let server = Running::start(&["--dialect", dialect, "--users", path, "--strict-tokens"]);
        let login = |credentials: &str| {
            let (status, head, body) =
                ask(&server, "POST", "/login", &format!("Authorization: {}\r\n", basic(credentials)));
            let token = body["key"].as_str().map(str::to_owned);
            assert_eq!(status == 200, token.is_some(), "{credentials}: {body}");
            let set = head.lines().any(|line| line.to_lowercase().starts_with("set-cookie: sessionid="));
            assert_eq!(set, token.is_some(), "{head}");
            (status, token)
        };
        let routers = |token: Option<&str>| {
            let token = token.map_or_else(String::new, |token| format!("X-Auth-Token: {token}\r\n"));
            ask(&server, "GET", "/routers", &format!("Accept: application/json\r\n{token}")).0
        };
        for wrong in
            ["root:wrong", "root:", "root:s3cret pass ", "Root:s3cret pass", "admin:admin", "guest:", "nobody:g", ":"]
        {
            assert_eq!(login(wrong), (401, None), "{dialect}: {wrong}");
        }
        let (_, admin) = login("root:s3cret pass");
        assert_eq!(routers(admin.as_deref()), 200, "{dialect}: admin, which is the default");
        let (_, guest) = login("guest:g");
        assert_eq!(routers(guest.as_deref()), if dialect == "5" { 401 } else { 403 }, "{dialect}: no administrator");
        assert_eq!(login("ops:").0, 200, "{dialect}: an empty password is one");
        for token in [None, Some("made-up"), Some("")] {
            assert_eq!(routers(token), 401, "{dialect}: {token:?}");
        }
        // Every token expires; a new token differs.
        assert_eq!(server.send("DELETE", "/mock/tokens", "*/*", &Value::Null).0, 204);
        assert_eq!((routers(admin.as_deref()), routers(guest.as_deref())), (401, 401), "{dialect}: expired");
        let (_, again) = login("root:s3cret pass");
        assert_ne!(again, admin);
        assert_eq!(routers(again.as_deref()), 200, "{dialect}");
        // Before the next request only.
        let fault = serde_json::json!({ "path": "/routers", "fault": { "kind": "expire-tokens" } });
        assert_eq!(server.send("POST", "/mock/faults", "application/json", &fault).0, 204);
        assert_eq!((routers(again.as_deref()), routers(again.as_deref())), (401, 401), "{dialect}: expired by a fault");
    }
    // Without --strict-tokens a request without a token has the administrator's rights.
    let lenient = Running::start(&["--users", path]);
    assert_eq!(ask(&lenient, "GET", "/routers", "Accept: application/json\r\n").0, 200);
    assert_eq!(ask(&lenient, "POST", "/login", &format!("Authorization: {}\r\n", basic("admin:admin"))).0, 401);
}

#[test]
fn an_unreadable_users_file_is_reported_without_its_secrets() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("users.json");
    let path = file.to_str().expect("a path");
    for (text, place) in [
        (None, "No such file"),
        (Some(r#"{"root": "s3cret"}"#), "line 1, column"),
        (Some(r#"["s3cret"]"#), "line 1, column"),
        (Some("{\"root\":\n{\"password\": \"s3cret\", \"admin\": \"s3cret\"}}"), "line 2, column"),
        // Otherwise a typing error would make an administrator.
        (Some(r#"{"root": {"password": "s3cret", "amdin": false}}"#), "line 1, column"),
        (Some(r#"{"root": {"admin": true}}"#), "line 1, column"),
        (Some(r#"{"root": {"password": "s3cret""#), "line 1, column"),
    ] {
        match text {
            Some(text) => std::fs::write(&file, text).expect("written"),
            None => assert!(!file.exists()),
        }
        let output = std::process::Command::new(crate::http_life::PROGRAM)
            .args(["--listen", "127.0.0.1:0", "--users", path, "--strict-tokens"])
            .output()
            .expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text:?}: {stderr}");
        assert!(stderr.contains(path) && stderr.contains(place) && !stderr.contains("s3cret"), "{text:?}: {stderr}");
    }
}
