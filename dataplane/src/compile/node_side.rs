//! The node side: how the machine itself reaches every pod, whatever addresses tenants have.
//!
//! Each port of a pod has an address of the pool that only this machine can use. A veth connects the node to the
//! tenant's router, which translates that address to the pod's own and the sender to the *source*, the first address
//! of the pool, the same for every pod. So the pod answers to its gateway, and the answer comes back by the way that
//! conntrack remembers. The node's packets pass no chain, no translation and no route of the tenant:
//!
//! | direction | how |
//! |---|---|
//! | node to pod | by the incoming interface to a table that knows pods only; marked as a flow of the node |
//! | pod to node | only what answers such a flow, by its mark to a table that leads to the node only |
//! | anything else from or to the pool | dropped, by the tenant's router and once more by the node |
//!
//! What the node forwards to a pod was published: it was sent to an address that is meant for others than the node, and
//! translated here. Whether a pod has sent it is told by the MAC of the uplink that it left by, which no translation
//! hides.
//!
//! Frames to and from the source pass the chains of bridges and ports unseen, and so does the pod's question for the
//! MAC of its gateway, unless a rule speaks of ARP.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::Ipv4Addr;

use atoll_model::attachment::Mac;
use ipnetwork::Ipv4Network;
use serde::Serialize;
use uuid::Uuid;

use super::places::{MARKER, NODE_ARRIVING, NODE_DESTINATIONS, NODE_LEAVING, NODE_PASSING, NODE_SOURCES, SAID};
use super::rules::{NO_FLOW, REFUSED};
use super::{Device, DeviceKind, Domain, MAIN, Neighbour, NextHop, NodePool, Route, View, names};

/// Table of routes to pods, for what comes from the node.
pub const TO_PODS: u32 = 901;
/// Table with the one route to the node, for what answers it.
pub const TO_NODE: u32 = 902;
/// The packet belongs to a flow that the node began (packet mark).
pub(crate) const NODE: u32 = 0x20_0000;
/// The same in the mark of the connection.
pub(crate) const FLOW: u32 = 0xa702;
/// What the node's end of every link begins with.
pub(crate) const PREFIX: &str = "atn";
/// What the router's end begins with.
pub(super) const ROUTER_PREFIX: &str = "atr";
/// The table in the node's own namespace.
pub(crate) const TABLE: &str = "atoll_node";

/// Which machine it is, and what it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Only bindings of this host are realised.
    pub host: Uuid,
    /// Where the addresses come from by which the machine reaches its pods; none: it does not reach them.
    pub node_side: Option<NodePool>,
    /// Addresses of services (`cluster.serviceCidr`): nothing for them leaves by an uplink.
    pub services: Option<Ipv4Network>,
}

impl From<Uuid> for Site {
    fn from(host: Uuid) -> Self {
        Self { host, node_side: Some(NodePool::DEFAULT), services: None }
    }
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

/// The link between a domain and the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeLink {
    /// The router's end.
    pub name: String,
    /// The node's end.
    pub end: String,
    /// Where its addresses come from.
    pub pool: NodePool,
}

/// Gives a domain its link to the node, when its router is the gateway of some bridge.
pub(super) fn link(view: &View<'_>, id: Uuid, domain: &mut Domain) {
    let gateway = |device: &Device| device.kind == DeviceKind::Bridge && !device.addresses.is_empty();
    let Some(pool) = view.site.node_side.filter(|_| domain.devices.values().any(gateway)) else { return };
    let digits = names::digits(id.as_bytes());
    // Not one name: the index of a link derives from it, and must differ (`kernel/nl.rs`).
    let (name, end) = (format!("{ROUTER_PREFIX}{digits}"), format!("{PREFIX}{digits}"));
    let mac = |end: &[u8]| names::mac(Uuid::new_v5(&id, end));
    let (here, there) = (mac(b"node side, router"), mac(b"node side, node"));
    let kind = DeviceKind::Node { end: end.clone(), mac: there };
    domain.devices.insert(name.clone(), Device { kind, mac: here, addresses: std::collections::BTreeSet::new() });
    // No address on this end: the router must not be reachable there, and the next hop is known by hand.
    domain.neighbours.insert(Neighbour { device: name.clone(), address: pool.source(), mac: there });
    let any = Ipv4Network::new(Ipv4Addr::UNSPECIFIED, 0).expect("0 is a length");
    let back = NextHop::Via { device: name.clone(), gateway: pool.source() };
    domain.routes.insert(Route { table: TO_NODE, destination: any, metric: 0, next: back });
    domain.routes.insert(Route { table: TO_PODS, destination: any, metric: 0, next: NextHop::BlackHole });
    domain.node = Some(NodeLink { name, end, pool });
}

