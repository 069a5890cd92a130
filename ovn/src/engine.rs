//! The engine.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use atoll_model::ids::{ClusterId, HostId, IfName};
use atoll_model::sync::locked as lock;
use atoll_network::{
    Applied, Capabilities, DatapathNeeds, Drift, Engine, EngineError, EngineFailure, HostSide, HostState,
    HostToPodPort, Network, NetworkId, NetworkRoute, NetworkSubnet, PodPort, PortLocation, PortRemoval, PortState,
    ProviderCandidate, ProviderNetwork, SubnetId, TunnelEnd, WriterEpoch,
};
use uuid::Uuid;

use crate::error::{NORTHBOUND, SWITCH, engine_error, failed};
use crate::ovsdb::{Database, DatabaseError, Freshness, Outcome, RefusalKind, RowOperation};
use crate::rows::{host_to_pod_port, subnet_rows};
use crate::switch::{Switch, Use};

/// The engine's name in the cluster's record and in the configuration.
pub const NAME: &str = "ovn";

/// How often a change is decided on again when others changed the same rows. Each time one of them got further.
const ATTEMPTS: usize = 16;

/// OVN: networks in its Northbound database, host ends of pods in the node's Open vSwitch.
pub struct Ovn<D> {
    /// Networks and ports.
    pub(crate) northbound: D,
    /// Chassis; none: only this machine's own is known.
    pub(crate) southbound: Option<D>,
    /// This machine's Open vSwitch; none: this machine has no pods.
    pub(crate) switch: Option<Switch<D>>,
    /// The Interface rows that this process made, by port: only they count for readiness.
    pub(crate) plugged: Mutex<BTreeMap<Uuid, Uuid>>,
}

impl<D: Database> Ovn<D> {
    /// An engine over these databases.
    pub fn new(northbound: D, southbound: Option<D>, switch: Option<Switch<D>>) -> Self {
        Self { northbound, southbound, switch, plugged: Mutex::default() }
    }

    /// The bridge to which a port is connected.
    fn bridge(&self, port: Uuid) -> Result<&Switch<D>, EngineError> {
        self.switch.as_ref().ok_or_else(|| {
            let (what, problem) = (format!("connect port {port}"), "this process knows no Open vSwitch");
            engine_error(SWITCH, what, EngineFailure::Settings, problem, "set `ovn.local`")
        })
    }

    /// Reads, so that absence counts.
    pub(crate) async fn read(&self, what: &str, operations: Vec<RowOperation>) -> Result<Vec<Outcome>, EngineError> {
        if operations.is_empty() {
            return Ok(Vec::new());
        }
        self.northbound.transact(operations, Freshness::Current).await.map_err(failed(NORTHBOUND, what))
    }

    /// Writes what was decided from what was read. None: another process was faster, and it is decided again.
    pub(crate) async fn change(
        &self,
        what: &str,
        operations: Vec<RowOperation>,
    ) -> Result<Option<Vec<Outcome>>, EngineError> {
        match self.write(operations).await {
            Ok(outcomes) => Ok(Some(outcomes)),
            Err(error) if is_race(&error) => Ok(None),
            Err(error) => Err(failed(NORTHBOUND, what)(error)),
        }
    }

    /// Writes. The refusal is the caller's to interpret.
    pub(crate) async fn write(&self, operations: Vec<RowOperation>) -> Result<Vec<Outcome>, DatabaseError> {
        self.northbound.transact(operations, Freshness::Any).await
    }
}

/// What the change is based on is not so any more.
fn is_race(error: &DatabaseError) -> bool {
    matches!(error.refusal(), Some(RefusalKind::Unmet | RefusalKind::Duplicate | RefusalKind::Reference))
}

/// The attempts at one change.
pub(crate) struct Rounds<'a> {
    what: &'a str,
    /// How many were begun.
    pub(crate) begun: usize,
}

impl<'a> Rounds<'a> {
    pub(crate) fn of(what: &'a str) -> Self {
        Self { what, begun: 0 }
    }

    /// Begins the next one.
    pub(crate) fn begin(&mut self) -> Result<(), EngineError> {
        if self.begun == ATTEMPTS {
            let message = format!("other processes changed the same rows during each of {ATTEMPTS} attempts");
            return Err(engine_error(NORTHBOUND, self.what, EngineFailure::Busy, message, "try again"));
        }
        self.begun += 1;
        Ok(())
    }
}

impl<D: Database> Engine for Ovn<D> {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn capabilities(&self) -> Result<Capabilities, EngineError> {
        Ok(Capabilities {
            ipv6: true,
            overlapping: true,
            several_uplinks: true,
            checks_hosts: false,
            several_hosts: true,
            // Together with what the plugin makes behind the port of [`Engine::host_to_pod_port`].
            host_to_pod: true,
            pod_names: true,
        })
    }

    async fn ensure_provider(&self, provider: &ProviderNetwork) -> Result<Applied, EngineError> {
        self.make_provider(provider).await
    }

