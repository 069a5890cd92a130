//! The engine for controllers with MidoNet's REST API, 1.9 and 5.x.
//!
//! | module | what |
//! |---|---|
//! | `apply` | walks a graph level by level, and removes one |
//! | `inspect` | compares a graph with the controller and changes nothing |
//! | `repair` | one object: creates it, or reads it and updates what differs |
//! | `rules` | the rules of a chain, which have an order |
//! | `static_entries` | further addresses of a port, as static entries of its bridge's tables |
//! | `ownership` | whether an object with an id of ours is ours |
//!
//! # Guarantees
//! - Creating is tried first, so that a new tenant costs one request for each object.
//! - An object that exists is compared. Where the API supports it, the object is updated in place; otherwise it is deleted
//!   and created again.
//! - An object with an id of ours that belongs to another owner is reported and never changed.
//! - Applying is idempotent: an interrupted apply is continued by applying again.

mod apply;
mod inspect;
mod ownership;
mod repair;
mod rules;
mod static_entries;
mod step;

use atoll_model::port_security::PortSecurity;
use atoll_model::topology::{Binding, Device, Port};
use atoll_sdn_client::Resource;
use atoll_sdn_client::request::Scope;
use atoll_sdn_client::transport::Transport;
use atoll_sdn_client::{Client, ClientError, Ensured, ErrorClass, api};
use uuid::Uuid;

use crate::controller::{
    Applied, Controller, ControllerError, ControllerFailure, Drift, HostState, PortSpec, PortState, ProviderCandidate,
    StaticEntries,
};
use crate::graph::Graph;

/// The text in the name of the provider router, in upper or lower case.
const PROVIDER: &str = "provider router";

/// The engine for MidoNet's REST API.
pub struct MidoNet<T> {
    client: Client<T>,
}

impl<T> Clone for MidoNet<T> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone() }
    }
}

impl<T: Transport> MidoNet<T> {
    /// An engine that uses `client`.
    pub fn new(client: Client<T>) -> Self {
        Self { client }
    }
}

impl<T: Transport> Controller for MidoNet<T> {
    async fn provider_candidates(&self) -> Result<Vec<ProviderCandidate>, ControllerError> {
        let routers = self.routers().await?;
        Ok(routers.into_iter().filter(|router| router.name.to_lowercase().contains(PROVIDER)).collect())
    }

    async fn routers(&self) -> Result<Vec<ProviderCandidate>, ControllerError> {
        let routers = self.client.list::<api::Router>(&Scope::All).await?;
        let candidate = |router: api::Router| {
            let (name, tenant) = (router.name.unwrap_or_default(), router.tenant_id.unwrap_or_default());
            Some(ProviderCandidate { id: router.id?, name, tenant })
        };
        Ok(routers.into_iter().filter_map(candidate).collect())
    }

    async fn apply(&self, graph: &Graph) -> Result<Applied, ControllerError> {
        apply::apply(&self.client, &graph.objects).await
    }

    async fn inspect(&self, graph: &Graph) -> Result<Vec<Drift>, ControllerError> {
        inspect::inspect(&self.client, &graph.objects).await
    }

    async fn remove(&self, graph: &Graph) -> Result<Applied, ControllerError> {
        apply::remove(&self.client, &graph.objects).await
    }

    async fn ensure_port(&self, spec: &PortSpec) -> Result<PortState, ControllerError> {
        let binding = Binding { host: spec.host, interface: spec.interface.to_string() };
        let port = Port {
            device: Device::Bridge { id: spec.bridge, vlan: None },
            up: true,
            inbound: None,
            outbound: None,
            peer: None,
            binding: Some(binding.clone()),
            vif_id: Some(spec.security.to_vif_id()),
            other: Vec::new(),
        };
        let wanted = api::Port::from_topology(spec.id, &port);
        match self.client.ensure_port(&wanted).await? {
            // `active` is unknown at this point; the caller polls `port()`.
            Ensured::Created | Ensured::Kept => {
                Ok(PortState { device: spec.bridge, binding: Some(binding), active: false })
            }
            Ensured::Differs(differences) => Err(ownership::conflict(format!("port {}", spec.id), &differences)),
        }
    }

    async fn ensure_static_entries(&self, entries: &StaticEntries) -> Result<(), ControllerError> {
        // The MAC first: otherwise the router would answer ARP for an address whose MAC is on no port. An entry has no fields besides
        // its identity, so nothing in it can differ.
        self.client.ensure(&static_entries::mac(entries)).await?;
        for entry in static_entries::addresses(entries) {
            self.client.ensure(&entry).await?;
        }
        Ok(())
    }

    async fn delete_static_entries(&self, entries: &StaticEntries) -> Result<(), ControllerError> {
        for entry in static_entries::addresses(entries) {
            self.client.remove(&entry).await?;
        }
        Ok(self.client.remove(&static_entries::mac(entries)).await?)
    }

