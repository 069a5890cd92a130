//! Login, renewal, retries and deadlines, over a scripted transport.

use atoll_testkit::cell::{SyncCell, SyncRefCell};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use atoll_model::error::{Class, Classify};
use atoll_model::secret::Secret;
use atoll_sdn_client::api::{Route, Router};
use atoll_sdn_client::credentials::Credentials;
use atoll_sdn_client::dialect::Dialect;
use atoll_sdn_client::session::{Session, SessionFile};
use atoll_sdn_client::transport::{ApiRequest, ApiResponse, TransportError};
use atoll_sdn_client::{Client, ClientSettings, ErrorClass};
use tokio::time::Instant;
use uuid::Uuid;

use crate::fake::{Fake, answer, answer_with, foreign, line, no_answer, not_sent, with_requested_id};
use crate::fixtures::text;

const PASSWORD: &str = "pa55w0rd";

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn fixture(name: &str) -> Result<ApiResponse, TransportError> {
    answer(200, &String::from_utf8(text(name)).expect("text"))
}

fn token_of(request: &ApiRequest) -> Option<String> {
    Some(request.headers.get("x-auth-token")?.to_str().expect("text").to_owned())
}

fn credentials(folder: &Path) -> Credentials {
    let password_file = folder.join("password");
    fs::write(&password_file, format!("{PASSWORD}\n")).expect("write");
    fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600)).expect("chmod");
    Credentials { username: "admin".to_owned(), password_file, project: "p".to_owned() }
}

