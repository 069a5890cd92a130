//! The engine: creating, finding, repairing, removing; and which objects it must not change.

use atoll_mock_controller::Dialect;
use atoll_model::port_security::PortSecurity;
use atoll_network::{DriftKind, Engine, EngineFailure, PortRemoval};
use atoll_sdn_client::Resource;
use atoll_sdn_client::api;
use atoll_sdn_client::transport::{ApiRequest, ApiResponse, Transport, TransportError};
use atoll_testkit::cell::SyncCell;
use std::sync::Arc;
use uuid::Uuid;

use crate::fixture::{DIALECTS, Fixture, Graph, Slow, built, client, engine, graph, namespace, pod_port};

#[tokio::test]
async fn applying_twice_is_applying_once() {
    for dialect in DIALECTS {
        let (fixture, graph) = built(dialect).await;
        let again = fixture.engine().ensure_network(&graph.network).await.expect("applied");
        assert_eq!((again.created, again.updated), (0, 0), "{dialect:?}");
        let rules: usize = graph.objects.chains.values().map(|chain| chain.rules.len()).sum();
        let o = &graph.objects;
        let all = o.chains.len() + rules + o.routers.len() + o.bridges.len() + o.ports.len() + o.routes.len();
        assert_eq!(again.kept, all, "{dialect:?}");
        fixture.assert_exactly(&["red"], "twice");
        assert_eq!(fixture.engine().diff_network(&graph.network).await.expect("inspected"), [], "{dialect:?}");
    }
}

#[tokio::test]
async fn a_new_tenant_takes_at_most_six_dependent_rounds() {
    for dialect in DIALECTS {
        let (fixture, graph) = built(dialect).await;
        fixture.engine().delete_network(&graph.network).await.expect("removed");
        let applied = fixture.engine().ensure_network(&graph.network).await.expect("applied");
        assert!(applied.rounds <= 6, "{dialect:?}: {applied:?}");
        assert_eq!((applied.kept, applied.updated), (0, 0), "{dialect:?}");
    }
}

#[tokio::test]
async fn two_builds_at_once_have_the_effect_of_one() {
    for dialect in DIALECTS {
        for seed in 0..40 {
            println!("dialect {dialect:?}, seed {seed}");
            let (fixture, graph) = built(dialect).await;
            fixture.engine().delete_network(&graph.network).await.expect("removed");
            let slow = |n: u64| engine(Slow::new(fixture.mock.clone(), seed * 2 + n));
            let (first, second) = (slow(0), slow(1));
            let (one, two) =
                futures_util::future::join(first.ensure_network(&graph.network), second.ensure_network(&graph.network))
                    .await;
            one.expect("applied");
            two.expect("applied");
            if dialect == Dialect::V5 {
                fixture.assert_exactly(&["red"], "two at once");
            } else {
                // Both may make a route of which 1.9 chooses the id: the same twice, which changes nothing.
                let made = fixture.made();
                let kinds = |routes: &std::collections::BTreeMap<Uuid, atoll_model::topology::Route>| {
                    routes.values().map(|route| format!("{route:?}")).collect::<std::collections::BTreeSet<_>>()
                };
                assert_eq!(kinds(&made.routes), kinds(&graph.objects.routes));
                assert_eq!(made.ports, graph.objects.ports);
                assert_eq!(made.chains, graph.objects.chains);
            }
        }
    }
}

#[tokio::test]
async fn removing_leaves_nothing_and_removing_twice_is_fine() {
    for dialect in DIALECTS {
        let (fixture, graph) = built(dialect).await;
        for round in 0..2 {
            fixture.engine().delete_network(&graph.network).await.expect("removed");
            assert_eq!(fixture.made(), atoll_model::topology::Topology::default(), "{dialect:?}, round {round}");
        }
    }
}

