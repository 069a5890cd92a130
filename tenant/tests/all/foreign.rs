//! Objects with an id of Atoll's and another owner: plan, apply and remove report them and do not change them. In each
//! case one ownership field alone differs.

use atoll_mock_controller::Dialect;
use atoll_model::topology::{Kind, Topology};
use atoll_network::{DriftKind, Engine, EngineFailure, Network, NetworkNextHop, NetworkRoute, PortRemoval};
use atoll_sdn_client::Resource;
use atoll_sdn_client::{Client, api};
use atoll_testkit::controller::InProcess;
use uuid::Uuid;

use crate::fixture::{DIALECTS, Fixture, Graph, built, client, pod_port};

/// The objects of another owner, by ids of its own.
struct Foreign {
    router: Uuid,
    bridge: Uuid,
    chain: Uuid,
    /// A port of the router.
    port: Uuid,
}

async fn create<O: api::ApiObject>(client: &Client<InProcess>, object: &O) {
    client.create(object).await.expect("created");
}

fn router(id: Uuid) -> api::Router {
    let (id, tenant_id, name) = (Some(id), Some("another-owner".to_owned()), Some("theirs".to_owned()));
    api::Router { id, tenant_id, name, ..api::Router::default() }
}

fn bridge(id: Uuid) -> api::Bridge {
    let (id, tenant_id, name) = (Some(id), Some("another-owner".to_owned()), Some("theirs".to_owned()));
    api::Bridge { id, tenant_id, name, ..api::Bridge::default() }
}

fn chain(id: Uuid) -> api::Chain {
    let (id, tenant_id, name) = (Some(id), Some("another-owner".to_owned()), Some("theirs".to_owned()));
    api::Chain { id, tenant_id, name, ..api::Chain::default() }
}

fn router_port(id: Uuid, router: Uuid) -> api::Port {
    api::Port {
        id: Some(id),
        device_id: Some(router),
        kind: Some("Router".to_owned()),
        network_address: Some("10.0.0.0".to_owned()),
        network_length: Some(24),
        port_address: Some("10.0.0.1".to_owned()),
        ..api::Port::default()
    }
}

fn bridge_port(id: Uuid, bridge: Uuid) -> api::Port {
    api::Port { id: Some(id), device_id: Some(bridge), kind: Some("Bridge".to_owned()), ..api::Port::default() }
}

impl Foreign {
    async fn new(client: &Client<InProcess>) -> Self {
        let [id, of_bridge, of_chain, port] = [(); 4].map(|()| Uuid::new_v4());
        create(client, &router(id)).await;
        create(client, &bridge(of_bridge)).await;
        create(client, &chain(of_chain)).await;
        create(client, &router_port(port, id)).await;
        Self { router: id, bridge: of_bridge, chain: of_chain, port }
    }
}

/// Puts an object of another owner in the place of one of our objects; returns that object's kind and id.
type Usurp = for<'a> fn(&'a Fixture, &'a Graph, &'a Foreign) -> futures_util::future::LocalBoxFuture<'a, (Kind, Uuid)>;

fn first<'a>(ids: impl IntoIterator<Item = &'a Uuid>) -> Uuid {
    *ids.into_iter().next().expect("at least one")
}

/// The ports of our graph that belong to a bridge, to the tenant's router, and to the provider's router.
fn ports(graph: &Graph) -> [Uuid; 3] {
    let of = |wanted: &dyn Fn(Uuid) -> bool| {
        first(graph.objects.ports.iter().filter(|(_, port)| wanted(port.device.id())).map(|(id, _)| id))
    };
    let (bridges, routers) = (&graph.objects.bridges, &graph.objects.routers);
    [
        of(&|device| bridges.contains_key(&device)),
        of(&|device| routers.contains_key(&device)),
        of(&|device| !bridges.contains_key(&device) && !routers.contains_key(&device)),
    ]
}

