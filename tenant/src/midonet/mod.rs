//! The engine for controllers that speak MidoNet's REST API, 1.9 and 5.x.
//!
//! | module | what |
//! |---|---|
//! | `apply` | walks a graph wave by wave, and removes one |
//! | `inspect` | looks at a graph and changes nothing |
//! | `mend` | one object: create it, or look at it and mend what differs |
//! | `rules` | the rules of a chain, which have an order |
//! | `seeds` | further addresses of a port, as entries of its bridge's tables |
//!
//! Promises: creating is tried first, so that a new tenant costs one request an object; what is there already is
//! compared and mended in place where the API can, made anew where it cannot; an object of our id that belongs to
//! somebody else is reported and never touched. Resuming at any point is applying again.

mod apply;
mod inspect;
mod mend;
mod rules;
mod seeds;

use atoll_model::topology::{Binding, Device, Port};
use atoll_sdn_client::dialect::Resource;
use atoll_sdn_client::request::Scope;
use atoll_sdn_client::transport::Transport;
use atoll_sdn_client::{Client, ClientError, Ensured, ErrorClass, wire};
use uuid::Uuid;

use crate::controller::{
    Applied, Controller, ControllerError, Failure, Finding, HostState, PortSpec, PortState, ProviderCandidate, Seeds,
};
use crate::graph::Graph;

/// What the name of a router must contain, in any case, to be taken for the provider router.
const PROVIDER: &str = "provider router";

/// See the module.
pub struct MidoNet<T> {
    client: Client<T>,
}

impl<T> Clone for MidoNet<T> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone() }
    }
}

impl<T: Transport> MidoNet<T> {
    /// An engine that speaks through `client`.
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
        let routers = self.client.list::<wire::Router>(&Scope::All).await?;
        let candidate = |router: wire::Router| {
            let (name, tenant) = (router.name.unwrap_or_default(), router.tenant_id.unwrap_or_default());
            Some(ProviderCandidate { id: router.id?, name, tenant })
        };
        Ok(routers.into_iter().filter_map(candidate).collect())
    }

    async fn apply(&self, graph: &Graph) -> Result<Applied, ControllerError> {
        apply::apply(&self.client, &graph.objects).await
    }

    async fn inspect(&self, graph: &Graph) -> Result<Vec<Finding>, ControllerError> {
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
            vif: Some(spec.vif.to_uuid()),
            other: Vec::new(),
        };
        let wanted = wire::Port::from_topology(spec.id, &port);
        match self.client.ensure_port(&wanted).await? {
            // Whether its packets flow, a look will tell: nobody waits for it here.
            Ensured::Created | Ensured::Kept => {
                Ok(PortState { device: spec.bridge, binding: Some(binding), active: false })
            }
            Ensured::Differs(differences) => Err(mend::conflict(format!("port {}", spec.id), &differences)),
        }
    }

    async fn ensure_seeds(&self, seeds: &Seeds) -> Result<(), ControllerError> {
        // The MAC first: an address whose MAC is nowhere would be answered for by the router.
        self.ensure_seed(&seeds::mac(seeds)).await?;
        for entry in seeds::addresses(seeds) {
            self.ensure_seed(&entry).await?;
        }
        Ok(())
    }

    async fn delete_seeds(&self, seeds: &Seeds) -> Result<(), ControllerError> {
        for entry in seeds::addresses(seeds) {
            self.client.remove(&entry).await?;
        }
        Ok(self.client.remove(&seeds::mac(seeds)).await?)
    }

    async fn port(&self, id: Uuid) -> Result<Option<PortState>, ControllerError> {
        let Some(port) = self.client.get::<wire::Port>(id).await? else { return Ok(None) };
        let binding = port.host_id.zip(port.interface_name);
        Ok(Some(PortState {
            device: port.device_id.unwrap_or_default(),
            binding: binding.map(|(host, interface)| Binding { host, interface }),
            active: port.active,
        }))
    }

    async fn host(&self, id: Uuid) -> Result<Option<HostState>, ControllerError> {
        let host = self.client.get::<wire::Host>(id).await?;
        Ok(host.map(|host| HostState { name: host.name.unwrap_or_default(), alive: host.alive }))
    }

    async fn pod_ports(&self, bridge: Uuid) -> Result<Vec<Uuid>, ControllerError> {
        let ports = match self.client.list::<wire::Port>(&Scope::Of(Resource::Bridge, bridge)).await {
            Err(error) if error.class == ErrorClass::Absent => Vec::new(),
            ports => ports?,
        };
        Ok(ports.into_iter().filter(|port| port.peer_id.is_none()).filter_map(|port| port.id).collect())
    }

    async fn delete_port(&self, id: Uuid) -> Result<(), ControllerError> {
        // A port takes its binding along in either dialect: MidoNet REST API, section "Port".
        Ok(self.client.delete(Resource::Port, id).await?)
    }
}

/// A failure of the client, in the words of the seam.
impl From<ClientError> for ControllerError {
    fn from(error: ClientError) -> Self {
        let failure = match error.class {
            ErrorClass::Absent => Failure::Absent,
            ErrorClass::Vague | ErrorClass::NotApi => Failure::NotApi,
            ErrorClass::SameExists | ErrorClass::OtherExists => Failure::Conflict,
            ErrorClass::Invalid => Failure::Invalid,
            ErrorClass::Denied => Failure::Denied,
            ErrorClass::Busy => Failure::Busy,
            ErrorClass::Unreachable => Failure::Unreachable,
            ErrorClass::Broken => Failure::Broken,
            ErrorClass::Settings => Failure::Settings,
        };
        let object = format!("{} {}", error.operation, error.object);
        let whole = error.to_string();
        let message = whole.strip_prefix(&format!("{object}: ")).unwrap_or(&whole).to_owned();
        Self { object, failure, message }
    }
}
