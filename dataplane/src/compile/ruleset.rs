//! The two nftables tables of a router namespace.
//!
//! `bridge atoll` is port security: from which addresses each port may send; whatever is not listed is dropped, so a port
//! without its elements is closed. `ip atoll` is the router: its chains, its translations, and its own addresses,
//! which answer ICMP echo and nothing else. Both are replaced in one transaction, elements of pods included. The
//! name of an empty chain identifies the loaded ruleset.
//!
//! Rules drop, policies never do. Within a transaction the kernel changes all rules at once, but hooks and policies one
//! by one: an old chain would have dropped what is right, and a new one let pass what is wrong, for a moment.

use atoll_model::topology::Device;
use uuid::Uuid;

use super::limits::UNKNOWN_HOSTS;
use super::marks::TO_ROUTER;
use super::plan::{DeviceKind, RouterNamespace};
use super::priorities::{OWN_MAC, PORT_SECURITY};
use super::statement::Statement;
use super::table::{Family, NamedSet, NftChain, Ruleset, Table};
use super::view::View;
use super::{filters, names, router};

/// Fills in `namespace.ruleset`, once its devices are known.
pub(super) fn compile(view: &View<'_>, id: Uuid, bridges: &[Uuid], namespace: &mut RouterNamespace) {
    let filters = filters::compile(view, bridges, namespace, view.router(id).is_some_and(|router| router.up));
    namespace.track_bridged = filters.tracks;
    namespace.unsupported.extend(filters.unsupported.iter().cloned());
    namespace.elements.clone_from(&filters.elements);
    namespace.closed.clone_from(&filters.closed);
    let mut bridge = bridge_table(view, bridges, namespace);
    let router = router::table(view, id, bridges, namespace, &filters);
    bridge.items.extend(filters.items);
    namespace.ruleset = Ruleset::new(vec![bridge, router]);
}

/// Unknown hosts, behind ports without port security: they may send from any address but a gateway's, and a bounded number of
/// them is remembered.
const UNKNOWN: &str = "ether saddr @gateway_macs return
ether type ip ip saddr @gateway_addresses return
ether type arp arp saddr ether @gateway_macs return
ether type arp arp saddr ip @gateway_addresses return
ether type { ip, arp } update @fdb_entries { iifname . ether saddr } jump known_host";
/// What such a host may send.
const KNOWN_HOST: &str = "ether type ip accept
arp htype 1 arp ptype 0x0800 arp hlen 6 arp plen 4 update @unknown_hosts { iifname . arp saddr ip } accept";
/// Port security, behind what distinguishes routed from bridged packets.
const SECURITY: &str = "ether type ip iifname . ether saddr . ip saddr @allowed_sources accept
ether type arp arp htype 1 arp ptype 0x0800 arp hlen 6 arp plen 4 iifname . ether saddr . arp saddr ether . arp saddr ip @arp_senders accept
iifname @links accept
iifname @open jump unknown
update @refused { iifname counter }
drop";

fn bridge_table(view: &View<'_>, bridges: &[Uuid], namespace: &RouterNamespace) -> Table {
    let ends = namespace.devices.iter().filter(|(_, d)| matches!(&d.kind, DeviceKind::Link { bridge: Some(_), .. }));
    let ends: Vec<_> = ends.map(|(name, _)| format!("\"{name}\"")).collect();
    let (mut macs, mut addresses) = (Vec::new(), Vec::new());
    for (_, port) in bridges.iter().flat_map(|bridge| view.ports_of(*bridge)) {
        let Some((id, peer)) = view.peer(port) else { continue };
        if let Device::Router { address, .. } = peer.device {
            macs.push(names::router_mac(id, &peer.device).to_string());
            addresses.push(address.ip().to_string());
        }
    }
    addresses.extend(namespace.node.as_ref().map(|link| link.pool.source().to_string()));
    let sorted = |name, key, mut elements: Vec<String>| {
        elements.sort();
        elements.dedup();
        NamedSet::set(name, key, elements)
    };
    let empty = |name, key| NamedSet::set(name, key, Vec::new());
    let statements = |text: &str| Statement::fixed(text).collect::<Vec<_>>();
    let security = to_router(namespace).into_iter().chain(statements(SECURITY)).collect();
    let items = vec![
        sorted("links", "ifname", ends).into(),
        sorted("gateway_macs", "ether_addr", macs).into(),
        sorted("gateway_addresses", "ipv4_addr", addresses).into(),
        own(namespace).into(),
        empty("allowed_sources", "ifname . ether_addr . ipv4_addr").into(),
        empty("arp_senders", "ifname . ether_addr . ether_addr . ipv4_addr").into(),
        empty("open", "ifname").into(),
        NamedSet::dynamic("refused", "ifname", 65535, None).into(),
        NamedSet::dynamic("fdb_entries", "ifname . ether_addr", UNKNOWN_HOSTS, Some("5m")).into(),
        NamedSet::dynamic("unknown_hosts", "ifname . ipv4_addr", UNKNOWN_HOSTS, Some("5m")).into(),
        NftChain::new("unknown", statements(UNKNOWN)).into(),
        NftChain::new("known_host", statements(KNOWN_HOST)).into(),
        NftChain::base("prerouting", PORT_SECURITY, security).into(),
    ];
    Table { family: Family::Bridge, name: "atoll", items }
}

/// The MACs of the router's own interfaces on its bridges.
fn own_macs(namespace: &RouterNamespace) -> Vec<String> {
    let own = namespace.devices.values().filter(|d| d.kind == DeviceKind::Bridge && !d.addresses.is_empty());
    own.map(|device| device.mac.to_string()).collect()
}

/// Drops frames that the bridge accepts for the MAC of one of its ports, unless the MAC is the router's own. Otherwise such a
/// packet would be routed, but count as bridged in chains that distinguish the two, and bypass them.
fn own(namespace: &RouterNamespace) -> NftChain {
    let macs = own_macs(namespace);
    // Nearly every frame is for the router: it is accepted first.
    let own = if macs.is_empty() { String::new() } else { format!("ether daddr {{ {} }} accept\n", macs.join(", ")) };
    let one = "ether daddr and 01:00:00:00:00:00 == 00:00:00:00:00:00";
    NftChain::fixed("own", OWN_MAC, &format!("{own}{one} drop"))
}

/// Distinguishes routed from bridged packets, if both pass the router's hooks.
fn to_router(namespace: &RouterNamespace) -> Vec<Statement> {
    let macs = own_macs(namespace);
    if !namespace.track_bridged || macs.is_empty() {
        return Vec::new();
    }
    // A frame that the router sent through a link within its own namespace still has its earlier marks.
    let marked = format!("ether daddr {{ {} }} meta mark set {TO_ROUTER:#x}", macs.join(", "));
    vec![Statement::Fixed("meta mark set 0x0".to_owned()), Statement::Fixed(marked)]
}
