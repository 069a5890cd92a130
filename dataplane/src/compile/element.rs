//! Elements of sets and maps that are added and removed with pods, while the ruleset stays.

use std::net::Ipv4Addr;

use atoll_model::attachment::Mac;
use serde::Serialize;

use super::table::Family;

/// The stages at which a frame is filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// From a port: the port's inbound chain.
    PortIn,
    /// From a port: the bridge's inbound chain.
    BridgeIn,
    /// To a port: the bridge's outbound chain.
    BridgeOut,
    /// To a port: the port's outbound chain.
    PortOut,
    /// From a port to the router: the bridge's outbound chain.
    RouterOut,
    /// From a port to the router: the outbound chain of the bridge's port to it.
    RouterPortOut,
    /// From the router to a port: the inbound chain of the bridge's port to it.
    RouterPortIn,
    /// From the router to a port: the bridge's inbound chain.
    RouterIn,
    /// From the router to a port: the bridge's outbound chain.
    RoutedOut,
    /// From the router to a port: the port's outbound chain.
    RoutedPortOut,
}

impl Stage {
    /// All, in the order in which a frame may meet them.
    pub(crate) const ALL: [Self; 10] = [
        Self::PortIn,
        Self::BridgeIn,
        Self::BridgeOut,
        Self::PortOut,
        Self::RouterOut,
        Self::RouterPortOut,
        Self::RouterPortIn,
        Self::RouterIn,
        Self::RoutedOut,
        Self::RoutedPortOut,
    ];

    /// The name of its map.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PortIn => "m_port_in",
            Self::BridgeIn => "m_bridge_in",
            Self::BridgeOut => "m_bridge_out",
            Self::PortOut => "m_port_out",
            Self::RouterOut => "m_router_out",
            Self::RouterPortOut => "m_router_port_out",
            Self::RouterPortIn => "m_router_port_in",
            Self::RouterIn => "m_router_in",
            Self::RoutedOut => "m_routed_out",
            Self::RoutedPortOut => "m_routed_port_out",
        }
    }
}

/// A MAC and an address that a port may send from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct AllowedSource {
    /// The MAC.
    pub mac: Mac,
    /// The address.
    pub address: Ipv4Addr,
}

/// The sets that pods' ports are listed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum NftSet {
    /// Interface, source MAC, source address.
    AllowedSources,
    /// Interface, source MAC, MAC and address of an ARP packet's sender.
    ArpSenders,
    /// Interface without port security.
    Open,
    /// Interface, and the chain it jumps to at this stage.
    Stage(Stage),
    /// Bridge and an address that exists on it; of the router's table.
    Known,
    /// Address of host-to-pod addressing, and the pod's own; of the router's table.
    HostToPod,
}

impl NftSet {
    /// The family of the table it is in.
    pub(crate) fn family(self) -> Family {
        if matches!(self, Self::Known | Self::HostToPod) { Family::Ip } else { Family::Bridge }
    }

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::AllowedSources => "allowed_sources",
            Self::ArpSenders => "arp_senders",
            Self::Open => "open",
            Self::Stage(stage) => stage.name(),
            Self::Known => "known",
            Self::HostToPod => "host_to_pod",
        }
    }
}

/// One element of a [`NftSet`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Element {
    /// The set.
    pub set: NftSet,
    /// The interface.
    pub interface: String,
    /// The allowed source.
    pub source: Option<AllowedSource>,
    /// The chain that a stage jumps to.
    pub chain: Option<String>,
    /// The two addresses of a pod.
    pub node: Option<(Ipv4Addr, Ipv4Addr)>,
}

impl Element {
    /// As `nft` writes it.
    pub fn text(&self) -> String {
        let interface = &self.interface;
        match (self.set, self.source) {
            (NftSet::AllowedSources, Some(s)) => format!("\"{interface}\" . {} . {}", s.mac, s.address),
            (NftSet::Known, Some(s)) => format!("\"{interface}\" . {}", s.address),
            (NftSet::ArpSenders, Some(s)) => format!("\"{interface}\" . {} . {} . {}", s.mac, s.mac, s.address),
            _ => match (&self.chain, self.node) {
                (Some(chain), _) => format!("\"{interface}\" : jump {chain}"),
                (None, Some((address, pod))) => format!("{address} : {pod}"),
                (None, None) => format!("\"{interface}\""),
            },
        }
    }

    /// A host with this address is behind the bridge.
    pub(super) fn known(bridge: &str, address: Ipv4Addr) -> Self {
        let source = Some(AllowedSource { mac: Mac([0; 6]), address });
        Self { set: NftSet::Known, interface: bridge.to_owned(), source, chain: None, node: None }
    }
}
