//! Tokens from Keystone: requests, answers and, with a real Keystone, the whole lifecycle of a token.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use atoll_model::config::KeystoneDomain;
use atoll_model::secret::Secret;
use atoll_sdn_client::api::Router;
use atoll_sdn_client::dialect::Dialect;
use atoll_sdn_client::error::AttemptedOperation;
use atoll_sdn_client::keystone::{self, KeystoneCredentials};
use atoll_sdn_client::session::SessionFile;
use atoll_sdn_client::transport::{ApiRequest, ApiResponse, Transport, TransportError};
use atoll_sdn_client::{Client, ClientSettings, ErrorClass, Http, HttpSettings};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fake::{Fake, answer, answer_with, with_requested_id};

fn secret_file(folder: &Path, secret: &str) -> PathBuf {
    let path = folder.join("secret");
    fs::write(&path, secret).expect("write");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
    path
}

fn password(folder: &Path, password: &str) -> KeystoneCredentials {
    KeystoneCredentials::Password {
        user: "admin".to_owned(),
        user_domain: KeystoneDomain::Id("default".to_owned()),
        password_file: secret_file(folder, password),
        project: "admin".to_owned(),
        project_domain: KeystoneDomain::Name("Default".to_owned()),
    }
}

#[test]
fn the_request_is_what_the_identity_api_wants() {
    let folder = tempfile::tempdir().expect("folder");
    let request = keystone::request(&password(folder.path(), ""), &Secret::new("pa55:w0rd"));
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/auth/tokens?nocatalog"));
    assert_eq!(
        serde_json::from_slice::<Value>(&request.body).expect("JSON"),
        json!({ "auth": {
            "identity": { "methods": ["password"], "password": { "user": {
                "name": "admin", "domain": { "id": "default" }, "password": "pa55:w0rd",
            } } },
            "scope": { "project": { "name": "admin", "domain": { "name": "Default" } } },
        } })
    );
    assert!(!format!("{request:?}").contains("pa55"), "{request:?}");
    let identity = KeystoneCredentials::ApplicationCredential { id: "a1".to_owned(), secret_file: PathBuf::new() };
    let request = keystone::request(&identity, &Secret::new("s3cret"));
    assert_eq!(
        serde_json::from_slice::<Value>(&request.body).expect("JSON"),
        json!({ "auth": { "identity": {
            "methods": ["application_credential"],
            "application_credential": { "id": "a1", "secret": "s3cret" },
        } } })
    );
    assert_eq!(keystone::base_url("http://k:5000"), "http://k:5000/v3");
    assert_eq!(keystone::base_url("http://k/identity/v3/"), "http://k/identity/v3");
}

