//! A gateway's answer is not the controller's: no object counts as missing, deleted or empty because of it.

use crate::fixture::graph;
use atoll_model::error::{Class, Classify};
use atoll_network::{Engine, EngineError, EngineFailure, PortRemoval};
use atoll_sdn_client::transport::ApiRequest;
use atoll_tenant::TenantError;
use atoll_tenant::admin::{self, Admin, Deletion};
use uuid::Uuid;

use crate::fixture::{DIALECTS, Fixture, Gateway, engine, namespace, pod_port};

type Answer = fn(&ApiRequest) -> Option<(u16, &'static str)>;

/// Root document and login pass, so that the client detects the dialect; other requests get the gateway's answer.
const GATEWAYS: [(&str, Answer); 6] = [
    ("an empty 404", |request| (request.path != "/").then_some((404, ""))),
    ("JSON with 404", |request| (request.path != "/").then_some((404, r#"{"message":"no route matched"}"#))),
    ("the form of the API", |request| (request.path != "/").then_some((404, r#"{"message":"Not Found","code":404}"#))),
    ("gone", |request| (request.path != "/").then_some((410, ""))),
    ("an empty list", |request| (request.path != "/").then_some((200, "[]"))),
    ("a page", |request| (request.path != "/").then_some((200, "<html><title>Sign in</title>"))),
];

fn refuses_gateway<T: std::fmt::Debug>(result: Result<T, EngineError>, what: &str) {
    let error = result.expect_err(what);
    assert_eq!(error.failure, EngineFailure::NotEngine, "{what}: {error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("controller.endpoints")), "{what}: {error}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_missing_deleted_or_empty_because_of_a_gateways_answer() {
    for dialect in DIALECTS {
        let fixture = Fixture::new(dialect);
        fixture.resolve(&namespace("red")).await.expect("resolved");
        let (cluster, tenant) = fixture.records("red");
        let graph = graph(&cluster, &tenant);
        let made = fixture.made();
        for (name, answer) in GATEWAYS {
            let engine = engine(Gateway { inner: fixture.mock.clone(), answer });
            let what = |verb: &str| format!("{dialect:?}: {verb} answered with {name}");
            let id = Uuid::from_u128(9);
            refuses_gateway(engine.port(id).await, &what("port"));
            refuses_gateway(engine.host(&id.into()).await, &what("host"));
            refuses_gateway(engine.ports(graph.network.id.subnet(1)).await, &what("pods' ports"));
            refuses_gateway(engine.routers().await, &what("routers"));
            refuses_gateway(engine.provider_candidates().await, &what("provider routers"));
            refuses_gateway(engine.diff_network(&graph.network).await, &what("inspect"));
            refuses_gateway(engine.delete_port(&PortRemoval::by_id(id)).await, &what("delete a port"));
            let mut port = pod_port(&fixture, &graph, 9, "at0");
            port.addresses.push([10, 128, 0, 10].into());
            let several = PortRemoval { id, port: Some(port), verified: true };
            refuses_gateway(engine.delete_port(&several).await, &what("delete a port with several addresses"));
            refuses_gateway(engine.delete_network(&graph.network).await, &what("remove"));
        }
        assert_eq!(fixture.made(), made, "{dialect:?}");
    }
}

/// Transit link and subnets of a tenant are free only when its objects are gone.
#[tokio::test(start_paused = true)]
async fn a_tenant_is_not_deleted_by_a_gateways_word() {
    for dialect in DIALECTS {
        for (name, answer) in GATEWAYS {
            let fixture = Fixture::new(dialect);
            fixture.resolve(&namespace("red")).await.expect("resolved");
            let (made, keys) = (fixture.made(), fixture.keys());
            let engine = engine(Gateway { inner: fixture.mock.clone(), answer });
            let admin = Admin { store: &fixture.store, engine: &engine, config: &fixture.config };
            let (_, tenant) = fixture.records("red");
            let how = Deletion { request_lifetime: std::time::Duration::ZERO, force: true };
            let error = admin::delete(&admin, &tenant.name, how, |_| {}).await.expect_err(name);
            assert!(matches!(error, TenantError::Engine { .. }), "{dialect:?}: {name}: {error}");
            assert_eq!(error.class(), Class::Unavailable, "{dialect:?}: {name}");
            assert_eq!((fixture.made(), fixture.keys()), (made, keys), "{dialect:?}: {name}: nothing is freed");
            let planned = admin::plan(&admin, &tenant.name).await;
            assert!(matches!(planned, Err(TenantError::Engine { .. })), "{dialect:?}: {name}: {planned:?}");
        }
    }
}
