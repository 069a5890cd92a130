//! The provider router: an existing one is adopted, a missing one is made, and neither is changed by a repetition.

use atoll_mock_controller::Dialect;
use atoll_model::error::{Class, Classify};
use atoll_testkit::controller::InProcess;
use atoll_testkit::fault::{Fault, FaultPlan};
use atoll_testkit::store::FaultyStore;
use atoll_testkit::transport::FaultyTransport;

use atoll_records::{ClusterRecord, ProviderRecord, Uplink};
use atoll_sdn_client::Resource;

use atoll_sdn_client::{Client, ClientSettings, api};
use atoll_store::Store;
use atoll_tenant::TenantError;
use atoll_tenant::admin::{self, InitRequest, Initialised, ProviderChoice};
use atoll_tenant::controller::{Applied, Controller};
use atoll_tenant::graph::provider_graph;
use uuid::Uuid;

use crate::world::{DIALECTS, World, engine, namespace, provider};

type Outcome = Result<(Initialised, Option<Applied>), TenantError>;

async fn init(world: &World, provider: ProviderChoice) -> Outcome {
    let engine = world.engine();
    init_with(&world.store, &engine, world, provider).await
}

async fn init_with(
    store: &impl Store,
    controller: &impl Controller,
    world: &World,
    provider: ProviderChoice,
) -> Outcome {
    admin::init(store, controller, &world.config, &InitRequest { new_epoch: false, provider }).await
}

fn client(world: &World) -> Client<InProcess> {
    Client::new(world.mock.clone(), ClientSettings::default())
}

async fn router(world: &World, id: u128, name: &str) -> Uuid {
    let router = api::Router {
        id: Some(Uuid::from_u128(id)),
        tenant_id: Some("admin".to_owned()),
        name: Some(name.to_owned()),
        ..api::Router::default()
    };
    client(world).create(&router).await.expect("created");
    Uuid::from_u128(id)
}

fn uplinks(world: &World, interfaces: &[&str]) -> ProviderChoice {
    let host = world.mock.controller().settings().host;
    let uplink = |(n, interface): (u8, &&str)| Uplink {
        address: format!("198.51.100.{n}/24").parse().expect("valid"),
        gateway: [198, 51, 100, 1].into(),
        host,
        interface: interface.parse().expect("valid"),
    };
    ProviderChoice::Made(ProviderRecord { uplinks: (2..).zip(interfaces).map(uplink).collect() })
}

fn assert_made(world: &World, cluster: &ClusterRecord, context: &str) {
    let wanted = provider_graph(cluster).expect("it is ours").objects;
    let made = world.made();
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
        let world = World::new(dialect);
        let edge = router(&world, 5, "Edge").await;
        for (name, found) in [("Missing", 0), ("00000000-0000-0000-0000-000000000009", 0)] {
            let error = init(&world, ProviderChoice::Adopted(name.to_owned())).await.expect_err("absent");
            assert!(matches!(&error, TenantError::NoRouter { found: f, .. } if f.len() == found), "{error}");
            assert_eq!(error.class(), Class::Config);
        }
        let twin = router(&world, 6, "Edge").await;
        let error = init(&world, ProviderChoice::Adopted("Edge".to_owned())).await.expect_err("ambiguous");
        assert!(
            error.to_string().contains(&edge.to_string()) && error.to_string().contains(&twin.to_string()),
            "{error}"
        );
        assert!(world.store.dump().is_empty(), "a refusal writes nothing");
        client(&world).delete(Resource::Router, twin).await.expect("deleted");

        for name in ["Edge".to_owned(), edge.to_string().to_uppercase(), edge.to_string()] {
            let (initialised, applied) = init(&world, ProviderChoice::Adopted(name)).await.expect("adopted");
            assert_eq!((initialised.record().provider_router, applied), (edge, None));
        }
        // What was chosen stays.
        let other = init(&world, ProviderChoice::Adopted(provider().to_string())).await.expect_err("another");
        assert!(matches!(other, TenantError::OtherProvider { made: false, .. }), "{other}");
        let other = init(&world, uplinks(&world, &["eth1"])).await.expect_err("ours");
        assert!(matches!(other, TenantError::OtherProvider { made: false, .. }), "{other}");
        init(&world, ProviderChoice::Configured).await.expect("as it is");
    }
}

