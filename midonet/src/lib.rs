//! The engine for controllers that speak MidoNet's REST API, 1.9 and 5.x.
//!
//! | module | content |
//! |---|---|
//! | `lower` | from a network to routers, bridges, ports, routes, chains and rules. Pure |
//! | `role` | the roles of objects, from which their ids derive |
//! | `levels` | the dependency levels of these objects. Pure |
//! | `apply` | creates and updates objects, level by level, and deletes them |
//! | `inspect` | compares objects and changes nothing |
//! | `repair` | one object: creates it, or reads it and updates what differs |
//! | `rules` | the rules of a chain, which have an order |
//! | `pod_port` | a pod's port |
//! | `host_id` | ids of hosts, and the file in which the agent records its own |
//! | `static_entries` | further addresses of a port, as entries of its bridge's tables |
//! | `memory` | what the engine remembers with a tenant's record |
//!
//! # Guarantees
//! - Creating is tried first, so that a new tenant costs one request for each object. An object that exists is compared,
//!   updated in place where the API can, and created again where it cannot.
//! - An object with an id of ours that is not ours is reported and never changed.
//! - An interrupted call is completed by calling again.

mod apply;
mod error;
mod host_id;
mod inspect;
mod levels;
mod lower;
mod memory;
mod ownership;
mod pod_port;
mod repair;
mod role;
mod rules;
mod static_entries;
mod step;

use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_model::derive;
use atoll_model::ids::{ClusterId, HostId, IfName};
use atoll_model::topology::Topology;
use atoll_network::{
    Applied, Capabilities, DatapathNeeds, Drift, Engine, EngineError, HostSide, HostState, HostToPodPort, Network,
    NetworkId, NetworkRoute, PodPort, PortRemoval, PortState, ProviderCandidate, ProviderNetwork, SubnetId, TunnelEnd,
    WriterEpoch,
};
use atoll_node::files::read;
use atoll_sdn_client::Resource;
use atoll_sdn_client::request::Scope;
use atoll_sdn_client::transport::Transport;
use atoll_sdn_client::{Client, Ensured, ErrorClass, api};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use self::error::MidoNetError;
use self::inspect::ObjectDrift;
use self::lower::Lowered;
use self::role::Role;
use self::static_entries::StaticEntries;

/// The engine's name in records and in the configuration.
pub const NAME: &str = "midonet";

/// What the name of a router must contain, in any case, to be taken for the provider router.
const PROVIDER: &str = "provider router";

/// The first pause between two reads of a port; each pause is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_micros(500);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// The objects of the controller that a network becomes. Ports and routes of the provider router are among them.
///
/// # Errors
/// The network has a prefix that MidoNet's API cannot forward.
pub fn objects(network: &Network) -> Result<Topology, EngineError> {
    Ok(lower::network(network)?.objects)
}

/// The objects of a provider router of the cluster's own.
///
/// # Errors
/// The provider router has an address that MidoNet's API cannot forward, or a host id that is not one of MidoNet.
pub fn provider_objects(provider: &ProviderNetwork) -> Result<Topology, EngineError> {
    Ok(lower::provider(provider)?.objects)
}

/// The engine.
pub struct MidoNet<T> {
    client: Client<T>,
    /// Where a local data plane pins the namespaces of its routers.
    router_namespaces: Option<PathBuf>,
}

impl<T> Clone for MidoNet<T> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), router_namespaces: self.router_namespaces.clone() }
    }
}

impl<T: Transport> MidoNet<T> {
    /// An engine that speaks through `client`. Host ends of pods belong in the host's own namespace.
    pub fn new(client: Client<T>) -> Self {
        Self { client, router_namespaces: None }
    }

    /// On this machine a local data plane may pin the namespace of each router as a file in `directory`. Host ends of a
    /// router's pods belong in its namespace if there is one.
    #[must_use]
    pub fn with_router_namespaces(self, directory: PathBuf) -> Self {
        Self { router_namespaces: Some(directory), ..self }
    }

    async fn apply(&self, objects: &Topology) -> Result<Applied, MidoNetError> {
        apply::apply(&self.client, objects).await
    }

    async fn remove(&self, objects: &Topology) -> Result<Applied, MidoNetError> {
        apply::remove(&self.client, objects).await
    }
}

impl<T: Transport> Engine for MidoNet<T> {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn capabilities(&self) -> Result<Capabilities, EngineError> {
        let local = self.client.local_data_plane().await.map_err(MidoNetError::from)?;
        Ok(Capabilities {
            ipv6: false,
            overlapping: true,
            // A local data plane spreads flows over no two routes, and is on one machine.
            several_uplinks: local.is_none(),
            several_hosts: local.is_none(),
            checks_hosts: true,
            host_to_pod: local.is_some_and(|plane| plane.host_to_pod),
            pod_names: false,
        })
    }