/// Each kind of object, in the place of ours. The flag: only a controller that takes our ids for routes can have it.
fn cases() -> Vec<(&'static str, bool, Usurp)> {
    vec![
        ("a router of another owner", false, |fixture, graph, _| {
            Box::pin(async {
                let (client, id) = (client(fixture), first(graph.objects.routers.keys()));
                client.delete(Resource::Router, id).await.expect("deleted");
                create(&client, &router(id)).await;
                (Kind::Router, id)
            })
        }),
        ("a bridge of another owner", false, |fixture, graph, _| {
            Box::pin(async {
                let (client, id) = (client(fixture), first(graph.objects.bridges.keys()));
                client.delete(Resource::Bridge, id).await.expect("deleted");
                create(&client, &bridge(id)).await;
                (Kind::Bridge, id)
            })
        }),
        ("a chain of another owner", false, |fixture, graph, _| {
            Box::pin(async {
                let (client, id) = (client(fixture), first(graph.objects.chains.keys()));
                client.delete(Resource::Chain, id).await.expect("deleted");
                create(&client, &chain(id)).await;
                (Kind::Chain, id)
            })
        }),
        ("a bridge's port on another bridge", false, |fixture, graph, foreign| {
            Box::pin(async {
                let (client, [id, ..]) = (client(fixture), ports(graph));
                client.delete(Resource::Port, id).await.expect("deleted");
                create(&client, &bridge_port(id, foreign.bridge)).await;
                (Kind::Port, id)
            })
        }),
        ("the router's port on another router", false, |fixture, graph, foreign| {
            Box::pin(async {
                let (client, [_, id, _]) = (client(fixture), ports(graph));
                let there: api::Port = client.get(id).await.expect("answered").expect("there");
                client.delete(Resource::Port, id).await.expect("deleted");
                create(&client, &api::Port { device_id: Some(foreign.router), peer_id: None, ..there }).await;
                (Kind::Port, id)
            })
        }),
        ("the provider's port on another router", false, |fixture, graph, foreign| {
            Box::pin(async {
                let (client, [.., id]) = (client(fixture), ports(graph));
                let there: api::Port = client.get(id).await.expect("answered").expect("there");
                client.delete(Resource::Port, id).await.expect("deleted");
                create(&client, &api::Port { device_id: Some(foreign.router), peer_id: None, ..there }).await;
                (Kind::Port, id)
            })
        }),
        ("a port of the other kind on a device of that kind", false, |fixture, graph, foreign| {
            Box::pin(async {
                let (client, [.., id]) = (client(fixture), ports(graph));
                client.delete(Resource::Port, id).await.expect("deleted");
                create(&client, &bridge_port(id, foreign.bridge)).await;
                (Kind::Port, id)
            })
        }),
        ("the provider's port linked to another", false, |fixture, graph, foreign| {
            Box::pin(async {
                let (client, [.., id]) = (client(fixture), ports(graph));
                client.unlink(id).await.expect("unlinked");
                client.link(foreign.port, id).await.expect("linked");
                (Kind::Link, id)
            })
        }),
        ("a rule in another chain", false, |fixture, graph, foreign| {
            Box::pin(async {
                let (client, (_, ours)) = (client(fixture), graph.objects.chains.iter().next().expect("a chain"));
                let rule = ours.rules.last().expect("a rule");
                client.delete(Resource::Rule, rule.id).await.expect("deleted");
                create(&client, &api::Rule::from_topology(foreign.chain, 1, rule)).await;
                (Kind::Rule, rule.id)
            })
        }),
        ("a route of another router", true, |fixture, graph, foreign| {
            Box::pin(async {
                let client = client(fixture);
                let [_, uplink, _] = ports(graph);
                let (id, route) = graph.objects.routes.iter().find(|(_, r)| r.router != uplink).expect("a route");
                client.delete(Resource::Route, *id).await.expect("deleted");
                let theirs = api::Route {
                    router_id: Some(foreign.router),
                    next_hop_port: Some(foreign.port),
                    next_hop_gateway: None,
                    ..api::Route::from_topology(*id, route, atoll_sdn_client::dialect::Dialect::V5)
                };
                create(&client, &theirs).await;
                (Kind::Route, *id)
            })
        }),
    ]
}

/// All objects, without those that a foreign object with an id of ours can take along.
fn there(fixture: &Fixture) -> Topology {
    fixture.mock.controller().follow()
}

#[tokio::test]
async fn a_foreign_object_with_our_id_is_reported_and_left_alone() {
    for dialect in DIALECTS {
        for (what, chosen_ids_only, usurp) in cases() {
            if chosen_ids_only && dialect == Dialect::V1 {
                continue;
            }
            let (fixture, graph) = built(dialect).await;
            let foreign = Foreign::new(&client(&fixture)).await;
            let (kind, id) = usurp(&fixture, &graph, &foreign).await;
            let context = format!("{dialect:?}: {what}: {kind} {id}");
            let before = there(&fixture);
            let engine = fixture.engine();

            let findings = engine.diff_network(&graph.network).await.expect("inspected");
            let found = findings.iter().find(|finding| (&finding.kind, finding.id) == (&kind.to_string(), id));
            let verdict = found.map(|finding| &finding.difference);
            assert!(matches!(verdict, Some(DriftKind::Foreign(_))), "{context}: a plan reports {verdict:?}");
            assert_eq!(there(&fixture), before, "{context}: a plan changes nothing");

            // What is missing beside it may be made; it stays as it is.
            let error = engine.ensure_network(&graph.network).await.expect_err(&context);
            assert_eq!(error.failure, EngineFailure::Conflict, "{context}: {error}");
            assert!(error.to_string().contains(&id.to_string()), "{context}: names it: {error}");
            assert_eq!(only(&there(&fixture), id), only(&before, id), "{context}: applying touched it");

            // A rule goes with its chain, which is ours or not, and is never deleted by its id.
            if kind != Kind::Rule {
                let before = there(&fixture);
                let removed = engine.delete_network(&graph.network).await;
                if goes_by_its_id(&graph, kind, id) {
                    let error = removed.expect_err(&context);
                    assert_eq!(error.failure, EngineFailure::Conflict, "{context}: {error}");
                    assert!(error.to_string().contains(&id.to_string()), "{context}: names it: {error}");
                    assert_eq!(there(&fixture), before, "{context}: nothing is deleted, neither theirs nor ours");
                } else {
                    assert_eq!(only(&there(&fixture), id), only(&before, id), "{context}: removing touched it");
                }
            }
        }
    }
}