#[test]
fn its_errors_are_understood() {
    let attempt = AttemptedOperation::new("log in", "user");
    let refusal = |status, body: &str| keystone::refusal(&attempt, &answer(status, body).expect("answer"));
    let error = refusal(401, r#"{"error":{"code":401,"message":"The request requires authentication.","title":"x"}}"#);
    assert_eq!(error.to_string(), "log in user: status 401: The request requires authentication.");
    for (status, class) in [
        (401, ErrorClass::Denied),
        (403, ErrorClass::Denied),
        (400, ErrorClass::Invalid),
        (404, ErrorClass::NotApi),
        (302, ErrorClass::NotApi),
        (407, ErrorClass::NotApi),
        (408, ErrorClass::Busy),
        (200, ErrorClass::NotApi),
        (429, ErrorClass::Busy),
        (500, ErrorClass::Broken),
        (503, ErrorClass::Busy),
        (504, ErrorClass::Unreachable),
    ] {
        assert_eq!(refusal(status, "<html>").class, class, "{status}");
    }
    let deleted =
        r#"{"error":{"code":404,"message":"Could not find Application Credential: a1.","title":"Not Found"}}"#;
    assert_eq!(refusal(404, deleted).class, ErrorClass::Denied);
    let response = answer(201, "{}").expect("answer");
    assert_eq!(keystone::token(&attempt, &response).expect_err("no token").class, ErrorClass::Broken);
}

#[tokio::test]
async fn a_token_from_keystone_is_used_and_renewed_there() {
    let folder = tempfile::tempdir().expect("folder");
    let mut tokens = ["first", "second"].into_iter();
    let identity_service = Fake::new(move |_| answer_with(201, "x-subject-token", tokens.next().expect("two tokens")));
    let controller = Fake::new(|request| match request.headers.get("x-auth-token").map(HeaderValue::as_bytes) {
        Some(b"second") => with_requested_id(request, answer(200, r#"{"id":null}"#)),
        _ => answer(401, ""),
    });
    let settings = ClientSettings { dialect: Some(Dialect::V5), ..ClientSettings::default() };
    let identity = password(folder.path(), "pw");
    let client = Client::with_keystone(Arc::clone(&controller), settings, Arc::clone(&identity_service), identity);
    for _ in 0..2 {
        client.get::<Router>(Uuid::nil()).await.expect("answer");
    }
    assert_eq!(identity_service.count("POST /auth/tokens"), 2, "{:?}", identity_service.lines());
    assert_eq!(controller.count("POST /login"), 0);
    assert_eq!(controller.lines().len(), 3);
}

/// Keystone, or a controller that validates every token with it, as MidoNet does.
enum Real {
    Keystone(Http),
    Controller(Http),
}

impl Transport for Real {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, TransportError> {
        match self {
            Self::Keystone(http) => http.send(request).await,
            Self::Controller(keystone) => {
                let token = request.headers.get("x-auth-token").cloned().expect("a token on every request");
                let mut headers = HeaderMap::new();
                headers.insert("x-auth-token", token.clone());
                headers.insert("x-subject-token", token);
                let (path, body) = ("/auth/tokens?nocatalog".to_owned(), Bytes::new());
                let validated = keystone.send(ApiRequest { method: Method::GET, path, headers, body }).await?;
                with_requested_id(&request, answer(validated.status, r#"{"id":null}"#))
            }
        }
    }
}

fn keystone() -> Http {
    let url = std::env::var("AT_KEYSTONE_URL").expect("AT_KEYSTONE_URL: tests/keystone/run starts one and sets it");
    Http::new(&HttpSettings { endpoints: vec![keystone::base_url(&url)], ..HttpSettings::default() }).expect("settings")
}

fn client(identity: KeystoneCredentials) -> Client<Real> {
    let settings = ClientSettings { dialect: Some(Dialect::V5), ..ClientSettings::default() };
    Client::with_keystone(Real::Controller(keystone()), settings, Real::Keystone(keystone()), identity)
}

/// A token for the test's own requests, with Keystone's answer about it.
async fn own_token(identity: &KeystoneCredentials) -> (HeaderValue, Value) {
    let secret = identity.secret().expect("secret");
    let response = keystone().send(keystone::request(identity, &secret)).await.expect("answer");
    let token = keystone::token(&AttemptedOperation::new("log in", "test"), &response).expect("token");
    let value = HeaderValue::from_str(token.reveal()).expect("header");
    (value, serde_json::from_slice(&response.body).expect("JSON"))
}

async fn ask(method: Method, path: String, token: &HeaderValue, body: Value) -> ApiResponse {
    let mut headers = HeaderMap::new();
    headers.insert("x-auth-token", token.clone());
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    keystone().send(ApiRequest { method, path, headers, body }).await.expect("answer")
}

#[tokio::test]
#[ignore = "needs a Keystone: tests/keystone/run"]
async fn real_keystone_password() {
    let folder = tempfile::tempdir().expect("folder");
    let right = std::env::var("AT_KEYSTONE_PASSWORD").expect("AT_KEYSTONE_PASSWORD");
    let client = client(password(folder.path(), &right));
    let asked = Router { id: Some(Uuid::nil()), ..Router::default() };
    assert_eq!(client.get::<Router>(Uuid::nil()).await, Ok(Some(asked)));
    let error = self::client(password(folder.path(), "wrong")).get::<Router>(Uuid::nil()).await.expect_err("denied");
    assert_eq!(error.class, ErrorClass::Denied, "{error}");
    assert_eq!(error.operation, "log in");
}

/// A client that keeps its token in a file, where the test can see it.
fn with_file(folder: &Path, identity: &KeystoneCredentials) -> (Client<Real>, SessionFile) {
    let file = SessionFile::new(folder.join("session"), &["k"]);
    let settings =
        ClientSettings { dialect: Some(Dialect::V5), session_file: Some(file.clone()), ..ClientSettings::default() };
    let (controller, identity_service) = (Real::Controller(keystone()), Real::Keystone(keystone()));
    (Client::with_keystone(controller, settings, identity_service, identity.clone()), file)
}

#[tokio::test]
#[ignore = "needs a Keystone: tests/keystone/run"]
async fn real_keystone_revoked_token_is_renewed() {
    let folder = tempfile::tempdir().expect("folder");
    let right = std::env::var("AT_KEYSTONE_PASSWORD").expect("AT_KEYSTONE_PASSWORD");
    let identity = password(folder.path(), &right);
    let (client, file) = with_file(folder.path(), &identity);
    client.get::<Router>(Uuid::nil()).await.expect("answer");
    let first = file.load().token.expect("a token");
    let (own, _) = own_token(&identity).await;
    let mut headers = HeaderMap::new();
    headers.insert("x-auth-token", own);
    headers.insert("x-subject-token", HeaderValue::from_str(first.reveal()).expect("header"));
    let (method, path, body) = (Method::DELETE, "/auth/tokens".to_owned(), Bytes::new());
    let revoked = keystone().send(ApiRequest { method, path, headers, body }).await.expect("answer");
    assert_eq!(revoked.status, 204);
    client.get::<Router>(Uuid::nil()).await.expect("renewed");
    assert_ne!(file.load().token, Some(first));
}

#[tokio::test]
#[ignore = "needs a Keystone: tests/keystone/run"]
async fn real_keystone_expired_token_is_renewed() {
    let folder = tempfile::tempdir().expect("folder");
    let right = std::env::var("AT_KEYSTONE_PASSWORD").expect("AT_KEYSTONE_PASSWORD");
    let (client, file) = with_file(folder.path(), &password(folder.path(), &right));
    client.get::<Router>(Uuid::nil()).await.expect("answer");
    let first = file.load().token.expect("a token");
    // Tokens of this Keystone live for ten seconds.
    tokio::time::sleep(std::time::Duration::from_secs(12)).await;
    client.get::<Router>(Uuid::nil()).await.expect("renewed");
    assert_ne!(file.load().token, Some(first));
}

#[tokio::test]
#[ignore = "needs a Keystone: tests/keystone/run"]
async fn real_keystone_application_credential() {
    let folder = tempfile::tempdir().expect("folder");
    let right = std::env::var("AT_KEYSTONE_PASSWORD").expect("AT_KEYSTONE_PASSWORD");
    let (own, about) = own_token(&password(folder.path(), &right)).await;
    let user = about["token"]["user"]["id"].as_str().expect("user").to_owned();
    let path = format!("/users/{user}/application_credentials");
    let name = format!("at-{}", Uuid::new_v4());
    let made = ask(Method::POST, path.clone(), &own, json!({ "application_credential": { "name": name } })).await;
    assert_eq!(made.status, 201);
    let made: Value = serde_json::from_slice(&made.body).expect("JSON");
    let credential = &made["application_credential"];
    let id = credential["id"].as_str().expect("id").to_owned();
    let secret_file = secret_file(folder.path(), credential["secret"].as_str().expect("secret"));
    let identity = KeystoneCredentials::ApplicationCredential { id: id.clone(), secret_file };
    client(identity.clone()).get::<Router>(Uuid::nil()).await.expect("answer");
    let gone = ask(Method::DELETE, format!("{path}/{id}"), &own, Value::Null).await;
    assert_eq!(gone.status, 204);
    let error = client(identity).get::<Router>(Uuid::nil()).await.expect_err("revoked");
    assert_eq!(error.class, ErrorClass::Denied, "{error}");
}
