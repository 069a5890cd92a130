//! One type for all engines. A program that is generic over the engine is compiled once for this type, not once for each.

use std::time::Duration;

use atoll_midonet::MidoNet;
use atoll_model::ids::{ClusterId, HostId, IfName};
use atoll_network::{
    Applied, Capabilities, DatapathNeeds, Drift, Engine, EngineError, HostSide, HostState, HostToPodPort, Network,
    NetworkId, NetworkRoute, PodPort, PortRemoval, PortState, ProviderCandidate, ProviderNetwork, SubnetId, TunnelEnd,
    WriterEpoch,
};
use atoll_ovn::Ovn;
use atoll_ovn::ovsdb::Database;
use atoll_sdn_client::transport::Transport;
use uuid::Uuid;

/// The engine that the configuration names.
pub enum AnyEngine<T, D> {
    /// MidoNet's REST API, over a transport.
    MidoNet(MidoNet<T>),
    /// OVN, over its databases.
    Ovn(Ovn<D>),
}

impl<T: Transport, D: Database> Engine for AnyEngine<T, D> {
    fn name(&self) -> &'static str {
        match self {
            Self::MidoNet(engine) => engine.name(),
            Self::Ovn(engine) => engine.name(),
        }
    }

    async fn capabilities(&self) -> Result<Capabilities, EngineError> {
        match self {
            Self::MidoNet(engine) => engine.capabilities().await,
            Self::Ovn(engine) => engine.capabilities().await,
        }
    }

    async fn ensure_provider(&self, provider: &ProviderNetwork) -> Result<Applied, EngineError> {
        match self {
            Self::MidoNet(engine) => engine.ensure_provider(provider).await,
            Self::Ovn(engine) => engine.ensure_provider(provider).await,
        }
    }

    async fn routers(&self) -> Result<Vec<ProviderCandidate>, EngineError> {
        match self {
            Self::MidoNet(engine) => engine.routers().await,
            Self::Ovn(engine) => engine.routers().await,
        }
    }

    async fn provider_candidates(&self) -> Result<Vec<ProviderCandidate>, EngineError> {
        match self {
            Self::MidoNet(engine) => engine.provider_candidates().await,
            Self::Ovn(engine) => engine.provider_candidates().await,
        }
    }

    async fn ensure_network(&self, network: &Network) -> Result<Applied, EngineError> {
        match self {
            Self::MidoNet(engine) => engine.ensure_network(network).await,
            Self::Ovn(engine) => engine.ensure_network(network).await,
        }
    }

    async fn ensure_networks(&self, networks: &[Network]) -> Vec<Result<Applied, EngineError>> {
        match self {
            Self::MidoNet(engine) => engine.ensure_networks(networks).await,
            Self::Ovn(engine) => engine.ensure_networks(networks).await,
        }
    }

    async fn diff_network(&self, network: &Network) -> Result<Vec<Drift>, EngineError> {
        match self {
            Self::MidoNet(engine) => engine.diff_network(network).await,
            Self::Ovn(engine) => engine.diff_network(network).await,
        }
    }

    async fn delete_network(&self, network: &Network) -> Result<Applied, EngineError> {
        match self {
            Self::MidoNet(engine) => engine.delete_network(network).await,
            Self::Ovn(engine) => engine.delete_network(network).await,
        }
    }

    async fn withdraw_network(&self, stale: &Network, current: Option<&Network>) -> Result<Applied, EngineError> {
        match self {
            Self::MidoNet(engine) => engine.withdraw_network(stale, current).await,
            Self::Ovn(engine) => engine.withdraw_network(stale, current).await,
        }
    }

    async fn delete_subnet(&self, network: &Network, ordinal: u32) -> Result<Applied, EngineError> {
        match self {
            Self::MidoNet(engine) => engine.delete_subnet(network, ordinal).await,
            Self::Ovn(engine) => engine.delete_subnet(network, ordinal).await,
        }
    }

    async fn delete_routes(&self, network: &Network, routes: &[NetworkRoute]) -> Result<Applied, EngineError> {
        match self {
            Self::MidoNet(engine) => engine.delete_routes(network, routes).await,
            Self::Ovn(engine) => engine.delete_routes(network, routes).await,
        }
    }

    async fn ensure_port(&self, port: &PodPort) -> Result<PortState, EngineError> {
        match self {
            Self::MidoNet(engine) => engine.ensure_port(port).await,
            Self::Ovn(engine) => engine.ensure_port(port).await,
        }
    }

    async fn wait_for_port(
        &self,
        port: &PodPort,
        seen: PortState,
        within: Duration,
    ) -> Result<Option<PortState>, EngineError> {
        match self {
            Self::MidoNet(engine) => engine.wait_for_port(port, seen, within).await,
            Self::Ovn(engine) => engine.wait_for_port(port, seen, within).await,
        }
    }

    async fn port(&self, id: Uuid) -> Result<Option<PortState>, EngineError> {
        match self {
            Self::MidoNet(engine) => engine.port(id).await,
            Self::Ovn(engine) => engine.port(id).await,
        }
    }

    async fn ports(&self, subnet: SubnetId) -> Result<Vec<Uuid>, EngineError> {
        match self {
            Self::MidoNet(engine) => engine.ports(subnet).await,
            Self::Ovn(engine) => engine.ports(subnet).await,
        }
    }

    async fn delete_port(&self, port: &PortRemoval) -> Result<(), EngineError> {
        match self {
            Self::MidoNet(engine) => engine.delete_port(port).await,
            Self::Ovn(engine) => engine.delete_port(port).await,
        }
    }

    async fn fence(&self, cluster: ClusterId, writer: &WriterEpoch, ports: &[PortRemoval]) -> Result<(), EngineError> {
        match self {
            Self::MidoNet(engine) => engine.fence(cluster, writer, ports).await,
            Self::Ovn(engine) => engine.fence(cluster, writer, ports).await,
        }
    }

    async fn plug(&self, port: &PodPort) -> Result<DatapathNeeds, EngineError> {
        match self {
            Self::MidoNet(engine) => engine.plug(port).await,
            Self::Ovn(engine) => engine.plug(port).await,
        }
    }

    async fn plug_host_to_pod(
        &self,
        host: &HostId,
        port: &HostToPodPort,
        interface: &IfName,
    ) -> Result<DatapathNeeds, EngineError> {
        match self {
            Self::MidoNet(engine) => engine.plug_host_to_pod(host, port, interface).await,
            Self::Ovn(engine) => engine.plug_host_to_pod(host, port, interface).await,
        }
    }

    async fn unplug(&self, interface: &IfName) -> Result<(), EngineError> {
        match self {
            Self::MidoNet(engine) => engine.unplug(interface).await,
            Self::Ovn(engine) => engine.unplug(interface).await,
        }
    }

    async fn cut_off(&self, host: &HostId, within: Duration) -> Result<(), EngineError> {
        match self {
            Self::MidoNet(engine) => engine.cut_off(host, within).await,
            Self::Ovn(engine) => engine.cut_off(host, within).await,
        }
    }

    async fn plugged(&self) -> Result<Vec<IfName>, EngineError> {
        match self {
            Self::MidoNet(engine) => engine.plugged().await,
            Self::Ovn(engine) => engine.plugged().await,
        }
    }

    async fn tunnel(&self) -> Result<Option<TunnelEnd>, EngineError> {
        match self {
            Self::MidoNet(engine) => engine.tunnel().await,
            Self::Ovn(engine) => engine.tunnel().await,
        }
    }

    async fn host(&self, id: &HostId) -> Result<Option<HostState>, EngineError> {
        match self {
            Self::MidoNet(engine) => engine.host(id).await,
            Self::Ovn(engine) => engine.host(id).await,
        }
    }

    fn host_id(&self, given: &HostId) -> Result<HostId, EngineError> {
        match self {
            Self::MidoNet(engine) => engine.host_id(given),
            Self::Ovn(engine) => engine.host_id(given),
        }
    }

    async fn own_host_id(&self) -> Result<HostId, EngineError> {
        match self {
            Self::MidoNet(engine) => engine.own_host_id().await,
            Self::Ovn(engine) => engine.own_host_id().await,
        }
    }

    fn fences(&self) -> bool {
        match self {
            Self::MidoNet(engine) => engine.fences(),
            Self::Ovn(engine) => engine.fences(),
        }
    }

    fn host_side(&self, network: NetworkId) -> HostSide {
        match self {
            Self::MidoNet(engine) => engine.host_side(network),
            Self::Ovn(engine) => engine.host_side(network),
        }
    }

    fn host_to_pod_port(&self, subnet: SubnetId) -> Option<HostToPodPort> {
        match self {
            Self::MidoNet(engine) => engine.host_to_pod_port(subnet),
            Self::Ovn(engine) => engine.host_to_pod_port(subnet),
        }
    }

    fn host_sides(&self) -> Vec<HostSide> {
        match self {
            Self::MidoNet(engine) => engine.host_sides(),
            Self::Ovn(engine) => engine.host_sides(),
        }
    }
}
