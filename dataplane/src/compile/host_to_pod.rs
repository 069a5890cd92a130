//! Host-to-pod addressing: how the machine itself reaches every pod, whatever addresses tenants have.
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
//! translated here. The MAC of the uplink that it left by shows whether a pod has sent it; no translation
//! hides that.
//!
//! Frames to and from the source pass the chains of bridges and ports unseen, and so does the pod's question for the
//! MAC of its gateway, unless a rule matches on ARP.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use atoll_model::attachment::Mac;
use atoll_model::host_to_pod::HostToPodPool;
use ipnetwork::Ipv4Network;
use uuid::Uuid;

use super::marks::{FROM_HOST, HOST_FLOW, REJECTED};
use super::names::{self, HOST_PREFIX, ROUTER_PREFIX};
use super::plan::{DeviceKind, HostLink, KernelDevice, KernelRoute, MAIN, Neighbour, NextHop, RouterNamespace};
use super::priorities::{
    BaseHook, HOST_ARRIVING, HOST_DESTINATIONS, HOST_LEAVING, HOST_PASSING, HOST_SOURCES, Hook, OWN_OUTPUT,
};
use super::statement::{Match, Statement};
use super::table::{Family, Item, NamedSet, NftChain, Ruleset, Table};
use super::view::View;

/// Table of routes to pods, for what comes from the node.
pub const TO_PODS: u32 = 901;
/// Table with the one route to the node, for what answers it.
pub const TO_HOST: u32 = 902;
/// The table in the node's own namespace.
pub(crate) const TABLE: &str = "atoll_node";

/// Gives a router namespace its link to the node, when its router is the gateway of some bridge.
pub(super) fn link(view: &View<'_>, id: Uuid, namespace: &mut RouterNamespace) {
    let gateway = |device: &KernelDevice| device.kind == DeviceKind::Bridge && !device.addresses.is_empty();
    let Some(pool) = view.site.host_to_pod.filter(|_| namespace.devices.values().any(gateway)) else { return };
    let digits = names::digits(id.as_bytes());
    // Not one name: the index of a link derives from it, and must differ (`kernel/link.rs`).
    let (name, end) = (format!("{ROUTER_PREFIX}{digits}"), format!("{HOST_PREFIX}{digits}"));
    let mac = |end: &[u8]| names::mac(Uuid::new_v5(&id, end));
    let (here, there) = (mac(b"node side, router"), mac(b"node side, node"));
    let kind = DeviceKind::Host { end: end.clone(), mac: there };
    namespace
        .devices
        .insert(name.clone(), KernelDevice { kind, mac: here, addresses: std::collections::BTreeSet::new() });
    // No address on this end: the router must not be reachable there, and the next hop is a permanent neighbour.
    namespace.neighbours.insert(Neighbour { device: name.clone(), address: pool.source(), mac: there });
    let any = Ipv4Network::new(Ipv4Addr::UNSPECIFIED, 0).expect("0 is a length");
    let back = NextHop::Via { device: name.clone(), gateway: pool.source() };
    namespace.routes.insert(KernelRoute { table: TO_HOST, destination: any, metric: 0, next: back });
    namespace.routes.insert(KernelRoute { table: TO_PODS, destination: any, metric: 0, next: NextHop::BlackHole });
    namespace.node = Some(HostLink { name, end, pool });
}

/// The node's end of the link whose router's end has this name.
pub(crate) fn end_of(name: &str) -> Option<String> {
    name.strip_prefix(ROUTER_PREFIX).map(|digits| format!("{HOST_PREFIX}{digits}"))
}

/// The route to one pod, for what comes from the node.
pub(crate) fn route_to<D>(pod: Ipv4Addr, bridge: D) -> KernelRoute<D> {
    let next = NextHop::Direct { device: bridge };
    KernelRoute { table: TO_PODS, destination: pod.into(), metric: 0, next }
}

/// The route of the node to an address of a pod.
pub(crate) fn route_from_node(link: u32, pool: HostToPodPool, to: Ipv4Addr) -> KernelRoute<u32> {
    let next = NextHop::Via { device: link, gateway: pool.source() };
    KernelRoute { table: MAIN, destination: to.into(), metric: 0, next }
}

/// What a chain of the router begins with: the node's flows pass none of them.
pub(super) fn pass_by(namespace: &RouterNamespace) -> Option<Statement> {
    namespace.node.as_ref().map(|_| Statement::Fixed(format!("ct mark {HOST_FLOW:#x} accept")))
}

/// What the router's own addresses begin with: the host does not reach them by this link.
pub(super) fn guard_input(namespace: &RouterNamespace) -> Option<Statement> {
    namespace.node.as_ref().map(|link| Statement::Fixed(format!("iifname \"{}\" drop", link.name)))
}

