//! An object is absent only if the API itself says so. A 404, an empty list or a success of another server is no
//! answer: an address is released because its port is reported as deleted.

use atoll_model::error::{Class, Classify};
use atoll_sdn_client::api::{Ip4Mac, Port, Route, Router};
use atoll_sdn_client::request::Scope;
use atoll_sdn_client::transport::ApiRequest;
use atoll_sdn_client::{Client, ClientError, ClientSettings, Ensured, ErrorClass};
use atoll_sdn_client::{Dialect, Resource};
use std::sync::Arc;
use uuid::Uuid;

use crate::fake::{Fake, Outcome, absent, answer, foreign, line};

const DIALECTS: [Dialect; 2] = [Dialect::V1, Dialect::V5];

/// Answers of gateways, proxies and servers at wrong paths.
fn foreign_answers() -> Vec<(&'static str, Outcome)> {
    let json = [("content-type", "application/json")];
    let id = Uuid::from_u128(1);
    vec![
        ("an empty 404", foreign(404, &[], "")),
        ("a gateway's 404", foreign(404, &json, r#"{"message":"no route matched"}"#)),
        ("an empty object", foreign(404, &json, "{}")),
        (
            "a router's 404 that repeats the path",
            foreign(
                404,
                &json,
                &format!(r#"{{"message":"Cannot DELETE /ports/{id}","error":"Not Found","statusCode":404}}"#),
            ),
        ),
        ("a gateway's 404 in the API's form", foreign(404, &json, r#"{"message":"Not Found","code":404}"#)),
        ("the same, with the path", foreign(404, &json, &format!(r#"{{"message":"/ports/{id}","code":404}}"#))),
        ("the API's own server at a wrong path", answer(404, r#"{"message":"Not Found","code":404}"#)),
        ("a page", foreign(404, &[("content-type", "text/html")], "<html>Not Found")),
        ("a text", foreign(404, &[], "default backend - 404")),
        ("gone", foreign(410, &[], "")),
        (
            "gone in the API's form",
            answer(410, &format!(r#"{{"message":"There is no Port with ID {id}.","code":410}}"#)),
        ),
        ("another object's 404", absent(&format!("/ports/{}", Uuid::from_u128(99)))),
        ("a page with success", foreign(200, &[], "<html>Sign in")),
        ("an empty success", foreign(200, &[], "")),
        ("a success of something else", foreign(200, &json, "{}")),
        ("null", foreign(200, &json, "null")),
        ("an empty list", foreign(200, &json, "[]")),
        ("a list of something else", foreign(200, &json, "[{}]")),
        ("accepted", foreign(202, &json, r#"{"status":"queued"}"#)),
        ("a redirect", foreign(302, &[("location", "https://login.example/")], "")),
    ]
}

fn id() -> Uuid {
    Uuid::from_u128(1)
}

fn client(
    dialect: Dialect,
    serve: impl FnMut(&ApiRequest) -> Outcome + Send + 'static,
) -> (Arc<Fake>, Client<Arc<Fake>>) {
    let fake = Fake::new(serve);
    let client = Client::new(Arc::clone(&fake), ClientSettings { dialect: Some(dialect), ..ClientSettings::default() });
    (fake, client)
}

fn entry() -> Ip4Mac {
    let (ip, mac) = (Some("10.0.0.7".to_owned()), Some("02:00:00:00:00:07".to_owned()));
    Ip4Mac { bridge: Some(id()), ip, mac, ..Ip4Mac::default() }
}

fn refused<T: std::fmt::Debug>(result: Result<T, ClientError>, what: &str) {
    let error = result.expect_err(what);
    assert_eq!(Classify::class(&error), Class::Unavailable, "{what}: {error}");
    assert!(error.hint().is_some(), "{what}: {error}");
}

#[tokio::test(start_paused = true)]
async fn answers_of_foreign_servers_are_errors() {
    for dialect in DIALECTS {
        for (name, reply) in foreign_answers() {
            let what = |verb: &str| format!("{dialect}: {verb} answered by {name}");
            let (_, client) = client(dialect, move |_| reply.clone());
            let router = Scope::Of(Resource::Router, id());
            refused(client.get::<Port>(id()).await, &what("get"));
            // An object without an id of its own is accepted as shown; only a list without it means that it is absent.
            let found = client.find(&entry()).await;
            assert!(!matches!(found, Ok(None)), "{}", what("look"));
            refused(client.list::<Route>(&router).await, &what("list"));
            refused(client.list::<Router>(&Scope::All).await, &what("list all"));
            for resource in [Resource::Port, Resource::Bridge, Resource::Router, Resource::Chain, Resource::Rule] {
                refused(client.delete(resource, id()).await, &what("delete"));
            }
            refused(client.remove(&entry()).await, &what("remove"));
            refused(client.unlink(id()).await, &what("unlink"));
            refused(client.unbind(id(), id()).await, &what("unbind"));
            let route = Route { id: Some(id()), router_id: Some(id()), ..Route::default() };
            refused(client.delete_route(&route).await, &what("delete a route"));
        }
    }
}

/// The API works, and a gateway in front of it answers the deletions: a second request decides.
#[tokio::test(start_paused = true)]
async fn a_deletion_answered_by_a_gateway_is_confirmed_by_a_read() {
    for dialect in DIALECTS {
        for (name, reply) in foreign_answers() {
            for there in [true, false] {
                let reply = reply.clone();
                let (fake, client) = client(dialect, move |request| match request.method {
                    http::Method::DELETE => reply.clone(),
                    _ if there => answer(200, &format!(r#"{{"id":"{}","type":"Bridge"}}"#, id())),
                    _ => absent(&request.path),
                });
                let done = client.delete(Resource::Port, id()).await;
                assert_eq!(done.is_err(), there, "{dialect}: {name}: {done:?}");
                assert_eq!(fake.count("GET"), 1, "{dialect}: {name}");
            }
        }
    }
}

/// 1.9 answers 404 without an id for hosts: the list of all hosts decides.
#[tokio::test(start_paused = true)]
async fn a_404_of_the_api_without_an_id_is_confirmed_by_the_list() {
    for dialect in DIALECTS {
        for listed in [None, Some(id()), Some(Uuid::from_u128(2))] {
            let list = listed.map_or_else(|| "[]".to_owned(), |id| format!(r#"[{{"id":"{id}"}}]"#));
            let (fake, client) = client(dialect, move |request| match request.path.as_str() {
                "/ports" => answer(200, &list),
                _ => answer(404, r#"{"message":"","code":404}"#),
            });
            let there = listed == Some(id());
            let found = client.get::<Port>(id()).await;
            assert_eq!(found.is_err(), there, "{dialect}: {found:?}");
            assert_eq!(client.delete(Resource::Port, id()).await.is_err(), there, "{dialect}");
            assert_eq!(fake.count("GET /ports/"), 2, "{dialect}: one look each");
            assert_eq!(fake.lines().last().map(String::as_str), Some("GET /ports"));
        }
    }
}

/// The same for an entry of a table, which has no id at all.
#[tokio::test(start_paused = true)]
async fn an_absent_table_entry_is_confirmed_by_the_table() {
    let table = format!("/bridges/{}/arp_table", id());
    for (entries, there) in [
        ("[]", false),
        (r#"[{"ip":"10.0.0.8","mac":"02:00:00:00:00:08"}]"#, false),
        (r#"[{"ip":"10.0.0.7","mac":"02:00:00:00:00:07"}]"#, true),
    ] {
        let (fake, client) = client(Dialect::V5, move |request| match &request.path {
            path if path.ends_with("/arp_table") => answer(200, entries),
            _ => answer(404, r#"{"message":"The requested ARP table entry was not found.","code":404}"#),
        });
        assert_eq!(client.remove(&entry()).await.is_err(), there, "{entries}");
        assert_eq!(client.find(&entry()).await.is_err(), there, "{entries}");
        assert_eq!(fake.count(&format!("GET {table}")), 2 + 1, "{entries}: the table twice, the entry once");
    }
    // The bridge is deleted with its table.
    let (_, client) = client(Dialect::V5, |request| match request.method {
        http::Method::DELETE => answer(404, r#"{"message":"Not here","code":404}"#),
        _ => absent(&request.path),
    });
    client.remove(&entry()).await.expect("gone with its bridge");
}

#[tokio::test]
async fn the_apis_own_404_needs_no_second_request() {
    for dialect in DIALECTS {
        let (fake, client) = client(dialect, |request| absent(&request.path));
        assert_eq!(client.get::<Router>(id()).await.expect("answer"), None);
        client.delete(Resource::Port, id()).await.expect("done");
        client.unlink(id()).await.expect("done");
        client.remove(&entry()).await.expect("done");
        let error = client.list::<Route>(&Scope::Of(Resource::Router, id())).await.expect_err("no parent");
        assert_eq!((error.class, error.object), (ErrorClass::Absent, format!("every route of router {}", id())));
        assert_eq!(fake.lines().len(), 5, "{:?}", fake.lines());
    }
    let (fake, client) = client(Dialect::V5, |_| foreign(204, &[], ""));
    client.delete(Resource::Port, id()).await.expect("done");
    assert_eq!(fake.lines().len(), 1, "what is done needs none either");
}

/// MidoNet 1.9 answers for the rules of a deleted chain: `No such chain<id>`; only MidoNet uses its media type.
#[tokio::test]
async fn other_words_that_name_the_object_count_with_the_apis_media_type_only() {
    let body = format!(r#"{{"message":"No such chain{}","code":404}}"#, id());
    for (media, class) in
        [("application/vnd.org.midonet.Error-v1+json", ErrorClass::Absent), ("application/json", ErrorClass::Vague)]
    {
        let body = body.clone();
        let (_, client) = client(Dialect::V1, move |request| {
            if line(request).ends_with("/rules") {
                foreign(404, &[("content-type", media)], &body)
            } else {
                answer(200, &format!(r#"{{"id":"{}"}}"#, id()))
            }
        });
        let rules = client.list::<atoll_sdn_client::api::Rule>(&Scope::Of(Resource::Chain, id())).await;
        assert_eq!(rules.expect_err(media).class, class);
    }
}

/// A gateway can lose its route for a moment: an idempotent request is repeated once.
#[tokio::test(start_paused = true)]
async fn a_foreign_answer_is_requested_once_more() {
    let mut first = true;
    let (fake, client) =
        client(
            Dialect::V5,
            move |request| if std::mem::take(&mut first) { foreign(404, &[], "") } else { absent(&request.path) },
        );
    assert_eq!(client.get::<Router>(id()).await.expect("the API in the end"), None);
    assert_eq!(fake.lines().len(), 2);
    let (fake, client) = self::client(Dialect::V5, |_| foreign(404, &[], ""));
    client.get::<Router>(id()).await.expect_err("a wrong path stays wrong");
    assert_eq!(fake.lines().len(), 2);
    // A route on 1.9 would be created twice.
    let (fake, client) = self::client(Dialect::V1, |_| foreign(404, &[], ""));
    let route = Route { router_id: Some(id()), ..Route::default() };
    client.create(&route).await.expect_err("no answer");
    assert_eq!(fake.lines().len(), 1);
}

#[tokio::test]
async fn an_object_with_another_id_is_refused() {
    let other = Uuid::from_u128(2);
    for dialect in DIALECTS {
        let (_, client) = client(dialect, move |request| match request.method {
            http::Method::POST => answer(409, r#"{"message":"A(n) Router with ID 1 already exists.","code":409}"#),
            _ => answer(200, &format!(r#"{{"id":"{other}","name":"r","tenantId":"t"}}"#)),
        });
        let error = client.get::<Router>(id()).await.expect_err("another");
        assert!(error.class == ErrorClass::NotApi && error.message.contains(&other.to_string()), "{error}");
        let wanted =
            Router { id: Some(id()), name: Some("r".to_owned()), tenant_id: Some("t".to_owned()), ..Router::default() };
        assert!(!matches!(client.ensure(&wanted).await, Ok(Ensured::Kept)), "another is not what was wanted");
    }
}