#[tokio::test]
async fn a_configured_router_that_is_not_there_is_not_the_beginning_of_a_cluster() {
    let mut world = World::new(Dialect::V5);
    world.config.provider_router = Some(Uuid::from_u128(9));
    let error = init(&world, ProviderChoice::Configured).await.expect_err("absent");
    assert!(matches!(error, TenantError::NoRouter { .. }), "{error}");
    let error = init(&world, uplinks(&world, &["eth1"])).await.expect_err("both");
    assert!(matches!(error, TenantError::Setting { setting: "providerRouter", .. }), "{error}");
    world.config.provider_router = Some(provider());
    init(&world, ProviderChoice::Configured).await.expect("there");
}

#[tokio::test]
async fn a_router_of_our_own_is_made_once_repaired_and_leads_to_its_uplinks() {
    for dialect in DIALECTS {
        let world = World::new(dialect);
        let wanted = || uplinks(&world, &["eth1", "eth2"]);
        let (initialised, applied) = init(&world, wanted()).await.expect("made");
        let cluster = initialised.record().clone();
        assert_eq!(applied.expect("ours").created, 1 + 2 + 2, "{dialect:?}: router, ports, default routes");
        assert_made(&world, &cluster, "made");
        let port = world.made().ports.into_values().next().expect("one");
        assert!(port.binding.is_some(), "{dialect:?}: bound to its host");

        let (again, applied) = init(&world, wanted()).await.expect("again");
        assert!(matches!(again, Initialised::There(_)));
        assert_eq!(applied.map(|applied| (applied.created, applied.updated)), Some((0, 0)), "{dialect:?}");
        let error = init(&world, uplinks(&world, &["eth1"])).await.expect_err("others");
        assert!(matches!(error, TenantError::OtherProvider { made: true, .. }), "{error}");

        // A port is gone: only `init` repairs it.
        let lost = *world.made().ports.keys().next().expect("one");
        client(&world).delete(Resource::Port, lost).await.expect("deleted");
        let (_, applied) = init(&world, ProviderChoice::Configured).await.expect("repaired");
        assert_eq!(applied.expect("ours").created, 2, "{dialect:?}: port and route");
        assert_made(&world, &cluster, "repaired");

        // Tenants link to it.
        let place = world.resolve(&namespace("red")).await.expect("resolved");
        assert_eq!(place.cluster.record.provider_router, cluster.provider_router);
        let linked = world.made().ports.into_values().filter(|port| port.device.id() == cluster.provider_router);
        assert_eq!(linked.count(), 3, "{dialect:?}: two uplinks and a tenant");
    }
}

#[tokio::test(start_paused = true)]
async fn wherever_making_it_fails_the_next_init_completes_it() {
    let mut points = 0;
    for dialect in DIALECTS {
        let effects = {
            let (world, plan) = (World::new(dialect), FaultPlan::none());
            plan.run(disturbed(&world, &plan)).await.expect("no call dies").expect("nothing goes wrong");
            plan.passed()
        };
        for (at, effect) in effects.iter().enumerate() {
            for fault in Fault::ALL {
                let context = format!("{dialect:?}: {fault:?} at effect {at} ({effect})");
                let (world, plan) = (World::new(dialect), FaultPlan::none());
                plan.arm(at, fault);
                drop(plan.run(Box::pin(disturbed(&world, &plan))).await);
                plan.reset();
                points += 1;
                let (initialised, _) =
                    init(&world, uplinks(&world, &["eth1"])).await.unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_made(&world, initialised.record(), &context);
                plan.deliver_late().await;
                let (late, _) = init(&world, ProviderChoice::Configured)
                    .await
                    .unwrap_or_else(|error| panic!("late: {context}: {error}"));
                assert_eq!(late.record(), initialised.record(), "late: {context}");
                if dialect == Dialect::V5 {
                    assert_made(&world, late.record(), &format!("late: {context}"));
                }
            }
        }
    }
    println!("provider router: {points} points covered");
}

async fn disturbed(world: &World, plan: &FaultPlan) -> Outcome {
    let store = FaultyStore::new(world.store.clone(), plan.clone());
    let controller = engine(FaultyTransport::<InProcess>::new(world.mock.clone(), plan.clone()));
    init_with(&store, &controller, world, uplinks(world, &["eth1"])).await
}
