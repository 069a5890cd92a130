//! What the audit asks the controller.

use atoll_model::attachment::Attachment;
use atoll_model::derive::{self, Role};
use atoll_model::ids::{ContainerId, IfName, NetworkName};
use atoll_model::port_security::PortSecurity;
use atoll_tenant::controller::{Controller, PortSpec};
use uuid::Uuid;

use crate::fixture::{DIALECTS, Fixture, namespace};

#[tokio::test]
async fn the_ports_of_a_bridge_are_those_of_its_pods() {
    for dialect in DIALECTS {
        let fixture = Fixture::new(dialect);
        let engine = fixture.engine();
        assert!(engine.pod_ports(Uuid::from_u128(99)).await.expect("asked").is_empty(), "{dialect:?}: no such bridge");
        let place = fixture.resolve(&namespace("red")).await.expect("resolved");
        let (cluster, tenant) = (&place.cluster.record, &place.tenant.record);
        let bridge = derive::object(cluster.id, tenant.incarnation, Role::Bridge(tenant.subnets[0].ordinal));
        assert!(
            engine.pod_ports(bridge).await.expect("asked").is_empty(),
            "{dialect:?}: the router's port is no pod's"
        );
        let attachment = Attachment {
            node: fixture.node.name.clone(),
            network: NetworkName::new("atoll").expect("valid"),
            container: ContainerId::new("c").expect("valid"),
            interface: IfName::new("eth0").expect("valid"),
        };
        let port = PortSpec {
            id: attachment.port(cluster.id),
            bridge,
            host: fixture.mock.controller().settings().host,
            interface: attachment.host_interface(),
            security: PortSecurity { mac: attachment.mac(), address: [10, 128, 0, 9].into(), unique: false },
        };
        engine.ensure_port(&port).await.expect("made");
        assert_eq!(engine.pod_ports(bridge).await.expect("asked"), [port.id], "{dialect:?}");
    }
}