    async fn port(&self, id: Uuid) -> Result<Option<PortState>, ControllerError> {
        let Some(port) = self.client.get::<api::Port>(id).await? else { return Ok(None) };
        let binding = port.host_id.zip(port.interface_name);
        Ok(Some(PortState {
            device: port.device_id.unwrap_or_default(),
            binding: binding.map(|(host, interface)| Binding { host, interface }),
            active: port.active,
        }))
    }

    async fn host(&self, id: Uuid) -> Result<Option<HostState>, ControllerError> {
        let host = self.client.get::<api::Host>(id).await?;
        Ok(host.map(|host| HostState { name: host.name.unwrap_or_default(), alive: host.alive }))
    }

    async fn pod_ports(&self, bridge: Uuid) -> Result<Vec<Uuid>, ControllerError> {
        let ports = match self.client.list::<api::Port>(&Scope::Of(Resource::Bridge, bridge)).await {
            Err(error) if error.class == ErrorClass::Absent => Vec::new(),
            ports => ports?,
        };
        Ok(ports.into_iter().filter(|port| port.peer_id.is_none()).filter_map(|port| port.id).collect())
    }

    async fn delete_port(&self, id: Uuid) -> Result<(), ControllerError> {
        let Some(found) = self.client.get::<api::Port>(id).await? else { return Ok(()) };
        if let Some(whose) = foreign(&found) {
            // No pod uses it: there is nothing to wait for, and it is not ours to delete.
            tracing::warn!(port = %id, whose, "a port with the id of a pod's port is left alone: it is not a pod's");
            return Ok(());
        }
        self.delete_seen_port(id).await
    }

    async fn delete_seen_port(&self, id: Uuid) -> Result<(), ControllerError> {
        // Deleting a port deletes its binding in either dialect: MidoNet REST API, section "Port".
        Ok(self.client.delete(Resource::Port, id).await?)
    }
}

/// Why a port with the id of a pod's port is not a pod's; none: it is. A pod's port is one of a bridge, it is linked to no
/// other port, and it is bound to an interface with a name of ours or its `vifId` holds a port security. A
/// port that is bound to nothing and has no `vifId` is what an ADD on 1.9 left half way.
fn foreign(port: &api::Port) -> Option<String> {
    if port.kind.as_deref().is_some_and(|kind| kind.ends_with("Router")) {
        return Some(format!("it is a port of router {}", port.device_id.unwrap_or_default()));
    }
    if let Some(peer) = port.peer_id {
        return Some(format!("it is linked to port {peer}"));
    }
    if port.vif_id.and_then(PortSecurity::from_vif_id).is_some() {
        return None;
    }
    match (port.host_id, port.interface_name.as_deref(), port.vif_id) {
        (Some(_), Some(interface), _) if is_host_interface(interface) => None,
        (Some(host), Some(interface), _) => Some(format!("it is bound to interface {interface} of host {host}")),
        (_, _, Some(vif)) => Some(format!("its vifId is {vif}")),
        _ => None,
    }
}

/// A name as `Attachment::host_interface` makes them.
fn is_host_interface(name: &str) -> bool {
    name.strip_prefix("at").is_some_and(|rest| rest.len() == 12 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// An error of the client, as one of the engine.
impl From<ClientError> for ControllerError {
    fn from(error: ClientError) -> Self {
        let failure = match error.class {
            ErrorClass::Absent => ControllerFailure::Absent,
            ErrorClass::Vague | ErrorClass::NotApi => ControllerFailure::NotApi,
            ErrorClass::SameExists | ErrorClass::OtherExists => ControllerFailure::Conflict,
            ErrorClass::Invalid => ControllerFailure::Invalid,
            ErrorClass::Denied => ControllerFailure::Denied,
            ErrorClass::Busy => ControllerFailure::Busy,
            ErrorClass::Unreachable => ControllerFailure::Unreachable,
            ErrorClass::Broken => ControllerFailure::Broken,
            ErrorClass::Settings => ControllerFailure::Settings,
        };
        let object = format!("{} {}", error.operation, error.object);
        let whole = error.to_string();
        let message = whole.strip_prefix(&format!("{object}: ")).unwrap_or(&whole).to_owned();
        Self { object, failure, message }
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::attachment::Attachment;
    use atoll_model::ids::{ContainerId, IfName, NetworkName, NodeName};

    use super::is_host_interface;

    #[test]
    fn the_interfaces_of_attachments_and_no_others_are_known_by_their_names() {
        for container in ["a", "b", "c", "d"] {
            let attachment = Attachment {
                node: NodeName::new("n1").expect("valid"),
                network: NetworkName::new("atoll").expect("valid"),
                container: ContainerId::new(container).expect("valid"),
                interface: IfName::new("eth0").expect("valid"),
            };
            assert!(is_host_interface(attachment.host_interface().as_str()));
        }
        for name in ["eth0", "at0", "at0123456789abc", "at0123456789aX", "tap0123456789a"] {
            assert!(!is_host_interface(name), "{name}");
        }
    }
}