/// The node's end of the link whose router's end has this name.
pub(crate) fn end_of(name: &str) -> Option<String> {
    name.strip_prefix(ROUTER_PREFIX).map(|digits| format!("{PREFIX}{digits}"))
}

/// The route to one pod, for what comes from the node.
pub(crate) fn route_to<D>(pod: Ipv4Addr, bridge: D) -> Route<D> {
    let next = NextHop::Direct { device: bridge };
    Route { table: TO_PODS, destination: pod.into(), metric: 0, next }
}

/// The route of the node to an address of a pod.
pub(crate) fn route_from_node(link: u32, pool: NodePool, to: Ipv4Addr) -> Route<u32> {
    let next = NextHop::Via { device: link, gateway: pool.source() };
    Route { table: MAIN, destination: to.into(), metric: 0, next }
}

/// What a chain of the router begins with: the node's flows pass none of them.
pub(super) fn pass_by(domain: &Domain) -> String {
    if domain.node.is_some() { format!("ct mark {FLOW:#x} accept\n") } else { String::new() }
}

/// What the router's own addresses begin with: they are no business of the node.
pub(super) fn guard_input(domain: &Domain) -> String {
    domain.node.as_ref().map_or_else(String::new, |link| format!("iifname \"{}\" drop\n", link.name))
}

/// Chains of the router's table.
pub(super) fn router_chains(domain: &Domain) -> String {
    let Some(NodeLink { name, pool, .. }) = &domain.node else { return String::new() };
    let (network, source) = (set(&pool.parts(&[])), pool.source());
    // What the router says about a packet has that packet's mark.
    let kept = NODE | REFUSED;
    format!(
        "map node_side {{
type ipv4_addr : ipv4_addr
}}
chain node_arriving {{
type filter hook prerouting priority {NODE_ARRIVING}; policy accept;
iifname \"{name}\" ct state new ct mark set {FLOW:#x}
ct mark {FLOW:#x} meta mark set meta mark or {NODE:#x} accept
iifname \"{name}\" drop
ct state established accept
ip saddr {network} drop
ip daddr {network} drop
}}
chain node_destinations {{
type nat hook prerouting priority {NODE_DESTINATIONS}; policy accept;
iifname \"{name}\" dnat to ip daddr map @node_side
}}
chain node_passing {{
type filter hook forward priority {NODE_PASSING}; policy accept;
oifname != \"{name}\" accept
ct mark {FLOW:#x} ct direction reply accept
drop
}}
chain node_sources {{
type nat hook postrouting priority {NODE_SOURCES}; policy accept;
ct mark {FLOW:#x} oifname != \"{name}\" snat to {source}
}}
chain node_own {{
type filter hook output priority {SAID}; policy accept;
meta mark set meta mark and {kept:#x}
oifname \"{name}\" meta mark and {NODE:#x} == 0 drop
}}
"
    )
}

/// What a stage of bridges and ports in this hook begins with. `asks_arp`: some rule speaks of ARP, and means it.
pub(super) fn pass_stage(domain: &Domain, hook: &str, asks_arp: bool) -> String {
    let Some(NodeLink { pool, .. }) = &domain.node else { return String::new() };
    let own = || domain.devices.values().filter(|d| d.kind == DeviceKind::Bridge && !d.addresses.is_empty());
    let macs: Vec<_> = own().map(|device| device.mac.to_string()).collect();
    let addresses: Vec<_> = own().flat_map(|device| &device.addresses).map(ToString::to_string).collect();
    let (source, macs, addresses) = (pool.source(), macs.join(", "), addresses.join(", "));
    // Where bridged packets are tracked, an answer has its real destination back by now, and the mark.
    let marked = format!("meta mark and {NODE:#x} != 0 accept\n");
    let request = format!("arp operation request arp daddr ip {{ {addresses} }} accept\n");
    let (packets, arp) = match hook {
        "prerouting" => (format!("{marked}ether daddr {{ {macs} }} ip daddr {source} accept\n"), request),
        "input" => (format!("{marked}ip daddr {source} accept\n"), request),
        "output" => (marked, "arp operation reply accept\n".to_owned()),
        _ => return String::new(),
    };
    if asks_arp { packets } else { packets + &arp }
}

/// As a set in the text of `nft`.
fn set(networks: &[Ipv4Network]) -> String {
    let networks: Vec<_> = networks.iter().map(ToString::to_string).collect();
    format!("{{ {} }}", networks.join(", "))
}

/// What the guard of the node's own namespace goes by.
pub(crate) struct Guarded<'a> {
    /// The address that the node sends from.
    pub(crate) node: Ipv4Addr,
    /// The pool, as far as it is the node side's.
    pub(crate) parts: &'a [Ipv4Network],
    /// MACs of the uplinks: a frame from one of them carries what a pod has sent.
    pub(crate) uplinks: &'a BTreeSet<Mac>,
    /// Addresses of services, where they are known.
    pub(crate) services: Option<Ipv4Network>,
    /// Addresses that the machine has itself.
    pub(crate) own: &'a BTreeSet<Ipv4Addr>,
}

impl Guarded<'_> {
    /// Lets pass what was sent to a published address, and drops the rest. Where the addresses of services are known, all
    /// others that are translated were published; else those of the machine itself are (`NodePort`, `hostPort`), and no
    /// more is known.
    fn published(&self) -> String {
        if let Some(services) = self.services {
            return format!("ct original ip daddr != {services} accept\ndrop\n");
        }
        let own: Vec<_> = self.own.iter().map(ToString::to_string).collect();
        let own = own.join(", ");
        let own = if own.is_empty() { String::new() } else { format!("ct original ip daddr {{ {own} }} accept\n") };
        format!("{own}drop\n")
    }
}

