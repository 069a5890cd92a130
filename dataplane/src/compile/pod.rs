//! A pod's port as it should be, and the bridge that it is on.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use atoll_model::attachment::Mac;
use serde::Serialize;
use uuid::Uuid;

use super::element::{Element, Set, Speaker, Stage};
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
pub struct Attached {
    /// The namespace it is in.
    pub domain: Uuid,
    /// Its interface.
    pub device: String,
    /// The router ports on it: nobody else may speak with their MAC or address.
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
pub struct Pod {
    /// The namespace.
    pub domain: Uuid,
    /// The bridge's interface.
    pub bridge: String,
    /// The interface that is bound to the port.
    pub interface: String,
    /// Who may speak; empty: anybody but a gateway.
    pub speakers: BTreeSet<Speaker>,
    /// MACs that the bridge knows to be behind this port, those of speakers included.
    pub stations: BTreeSet<Mac>,
    /// The chains that its frames pass.
    pub stages: Vec<(Stage, String)>,
    /// Speakers become permanent neighbours of the router.
    pub routed: bool,
    /// What of the port is left out.
    pub left: BTreeSet<Unsupported>,
    /// How the node reaches it; given by whoever knows which addresses are taken.
    pub node: Option<NodeSide>,
}

/// How the node reaches one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NodeSide {
    /// The address that only this machine can use.
    pub address: Ipv4Addr,
    /// The pod's own.
    pub pod: Ipv4Addr,
    /// The node routes the pod's own address too: nobody else in the cluster has it.
    pub direct: bool,
}

impl Pod {
    /// What must be listed before the port may be opened.
    pub fn elements(&self) -> Vec<Element> {
        let element = |set, speaker| {
            let interface = self.interface.clone();
            Element { set, interface, speaker, chain: None, node: None }
        };
        let staged = self
            .stages
            .iter()
            .map(|(stage, chain)| Element { chain: Some(chain.clone()), ..element(Set::Stage(*stage), None) });
        let mut elements: Vec<_> = staged.collect();
        if self.speakers.is_empty() {
            elements.push(element(Set::Open, None));
        }
        for speaker in &self.speakers {
            elements.push(element(Set::Speakers, Some(*speaker)));
            elements.push(element(Set::Announcers, Some(*speaker)));
            // Asking whether an address is taken (RFC 5227) has no sender address yet.
            let probe = Speaker { mac: speaker.mac, address: Ipv4Addr::UNSPECIFIED };
            elements.push(element(Set::Announcers, Some(probe)));
        }
        let routed = self.routed.then_some(&self.speakers).into_iter().flatten();
        elements.extend(routed.map(|speaker| Element::known(&self.bridge, speaker.address)));
        elements.extend(self.node.map(|side| Element {
            interface: String::new(),
            node: Some((side.address, side.pod)),
            ..element(Set::NodeSide, None)
        }));
        elements.sort();
        elements.dedup();
        elements
    }
}