#[tokio::test]
async fn every_object_that_is_deleted_from_outside_is_created_again() {
    for dialect in DIALECTS {
        let (_, sample) = built(dialect).await;
        let o = &sample.objects;
        // 1.9 gives routes its own ids: the one to delete is found below, by its index.
        let kinds = [
            (Resource::Router, o.routers.len()),
            (Resource::Bridge, o.bridges.len()),
            (Resource::Port, o.ports.len()),
            (Resource::Route, o.routes.len()),
            (Resource::Chain, o.chains.len()),
            (Resource::Rule, o.chains.values().map(|chain| chain.rules.len()).sum()),
        ];
        for (resource, count) in kinds {
            for n in 0..count {
                let (fixture, graph) = built(dialect).await;
                let made = fixture.made();
                let victims: Vec<Uuid> = match resource {
                    Resource::Router => made.routers.into_keys().collect(),
                    Resource::Bridge => made.bridges.into_keys().collect(),
                    Resource::Port => made.ports.into_keys().collect(),
                    Resource::Route => made.routes.into_keys().collect(),
                    Resource::Chain => made.chains.into_keys().collect(),
                    _ => made.chains.into_values().flat_map(|chain| chain.rules).map(|rule| rule.id).collect(),
                };
                client(&fixture).delete(resource, victims[n]).await.expect("deleted");
                assert_ne!(fixture.made(), built_topology(&graph), "{dialect:?}: {resource} {n} is gone");
                let findings = fixture.engine().diff_network(&graph.network).await.expect("inspected");
                assert!(
                    findings.iter().any(|finding| finding.difference == DriftKind::Missing),
                    "{dialect:?}: {resource} {n}"
                );
                let applied = fixture.engine().ensure_network(&graph.network).await.expect("applied");
                assert!(applied.created + applied.updated > 0, "{dialect:?}: {resource} {n}: {applied:?}");
                fixture.assert_exactly(&["red"], &format!("{dialect:?}: {resource} {n} was deleted"));
            }
        }
    }
}

fn built_topology(graph: &Graph) -> atoll_model::topology::Topology {
    graph.objects.clone()
}

#[tokio::test]
async fn what_was_changed_from_outside_is_repaired_in_place() {
    for dialect in DIALECTS {
        let (fixture, graph) = built(dialect).await;
        let client = client(&fixture);
        let (router, bridge) = (first(graph.objects.routers.keys()), first(graph.objects.bridges.keys()));

        let mut found: api::Router = client.get(router).await.expect("answered").expect("there");
        found.admin_state_up.0 = false;
        found.outbound_filter_id = None;
        client.update(&found).await.expect("updated");
        let mut found: api::Bridge = client.get(bridge).await.expect("answered").expect("there");
        found.admin_state_up.0 = false;
        client.update(&found).await.expect("updated");
        let mut ports = 0;
        for id in graph.objects.ports.keys() {
            let mut found: api::Port = client.get(*id).await.expect("answered").expect("there");
            found.admin_state_up.0 = false;
            client.update(&found).await.expect("updated");
            ports += 1;
        }
        let findings = fixture.engine().diff_network(&graph.network).await.expect("inspected");
        assert_eq!(findings.len(), 2 + ports, "{dialect:?}: {findings:?}");
        assert!(
            findings.iter().all(|finding| matches!(finding.difference, DriftKind::Differs(_))),
            "{dialect:?}: {findings:?}"
        );
        let applied = fixture.engine().ensure_network(&graph.network).await.expect("applied");
        assert_eq!((applied.created, applied.updated), (0, 2 + ports), "{dialect:?}");
        fixture.assert_exactly(&["red"], "repaired");
    }
}

#[tokio::test]
async fn the_rules_keep_their_order_beside_rules_of_others() {
    for dialect in DIALECTS {
        let (fixture, graph) = built(dialect).await;
        let client = client(&fixture);
        let (chain, rules) = graph
            .objects
            .chains
            .iter()
            .find(|(_, chain)| chain.rules.len() == 3)
            .map(|(id, chain)| (*id, chain.rules.clone()))
            .expect("the outbound chain");
        // A foreign rule is inserted first, and one of Atoll's is deleted: each one in turn.
        for gone in &rules {
            let foreign = api::Rule {
                id: Some(Uuid::new_v4()),
                chain_id: Some(chain),
                kind: Some("accept".to_owned()),
                position: Some(1),
                nw_proto: Some(89),
                ..api::Rule::default()
            };
            client.create(&foreign).await.expect("created");
            client.delete(Resource::Rule, gone.id).await.expect("deleted");
            fixture.engine().ensure_network(&graph.network).await.expect("applied");
            let made = fixture.made().chains[&chain].rules.clone();
            let ours: Vec<_> = made.iter().filter(|rule| Some(rule.id) != foreign.id).cloned().collect();
            assert_eq!(ours, rules, "{dialect:?}");
            assert!(made.iter().any(|rule| Some(rule.id) == foreign.id), "the foreign rule is still there");
            client.delete(Resource::Rule, foreign.id.expect("set")).await.expect("deleted");
        }
    }
}

