//! The provider router: an existing one is adopted, a missing one is made, and neither is changed by a repetition.

use atoll_mock_controller::Dialect;
use atoll_model::error::{Class, Classify};
use atoll_model::ids::HostId;
use atoll_testkit::controller::InProcess;
use atoll_testkit::fault::{Fault, FaultPlan};
use atoll_testkit::store::FaultyStore;
use atoll_testkit::transport::FaultyTransport;

use atoll_records::{ClusterRecord, ProviderRecord, Uplink};
use atoll_sdn_client::Resource;

use atoll_midonet::provider_objects;
use atoll_network::{Applied, Engine};
use atoll_sdn_client::api;
use atoll_store::Store;
use atoll_tenant::TenantError;
use atoll_tenant::admin::{self, InitRequest, Initialised, ProviderChoice};
use atoll_tenant::network::provider as provider_network;
use uuid::Uuid;

use crate::fixture::{DIALECTS, Fixture, client, engine, namespace, provider};

type Outcome = Result<(Initialised, Option<Applied>), TenantError>;

async fn init(fixture: &Fixture, provider: ProviderChoice) -> Outcome {
    let engine = fixture.engine();
    init_with(&fixture.store, &engine, fixture, provider).await
}

async fn init_with(
    store: &impl Store,
    controller: &impl Engine,
    fixture: &Fixture,
    provider: ProviderChoice,
) -> Outcome {
    admin::init(store, controller, &fixture.config, &InitRequest { new_epoch: false, provider }).await
}

async fn router(fixture: &Fixture, id: u128, name: &str) -> Uuid {
    let router = api::Router {
        id: Some(Uuid::from_u128(id)),
        tenant_id: Some("admin".to_owned()),
        name: Some(name.to_owned()),
        ..api::Router::default()
    };
    client(fixture).create(&router).await.expect("created");
    Uuid::from_u128(id)
}

fn uplinks(fixture: &Fixture, interfaces: &[&str]) -> ProviderChoice {
    let host = HostId::from(fixture.mock.controller().settings().host);
    let uplink = |(n, interface): (u8, &&str)| Uplink {
        address: format!("198.51.100.{n}/24").parse().expect("valid"),
        gateway: [198, 51, 100, 1].into(),
        host: host.clone(),
        interface: interface.parse().expect("valid"),
    };
    ProviderChoice::Made(ProviderRecord { uplinks: (2..).zip(interfaces).map(uplink).collect() })
}

fn assert_made(fixture: &Fixture, cluster: &ClusterRecord, context: &str) {
    let wanted = provider_objects(&provider_network(cluster).expect("it is ours")).expect("it is of IPv4");
    let made = fixture.made();
    assert_eq!(made.routers, wanted.routers, "{context}");
    assert_eq!(made.ports, wanted.ports, "{context}");
    let fields = |routes: &std::collections::BTreeMap<Uuid, atoll_model::topology::Route>| {
        let mut fields: Vec<_> = routes.values().map(|route| format!("{route:?}")).collect();
        fields.sort();
        fields
    };
    assert_eq!(fields(&made.routes), fields(&wanted.routes), "{context}");
}

#[tokio::test]
async fn a_router_is_adopted_by_its_id_or_its_name_when_there_is_just_one() {
    for dialect in DIALECTS {
        let fixture = Fixture::new(dialect);
        let edge = router(&fixture, 5, "Edge").await;
        for (name, found) in [("Missing", 0), ("00000000-0000-0000-0000-000000000009", 0)] {
            let error = init(&fixture, ProviderChoice::Adopted(name.to_owned())).await.expect_err("absent");
            assert!(matches!(&error, TenantError::NoRouter { found: f, .. } if f.len() == found), "{error}");
            assert_eq!(error.class(), Class::Config);
        }
        let twin = router(&fixture, 6, "Edge").await;
        let error = init(&fixture, ProviderChoice::Adopted("Edge".to_owned())).await.expect_err("ambiguous");
        assert!(
            error.to_string().contains(&edge.to_string()) && error.to_string().contains(&twin.to_string()),
            "{error}"
        );
        assert!(fixture.store.dump().is_empty(), "a refusal writes nothing");
        client(&fixture).delete(Resource::Router, twin).await.expect("deleted");

        for name in ["Edge".to_owned(), edge.to_string().to_uppercase(), edge.to_string()] {
            let (initialised, applied) = init(&fixture, ProviderChoice::Adopted(name)).await.expect("adopted");
            assert_eq!((initialised.record().provider_router, applied), (edge, None));
        }
        // What was chosen stays.
        let other = init(&fixture, ProviderChoice::Adopted(provider().to_string())).await.expect_err("another");
        assert!(matches!(other, TenantError::OtherProvider { made: false, .. }), "{other}");
        let other = init(&fixture, uplinks(&fixture, &["eth1"])).await.expect_err("ours");
        assert!(matches!(other, TenantError::OtherProvider { made: false, .. }), "{other}");
        init(&fixture, ProviderChoice::Configured).await.expect("as it is");
    }
}

