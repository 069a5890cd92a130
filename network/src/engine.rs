//! The trait that every engine implements.

use std::future::Future;
use std::time::Duration;

use atoll_model::ids::{ClusterId, HostId, IfName};
use uuid::Uuid;

use crate::capabilities::Capabilities;
use crate::drift::Drift;
use crate::error::EngineError;
use crate::host_side::{DatapathNeeds, HostSide, HostToPodPort, TunnelEnd};
use crate::network::{Network, NetworkId, NetworkRoute, SubnetId};
use crate::port::{PodPort, PortRemoval, PortState, WriterEpoch};
use crate::provider::{ProviderCandidate, ProviderNetwork};

/// What applying or deleting did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Objects that were missing.
    pub created: usize,
    /// Objects that differed and were updated.
    pub updated: usize,
    /// Objects that were as they should be.
    pub kept: usize,
    /// Objects that were deleted.
    pub deleted: usize,
    /// Requests that had to wait for each other.
    pub rounds: usize,
}

/// A host as the engine shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostState {
    /// Its name.
    pub name: String,
    /// Its agent is connected.
    pub alive: bool,
}

/// Makes networks real.
///
/// # Guarantees
/// - Every method is idempotent. To resume an interrupted call, call again. Deleting an absent object succeeds.
/// - Ids are derived. No method looks up an object by its name.
/// - An object with an id of ours that belongs to another owner is reported and never changed.
/// - Absence ("none", an empty list, a successful deletion) is believed only from the engine itself, never from a gateway or
///   from a server at a wrong path, because an address is released on such an answer ([`EngineFailure::NotEngine`]).
/// - Every future is `Send`: a controller that runs for long can use an engine from several threads.
///
/// [`EngineFailure::NotEngine`]: crate::error::EngineFailure::NotEngine
pub trait Engine: Send + Sync {
    /// The engine's name in the cluster's record and in the configuration.
    fn name(&self) -> &'static str;

    /// What the engine can do. Asked of the server where it depends on it.
    fn capabilities(&self) -> impl Future<Output = Result<Capabilities, EngineError>> + Send;

    /// Makes a provider router of the cluster's own, with its uplinks.
    fn ensure_provider(&self, provider: &ProviderNetwork) -> impl Future<Output = Result<Applied, EngineError>> + Send;

    /// Every router of the engine, to find the one that the operator names.
    fn routers(&self) -> impl Future<Output = Result<Vec<ProviderCandidate>, EngineError>> + Send;

    /// The routers that could be the provider router when the operator names none.
    fn provider_candidates(&self) -> impl Future<Output = Result<Vec<ProviderCandidate>, EngineError>> + Send;

    /// Deletes the removed routes of `network`, then makes everything of it exist as described.
    fn ensure_network(&self, network: &Network) -> impl Future<Output = Result<Applied, EngineError>> + Send;

    /// The same for several networks, for each of them a result in its place. One that cannot be made does not stop the others.
    /// An engine for which each change is expensive makes them together.
    fn ensure_networks(&self, networks: &[Network]) -> impl Future<Output = Vec<Result<Applied, EngineError>>> + Send {
        async move {
            let mut applied = Vec::with_capacity(networks.len());
            for network in networks {
                applied.push(self.ensure_network(network).await);
            }
            applied
        }
    }

    /// Compares every object of `network` and changes nothing: what [`Engine::ensure_network`] would change.
    fn diff_network(&self, network: &Network) -> impl Future<Output = Result<Vec<Drift>, EngineError>> + Send;

    /// Deletes everything of `network`, so that no step leaves a reference to a deleted object.
    fn delete_network(&self, network: &Network) -> impl Future<Output = Result<Applied, EngineError>> + Send;

    /// Deletes what `stale` has and `current` has not: objects that a writer made from an older record. `None`: the network
    /// does not exist any more.
    fn withdraw_network(
        &self,
        stale: &Network,
        current: Option<&Network>,
    ) -> impl Future<Output = Result<Applied, EngineError>> + Send;

    /// Deletes what belongs to one subnet of `network`.
    fn delete_subnet(
        &self,
        network: &Network,
        ordinal: u32,
    ) -> impl Future<Output = Result<Applied, EngineError>> + Send;

    /// Deletes these routes of the network's router.
    fn delete_routes(
        &self,
        network: &Network,
        routes: &[NetworkRoute],
    ) -> impl Future<Output = Result<Applied, EngineError>> + Send;

    /// Makes a pod's port exist as described. [`EngineFailure::Absent`]: its subnet or host does not exist.
    ///
    /// [`EngineFailure::Absent`]: crate::error::EngineFailure::Absent
    fn ensure_port(&self, port: &PodPort) -> impl Future<Output = Result<PortState, EngineError>> + Send;