/// The filter of the node's own namespace, and the name of its text: nobody but this machine uses the pool, only answers
/// come back, and what is forwarded to a pod was published. A pod's flow to another has the node for its sender: to a
/// router that gets back what it has sent itself, it would be a stranger's under its own address.
///
/// IPVS, a mode of kube-proxy, sends what it has translated past the hook "forward": the last hook sees it.
pub(crate) fn node_table(guarded: &Guarded<'_>) -> (String, String) {
    let foreign = match guarded.parts {
        [] => String::new(),
        parts => format!("iifname != \"lo\" ip daddr {} drop\n", set(parts)),
    };
    let services = guarded.services.map_or_else(String::new, |it| format!("ct original ip daddr {it} drop\n"));
    let published = guarded.published();
    // The bytes themselves: `ether saddr` asks for the device too, which the last hook has not on every kernel.
    let number = |mac: &Mac| mac.0.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"));
    let macs: Vec<_> = guarded.uplinks.iter().map(number).collect();
    let from_pods = |verdict: &str| {
        if macs.is_empty() { String::new() } else { format!("@ll,48,48 {{ {} }} {verdict}\n", macs.join(", ")) }
    };
    let opened = from_pods("jump opened_by_pods");
    let (leaving, hidden) = (
        from_pods(&format!("oifname \"{PREFIX}*\" jump opened_by_pods")),
        from_pods(&format!("oifname \"{PREFIX}*\" snat to {}", guarded.node)),
    );
    let chains = format!(
        "chain arriving {{
type filter hook prerouting priority {NODE_ARRIVING}; policy accept;
iifname \"{PREFIX}*\" ct state established,related accept
iifname \"{PREFIX}*\" drop
{foreign}}}
chain passing {{
type filter hook forward priority {NODE_PASSING}; policy accept;
oifname \"{PREFIX}*\" jump entering
}}
chain leaving {{
type filter hook postrouting priority {NODE_LEAVING}; policy accept;
{leaving}}}
chain senders {{
type nat hook postrouting priority {NODE_SOURCES}; policy accept;
{hidden}}}
chain entering {{
{services}{NO_FLOW} drop
ct status and 0x20 == 0 drop
{opened}}}
chain opened_by_pods {{
{published}}}
"
    );
    let generation = names::digits(chains.as_bytes());
    let mut text = format!("table ip {TABLE} {{\nchain {MARKER}{generation} {{\n}}\n");
    let _ = writeln!(text, "{chains}}}");
    (text, generation)
}
