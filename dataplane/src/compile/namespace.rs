//! Devices, addresses, routes and neighbours of one namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use atoll_model::topology::{Device as Owner, NatTarget, Port, RouteAction, RuleAction};
use ipnetwork::Ipv4Network;
use uuid::Uuid;

use super::location::{self, Location};
use super::plan::{
    DeviceKind, ExternalNetwork, KernelDevice, KernelRoute, MAIN, Neighbour, NextHop, RouterNamespace, SourceTable,
    TranslationTarget,
};
use super::unsupported::Unsupported;
use super::view::View;
use super::{audit, call_graph, host_to_pod, names, ruleset};

/// Everything in the namespace `id` with these bridges.
pub(super) fn compile(view: &View<'_>, id: Uuid, bridges: &[Uuid]) -> RouterNamespace {
    let mut namespace = RouterNamespace::default();
    for bridge in bridges {
        namespace.devices.insert(
            names::bridge(*bridge),
            KernelDevice { kind: DeviceKind::Bridge, mac: names::mac(*bridge), addresses: BTreeSet::new() },
        );
        links_of_bridge(view, *bridge, &mut namespace);
        let left = view.bridge(*bridge).map(|it| audit::bridge(*bridge, it)).unwrap_or_default();
        namespace.unsupported.extend(view.bridge(*bridge).and_then(|it| audit::static_entries(view, *bridge, it)));
        namespace.unsupported.extend(left.unsupported);
    }
    for (port, it) in [id].iter().chain(bridges).flat_map(|device| view.ports_of(*device)) {
        // Ports that an interface is bound to come and go without the rest: `port` reports them.
        if it.peer.is_some() || matches!(it.device, Owner::Router { .. }) {
            namespace.unsupported.extend(audit::port(port, it).unsupported);
        }
    }
    for device in [id].iter().chain(bridges) {
        namespace.unsupported.extend(audit::links(view, *device));
    }
    if let Some(router) = view.router(id) {
        let left = audit::router(id, router);
        namespace.shut = left.closed.is_some();
        namespace.unsupported.extend(left.unsupported);
        ports_of_router(view, id, &mut namespace);
        routes(view, id, &mut namespace);
        namespace.targets = targets(view, &[router.inbound, router.outbound]);
    }
    host_to_pod::link(view, id, &mut namespace);
    ruleset::compile(view, id, bridges, &mut namespace);
    namespace
}

/// What the rules of these chains, and of those that they can come to, translate to.
fn targets(view: &View<'_>, chains: &[Option<Uuid>]) -> BTreeMap<Uuid, BTreeSet<TranslationTarget>> {
    let chains: BTreeSet<_> = chains.iter().flatten().flat_map(|chain| call_graph::reached(view, *chain)).collect();
    let rules = chains.into_iter().filter_map(|chain| view.chain(chain)).flat_map(|chain| &chain.rules);
    let translations = rules.filter_map(|rule| match &rule.action {
        RuleAction::Snat { targets, .. } => Some((rule.id, false, targets)),
        RuleAction::Dnat { targets, .. } => Some((rule.id, true, targets)),
        _ => None,
    });
    let target = |destination, it: &NatTarget| TranslationTarget { destination, from: it.from, to: it.to };
    translations.map(|(id, kind, targets)| (id, targets.iter().map(|it| target(kind, it)).collect())).collect()
}

/// The ends of links that are ports of a bridge: to other routers, and to further ports of the same router.
fn links_of_bridge(view: &View<'_>, bridge: Uuid, namespace: &mut RouterNamespace) {
    for (id, port) in view.ports_of(bridge) {
        let Some((peer_id, peer)) = view.peer(port) else { continue };
        let Owner::Router { id: router, .. } = peer.device else { continue };
        if port.up && matches!(location::locate(view, router, peer_id, peer), Location::Link(_)) {
            let link = KernelDevice {
                kind: DeviceKind::Link {
                    namespace: router,
                    name: names::link(peer_id, id),
                    mac: names::router_mac(peer_id, &peer.device),
                    bridge: Some(names::bridge(bridge)),
                },
                mac: names::mac(id),
                addresses: BTreeSet::new(),
            };
            namespace.devices.insert(names::link(id, peer_id), link);
        }
    }
}

fn ports_of_router(view: &View<'_>, router_id: Uuid, namespace: &mut RouterNamespace) {
    for (id, port) in view.ports_of(router_id) {
        let Owner::Router { address, .. } = port.device else { continue };
        let mac = names::router_mac(id, &port.device);
        let addresses = BTreeSet::from([address.ip()]);
        match location::locate(view, router_id, id, port) {
            Location::Bridge(bridge) => {
                let (kind, name) = (DeviceKind::Bridge, names::bridge(bridge));
                // Static entries of the ARP table: the router need not ask.
                let entries = view.bridge(bridge).into_iter().flat_map(|bridge| &bridge.arp);
                let known = entries.filter(|(_, mac)| mac.0[0] & 1 == 0);
                let neighbour =
                    |(address, mac): (&_, &_)| Neighbour { device: name.clone(), address: *address, mac: *mac };
                namespace.neighbours.extend(known.map(neighbour));
                namespace.devices.insert(name, KernelDevice { kind, mac, addresses });
            }
            Location::Link(peer_id) => {
                let Some((_, peer)) = view.peer(port) else { continue };
                let name = names::link(id, peer_id);
                let (peer_namespace, peer_mac) = match peer.device {
                    Owner::Router { id: owner, address: to, .. } => {
                        let mac = names::router_mac(peer_id, &peer.device);
                        namespace.neighbours.insert(Neighbour { device: name.clone(), address: to.ip(), mac });
                        (owner, mac)
                    }
                    Owner::Bridge { id: bridge, .. } => {
                        (location::of_bridge(view, bridge).unwrap_or(router_id), names::mac(peer_id))
                    }
                };
                let kind = DeviceKind::Link {
                    namespace: peer_namespace,
                    name: names::link(peer_id, id),
                    mac: peer_mac,
                    bridge: None,
                };
                namespace.devices.insert(name, KernelDevice { kind, mac, addresses });
            }
            Location::Uplink(interface) => {
                let kind = DeviceKind::Uplink { external: external(view, router_id, id, address) };
                namespace.devices.insert(interface, KernelDevice { kind, mac, addresses });
            }
            Location::Nowhere => {}
        }
    }
}

