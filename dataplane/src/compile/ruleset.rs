//! The two nftables tables of a domain.
//!
//! `bridge atoll` is port security: who may speak through which port; whatever is not listed is dropped, so a port
//! without its elements is closed. `ip atoll` is the router: its chains, its translations, and its own addresses,
//! which answer ICMP echo and nothing else. Both are replaced in one transaction, elements of pods included. A chain
//! named after the text's hash marks which text is loaded.
//!
//! Rules drop, policies never do. Within a transaction the kernel changes all rules at once, but hooks and policies one
//! by one: an old chain would have dropped what is right, and a new one let pass what is wrong, for a moment.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use atoll_model::topology::Device;
use serde::Serialize;
use uuid::Uuid;

use crate::counters::Count;

use super::filters::{self, Filters};
use super::places::MARKER;
use super::{DeviceKind, Domain, Pod, Stage, View, counting, names, node_side, places, router};

/// How many MACs, and how many addresses in ARP, the open ports of a domain may show within five minutes. Each becomes an
/// entry of a table that the kernel shares among all namespaces, or keeps without a bound.
pub(super) const STRANGERS: u32 = 256;

/// The frame is for the router, not for another port of the bridge.
pub(super) const TO_ROUTER: u32 = 0x8000_0000;

/// The filter of a domain, as the text of `nft`, without the elements of pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ruleset {
    /// Both tables.
    pub text: String,
    /// The same, with marks for what counts for a rule.
    #[serde(skip)]
    marked: String,
    /// Names the text.
    pub generation: String,
}

impl Ruleset {
    /// What is loaded: with a counter for each rule, which begins with what `before` has for it and loses.
    pub(crate) fn counted(&self, before: &mut BTreeMap<Uuid, Count>) -> String {
        counting::counted(&self.marked, before)
    }
}

/// The sets that pods' ports are listed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Set {
    /// Interface, source MAC, source address.
    Speakers,
    /// Interface, source MAC, MAC and address of an ARP packet's sender.
    Announcers,
    /// Interface of which nothing is known.
    Open,
    /// Interface, and the chain it jumps to at this stage.
    Stage(Stage),
    /// Bridge and address of somebody who is there; of the router's table.
    Known,
    /// Address on the node's side, and the pod's own; of the router's table.
    NodeSide,
}

impl Set {
    /// The family of the table it is in.
    pub fn family(self) -> &'static str {
        if matches!(self, Self::Known | Self::NodeSide) { "ip" } else { "bridge" }
    }

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Speakers => "speakers",
            Self::Announcers => "announcers",
            Self::Open => "open",
            Self::Stage(stage) => stage.name(),
            Self::Known => "known",
            Self::NodeSide => "node_side",
        }
    }
}

/// One element of a [`Set`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Element {
    /// The set.
    pub set: Set,
    /// The interface.
    pub interface: String,
    /// Who may speak.
    pub speaker: Option<super::Speaker>,
    /// The chain that a stage jumps to.
    pub chain: Option<String>,
    /// The two addresses of a pod.
    pub node: Option<(Ipv4Addr, Ipv4Addr)>,
}

impl Element {
    /// As `nft` writes it.
    pub fn text(&self) -> String {
        let interface = &self.interface;
        match (self.set, self.speaker) {
            (Set::Speakers, Some(s)) => format!("\"{interface}\" . {} . {}", s.mac, s.address),
            (Set::Known, Some(s)) => format!("\"{interface}\" . {}", s.address),
            (Set::Announcers, Some(s)) => format!("\"{interface}\" . {} . {} . {}", s.mac, s.mac, s.address),
            _ => match (&self.chain, self.node) {
                (Some(chain), _) => format!("\"{interface}\" : jump {chain}"),
                (None, Some((address, pod))) => format!("{address} : {pod}"),
                (None, None) => format!("\"{interface}\""),
            },
        }
    }
}

