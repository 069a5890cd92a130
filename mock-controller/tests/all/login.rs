//! Tokens: who gets one and what they open.

use atoll_mock_controller::{Dialect, Settings, User};
use atoll_model::secret::Secret;
use base64::Engine;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderName, Method};
use serde_json::Value;

use crate::world::{Answer, BOTH, World};

const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

fn basic(text: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
}

fn login(world: &World, credentials: &str) -> Answer {
    world.raw(Method::POST, "/login", &[(AUTHORIZATION, &basic(credentials))], b"")
}

fn strict(dialect: Dialect) -> World {
    let user = |password: &str, admin| User { password: Secret::new(password), admin };
    let users = [("root".to_owned(), user("p", true)), ("guest".to_owned(), user("g", false))].into();
    World::with(Settings { dialect, users, strict_tokens: true, ..Settings::default() })
}

fn routers(world: &World, token: Option<&str>) -> Answer {
    let mut headers = vec![(ACCEPT, "application/json")];
    headers.extend(token.map(|token| (TOKEN, token)));
    world.raw(Method::GET, "/routers", &headers, b"")
}

#[test]
fn a_token_comes_in_the_body_and_in_a_cookie() {
    for dialect in BOTH {
        let world = strict(dialect);
        let answer = login(&world, "root:p");
        assert_eq!(answer.status, 200);
        let kind = "application/vnd.org.midonet.Token-v1+json;charset=UTF-8";
        assert_eq!(answer.header(&CONTENT_TYPE), Some(kind));
        let token = answer.body["key"].as_str().expect("a key");
        assert_eq!(answer.body["expires"], Value::Null);
        assert_eq!(answer.header(&SET_COOKIE), Some(format!("sessionId={token}").as_str()));
        assert_eq!(routers(&world, Some(token)).status, 200);
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let answer = world.raw(method, "/login", &[(AUTHORIZATION, &basic("root:p"))], b"");
            assert_eq!(answer.status, 200, "any method logs in");
        }
        world.admin(Method::DELETE, "/tokens", &Value::Null);
        assert_eq!(routers(&world, Some(token)).status, 401, "expired");
        let again = login(&world, "root:p");
        assert_ne!(again.body["key"], token);
        assert_eq!(routers(&world, again.body["key"].as_str()).status, 200);
    }
}

#[test]
fn credentials_that_are_refused() {
    let world = strict(Dialect::V5);
    let none = world.raw(Method::POST, "/login", &[], b"");
    assert_eq!((none.status, none.message()), (401, "Authorization header is not set."));
    assert_eq!(none.header(&WWW_AUTHENTICATE), Some("Basic  realm=\"BASIC_AUTH_REALM\""));
    let bearer = world.raw(Method::POST, "/login", &[(AUTHORIZATION, "Bearer x")], b"");
    assert_eq!(bearer.message(), "Authorization header does not contain Basic.");
    for payload in ["Basic !!!", &basic("nocolon"), &basic("root:p:q")] {
        let answer = world.raw(Method::POST, "/login", &[(AUTHORIZATION, payload)], b"");
        assert_eq!((answer.status, answer.message()), (401, "Authorization header is not valid"), "{payload}");
    }
    for credentials in ["root:wrong", "nobody:p", "root:", ":"] {
        assert_eq!(login(&world, credentials).status, 401, "{credentials}");
    }
}

#[test]
fn tokens_open_what_the_dialect_says() {
    for dialect in BOTH {
        let world = strict(dialect);
        let guest = login(&world, "guest:g");
        let refused = routers(&world, guest.body["key"].as_str());
        assert_eq!(refused.status, if dialect == Dialect::V5 { 401 } else { 403 });
        if dialect == Dialect::V5 {
            assert_eq!(refused.body["message"], Value::Null, "5.x does not say why");
        }
        assert_eq!(routers(&world, None).status, 401);
        assert_eq!(routers(&world, Some("made-up")).status, 401);

        let lenient = World::new(dialect);
        assert_eq!(routers(&lenient, None).status, 200, "mock authentication takes silence for the admin");
        let unknown = routers(&lenient, Some("made-up")).status;
        assert_eq!(unknown, if dialect == Dialect::V5 { 401 } else { 200 });
        let preflight = strict(dialect).raw(Method::OPTIONS, "/routers", &[], b"");
        assert_eq!(preflight.status, 200, "a pre-flight needs no token");
    }
}

#[test]
fn secrets_are_not_printed() {
    let world = strict(Dialect::V5);
    let token = login(&world, "root:p").body["key"].as_str().expect("a key").to_owned();
    let printed = format!("{:?}", world.mock.controller());
    assert!(!printed.contains(&token) && !printed.contains("\"p\""), "{printed}");
}