/// A controller with a login that accepts only the newest token, which changes with every login.
fn guarded(valid: Arc<SyncRefCell<String>>) -> Arc<Fake> {
    let logins = SyncCell::new(0);
    Fake::new(move |request| match line(request).as_str() {
        "POST /login" => {
            logins.set(logins.get() + 1);
            *valid.borrow_mut() = format!("token-{}", logins.get());
            answer(200, &format!(r#"{{"key":"token-{}","expires":null}}"#, logins.get()))
        }
        _ if token_of(request).as_ref() != Some(&*valid.borrow()) => answer(401, r#"{"message":"no","code":401}"#),
        "GET /" => fixture("application.5.json"),
        _ => with_requested_id(request, fixture("router.5.json")),
    })
}

#[tokio::test]
async fn a_first_process_logs_in_and_the_next_does_not() {
    let folder = tempfile::tempdir().expect("folder");
    let settings = ClientSettings {
        dialect: None,
        credentials: Some(credentials(folder.path())),
        session_file: Some(SessionFile::new(folder.path().join("session"), &["c"])),
    };
    let fake = guarded(Arc::default());
    let first = Client::new(Arc::clone(&fake), settings.clone());
    let router: Router = first.get(id(1)).await.expect("answer").expect("there");
    assert_eq!(router.name.as_deref(), Some("blue router"));
    first.get::<Router>(id(2)).await.expect("answer");
    let expected = ["POST /login", "GET /", &format!("GET /routers/{}", id(1)), &format!("GET /routers/{}", id(2))];
    assert_eq!(fake.lines(), expected);
    let second = Client::new(Arc::clone(&fake), settings);
    second.get::<Router>(id(3)).await.expect("answer");
    assert_eq!(fake.lines()[4..], [format!("GET /routers/{}", id(3))], "one request for the whole process");
}

#[tokio::test]
async fn a_configured_dialect_and_no_user_need_no_other_request() {
    let fake = Fake::new(|request| with_requested_id(request, fixture("router.1.9.json")));
    let client =
        Client::new(Arc::clone(&fake), ClientSettings { dialect: Some(Dialect::V1), ..ClientSettings::default() });
    client.get::<Router>(id(1)).await.expect("answer");
    assert_eq!(fake.lines().len(), 1);
    assert_eq!(token_of(&fake.requests()[0]), None);
}

#[tokio::test]
async fn many_tasks_share_one_login_and_one_renewal() {
    let folder = tempfile::tempdir().expect("folder");
    let valid: Arc<SyncRefCell<String>> = Arc::default();
    let fake = guarded(Arc::clone(&valid));
    let settings = ClientSettings {
        dialect: Some(Dialect::V5),
        credentials: Some(credentials(folder.path())),
        session_file: None,
    };
    let client = Client::new(Arc::clone(&fake), settings);
    for round in 1..=3 {
        let calls = (0..16).map(|n| {
            let client = client.clone();
            async move { client.get::<Router>(id(n)).await }
        });
        for result in futures(calls).await {
            result.expect("answer");
        }
        assert_eq!(fake.count("POST /login"), round, "round {round}");
        // The token expires: all requests detect it, one renews it.
        "expired".clone_into(&mut valid.borrow_mut());
    }
}

/// All at once, on one thread.
async fn futures<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = all.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        for (future, output) in &mut pending {
            if output.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *output = Some(value);
            }
        }
        if pending.iter().all(|(_, output)| output.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    pending.into_iter().filter_map(|(_, output)| output).collect()
}

#[tokio::test]
async fn a_token_that_is_always_refused_is_renewed_once() {
    let folder = tempfile::tempdir().expect("folder");
    let fake = Fake::new(|request| match line(request).as_str() {
        "POST /login" => answer(200, r#"{"key":"t0ken"}"#),
        _ => answer(401, r#"{"message":"token t0ken is not known","code":401}"#),
    });
    let settings = ClientSettings {
        dialect: Some(Dialect::V5),
        credentials: Some(credentials(folder.path())),
        session_file: None,
    };
    let client = Client::new(Arc::clone(&fake), settings);
    let error = client.get::<Router>(id(1)).await.expect_err("denied");
    assert_eq!((error.class, Classify::class(&error)), (ErrorClass::Denied, Class::Denied));
    assert_eq!(fake.count("POST /login"), 2);
    assert_eq!(fake.count("GET"), 2);
    assert!(!format!("{error} {error:?}").contains("t0ken"), "the server's echo is taken out: {error}");
}

#[tokio::test]
async fn a_token_that_another_process_renewed_is_taken_from_the_file() {
    let folder = tempfile::tempdir().expect("folder");
    let file = SessionFile::new(folder.path().join("session"), &["c"]);
    let session = |token: &str| Session { dialect: Some(Dialect::V5), token: Some(Secret::new(token)) };
    file.store(&session("old"));
    let valid = Arc::new(SyncRefCell::new("new".to_owned()));
    let fake = guarded(Arc::clone(&valid));
    let settings = ClientSettings {
        dialect: None,
        credentials: Some(credentials(folder.path())),
        session_file: Some(file.clone()),
    };
    let client = Client::new(Arc::clone(&fake), settings);
    file.store(&session("new"));
    client.get::<Router>(id(1)).await.expect("answer");
    assert_eq!(fake.count("POST /login"), 0);
    // When that one is refused as well, a login follows.
    *valid.borrow_mut() = "newest".to_owned();
    file.store(&session("also old"));
    client.get::<Router>(id(1)).await.expect("answer");
    assert_eq!(fake.count("POST /login"), 1);
    assert_eq!(file.load(), session("token-1"), "and the file has the newest");
}

#[tokio::test]
async fn a_wrong_password_is_denied_and_not_shown() {
    let folder = tempfile::tempdir().expect("folder");
    let fake = Fake::new(|_| answer(401, &format!(r#"{{"message":"bad password {PASSWORD}","code":401}}"#)));
    let settings = ClientSettings {
        dialect: Some(Dialect::V5),
        credentials: Some(credentials(folder.path())),
        session_file: None,
    };
    let error = Client::new(Arc::clone(&fake), settings).get::<Router>(id(1)).await.expect_err("denied");
    assert_eq!(error.class, ErrorClass::Denied);
    assert_eq!(error.operation, "log in");
    assert_eq!(fake.lines(), ["POST /login"], "asked once");
    assert!(!format!("{error} {error:?}").contains(PASSWORD), "{error}");
}

/// An answer repeats a secret: cut by our limit on messages, beside other text, in the field of a violation, encoded, in a
/// value of the wrong type. No part of it is printed.
#[tokio::test(start_paused = true)]
async fn an_echo_of_a_secret_is_not_shown() {
    const TOKEN: &str = "t0ken-of-some-length";
    let folder = tempfile::tempdir().expect("folder");
    let settings = ClientSettings {
        dialect: Some(Dialect::V5),
        credentials: Some(credentials(folder.path())),
        session_file: None,
    };
    // "admin:pa55w0rd" as it is encoded in a login.
    for secret in [PASSWORD, "YWRtaW46cGE1NXcwcmQ=", TOKEN] {
        let far = format!("{}{secret}", "x".repeat(400 - secret.len() / 2));
        let violation = format!(r#"{{"property":"{secret}","message":"{secret}"}}"#);
        for (status, body) in [
            (400, format!(r#"{{"message":"{secret}"}}"#)),
            (400, format!(r#"{{"message":"{far}"}}"#)),
            (400, format!(r#"{{"message":"m","violations":[{violation}]}}"#)),
            (403, format!("<html>{secret}")),
            (404, secret.to_owned()),
            (200, secret.to_owned()),
            (200, format!(r#"{{"id":"{secret}","adminStateUp":"{secret}","name":["{secret}"]}}"#)),
        ] {
            let (login, text) = (secret != TOKEN, body.clone());
            let fake = Fake::new(move |request| match line(request).as_str() {
                "POST /login" if !login => answer(200, &format!(r#"{{"key":"{TOKEN}"}}"#)),
                _ => answer(status, &text),
            });
            let error = Client::new(fake, settings.clone()).get::<Router>(id(1)).await.expect_err(&body);
            let text = format!("{error} {error:?}");
            assert!(!text.contains(&secret[..6]), "{status} {body}: {text}");
        }
    }
}

#[tokio::test]
async fn a_password_file_that_others_can_read_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let credentials = credentials(folder.path());
    for (mode, content, part) in
        [(0o640, "x", "0640"), (0o604, "x", "0604"), (0o600, "", "empty"), (0o600, "a:b", "':'")]
    {
        fs::write(&credentials.password_file, content).expect("write");
        fs::set_permissions(&credentials.password_file, fs::Permissions::from_mode(mode)).expect("chmod");
        let fake = Fake::new(|_| panic!("nothing is sent"));
        let settings =
            ClientSettings { dialect: Some(Dialect::V5), credentials: Some(credentials.clone()), session_file: None };
        let error = Client::new(fake, settings).get::<Router>(id(1)).await.expect_err("refused");
        assert_eq!((error.class, Classify::class(&error)), (ErrorClass::Settings, Class::Config));
        assert!(error.message.contains(part), "{error}");
    }
}

/// A 5.x controller without login that gives these answers in turn.
fn scripted(answers: Vec<Result<ApiResponse, TransportError>>) -> (Arc<Fake>, Client<Arc<Fake>>) {
    scripted_as(Dialect::V5, answers)
}

fn scripted_as(dialect: Dialect, answers: Vec<Result<ApiResponse, TransportError>>) -> (Arc<Fake>, Client<Arc<Fake>>) {
    let mut answers = answers.into_iter();
    let fake = Fake::new(move |request| {
        with_requested_id(request, answers.next().unwrap_or_else(|| panic!("one too many: {}", line(request))))
    });
    let client = Client::new(Arc::clone(&fake), ClientSettings { dialect: Some(dialect), ..ClientSettings::default() });
    (fake, client)
}

const RACE: &str =
    r#"{"message":"A conflict caused by concurrent modification while performing storage operations.","code":409}"#;

#[tokio::test(start_paused = true)]
async fn transient_failures_are_retried() {
    let (fake, client) =
        scripted(vec![answer(503, ""), answer(409, RACE), not_sent(), no_answer(), fixture("router.5.json")]);
    client.get::<Router>(id(1)).await.expect("answer").expect("there");
    assert_eq!(fake.lines().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn in_the_end_the_last_failure_is_reported() {
    let (_, client) = scripted((0..5).map(|_| answer(503, r#"{"message":"restricted mode","code":503}"#)).collect());
    let error = client.get::<Router>(id(1)).await.expect_err("busy");
    assert_eq!((error.class, error.status), (ErrorClass::Busy, Some(503)));
    assert_eq!(error.message, "restricted mode");
    let (_, client) = scripted((0..5).map(|_| not_sent()).collect());
    assert_eq!(client.get::<Router>(id(1)).await.expect_err("unreachable").class, ErrorClass::Unreachable);
}

/// A rate limiter, or a server that names a time, is asked again at that time, as often as the deadline allows.
#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured_within_the_deadline() {
    let busy = |status, wait: &'static str| foreign(status, &[("retry-after", wait)], r#"{"message":"slow down"}"#);
    for status in [408, 429, 503] {
        // More attempts than after a failure.
        let (fake, client) = scripted((0..8).map(|_| busy(status, "1")).chain([fixture("router.5.json")]).collect());
        let begun = Instant::now();
        let client = client.until(begun + Duration::from_secs(20));
        client.get::<Router>(id(1)).await.expect("an answer in the end").expect("there");
        assert_eq!(fake.lines().len(), 9, "{status}");
        assert!(begun.elapsed() >= Duration::from_secs(8), "{status}: not before its time: {:?}", begun.elapsed());

        // The time is after the deadline: the error is returned immediately.
        let (fake, client) = scripted(vec![busy(status, "30")]);
        let begun = Instant::now();
        let error = client.until(begun + Duration::from_secs(20)).get::<Router>(id(1)).await.expect_err("busy");
        assert_eq!((error.class, Classify::class(&error)), (ErrorClass::Busy, Class::Unavailable));
        assert!(error.to_string().ends_with("slow down; it asks to wait 30 s"), "{error}");
        assert_eq!((fake.lines().len(), begun.elapsed()), (1, Duration::ZERO));

        // Without a deadline these waits are limited in time and number.
        let (fake, client) = scripted(vec![busy(status, "31")]);
        assert_eq!(client.get::<Router>(id(1)).await.expect_err("too long").class, ErrorClass::Busy);
        assert_eq!(fake.lines().len(), 1);
        for (wait, most) in [("10", 4), ("0", 31)] {
            let (fake, client) = scripted((0..most).map(|_| busy(status, wait)).collect());
            assert_eq!(client.get::<Router>(id(1)).await.expect_err("too often").class, ErrorClass::Busy);
            assert_eq!(fake.lines().len(), most);
        }
        // A time that no clock can hold causes neither a wait nor a panic.
        let (_, client) = scripted(vec![busy(status, "18446744073709551615")]);
        let client = client.until(Instant::now() + Duration::from_secs(20));
        assert_eq!(client.get::<Router>(id(1)).await.expect_err("too long").class, ErrorClass::Busy);

        // These waits do not count as attempts.
        let answers = [not_sent(), not_sent(), busy(status, "1"), busy(status, "1"), not_sent(), not_sent()];
        let (fake, client) = scripted(answers.into_iter().chain([fixture("router.5.json")]).collect());
        client.get::<Router>(id(1)).await.expect("an answer in the end").expect("there");
        assert_eq!(fake.lines().len(), 7);
    }
    // A request that was refused for its rate was not executed: a route is sent again as well. After 408 the outcome is
    // unknown.
    let route = Route { id: Some(id(1)), router_id: Some(id(2)), ..Route::default() };
    let (fake, client) = scripted_as(Dialect::V1, vec![busy(429, "0"), answer(201, "")]);
    client.create(&route).await.expect("made");
    assert_eq!(fake.lines().len(), 2);
    let (fake, client) = scripted_as(Dialect::V1, vec![busy(408, "0")]);
    client.create(&route).await.expect_err("its outcome is unknown");
    assert_eq!(fake.lines().len(), 1);
}

#[tokio::test]
async fn a_login_answer_that_no_header_can_carry_is_a_login_error() {
    let folder = tempfile::tempdir().expect("folder");
    for (project, key) in [("p", "to\\u0000ken"), ("p", "to\\nken"), ("p\nq", "token")] {
        let fake = Fake::new(move |request| match line(request).as_str() {
            "POST /login" => answer(200, &format!(r#"{{"key":"{key}"}}"#)),
            _ => panic!("nothing may leave with an empty token"),
        });
        let credentials = Credentials { project: project.to_owned(), ..credentials(folder.path()) };
        let settings =
            ClientSettings { dialect: Some(Dialect::V5), credentials: Some(credentials), session_file: None };
        let error = Client::new(fake, settings).get::<Router>(id(1)).await.expect_err(key);
        assert_eq!(error.operation, "log in", "{error}");
        assert!(error.message.contains("no header can carry"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn permanent_failures_are_not_retried() {
    for status in [400, 403, 404, 406, 409, 415, 500] {
        let (fake, client) = scripted(vec![answer(status, &format!(r#"{{"message":null,"code":{status}}}"#))]);
        let router = Router { id: Some(id(1)), ..Router::default() };
        assert_eq!(client.create(&router).await.expect_err("refused").status, Some(status));
        assert_eq!(fake.lines().len(), 1, "{status}");
    }
    let unusable = TransportError::Unusable { endpoint: "e".to_owned(), reason: "endless".to_owned() };
    let (fake, client) = scripted(vec![Err(unusable)]);
    assert_eq!(client.get::<Router>(id(1)).await.expect_err("broken").class, ErrorClass::Broken);
    assert_eq!(fake.lines().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_route_whose_id_the_server_chooses_is_not_sent_twice_when_the_answer_is_lost() {
    let route = Route { id: Some(id(1)), router_id: Some(id(2)), ..Route::default() };
    for (lost, class) in [
        (no_answer(), ErrorClass::Unreachable),
        (answer(502, ""), ErrorClass::Unreachable),
        (answer(504, ""), ErrorClass::Unreachable),
        (answer(503, "upstream connect error or disconnect/reset before headers"), ErrorClass::Busy),
    ] {
        let (fake, client) = scripted_as(Dialect::V1, vec![lost]);
        assert_eq!(client.create(&route).await.expect_err("unknown").class, class);
        assert_eq!(fake.lines().len(), 1);
    }
    let location = format!("http://localhost:8080/midonet-api/routes/{}", id(9));
    let read_only = answer(503, r#"{"message":"API server currently in restricted mode.","code":503}"#);
    let (_, client) = scripted_as(Dialect::V1, vec![not_sent(), read_only, answer_with(201, "location", &location)]);
    assert_eq!(client.create(&route).await.expect("created"), Some(id(9)), "what was not executed is repeated");
}

#[tokio::test(start_paused = true)]
async fn nothing_goes_past_the_deadline() {
    let start = Instant::now();
    let fake = Fake::new(|_| not_sent());
    let client =
        Client::new(Arc::clone(&fake), ClientSettings { dialect: Some(Dialect::V5), ..ClientSettings::default() });
    let client = client.until(start + Duration::from_millis(120));
    assert_eq!(client.get::<Router>(id(1)).await.expect_err("late").class, ErrorClass::Unreachable);
    assert!(start.elapsed() <= Duration::from_millis(120), "{:?}", start.elapsed());
    assert!((2..=3).contains(&fake.lines().len()), "{:?}", fake.lines());
}

/// Never answers.
struct Silent;

impl atoll_sdn_client::transport::Transport for Silent {
    async fn send(&self, _request: ApiRequest) -> Result<ApiResponse, TransportError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_controller_is_left_at_the_deadline() {
    let folder = tempfile::tempdir().expect("folder");
    for credentials in [None, Some(credentials(folder.path()))] {
        let start = Instant::now();
        let settings = ClientSettings { dialect: Some(Dialect::V5), credentials, session_file: None };
        let client = Client::new(Silent, settings).until(start + Duration::from_secs(3));
        assert_eq!(client.get::<Router>(id(1)).await.expect_err("late").class, ErrorClass::Unreachable);
        assert!(start.elapsed() <= Duration::from_secs(4), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn an_unknown_version_is_reported_and_not_remembered() {
    let mut answers = vec![answer(200, r#"{"version":"v7"}"#), fixture("application.5.json")].into_iter();
    let fake = Fake::new(move |_| answers.next().expect("two answers"));
    let client = Client::new(fake, ClientSettings::default());
    let error = client.dialect().await.expect_err("unknown");
    assert_eq!(error.class, ErrorClass::Broken);
    assert!(error.message.contains("v7"), "{error}");
    assert_eq!(client.dialect().await.expect("known"), Dialect::V5);
}