/// Chains of the router's table.
pub(super) fn router_chains(namespace: &RouterNamespace) -> Vec<Item> {
    let Some(HostLink { name, pool, .. }) = &namespace.node else { return Vec::new() };
    let (network, source) = (set(&pool.parts(&[])), pool.source());
    let chain = |name, hook, text: String| NftChain::fixed(name, hook, &text).into();
    vec![
        NamedSet::map("host_to_pod", "ipv4_addr", "ipv4_addr").into(),
        chain(
            "host_arriving",
            HOST_ARRIVING,
            format!(
                "iifname \"{name}\" ct state new ct mark set {HOST_FLOW:#x}
ct mark {HOST_FLOW:#x} meta mark set meta mark or {FROM_HOST:#x} accept
iifname \"{name}\" drop
ct state established accept
ip saddr {network} drop
ip daddr {network} drop"
            ),
        ),
        chain("host_destinations", HOST_DESTINATIONS, format!("iifname \"{name}\" dnat to ip daddr map @host_to_pod")),
        chain(
            "host_passing",
            HOST_PASSING,
            format!("oifname != \"{name}\" accept\nct mark {HOST_FLOW:#x} ct direction reply accept\ndrop"),
        ),
        chain("host_sources", HOST_SOURCES, format!("ct mark {HOST_FLOW:#x} oifname != \"{name}\" snat to {source}")),
        chain(
            "host_own",
            OWN_OUTPUT,
            format!(
                // An ICMP error of the router has the mark of the packet that caused it.
                "meta mark set meta mark and {:#x}\noifname \"{name}\" meta mark and {FROM_HOST:#x} == 0 drop",
                FROM_HOST | REJECTED
            ),
        ),
    ]
}

/// What a stage of bridges and ports in this hook begins with. `asks_arp`: some rule matches on ARP, and applies to this traffic too.
pub(super) fn pass_stage(namespace: &RouterNamespace, hook: Hook, asks_arp: bool) -> Vec<Statement> {
    let Some(HostLink { pool, .. }) = &namespace.node else { return Vec::new() };
    let own = || namespace.devices.values().filter(|d| d.kind == DeviceKind::Bridge && !d.addresses.is_empty());
    let macs: Vec<_> = own().map(|device| device.mac.to_string()).collect();
    let addresses: Vec<_> = own().flat_map(|device| &device.addresses).map(ToString::to_string).collect();
    let (source, macs, addresses) = (pool.source(), macs.join(", "), addresses.join(", "));
    // Where bridged packets are tracked, an answer has its real destination back by now, and the mark.
    let marked = format!("meta mark and {FROM_HOST:#x} != 0 accept");
    let request = format!("arp operation request arp daddr ip {{ {addresses} }} accept");
    let (mut lines, arp) = match hook {
        Hook::Prerouting => (vec![marked, format!("ether daddr {{ {macs} }} ip daddr {source} accept")], request),
        Hook::Input => (vec![marked, format!("ip daddr {source} accept")], request),
        Hook::Output => (vec![marked], "arp operation reply accept".to_owned()),
        Hook::Forward | Hook::Postrouting => return Vec::new(),
    };
    lines.extend((!asks_arp).then_some(arp));
    lines.into_iter().map(Statement::Fixed).collect()
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
    /// The pool, as far as it is for host-to-pod addressing.
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

/// The ruleset of the node's own namespace: only this machine uses the pool, only answers come back, and what is forwarded
/// to a pod was published. A pod's flow to another has the node for its sender: a router that gets back what it has sent
/// itself would take it for a forgery of its own address.
///
/// IPVS, a mode of kube-proxy, sends what it has translated past the hook "forward": the last hook sees it.
pub(crate) fn host_ruleset(guarded: &Guarded<'_>) -> Ruleset {
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
        from_pods(&format!("oifname \"{HOST_PREFIX}*\" jump opened_by_pods")),
        from_pods(&format!("oifname \"{HOST_PREFIX}*\" snat to {}", guarded.node)),
    );
    let base = |name, hook: BaseHook, text: &str| NftChain::fixed(name, hook, text).into();
    let chain = |name, text: &str| NftChain::new(name, Statement::fixed(text).collect()).into();
    let arriving = format!(
        "iifname \"{HOST_PREFIX}*\" ct state established,related accept
iifname \"{HOST_PREFIX}*\" drop
{foreign}"
    );
    let no_flow = Match::no_flow();
    let items = vec![
        base("arriving", HOST_ARRIVING, &arriving),
        base("passing", HOST_PASSING, &format!("oifname \"{HOST_PREFIX}*\" jump entering")),
        base("leaving", HOST_LEAVING, &leaving),
        base("senders", HOST_SOURCES, &hidden),
        chain("entering", &format!("{services}{no_flow} drop\nct status and 0x20 == 0 drop\n{opened}")),
        chain("opened_by_pods", &published),
    ];
    Ruleset::new(vec![Table { family: Family::Ip, name: TABLE, items }])
}