/// Removing deletes devices, chains and ports of other devices by their ids; all else goes with its parent.
fn goes_by_its_id(graph: &Graph, kind: Kind, id: Uuid) -> bool {
    let [.., provider] = ports(graph);
    matches!(kind, Kind::Router | Kind::Bridge | Kind::Chain) || id == provider
}

/// The object of this id, as text; empty when there is none.
fn only(topology: &Topology, id: Uuid) -> String {
    let Topology { routers, bridges, ports, routes, chains, .. } = topology;
    let rule = chains.values().flat_map(|chain| &chain.rules).find(|rule| rule.id == id);
    let places = [
        routers.get(&id).map(|router| format!("{router:?}")),
        bridges.get(&id).map(|bridge| format!("{bridge:?}")),
        ports.get(&id).map(|port| format!("{port:?}")),
        routes.get(&id).map(|route| format!("{route:?}")),
        chains.get(&id).map(|chain| format!("{chain:?}")),
        rule.map(|rule| format!("{rule:?}")),
    ];
    places.into_iter().flatten().collect()
}

#[tokio::test]
async fn a_static_route_of_another_router_is_reported_and_not_changed() {
    let (fixture, graph) = built(Dialect::V5).await;
    let client = client(&fixture);
    let foreign = Foreign::new(&client).await;
    let destination = "10.9.0.0/16".parse().expect("valid");
    let route = NetworkRoute { destination, next_hop: NetworkNextHop::Blackhole };
    let with = Network { routes: vec![route], ..graph.network.clone() };
    let mut objects = atoll_midonet::objects(&with).expect("it is of IPv4").routes;
    objects.retain(|id, _| !graph.objects.routes.contains_key(id));
    let (id, object) = objects.into_iter().next().expect("a route");
    let theirs = api::Route {
        router_id: Some(foreign.router),
        ..api::Route::from_topology(id, &object, atoll_sdn_client::dialect::Dialect::V5)
    };
    create(&client, &theirs).await;
    // It was taken away from the tenant: nothing else of the network goes.
    let before = there(&fixture);
    let error = fixture.engine().delete_routes(&graph.network, &[route]).await.expect_err("not ours");
    assert_eq!(error.failure, EngineFailure::Conflict, "{error}");
    assert!(error.to_string().contains(&id.to_string()), "{error}");
    assert_eq!(there(&fixture), before);
}

#[tokio::test]
async fn a_port_with_a_pods_id_is_deleted_only_when_it_is_a_pods() {
    for dialect in DIALECTS {
        let (fixture, graph) = built(dialect).await;
        let client = client(&fixture);
        let (engine, foreign) = (fixture.engine(), Foreign::new(&client).await);
        let spec = pod_port(&fixture, &graph, 99, "at0123456789ab");
        let (bridge, host) = (spec.subnet.object(), fixture.mock.controller().settings().host);
        let plain = bridge_port(spec.id, bridge);
        let bind = async |interface: &str| {
            client.bind(spec.id, host, interface).await.expect("bound");
        };
        let gone = async |context: &str| {
            engine.delete_port(&PortRemoval::by_id(spec.id)).await.expect("answered");
            assert!(!there(&fixture).ports.contains_key(&spec.id), "{dialect:?}: {context} is a pod's and goes");
        };
        let stays = async |context: &str| {
            let before = there(&fixture);
            engine.delete_port(&PortRemoval::by_id(spec.id)).await.expect("it is no pod's, so no pod's port is left");
            assert_eq!(there(&fixture), before, "{dialect:?}: {context} is not ours to delete");
            assert_eq!(
                engine.ensure_port(&spec).await.expect_err("reported").failure,
                EngineFailure::Conflict,
                "{context}"
            );
            assert_eq!(there(&fixture), before, "{dialect:?}: {context} is not ours to take");
            client.delete(Resource::Port, spec.id).await.expect("deleted by its owner");
        };

        engine.ensure_port(&spec).await.expect("ensured");
        gone("what an ADD made").await;
        create(&client, &plain).await;
        gone("what an ADD left unbound").await;
        create(&client, &plain).await;
        bind("at0123456789ab").await;
        gone("a port on an interface of ours").await;

        create(&client, &router_port(spec.id, foreign.router)).await;
        stays("a router's port").await;
        create(&client, &plain).await;
        client.link(foreign.port, spec.id).await.expect("linked");
        stays("a port that is linked to another").await;
        create(&client, &plain).await;
        bind("tap0123456789a").await;
        stays("a port on a foreign interface").await;
        create(&client, &api::Port { vif_id: Some(Uuid::from_u128(7)), ..plain.clone() }).await;
        stays("a port with a foreign vifId").await;
    }
}