    async fn ensure_provider(&self, provider: &ProviderNetwork) -> Result<Applied, EngineError> {
        Ok(self.apply(&lower::provider(provider)?.objects).await?)
    }

    async fn routers(&self) -> Result<Vec<ProviderCandidate>, EngineError> {
        let routers = self.client.list::<api::Router>(&Scope::All).await.map_err(MidoNetError::from)?;
        let candidate = |router: api::Router| {
            let (name, tenant) = (router.name.unwrap_or_default(), router.tenant_id.unwrap_or_default());
            Some(ProviderCandidate { id: router.id?, name, tenant })
        };
        Ok(routers.into_iter().filter_map(candidate).collect())
    }

    async fn provider_candidates(&self) -> Result<Vec<ProviderCandidate>, EngineError> {
        let routers = self.routers().await?;
        Ok(routers.into_iter().filter(|router| router.name.to_lowercase().contains(PROVIDER)).collect())
    }

    async fn ensure_network(&self, network: &Network) -> Result<Applied, EngineError> {
        let removed = match network.removed_routes.as_slice() {
            [] => Applied::default(),
            routes => self.remove(&lower::routes(network, routes)?.objects).await?,
        };
        let applied = self.apply(&lower::network(network)?.objects).await?;
        Ok(Applied { deleted: removed.deleted, rounds: removed.rounds + applied.rounds, ..applied })
    }

    async fn diff_network(&self, network: &Network) -> Result<Vec<Drift>, EngineError> {
        let Lowered { objects, roles } = lower::network(network)?;
        let found = inspect::inspect(&self.client, &objects).await?;
        let drift = |ObjectDrift { id, kind, difference }| Drift {
            kind: kind.to_string(),
            id,
            role: roles.get(&id).map(Role::to_string).unwrap_or_default(),
            difference,
        };
        Ok(found.into_iter().map(drift).collect())
    }

    async fn delete_network(&self, network: &Network) -> Result<Applied, EngineError> {
        Ok(self.remove(&lower::network(network)?.objects).await?)
    }

    async fn withdraw_network(&self, stale: &Network, current: Option<&Network>) -> Result<Applied, EngineError> {
        let stale = lower::network(stale)?;
        let withdrawn = match current {
            Some(current) => stale.without(&lower::network(current)?),
            None => stale.objects,
        };
        Ok(self.remove(&withdrawn).await?)
    }

    async fn delete_subnet(&self, network: &Network, ordinal: u32) -> Result<Applied, EngineError> {
        Ok(self.remove(&lower::subnet(network, ordinal)?.objects).await?)
    }

    async fn delete_routes(&self, network: &Network, routes: &[NetworkRoute]) -> Result<Applied, EngineError> {
        Ok(self.remove(&lower::routes(network, routes)?.objects).await?)
    }

    async fn ensure_port(&self, port: &PodPort) -> Result<PortState, EngineError> {
        let wanted = pod_port::wanted(port)?;
        match self.client.ensure_port(&wanted).await.map_err(MidoNetError::from)? {
            Ensured::Created | Ensured::Kept => {}
            Ensured::Differs(differences) => {
                return Err(ownership::conflict(format!("port {}", port.id), &differences).into());
            }
        }
        if let Some(entries) = StaticEntries::of(port)? {
            // The MAC first: the router would answer for an address whose MAC is behind no port. An entry has no fields
            // besides its identity, so nothing in it can differ.
            self.client.ensure(&static_entries::mac(&entries)).await.map_err(MidoNetError::from)?;
            for entry in static_entries::addresses(&entries) {
                self.client.ensure(&entry).await.map_err(MidoNetError::from)?;
            }
        }
        let location = (port.location.host.to_string(), port.location.interface.to_string());
        // `active` is unknown at this point; `wait_for_port` reads it.
        Ok(PortState { belongs_to: port.subnet.object(), location: Some(location), active: false })
    }

    async fn wait_for_port(
        &self,
        port: &PodPort,
        seen: PortState,
        within: Duration,
    ) -> Result<Option<PortState>, EngineError> {
        let until = Instant::now() + within;
        let (mut state, mut pause) = (seen, Duration::ZERO);
        while port.difference(&state).is_none() && !state.active && Instant::now() + pause < until {
            // The first read is at once: the interface was made meanwhile.
            if !pause.is_zero() {
                sleep(pause).await;
            }
            pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            match self.port(port.id).await? {
                Some(now) => state = now,
                None => return Ok(None),
            }
        }
        Ok(Some(state))
    }

    async fn port(&self, id: Uuid) -> Result<Option<PortState>, EngineError> {
        let Some(port) = self.client.get::<api::Port>(id).await.map_err(MidoNetError::from)? else { return Ok(None) };
        let location = port.host_id.map(|host| host.to_string()).zip(port.interface_name);
        Ok(Some(PortState { belongs_to: port.device_id.unwrap_or_default(), location, active: port.active }))
    }

