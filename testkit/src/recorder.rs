//! An engine without a server: it writes down what it would do and answers as if it had done it. It compiles against the
//! trait alone. Its hosts have names, as those of OVN have.

use std::sync::Mutex;
use std::time::Duration;

use atoll_model::ids::{ClusterId, HostId, IfName};
use atoll_network::{
    Applied, Capabilities, DatapathNeeds, Drift, Engine, EngineError, HostSide, HostState, HostToPodPort, Network,
    NetworkId, NetworkRoute, PodPort, PortRemoval, PortState, ProviderCandidate, ProviderNetwork, SubnetId, TunnelEnd,
    WriterEpoch,
};
use uuid::Uuid;

/// Writes every change down.
#[derive(Debug, Default)]
pub struct Recorder {
    changes: Mutex<Vec<String>>,
}

impl Recorder {
    /// What it would have done, in order.
    ///
    /// # Panics
    /// A thread panicked while it wrote.
    pub fn changes(&self) -> Vec<String> {
        self.changes.lock().expect("no panic while it is held").clone()
    }

    fn record(&self, change: String) {
        self.changes.lock().expect("no panic while it is held").push(change);
    }
}

impl Engine for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }

    async fn capabilities(&self) -> Result<Capabilities, EngineError> {
        Ok(Capabilities { ipv6: true, ..Capabilities::default() })
    }

    async fn ensure_provider(&self, provider: &ProviderNetwork) -> Result<Applied, EngineError> {
        self.record(format!("make the provider router of cluster {}", provider.cluster));
        Ok(Applied::default())
    }

    async fn routers(&self) -> Result<Vec<ProviderCandidate>, EngineError> {
        Ok(Vec::new())
    }

    async fn provider_candidates(&self) -> Result<Vec<ProviderCandidate>, EngineError> {
        Ok(Vec::new())
    }

    async fn ensure_network(&self, network: &Network) -> Result<Applied, EngineError> {
        self.record(format!("make the network of {}", network.tenant));
        Ok(Applied { created: 1, ..Applied::default() })
    }

    async fn diff_network(&self, _: &Network) -> Result<Vec<Drift>, EngineError> {
        Ok(Vec::new())
    }

    async fn delete_network(&self, network: &Network) -> Result<Applied, EngineError> {
        self.record(format!("delete the network of {}", network.tenant));
        Ok(Applied { deleted: 1, ..Applied::default() })
    }

    async fn withdraw_network(&self, stale: &Network, _: Option<&Network>) -> Result<Applied, EngineError> {
        self.record(format!("withdraw what only revision {} of {} has", stale.revision, stale.tenant));
        Ok(Applied::default())
    }

    async fn delete_subnet(&self, network: &Network, ordinal: u32) -> Result<Applied, EngineError> {
        self.record(format!("delete subnet {ordinal} of {}", network.tenant));
        Ok(Applied::default())
    }

    async fn delete_routes(&self, network: &Network, routes: &[NetworkRoute]) -> Result<Applied, EngineError> {
        self.record(format!("delete {} routes of {}", routes.len(), network.tenant));
        Ok(Applied::default())
    }

    async fn ensure_port(&self, port: &PodPort) -> Result<PortState, EngineError> {
        self.record(format!("make port {}", port.id));
        let location = (port.location.host.to_string(), port.location.interface.to_string());
        Ok(PortState { belongs_to: port.subnet.object(), location: Some(location), active: true })
    }

    async fn wait_for_port(&self, _: &PodPort, seen: PortState, _: Duration) -> Result<Option<PortState>, EngineError> {
        Ok(Some(seen))
    }

    async fn port(&self, _: Uuid) -> Result<Option<PortState>, EngineError> {
        Ok(None)
    }

    async fn ports(&self, _: SubnetId) -> Result<Vec<Uuid>, EngineError> {
        Ok(Vec::new())
    }

    async fn delete_port(&self, port: &PortRemoval) -> Result<(), EngineError> {
        self.record(format!("delete port {}", port.id));
        Ok(())
    }

    async fn fence(&self, _: ClusterId, writer: &WriterEpoch, ports: &[PortRemoval]) -> Result<(), EngineError> {
        self.record(format!("fence node {} and delete {} ports", writer.node, ports.len()));
        Ok(())
    }

    async fn plug(&self, port: &PodPort) -> Result<DatapathNeeds, EngineError> {
        self.record(format!("connect {}", port.location.interface));
        Ok(DatapathNeeds::default())
    }

    async fn plug_host_to_pod(&self, _: &HostId, _: &HostToPodPort, _: &IfName) -> Result<DatapathNeeds, EngineError> {
        Ok(DatapathNeeds::default())
    }

    async fn unplug(&self, interface: &IfName) -> Result<(), EngineError> {
        self.record(format!("disconnect {interface}"));
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
        Ok(given.clone())
    }

    async fn own_host_id(&self) -> Result<HostId, EngineError> {
        HostId::new("node-1.example").map_err(|error| unreachable!("{error}"))
    }

    async fn tunnel(&self) -> Result<Option<TunnelEnd>, EngineError> {
        Ok(None)
    }

    async fn host(&self, _: &HostId) -> Result<Option<HostState>, EngineError> {
        Ok(None)
    }

    fn host_side(&self, _: NetworkId) -> HostSide {
        HostSide::Host
    }

    fn host_to_pod_port(&self, _: SubnetId) -> Option<HostToPodPort> {
        None
    }

    fn host_sides(&self) -> Vec<HostSide> {
        vec![HostSide::Host]
    }
}
