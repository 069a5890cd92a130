//! What a test of an engine provides so that the suite can send packets.
//!
//! The suite describes frames and asks who received them; the lab builds, sends and captures them.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use atoll_model::attachment::Mac;
use atoll_model::ids::HostId;

use super::super::case::EngineUnderTest;
use super::super::samples::Families;
use crate::host_side::DatapathNeeds;
use crate::network::NetworkSubnet;
use crate::port::PodPort;
use crate::provider::ProviderUplink;

/// An engine under test whose packets are forwarded on this machine. "The node" is the first of [`EngineUnderTest::hosts`].
pub trait ForwardsPackets: EngineUnderTest {
    /// A place that sends and captures frames.
    type Station: Station;

    /// The engine as the node of this host runs it. An engine that connects host ends itself differs from node to node.
    fn engine_of(&self, _host: &HostId) -> &Self::Engine {
        self.engine()
    }

    /// Makes a pod for a port as a node does: an interface with the port's MAC and addresses and a default route by the
    /// gateways of `subnet`; its host end, named as the port's location says, where the engine's `host_side` says. It
    /// is not connected. The port may exist already or not. With one machine, the pod of a port of another host is made there too.
    fn attach(&self, port: &PodPort, subnet: &NetworkSubnet) -> impl Future<Output = Result<Self::Station, String>>;

    /// A host of the external network, behind the uplink of the provider router. It has the addresses of
    /// [`ForwardsPackets::external_addresses`], and a route to everything by the provider router.
    fn external(&self) -> Result<Self::Station, String>;

    /// The addresses of the external host, one for each family that the engine forwards.
    fn external_addresses(&self) -> Vec<IpAddr>;

    /// The uplinks of a provider router of the suite's own: two interfaces of one host, in each an address of each family that
    /// is forwarded. What leaves by them reaches [`ForwardsPackets::external`].
    fn uplinks(&self, families: Families) -> Vec<ProviderUplink>;

    /// The node itself.
    fn node(&self) -> Result<Self::Station, String>;
}

/// A network namespace whose frames the suite sends and captures.
pub trait Station {
    /// How long a case waits for a change to take effect. It ends a case that fails; no case that passes waits for it.
    const LIMIT: Duration;

    /// Gives the pod what the datapath that it was connected to needs.
    fn adapt(&self, needs: DatapathNeeds) -> Result<(), String>;

    /// Sends a frame. A station whose interface was deleted sends nothing, which is no error.
    fn send(&self, frame: &Frame) -> Result<(), String>;

    /// The MAC that the station has resolved for a next hop to which it has sent a datagram.
    fn resolved(&self, next_hop: IpAddr) -> Result<Mac, String>;

    /// Waits until a frame with this mark has arrived. None: the limit is over.
    fn receive(&self, mark: &str) -> impl Future<Output = Option<Received>>;

    /// Every frame with this mark that has arrived so far.
    fn received(&self, mark: &str) -> Vec<Received>;
}

/// What a station sends. The mark is part of the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A UDP datagram that the station's kernel sends: it chooses the route and resolves the next hop.
    Datagram {
        /// The source; an unspecified address leaves the choice to the kernel.
        from: SocketAddr,
        /// The destination.
        to: SocketAddr,
        /// The mark.
        mark: String,
    },
    /// A UDP datagram in a frame that is sent as described, whatever addresses the station has.
    Raw {
        /// The sources.
        from: (Mac, SocketAddr),
        /// The destinations: the MAC of the next hop, and the address.
        to: (Mac, SocketAddr),
        /// The mark.
        mark: String,
    },
    /// A frame to all stations of the link that claims an address: ARP or neighbour discovery.
    Claim {
        /// The source of the frame.
        frame: Mac,
        /// The MAC that the claimed address is said to have.
        mac: Mac,
        /// The claimed address.
        address: IpAddr,
        /// The mark.
        mark: String,
    },
}

impl Frame {
    /// The mark.
    pub fn mark(&self) -> &str {
        match self {
            Self::Datagram { mark, .. } | Self::Raw { mark, .. } | Self::Claim { mark, .. } => mark,
        }
    }
}

/// A frame that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The source of the frame.
    pub mac: Mac,
    /// The source of the datagram; of a claim, the claimed address and port 0.
    pub from: SocketAddr,
}