    async fn routers(&self) -> Result<Vec<ProviderCandidate>, EngineError> {
        self.all_routers().await
    }

    async fn provider_candidates(&self) -> Result<Vec<ProviderCandidate>, EngineError> {
        self.possible_providers().await
    }

    async fn ensure_network(&self, network: &Network) -> Result<Applied, EngineError> {
        self.make_network(network).await
    }

    async fn ensure_networks(&self, networks: &[Network]) -> Vec<Result<Applied, EngineError>> {
        self.make_networks(networks).await
    }

    async fn diff_network(&self, network: &Network) -> Result<Vec<Drift>, EngineError> {
        self.compare_network(network).await
    }

    async fn delete_network(&self, network: &Network) -> Result<Applied, EngineError> {
        self.remove_network(network).await
    }

    async fn withdraw_network(&self, stale: &Network, current: Option<&Network>) -> Result<Applied, EngineError> {
        self.withdraw(stale, current).await
    }

    async fn delete_subnet(&self, network: &Network, ordinal: u32) -> Result<Applied, EngineError> {
        let subnet = NetworkSubnet { ordinal, prefixes: Vec::new() };
        let what = format!("delete subnet {ordinal} of tenant {}", network.tenant);
        self.remove_rows(&what, network, &subnet_rows(network, &subnet), None).await
    }

    async fn delete_routes(&self, network: &Network, routes: &[NetworkRoute]) -> Result<Applied, EngineError> {
        self.remove_routes(network, routes).await
    }

    async fn ensure_port(&self, port: &PodPort) -> Result<PortState, EngineError> {
        self.make_port(port).await
    }

    async fn wait_for_port(
        &self,
        port: &PodPort,
        seen: PortState,
        within: Duration,
    ) -> Result<Option<PortState>, EngineError> {
        let row = lock(&self.plugged).get(&port.id).copied();
        let (Some(switch), Some(row)) = (&self.switch, row) else { return self.read_port(port.id).await };
        let active = switch.wait_for(row, within).await?;
        Ok(Some(PortState { active, ..seen }))
    }

    async fn port(&self, id: Uuid) -> Result<Option<PortState>, EngineError> {
        self.read_port(id).await
    }

    async fn ports(&self, subnet: SubnetId) -> Result<Vec<Uuid>, EngineError> {
        self.list_ports(subnet).await
    }

    async fn delete_port(&self, port: &PortRemoval) -> Result<(), EngineError> {
        self.remove_port(port).await
    }

    async fn cut_off(&self, host: &HostId, within: Duration) -> Result<(), EngineError> {
        Ovn::cut_off(self, host, within).await
    }

    fn fences(&self) -> bool {
        true
    }

    async fn plugged(&self) -> Result<Vec<IfName>, EngineError> {
        match &self.switch {
            Some(switch) => switch.plugged().await,
            None => Ok(Vec::new()),
        }
    }

    fn host_id(&self, given: &HostId) -> Result<HostId, EngineError> {
        // A chassis may have any name.
        Ok(given.clone())
    }

    async fn own_host_id(&self) -> Result<HostId, EngineError> {
        self.own_chassis().await
    }

    async fn fence(&self, cluster: ClusterId, writer: &WriterEpoch, ports: &[PortRemoval]) -> Result<(), EngineError> {
        self.raise_epoch(cluster, writer, ports).await
    }

    async fn plug(&self, port: &PodPort) -> Result<DatapathNeeds, EngineError> {
        let (row, needs) = self.bridge(port.id)?.plug(&port.location, port.id, Use::Pod).await?;
        lock(&self.plugged).insert(port.id, row);
        Ok(needs)
    }

    async fn plug_host_to_pod(
        &self,
        host: &HostId,
        port: &HostToPodPort,
        interface: &IfName,
    ) -> Result<DatapathNeeds, EngineError> {
        let location = PortLocation { host: host.clone(), interface: interface.clone() };
        Ok(self.bridge(port.id)?.plug(&location, port.id, Use::HostToPod).await?.1)
    }

    async fn unplug(&self, interface: &IfName) -> Result<(), EngineError> {
        match &self.switch {
            Some(switch) => switch.unplug(interface).await,
            None => Ok(()),
        }
    }

    async fn tunnel(&self) -> Result<Option<TunnelEnd>, EngineError> {
        match &self.switch {
            Some(switch) => switch.tunnel().await.map(Some),
            None => Ok(None),
        }
    }

    async fn host(&self, id: &HostId) -> Result<Option<HostState>, EngineError> {
        self.chassis(id).await
    }

    fn host_side(&self, _: NetworkId) -> HostSide {
        HostSide::Host
    }

    fn host_to_pod_port(&self, subnet: SubnetId) -> Option<HostToPodPort> {
        Some(host_to_pod_port(subnet))
    }

    fn host_sides(&self) -> Vec<HostSide> {
        vec![HostSide::Host]
    }
}
