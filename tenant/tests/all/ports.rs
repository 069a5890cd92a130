//! What the audit asks the controller.

use atoll_network::Engine;

use crate::fixture::{DIALECTS, Fixture, graph, namespace, pod_port};

#[tokio::test]
async fn the_ports_of_a_bridge_are_those_of_its_pods() {
    for dialect in DIALECTS {
        let fixture = Fixture::new(dialect);
        let engine = fixture.engine();
        fixture.resolve(&namespace("red")).await.expect("resolved");
        let (cluster, tenant) = fixture.records("red");
        let graph = graph(&cluster, &tenant);
        let [absent, subnet] = [9, 1].map(|ordinal| graph.network.id.subnet(ordinal));
        assert!(engine.ports(absent).await.expect("asked").is_empty(), "{dialect:?}: no such bridge");
        assert!(engine.ports(subnet).await.expect("asked").is_empty(), "{dialect:?}: the router's port is no pod's");
        let port = pod_port(&fixture, &graph, 99, "at0123456789ab");
        engine.ensure_port(&port).await.expect("made");
        assert_eq!(engine.ports(subnet).await.expect("asked"), [port.id], "{dialect:?}");
    }
}