    /// Waits until the packets of a port are forwarded, at most `within`. `seen`: what [`Engine::ensure_port`] returned.
    /// Returns the last state; none: the port was deleted meanwhile. It returns early when the port is not as described
    /// ([`PodPort::difference`]).
    fn wait_for_port(
        &self,
        port: &PodPort,
        seen: PortState,
        within: Duration,
    ) -> impl Future<Output = Result<Option<PortState>, EngineError>> + Send;

    /// Reads a port; none: it does not exist.
    fn port(&self, id: Uuid) -> impl Future<Output = Result<Option<PortState>, EngineError>> + Send;

    /// The ids of the pods' ports of a subnet. None when the subnet does not exist.
    fn ports(&self, subnet: SubnetId) -> impl Future<Output = Result<Vec<Uuid>, EngineError>> + Send;

    /// Deletes a pod's port. A port of this id that is not a pod's is logged and left alone.
    ///
    /// Its packets cease some time after this returns, and do not begin again. On its host they cease as soon as its interface
    /// is deleted, whatever the engine does.
    fn delete_port(&self, port: &PortRemoval) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Deletes ports of a node so that no request with an older writer epoch can make one of them afterwards, however late a
    /// server executes it. An engine without epochs only deletes them: its callers wait for the maximum request lifetime.
    fn fence(
        &self,
        cluster: ClusterId,
        writer: &WriterEpoch,
        ports: &[PortRemoval],
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Whether earlier requests fail: those for ports after [`Engine::fence`], and those for a network after a newer record
    /// of it was applied, or deleted parts or all of it. Such an engine never forgets a request, so that waiting would not help, and its
    /// deletions compare the claim. Otherwise requests may take effect until the maximum request lifetime has passed.
    fn fences(&self) -> bool;

    /// Makes sure that no other host accepts packets of this host's pods, at most `within`. An engine that forwards nothing for a
    /// port that was deleted, wherever its host is, has nothing to do.
    fn cut_off(&self, host: &HostId, within: Duration) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Connects the host end of a port's veth, which exists where [`Engine::host_side`] says. A host end that was connected
    /// by an earlier call is connected anew.
    fn plug(&self, port: &PodPort) -> impl Future<Output = Result<DatapathNeeds, EngineError>> + Send;

    /// Connects the interface behind a subnet's [`HostToPodPort`]. One that was connected by an earlier call is connected anew.
    fn plug_host_to_pod(
        &self,
        host: &HostId,
        port: &HostToPodPort,
        interface: &IfName,
    ) -> impl Future<Output = Result<DatapathNeeds, EngineError>> + Send;

    /// Disconnects a host end of this machine. One that is not connected, or not ours, is left alone.
    fn unplug(&self, interface: &IfName) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// The interfaces of this machine that are connected as host ends of ours; none where nothing has to be connected.
    fn plugged(&self) -> impl Future<Output = Result<Vec<IfName>, EngineError>> + Send;

    /// The id of a host as the engine writes it. Pure.
    ///
    /// # Errors
    /// [`EngineFailure::Settings`]: no host of this engine can have such an id.
    ///
    /// [`EngineFailure::Settings`]: crate::error::EngineFailure::Settings
    fn host_id(&self, given: &HostId) -> Result<HostId, EngineError>;

    /// The id of this machine's host, as the engine's agent has recorded it here.
    ///
    /// # Errors
    /// [`EngineFailure::Settings`]: there is no such record, or it cannot be read. [`EngineFailure::Unreachable`]: the agent's
    /// database on this machine does not answer.
    ///
    /// [`EngineFailure::Unreachable`]: crate::error::EngineFailure::Unreachable
    /// [`EngineFailure::Settings`]: crate::error::EngineFailure::Settings
    fn own_host_id(&self) -> impl Future<Output = Result<HostId, EngineError>> + Send;

    /// This machine's end of the engine's tunnels, as its agent has recorded it here; none: it records none.
    fn tunnel(&self) -> impl Future<Output = Result<Option<TunnelEnd>, EngineError>> + Send;

    /// Reads a host; none: the engine does not know it.
    fn host(&self, id: &HostId) -> impl Future<Output = Result<Option<HostState>, EngineError>> + Send;

    /// Where host ends of a network's pods belong on this machine. Pure.
    fn host_side(&self, network: NetworkId) -> HostSide;

    /// The port of a subnet by which this machine reaches its own pods, if the machine has to make what stands behind it. None:
    /// the engine's agent does it, or the engine cannot. Pure.
    fn host_to_pod_port(&self, subnet: SubnetId) -> Option<HostToPodPort>;

    /// Every place on this machine where host ends of pods can be.
    fn host_sides(&self) -> Vec<HostSide>;
}