impl Element {
    /// Somebody with this address is behind the bridge.
    pub(super) fn known(bridge: &str, address: Ipv4Addr) -> Self {
        let speaker = Some(super::Speaker { mac: atoll_model::attachment::Mac([0; 6]), address });
        Self { set: Set::Known, interface: bridge.to_owned(), speaker, chain: None, node: None }
    }
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
            let probe = super::Speaker { mac: speaker.mac, address: Ipv4Addr::UNSPECIFIED };
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

/// Fills in `domain.ruleset`, once its devices are known.
pub(super) fn compile(view: &View<'_>, id: Uuid, bridges: &[Uuid], domain: &mut Domain) {
    let mut text = String::new();
    let filters = filters::compile(view, bridges, view.router(id).is_some_and(|router| router.up));
    domain.track_bridged = filters.tracks;
    domain.unsupported.extend(filters.unsupported.iter().cloned());
    domain.elements.clone_from(&filters.elements);
    domain.closed.clone_from(&filters.closed);
    bridge_table(view, bridges, domain, &filters, &mut text);
    router::table(view, id, bridges, domain, &filters, &mut text);
    let mut text = text.replace("@to_router\n", &to_router(domain));
    let asks_arp = filters.text.contains("0x0806");
    for hook in ["prerouting", "input", "forward", "output"] {
        text = text.replace(&format!("@node_{hook}\n"), &node_side::pass_stage(domain, hook, asks_arp));
    }
    let generation = names::digits(counting::counted(&text, &mut BTreeMap::new()).as_bytes());
    let marked = text.replace("\n@generation\n", &format!("\nchain {MARKER}{generation} {{\n}}\n"));
    domain.ruleset = Ruleset { text: counting::plain(&marked), marked, generation };
}

fn bridge_table(view: &View<'_>, bridges: &[Uuid], domain: &Domain, filters: &Filters, text: &mut String) {
    let ends = domain.devices.iter().filter(|(_, d)| matches!(&d.kind, DeviceKind::Link { bridge: Some(_), .. }));
    let ends: Vec<_> = ends.map(|(name, _)| format!("\"{name}\"")).collect();
    let (mut macs, mut addresses) = (Vec::new(), Vec::new());
    for (_, port) in bridges.iter().flat_map(|bridge| view.ports_of(*bridge)) {
        let Some((id, peer)) = view.peer(port) else { continue };
        if let Device::Router { address, .. } = peer.device {
            macs.push(names::router_mac(id, &peer.device).to_string());
            addresses.push(address.ip().to_string());
        }
    }
    addresses.extend(domain.node.as_ref().map(|link| link.pool.source().to_string()));
    let set = |name: &str, kind: &str, mut elements: Vec<String>| {
        elements.sort();
        elements.dedup();
        let elements =
            if elements.is_empty() { String::new() } else { format!("elements = {{ {} }}\n", elements.join(", ")) };
        format!("set {name} {{\ntype {kind}\n{elements}}}\n")
    };
    text.push_str("table bridge atoll {\n@generation\n");
    text.push_str(&set("links", "ifname", ends));
    text.push_str(&set("gateway_macs", "ether_addr", macs));
    text.push_str(&set("gateway_addresses", "ipv4_addr", addresses));
    let sets = "set speakers {
type ifname . ether_addr . ipv4_addr
}
set announcers {
type ifname . ether_addr . ether_addr . ipv4_addr
}
set open {
type ifname
}
set refused {
type ifname
size 65535
flags dynamic
}
set stations {
type ifname . ether_addr
size {STRANGERS}
flags dynamic,timeout
timeout 5m
}
set strangers {
type ifname . ipv4_addr
size {STRANGERS}
flags dynamic,timeout
timeout 5m
}
chain unknown {
ether saddr @gateway_macs return
ether type ip ip saddr @gateway_addresses return
ether type arp arp saddr ether @gateway_macs return
ether type arp arp saddr ip @gateway_addresses return
ether type { ip, arp } update @stations { iifname . ether saddr } jump station
}
chain station {
ether type ip accept
arp htype 1 arp ptype 0x0800 arp hlen 6 arp plen 4 update @strangers { iifname . arp saddr ip } accept
}
chain prerouting {
type filter hook prerouting priority {PORT_SECURITY}; policy accept;
@to_router
ether type ip iifname . ether saddr . ip saddr @speakers accept
ether type arp arp htype 1 arp ptype 0x0800 arp hlen 6 arp plen 4 iifname . ether saddr . arp saddr ether . arp saddr ip @announcers accept
iifname @links accept
iifname @open jump unknown
update @refused { iifname counter }
drop
}
";
    text.push_str(&own(domain));
    let sets = sets.replace("{STRANGERS}", &STRANGERS.to_string());
    text.push_str(&sets.replace("{PORT_SECURITY}", &places::PORT_SECURITY.to_string()));
    text.push_str(&filters.text);
    text.push_str("}\n");
}

/// The MACs of the router's own interfaces on its bridges.
fn own_macs(domain: &Domain) -> Vec<String> {
    let own = domain.devices.values().filter(|d| d.kind == DeviceKind::Bridge && !d.addresses.is_empty());
    own.map(|device| device.mac.to_string()).collect()
}

/// A bridge takes in what is for the MAC of any of its ports; the router is asked by its own MACs only. By another one a
/// packet would look bridged to chains that tell the two apart, and pass them.
fn own(domain: &Domain) -> String {
    let macs = own_macs(domain);
    // Nearly every frame is for the router: it is let go first.
    let own = if macs.is_empty() { String::new() } else { format!("ether daddr {{ {} }} accept\n", macs.join(", ")) };
    let head = format!("type filter hook input priority {}; policy accept;", places::OWN_MAC);
    let one = "ether daddr and 01:00:00:00:00:00 == 00:00:00:00:00:00";
    format!("chain own {{\n{head}\n{own}{one} drop\n}}\n")
}

/// Tells routed from bridged packets, where both pass the router's hooks.
fn to_router(domain: &Domain) -> String {
    let macs = own_macs(domain);
    if !domain.track_bridged || macs.is_empty() {
        return String::new();
    }
    // A frame that the router sent through a link within its own namespace still has the marks of that journey.
    format!("meta mark set 0x0\nether daddr {{ {} }} meta mark set {TO_ROUTER:#x}\n", macs.join(", "))
}