/// What an uplink finds at its far end when the machine has no such interface: the gateway of a route through it.
fn external(view: &View<'_>, router: Uuid, port: Uuid, own: Ipv4Network) -> Option<ExternalNetwork> {
    let gateway = view.routes_of(router).find_map(|(_, route)| match route.action {
        RouteAction::Forward { port: through, gateway: Some(gateway) } if through == port => Some(gateway),
        _ => None,
    })?;
    if gateway == own.ip() || !own.contains(gateway) {
        return None;
    }
    let address = Ipv4Network::new(gateway, own.prefix()).ok()?;
    let name = names::external(port);
    Some(ExternalNetwork { mac: names::mac(Uuid::new_v5(&port, b"outside")), name, address, back: own.ip() })
}

fn routes(view: &View<'_>, router_id: Uuid, namespace: &mut RouterNamespace) {
    let own: BTreeSet<Ipv4Addr> = view.ports_of(router_id).filter_map(|(_, port)| own_address(port)).collect();
    let mut usable: Vec<Usable> = Vec::new();
    for (id, route) in view.routes_of(router_id) {
        let next = match route.action {
            RouteAction::BlackHole => NextHop::BlackHole,
            RouteAction::Reject => NextHop::Prohibit,
            // The kernel makes these itself for every address of an interface.
            RouteAction::Local { .. } => continue,
            RouteAction::Forward { port, gateway } => {
                let Some(device) = location::interface(view, router_id, port) else { continue };
                let linked = view.port(port).and_then(|port| view.peer(port));
                match (linked, gateway) {
                    // Between two routers the next hop is always the other end, whatever gateway the route has.
                    (Some((_, Port { device: Owner::Router { address, .. }, .. })), _) => {
                        NextHop::Via { device, gateway: address.ip() }
                    }
                    // No host can have this address, and the kernel refuses it.
                    (_, Some(gateway)) if own.contains(&gateway) || !is_of_a_host(gateway) => NextHop::BlackHole,
                    (_, Some(gateway)) => NextHop::Via { device, gateway },
                    (_, None) => NextHop::Direct { device },
                }
            }
        };
        let (source, destination) = (whole(route.source), whole(route.destination));
        usable.push(Usable { id, source, route: KernelRoute { table: MAIN, destination, metric: route.weight, next } });
    }
    // The narrowest source first: it wins where destination and weight are equal.
    usable.sort_by_key(|usable| (std::cmp::Reverse(usable.source.prefix()), usable.id));
    tables(&usable, namespace);
}

/// The address of a router's port.
fn own_address(port: &Port) -> Option<Ipv4Addr> {
    match port.device {
        Owner::Router { address, .. } => Some(address.ip()),
        Owner::Bridge { .. } => None,
    }
}

/// False for addresses that no interface can have.
fn is_of_a_host(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || address.is_broadcast())
}

/// A route whose port is there.
struct Usable {
    id: Uuid,
    source: Ipv4Network,
    route: KernelRoute<String>,
}

/// The longest destination wins among all routes whose source fits, whatever the length of the source. So each source
/// has a table with everything that fits it: its own routes and those of every wider source.
fn tables(usable: &[Usable], namespace: &mut RouterNamespace) {
    let everywhere = Ipv4Network::new(Ipv4Addr::UNSPECIFIED, 0).expect("0 is a length");
    let sources: BTreeSet<_> =
        usable.iter().map(|usable| usable.source).filter(|source| *source != everywhere).collect();
    namespace.sources = (1000..).zip(sources).map(|(table, network)| SourceTable { network, table }).collect();
    let mut tables: Vec<_> = namespace.sources.iter().copied().collect();
    tables.push(SourceTable { network: everywhere, table: MAIN });
    for SourceTable { network, table } in tables {
        let mut taken = BTreeSet::new();
        for Usable { id, source, route } in usable {
            if source.prefix() > network.prefix() || !source.contains(network.ip()) {
                continue;
            }
            if taken.insert((route.destination, route.metric)) {
                namespace.routes.insert(KernelRoute { table, ..route.clone() });
            } else {
                namespace.unsupported.insert(Unsupported {
                    object: *id,
                    field: "weight".to_owned(),
                    why: "another route has the same destination and weight, and flows are not spread".to_owned(),
                    effect: "the other route is used where its source fits".to_owned(),
                    closes: false,
                });
            }
        }
    }
}

/// A network without host bits.
fn whole(network: Ipv4Network) -> Ipv4Network {
    Ipv4Network::new(network.network(), network.prefix()).expect("a length that a network has")
}