#[tokio::test]
async fn rules_that_changed_places_are_put_back_in_order() {
    for dialect in DIALECTS {
        let (fixture, graph) = built(dialect).await;
        let client = client(&fixture);
        for (chain, wanted) in &graph.objects.chains {
            for moved in &wanted.rules {
                // The rule goes to the other end of its chain.
                client.delete(Resource::Rule, moved.id).await.expect("deleted");
                let last = moved.id != wanted.rules[wanted.rules.len() - 1].id;
                let position = if last { wanted.rules.len() } else { 1 };
                client.create(&api::Rule::from_topology(*chain, position, moved)).await.expect("created");
                if wanted.rules.len() > 1 {
                    let findings = fixture.engine().diff_network(&graph.network).await.expect("inspected");
                    assert!(!findings.is_empty(), "{dialect:?}: a plan shows it");
                }
                fixture.engine().ensure_network(&graph.network).await.expect("applied");
                fixture.assert_exactly(&["red"], &format!("{dialect:?}: {} was moved", moved.id));
            }
        }
    }
}

#[tokio::test]
async fn a_foreign_object_with_our_id_is_reported_and_not_changed() {
    for dialect in DIALECTS {
        let (fixture, graph) = built(dialect).await;
        let client = client(&fixture);
        fixture.engine().delete_network(&graph.network).await.expect("removed");
        let bridge = first(graph.objects.bridges.keys());
        let foreign = api::Bridge {
            id: Some(bridge),
            tenant_id: Some("another-owner".to_owned()),
            name: Some("theirs".to_owned()),
            ..api::Bridge::default()
        };
        client.create(&foreign).await.expect("created");
        let before: api::Bridge = client.get(bridge).await.expect("answered").expect("there");
        let findings = fixture.engine().diff_network(&graph.network).await.expect("inspected");
        assert!(
            findings.iter().any(|finding| finding.id == bridge && matches!(finding.difference, DriftKind::Foreign(_)))
        );
        let error = fixture.engine().ensure_network(&graph.network).await.expect_err("it is not ours");
        assert_eq!(error.failure, EngineFailure::Conflict, "{error}");
        assert!(error.to_string().contains(&bridge.to_string()), "names the object: {error}");
        assert!(error.to_string().contains("another-owner"), "names its owner: {error}");
        assert_eq!(client.get::<api::Bridge>(bridge).await.expect("answered"), Some(before));
    }
}

#[tokio::test]
async fn a_port_that_is_linked_elsewhere_is_reported_and_untouched() {
    for dialect in DIALECTS {
        let (fixture, graph) = built(dialect).await;
        let client = client(&fixture);
        let (port, _) = graph
            .objects
            .ports
            .iter()
            .find(|(_, port)| graph.objects.bridges.contains_key(&port.device.id()))
            .expect("the bridge's port");
        client.unlink(*port).await.expect("unlinked");
        let foreign = api::Router {
            id: Some(Uuid::new_v4()),
            tenant_id: Some("another-owner".to_owned()),
            name: Some("theirs".to_owned()),
            ..api::Router::default()
        };
        client.create(&foreign).await.expect("created");
        let theirs = api::Port {
            id: Some(Uuid::new_v4()),
            device_id: foreign.id,
            kind: Some("Router".to_owned()),
            network_address: Some("10.0.0.0".to_owned()),
            network_length: Some(24),
            port_address: Some("10.0.0.1".to_owned()),
            ..api::Port::default()
        };
        client.create(&theirs).await.expect("created");
        client.link(theirs.id.expect("set"), *port).await.expect("linked");
        let error = fixture.engine().ensure_network(&graph.network).await.expect_err("linked elsewhere");
        assert_eq!(error.failure, EngineFailure::Conflict, "{dialect:?}: {error}");
        let there: api::Port = client.get(*port).await.expect("answered").expect("there");
        assert_eq!(there.peer_id, theirs.id, "{dialect:?}: untouched");
    }
}