    async fn ports(&self, subnet: SubnetId) -> Result<Vec<Uuid>, EngineError> {
        let ports = match self.client.list::<api::Port>(&Scope::Of(Resource::Bridge, subnet.object())).await {
            Err(error) if error.class == ErrorClass::Absent => Vec::new(),
            ports => ports.map_err(MidoNetError::from)?,
        };
        // A build that was interrupted may have left the bridge's own port unlinked.
        let network = subnet.network;
        let bridge_port = derive::object(network.cluster, network.incarnation, &Role::BridgePort(subnet.ordinal));
        let ids = ports.into_iter().filter(|port| port.peer_id.is_none()).filter_map(|port| port.id);
        Ok(ids.filter(|id| *id != bridge_port).collect())
    }

    async fn delete_port(&self, removal: &PortRemoval) -> Result<(), EngineError> {
        if let Some(port) = &removal.port
            && let Some(entries) = StaticEntries::of(port)?
        {
            for entry in static_entries::addresses(&entries) {
                self.client.remove(&entry).await.map_err(MidoNetError::from)?;
            }
            self.client.remove(&static_entries::mac(&entries)).await.map_err(MidoNetError::from)?;
        }
        let id = removal.id;
        if !removal.verified {
            let Some(found) = self.client.get::<api::Port>(id).await.map_err(MidoNetError::from)? else {
                return Ok(());
            };
            if let Some(reason) = pod_port::foreign(&found) {
                // No pod sends through it: there is nothing to wait for, and it is not ours to delete.
                tracing::warn!(port = %id, reason, "a port with the id of a pod's port is left alone: it is not a pod's");
                return Ok(());
            }
        }
        // A port takes its binding along in either dialect: MidoNet REST API, section "Port".
        Ok(self.client.delete(Resource::Port, id).await.map_err(MidoNetError::from)?)
    }

    async fn fence(&self, _: ClusterId, _: &WriterEpoch, ports: &[PortRemoval]) -> Result<(), EngineError> {
        for port in ports {
            self.delete_port(port).await?;
        }
        Ok(())
    }

    // MidoNet's agent finds an interface by the name that its port's binding has.
    async fn plug(&self, _: &PodPort) -> Result<DatapathNeeds, EngineError> {
        Ok(DatapathNeeds::default())
    }

    async fn plug_host_to_pod(&self, _: &HostId, _: &HostToPodPort, _: &IfName) -> Result<DatapathNeeds, EngineError> {
        Ok(DatapathNeeds::default())
    }

    async fn unplug(&self, _: &IfName) -> Result<(), EngineError> {
        Ok(())
    }

    async fn cut_off(&self, _: &HostId, _: Duration) -> Result<(), EngineError> {
        Ok(())
    }

    fn fences(&self) -> bool {
        false
    }

    async fn plugged(&self) -> Result<Vec<IfName>, EngineError> {
        Ok(Vec::new())
    }

    fn host_id(&self, given: &HostId) -> Result<HostId, EngineError> {
        host_id::given(given)
    }

    async fn own_host_id(&self) -> Result<HostId, EngineError> {
        host_id::recorded(Path::new(host_id::FILE))
    }

    async fn tunnel(&self) -> Result<Option<TunnelEnd>, EngineError> {
        // Its agents keep tunnels in the controller's zones, and no record on their machine.
        Ok(None)
    }

    async fn host(&self, id: &HostId) -> Result<Option<HostState>, EngineError> {
        let host = self.client.get::<api::Host>(host_id::read(id)?).await.map_err(MidoNetError::from)?;
        Ok(host.map(|host| HostState { name: host.name.unwrap_or_default(), alive: host.alive }))
    }

    fn host_side(&self, network: NetworkId) -> HostSide {
        match &self.router_namespaces {
            Some(directory) => HostSide::NamespaceOrHost(directory.join(network.router().to_string())),
            None => HostSide::Host,
        }
    }

    fn host_to_pod_port(&self, _: SubnetId) -> Option<HostToPodPort> {
        None
    }

    fn host_sides(&self) -> Vec<HostSide> {
        let is_router = |name: &str| Uuid::try_parse(name).is_ok();
        let routers = self.router_namespaces.iter().flat_map(|directory| {
            let names = read::names(directory, is_router).unwrap_or_else(|error| {
                tracing::warn!(%error, path = %directory.display(), "the routers' namespaces cannot be listed");
                Vec::new()
            });
            names.into_iter().map(|name| HostSide::NamespaceOrHost(directory.join(name)))
        });
        std::iter::once(HostSide::Host).chain(routers).collect()
    }
}
