//! A pod's port as it should be, and the bridge that it is on.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use atoll_model::attachment::Mac;
use serde::Serialize;
use uuid::Uuid;

use super::element::{AllowedSource, Element, NftSet, Stage};
use super::unsupported::Unsupported;

/// The bridge's port to the router whose own interface the bridge is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouterEnd {
    /// The port.
    pub id: Uuid,
    /// Its chain for what comes from the router.
    pub inbound: Option<Uuid>,
    /// Its chain for what goes to the router.
    pub outbound: Option<Uuid>,
}

/// A bridge that pods can be attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PodBridge {
    /// The namespace it is in.
    pub namespace: Uuid,
    /// Its interface.
    pub device: String,
    /// The router ports on it: no port may send from their MAC or address.
    pub gateways: BTreeSet<(Mac, Ipv4Addr)>,
    /// The router's own interface on it: the permanent neighbours of pods go there.
    pub routed: bool,
    /// Its port to the router.
    pub router: Option<RouterEnd>,
    /// Chains that restrict more than could be expressed.
    pub closed_chains: BTreeSet<String>,
    /// Why no port of it may carry packets, and whether that is for want of words.
    pub closed: Option<(String, bool)>,
}

/// A bridge port as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BridgePort {
    /// The namespace.
    pub namespace: Uuid,
    /// The bridge's interface.
    pub bridge: String,
    /// The interface that is bound to the port.
    pub interface: String,
    /// From what it may send; empty: from any address but that of a gateway.
    pub allowed_sources: BTreeSet<AllowedSource>,
    /// MACs that the bridge knows to be behind this port, those of allowed_sources included.
    pub fdb: BTreeSet<Mac>,
    /// The chains that its frames pass.
    pub stages: Vec<(Stage, String)>,
    /// AllowedSources become permanent neighbours of the router.
    pub routed: bool,
    /// What of the port is left out.
    pub left: BTreeSet<Unsupported>,
    /// How the node reaches it; added by the caller, which knows the assigned addresses.
    pub node: Option<HostToPod>,
}

/// How the node reaches one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct HostToPod {
    /// The address that only this machine can use.
    pub address: Ipv4Addr,
    /// The pod's own.
    pub pod: Ipv4Addr,
    /// The node routes the pod's own address too: it is unique in the cluster.
    pub direct: bool,
}

impl BridgePort {
    /// What must be listed before the port may be opened.
    pub fn elements(&self) -> Vec<Element> {
        let element = |set, source| {
            let interface = self.interface.clone();
            Element { set, interface, source, chain: None, node: None }
        };
        let staged = self
            .stages
            .iter()
            .map(|(stage, chain)| Element { chain: Some(chain.clone()), ..element(NftSet::Stage(*stage), None) });
        let mut elements: Vec<_> = staged.collect();
        if self.allowed_sources.is_empty() {
            elements.push(element(NftSet::Open, None));
        }
        for source in &self.allowed_sources {
            elements.push(element(NftSet::AllowedSources, Some(*source)));
            elements.push(element(NftSet::ArpSenders, Some(*source)));
            // Asking whether an address is taken (RFC 5227) has no sender address yet.
            let probe = AllowedSource { mac: source.mac, address: Ipv4Addr::UNSPECIFIED };
            elements.push(element(NftSet::ArpSenders, Some(probe)));
        }
        let routed = self.routed.then_some(&self.allowed_sources).into_iter().flatten();
        elements.extend(routed.map(|source| Element::known(&self.bridge, source.address)));
        elements.extend(self.node.map(|side| Element {
            interface: String::new(),
            node: Some((side.address, side.pod)),
            ..element(NftSet::HostToPod, None)
        }));
        elements.sort();
        elements.dedup();
        elements
    }
}