#[tokio::test]
async fn a_pods_port_is_ensured_read_and_deleted() {
    for dialect in DIALECTS {
        let (fixture, graph) = built(dialect).await;
        let (engine, spec) = (fixture.engine(), pod_port(&fixture, &graph, 99, "at0123456789ab"));
        let before = fixture.requests.get();
        for _ in 0..2 {
            let state = engine.ensure_port(&spec).await.expect("ensured");
            assert_eq!(state.belongs_to, spec.subnet.object());
        }
        if dialect == Dialect::V5 {
            let first = fixture.requests.get() - before;
            assert!(first <= 4, "root document, one request, and for the second time a refusal and a read: {first}");
        }
        let state = engine.port(spec.id).await.expect("answered").expect("there");
        assert_eq!((spec.difference(&state), state.active), (None, true));
        let security = PortSecurity { mac: spec.mac, address: [10, 128, 0, 9].into(), unique: false };
        assert_eq!(fixture.made().ports[&spec.id].vif_id, Some(security.to_vif_id()), "its port security");

        let other = pod_port(&fixture, &graph, 99, "at9");
        let error = engine.ensure_port(&other).await.expect_err("bound elsewhere");
        assert_eq!(error.failure, EngineFailure::Conflict, "{dialect:?}: {error}");
        let state = engine.port(spec.id).await.expect("answered").expect("there");
        assert_eq!(spec.difference(&state), None, "{dialect:?}: untouched");

        for _ in 0..2 {
            engine.delete_port(&PortRemoval::by_id(spec.id)).await.expect("deleted");
            assert_eq!(engine.port(spec.id).await.expect("answered"), None);
        }
        fixture.assert_exactly(&["red"], "the port left nothing behind");
    }
}

#[tokio::test]
async fn a_port_whose_bridge_is_gone_is_reported() {
    for dialect in DIALECTS {
        let (fixture, graph) = built(dialect).await;
        let spec = pod_port(&fixture, &graph, 99, "at0123456789ab");
        client(&fixture).delete(Resource::Bridge, spec.subnet.object()).await.expect("deleted");
        let error = fixture.engine().ensure_port(&spec).await.expect_err("no bridge");
        assert_eq!(error.failure, EngineFailure::Absent, "{dialect:?}: {error}");
    }
}

#[tokio::test]
async fn the_provider_router_is_known_by_its_name() {
    let fixture = Fixture::new(Dialect::V5);
    let candidates = fixture.engine().provider_candidates().await.expect("answered");
    assert_eq!(candidates.len(), 1);
    let another = api::Router {
        id: Some(Uuid::from_u128(5)),
        tenant_id: Some("admin".to_owned()),
        name: Some("The PROVIDER Router of the east".to_owned()),
        ..api::Router::default()
    };
    client(&fixture).create(&another).await.expect("created");
    let error = fixture.resolve(&namespace("red")).await.expect_err("two candidates");
    let text = error.to_string();
    assert!(text.contains("of the east") && text.contains(&candidates[0].id.to_string()), "{text}");
}

/// Counts how many requests are on their way at once.
struct Counting<T> {
    inner: T,
    now: SyncCell<usize>,
    most: Arc<SyncCell<usize>>,
}

impl<T: Transport> Transport for Counting<T> {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, TransportError> {
        self.now.set(self.now.get() + 1);
        self.most.set(self.most.get().max(self.now.get()));
        tokio::task::yield_now().await;
        let response = self.inner.send(request).await;
        self.now.set(self.now.get() - 1);
        response
    }
}

#[tokio::test]
async fn a_controller_never_gets_more_than_eight_requests_at_once() {
    let (fixture, _) = built(Dialect::V5).await;
    let (cluster, mut tenant) = fixture.records("red");
    let template = tenant.subnets[0].clone();
    for n in 2..40_u8 {
        let mut subnet = template.clone();
        subnet.ordinal = n.into();
        subnet.prefixes[0].cidr = format!("10.200.{n}.0/24").parse().expect("valid");
        subnet.prefixes[0].gateway = [10, 200, n, 1].into();
        tenant.subnets.push(subnet);
    }
    let most = Arc::new(SyncCell::new(0));
    let counting = Counting { inner: fixture.mock.clone(), now: SyncCell::new(0), most: most.clone() };
    engine(counting).ensure_network(&graph(&cluster, &tenant).network).await.expect("applied");
    assert_eq!(most.get(), 8, "as many as allowed, and no more");
}

fn first<'a>(ids: impl IntoIterator<Item = &'a Uuid>) -> Uuid {
    *ids.into_iter().next().expect("at least one")
}
