//! A pod's port: what connects a pod's interface to a subnet.

use std::net::IpAddr;

use atoll_model::attachment::Mac;
use atoll_model::ids::{ClaimId, HostId, IfName, NodeName};
use uuid::Uuid;

use crate::network::SubnetId;

/// A pod's port as it should be. It admits packets from `mac` with a source in `addresses`, and no others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPort {
    /// Its id, derived from the attachment.
    pub id: Uuid,
    /// The claim that it belongs to. Another claim of the same attachment has another one.
    pub claim: ClaimId,
    /// By whose right it is made.
    pub writer: WriterEpoch,
    /// The subnet it belongs to.
    pub subnet: SubnetId,
    /// Where its packets come from.
    pub location: PortLocation,
    /// The MAC of the pod's interface.
    pub mac: Mac,
    /// The pod's addresses, all of them in the subnet; the first is the pod's main address.
    pub addresses: Vec<IpAddr>,
    /// The addresses are unique in the cluster, so that a node may route them.
    pub unique: bool,
    /// Its names in DNS, in lower case. Of two ports of a network that have one name, the one that was made last is found; a
    /// port that is deleted takes only its own names along.
    pub names: Vec<String>,
}

/// The epoch of a node at the time of a claim. An engine whose servers may execute a request at any later time refuses a
/// request with an older epoch than the node has by then ([`EngineFailure::Overtaken`]).
///
/// [`EngineFailure::Overtaken`]: crate::error::EngineFailure::Overtaken
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterEpoch {
    /// The node.
    pub node: NodeName,
    /// Its epoch.
    pub epoch: u64,
}

/// An interface of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortLocation {
    /// The host.
    pub host: HostId,
    /// The interface on that host.
    pub interface: IfName,
}

/// A port as the engine shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortState {
    /// The bridge or switch that it belongs to: [`SubnetId::object`], if it is a pod's.
    pub belongs_to: Uuid,
    /// The host, as the engine writes it, and the interface to which it is bound; none: it is not bound.
    pub location: Option<(String, String)>,
    /// Its packets are forwarded.
    pub active: bool,
}

/// A port to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRemoval {
    /// Its id.
    pub id: Uuid,
    /// The port as its claim describes it; none: the claim is not known. An engine deletes the port by its id alone, and
    /// with the description what it made for the port beside it.
    pub port: Option<PodPort>,
    /// The caller has seen that the port is the pod's. Otherwise the engine reads it first and leaves alone what is not a
    /// pod's port.
    pub verified: bool,
}

impl PortRemoval {
    /// A port of which only the id is known.
    pub fn by_id(id: Uuid) -> Self {
        Self { id, port: None, verified: false }
    }
}

impl PodPort {
    /// How `state` differs from this port, as a sentence; none: it is as described, whether or not it is active.
    pub fn difference(&self, state: &PortState) -> Option<String> {
        let subnet = self.subnet.object();
        if state.belongs_to != subnet {
            return Some(format!("it belongs to {}, not to bridge {subnet}", state.belongs_to));
        }
        let PortLocation { host, interface } = &self.location;
        match &state.location {
            Some((found_host, found_interface))
                if found_host == host.as_str() && found_interface == interface.as_str() =>
            {
                None
            }
            Some((found_host, found_interface)) => Some(format!(
                "it is bound to {found_interface} of host {found_host}, not to {interface} of host {host}"
            )),
            None => Some(format!("it is not bound to {interface} of host {host}")),
        }
    }
}