/// A host id of another engine would be found wrong only when the port is made, after the cluster's record.
#[tokio::test]
async fn an_uplink_on_a_host_that_the_engine_cannot_have_is_refused_before_any_effect() {
    let fixture = Fixture::new(Dialect::V5);
    let ProviderChoice::Made(mut provider) = uplinks(&fixture, &["eth1"]) else { panic!("one is made") };
    let canonical = provider.uplinks[0].host.clone();
    provider.uplinks[0].host = HostId::new("node-1.example").expect("valid");
    let error = init(&fixture, ProviderChoice::Made(provider.clone())).await.expect_err("no UUID");
    let texts = (error.to_string(), std::error::Error::source(&error).map(ToString::to_string));
    let expected = "controller: host node-1.example: the id of a MidoNet host is a UUID";
    assert_eq!(texts, ("read the host of an uplink".to_owned(), Some(expected.to_owned())));
    assert_eq!(error.class(), Class::Config);
    assert!(fixture.store.dump().is_empty() && fixture.made() == atoll_model::topology::Topology::default());
    // Another form of the same id is the same host.
    for host in [canonical.as_str().to_uppercase(), canonical.to_string()] {
        provider.uplinks[0].host = HostId::new(host).expect("valid");
        let (initialised, _) = init(&fixture, ProviderChoice::Made(provider.clone())).await.expect("made");
        let recorded = initialised.record().provider.as_ref().expect("ours");
        assert_eq!(recorded.uplinks[0].host, canonical);
    }
}

#[tokio::test]
async fn a_configured_router_that_is_not_there_is_not_the_beginning_of_a_cluster() {
    let mut fixture = Fixture::new(Dialect::V5);
    fixture.config.provider_router = Some(Uuid::from_u128(9));
    let error = init(&fixture, ProviderChoice::Configured).await.expect_err("absent");
    assert!(matches!(error, TenantError::NoRouter { .. }), "{error}");
    let error = init(&fixture, uplinks(&fixture, &["eth1"])).await.expect_err("both");
    assert!(matches!(error, TenantError::Setting { setting: "providerRouter", .. }), "{error}");
    fixture.config.provider_router = Some(provider());
    init(&fixture, ProviderChoice::Configured).await.expect("there");
}

#[tokio::test]
async fn a_router_of_our_own_is_made_once_repaired_and_leads_to_its_uplinks() {
    for dialect in DIALECTS {
        let fixture = Fixture::new(dialect);
        let wanted = || uplinks(&fixture, &["eth1", "eth2"]);
        let (initialised, applied) = init(&fixture, wanted()).await.expect("made");
        let cluster = initialised.record().clone();
        assert_eq!(applied.expect("ours").created, 1 + 2 + 2, "{dialect:?}: router, ports, default routes");
        assert_made(&fixture, &cluster, "made");
        let port = fixture.made().ports.into_values().next().expect("one");
        assert!(port.binding.is_some(), "{dialect:?}: bound to its host");

        let (again, applied) = init(&fixture, wanted()).await.expect("again");
        assert!(matches!(again, Initialised::There(_)));
        assert_eq!(applied.map(|applied| (applied.created, applied.updated)), Some((0, 0)), "{dialect:?}");
        let error = init(&fixture, uplinks(&fixture, &["eth1"])).await.expect_err("others");
        assert!(matches!(error, TenantError::OtherProvider { made: true, .. }), "{error}");

        // A port is gone: only `init` repairs it.
        let lost = *fixture.made().ports.keys().next().expect("one");
        client(&fixture).delete(Resource::Port, lost).await.expect("deleted");
        let (_, applied) = init(&fixture, ProviderChoice::Configured).await.expect("repaired");
        assert_eq!(applied.expect("ours").created, 2, "{dialect:?}: port and route");
        assert_made(&fixture, &cluster, "repaired");

        // Tenants link to it.
        let place = fixture.resolve(&namespace("red")).await.expect("resolved");
        assert_eq!(place.cluster.record.provider_router, cluster.provider_router);
        let linked = fixture.made().ports.into_values().filter(|port| port.device.id() == cluster.provider_router);
        assert_eq!(linked.count(), 3, "{dialect:?}: two uplinks and a tenant");
    }
}

#[tokio::test(start_paused = true)]
async fn wherever_making_it_fails_the_next_init_completes_it() {
    let mut points = 0;
    for dialect in DIALECTS {
        let effects = {
            let (fixture, plan) = (Fixture::new(dialect), FaultPlan::none());
            plan.run(disturbed(&fixture, &plan)).await.expect("no call dies").expect("nothing goes wrong");
            plan.passed()
        };
        for (at, effect) in effects.iter().enumerate() {
            for fault in Fault::ALL {
                let context = format!("{dialect:?}: {fault:?} at effect {at} ({effect})");
                let (fixture, plan) = (Fixture::new(dialect), FaultPlan::none());
                plan.arm(at, fault);
                drop(plan.run(Box::pin(disturbed(&fixture, &plan))).await);
                plan.reset();
                points += 1;
                let (initialised, _) = init(&fixture, uplinks(&fixture, &["eth1"]))
                    .await
                    .unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_made(&fixture, initialised.record(), &context);
                plan.deliver_late().await;
                let (late, _) = init(&fixture, ProviderChoice::Configured)
                    .await
                    .unwrap_or_else(|error| panic!("late: {context}: {error}"));
                assert_eq!(late.record(), initialised.record(), "late: {context}");
                if dialect == Dialect::V5 {
                    assert_made(&fixture, late.record(), &format!("late: {context}"));
                }
            }
        }
    }
    println!("provider router: {points} points covered");
}

async fn disturbed(fixture: &Fixture, plan: &FaultPlan) -> Outcome {
    let store = FaultyStore::new(fixture.store.clone(), plan.clone());
    let controller = engine(FaultyTransport::<InProcess>::new(fixture.mock.clone(), plan.clone()));
    init_with(&store, &controller, fixture, uplinks(fixture, &["eth1"])).await
}
