//! Host-to-pod sides in the real kernel, over rtnetlink and nfnetlink.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr};

use atoll_model::host_to_pod::{HostToPodPool, SOURCE_V6, nodes_like, pool_like};
use atoll_model::ids::IfName;
use atoll_model::route::PodRoute;
use atoll_node::netlink::filter::{Expression, FilterChain, FilterFamily, FilterHook, FilterSocket, MapElement};
use atoll_node::netlink::flows::FlowSocket;
use atoll_node::netlink::link::VethEnd;
use atoll_node::netlink::policy_rule::{PolicyRule, RuleSelector};
use atoll_node::netlink::route::{RouteMessage, RoutePosition, RouteRequest, RouteType};
use atoll_node::netlink::{Refused, Socket, address, link, neighbour, offload, policy_rule, route};
use atoll_node::netns::{self, pin};
use atoll_node::veth::HOST_TO_POD_GROUP;
use ipnetwork::IpNetwork;
use nix::errno::Errno;

use super::super::host_to_pod::{HostToPodChange, HostToPodEntry, HostToPodRoute, HostToPodSide, HostToPodState};
use super::super::{Link, LinkKind, Netns, host_index};
use super::{Linux, PRIORITY, absent_is_fine, gone, there_already_is_fine};

/// The names of the links inside: the rules name them.
const TO_NODE: &str = "node";
const TO_PODS: &str = "pods";
/// Our table of nftables, inside and in the node's own namespace.
const FILTER: &str = "atoll_host_to_pod";
/// The node's routes to its pods. Only packets that the node sends itself, and those that it has translated, are routed by
/// it: others cannot use the node as a router to tenants.
const TABLE: u32 = 0xa700_0001;
/// The bit in the mark of packets whose destination was translated on this node: those to a published address (`hostPort`).
const TRANSLATED: u32 = 0x1000;

/// Makes a namespace forward packets of IPv6, in the eyes of a thread in it. Of IPv4, each interface can be told by netlink.
const FORWARDING_V6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

/// By what the ends of the link to the node are the next hops of each other: that of the namespace, and that of the node. Of
/// IPv6 these are link-local addresses: the kernel takes others only if no route contradicts.
fn hops_like(like: IpAddr) -> [IpAddr; 2] {
    let link_local = |last| IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last));
    if like.is_ipv4() { nodes_like(like) } else { [link_local(1), link_local(2)] }
}

impl Linux {
    pub(super) fn change_side(&self, side: &HostToPodSide, change: &HostToPodChange) -> Result<bool, Refused> {
        match change {
            HostToPodChange::Namespace if netns::is_pinned(&side.netns) => {}
            HostToPodChange::Namespace => pin::create(&side.netns, &|_| Ok(()))?,
            HostToPodChange::Rules => filter(&side.place())?.ok_or_else(gone)?.load(FILTER, &inside())?,
            HostToPodChange::SwitchLink(mac, mtu) => {
                let own = self.socket(&Netns::Own)?.ok_or_else(gone)?;
                let inner = self.inside(side)?;
                let netns = netns::open(&side.netns)?.ok_or_else(gone)?;
                let pods = VethEnd { name: TO_PODS, mac: Some(*mac), netns: Some(&netns), ..end(*mtu) };
                let name = side.switch_end();
                make_pair(
                    &own,
                    &VethEnd { name: name.as_str(), index: outer_index(&name), up: true, ..end(*mtu) },
                    &inner,
                    &pods,
                )?;
                link::bring_up(&inner, TO_PODS, Some(link::forwarding()))?;
            }
            HostToPodChange::ComputeChecksums => {
                offload::compute_checksums(&side.place(), &IfName::new(TO_PODS).expect("a name"))?;
            }
            HostToPodChange::NodeLink(networks, mtu) => self.make_node_link(side, networks, *mtu)?,
            HostToPodChange::AddPod(entry) => {
                filter(&side.place())?.ok_or_else(gone)?.add(FILTER, &element(entry))?;
            }
            HostToPodChange::AddRoutes(entry, direct) => return self.add_routes(side, entry, *direct),
            HostToPodChange::DeleteRoutes(entry) => {
                let own = self.socket(&Netns::Own)?.ok_or_else(gone)?;
                absent_is_fine(route::delete(&own, &prohibited(entry)), Errno::ESRCH)?;
                // Without the link they are gone.
                let Some(end) = link::by_name(&own, side.node_end().as_str())? else { return Ok(true) };
                for to in [entry.address, entry.pod] {
                    absent_is_fine(route::delete(&own, &to_pod(to, end.index)), Errno::ESRCH)?;
                }
            }
            HostToPodChange::DeletePod(entry) => {
                if let Some(mut filter) = filter(&side.place())? {
                    filter.delete(FILTER, &element(entry))?;
                    // A flow keeps its translation without the element.
                    if let Some(mut flows) = within(&side.place(), FlowSocket::here)? {
                        flows.delete_answered_by(entry.pod)?;
                    }
                }
            }
            HostToPodChange::Remove => {
                let own = self.socket(&Netns::Own)?.ok_or_else(gone)?;
                for name in [side.node_end(), side.switch_end()] {
                    if let Some(found) = link::by_name(&own, name.as_str())?.filter(is_ours) {
                        absent_is_fine(link::delete(&own, found.index), Errno::ENODEV)?;
                    }
                }
                pin::unpin(&side.netns, &|_| Ok(()))?;
            }
        }
        Ok(true)
    }

    pub(super) fn side(&self, side: &HostToPodSide) -> Result<HostToPodState, Refused> {
        let own = self.socket(&Netns::Own)?.ok_or_else(gone)?;
        let is_complete = link::by_name(&own, side.node_end().as_str())?.is_some_and(|link| link.up && is_ours(&link));
        let elements = match filter(&side.place())? {
            Some(mut filter) => filter.elements(FILTER)?,
            None => None,
        };
        let is_complete = is_complete && elements.is_some();
        let entry = |MapElement { key: address, value: pod, comment }| {
            Some(HostToPodEntry { address, pod, interface: IfName::new(comment).ok()? })
        };
        Ok(HostToPodState { is_complete, pods: elements.unwrap_or_default().into_iter().filter_map(entry).collect() })
    }

    pub(super) fn route_in_pool(&self, to: IpAddr) -> Result<Option<HostToPodRoute>, Refused> {
        let own = self.socket(&Netns::Own)?.ok_or_else(gone)?;
        let Some(found) = route::used(&own, to)? else { return Ok(None) };
        let by = found.interface.map(|index| link::by_index(&own, index)).transpose()?.flatten();
        if let Some(end) = by.filter(is_ours) {
            // What the machine has itself of the pool is on these interfaces too.
            let name = IfName::new(end.name).ok().filter(|_| found.table == TABLE);
            return Ok(name.map(HostToPodRoute::Side));
        }
        let pool = pool_like(to);
        let is_of_pool = pool.contains(found.destination.ip()) && found.destination.prefix() >= pool.prefix();
        Ok(is_of_pool.then_some(HostToPodRoute::Elsewhere(found.destination)))
    }

    fn inside(&self, side: &HostToPodSide) -> Result<std::sync::Arc<Socket>, Refused> {
        self.socket(&side.place())?.ok_or_else(gone)
    }

    fn make_node_link(&self, side: &HostToPodSide, networks: &[IpNetwork], mtu: u32) -> Result<(), Refused> {
        let own = self.socket(&Netns::Own)?.ok_or_else(gone)?;
        let inner = self.inside(side)?;
        let netns = netns::open(&side.netns)?.ok_or_else(gone)?;
        let ([here, there], name) = (side.macs(), side.node_end());
        let node = VethEnd { name: TO_NODE, mac: Some(here), netns: Some(&netns), ..end(mtu) };
        make_pair(
            &own,
            &VethEnd { name: name.as_str(), index: outer_index(&name), mac: Some(there), ..end(mtu) },
            &inner,
            &node,
        )?;
        link::bring_up(&inner, TO_NODE, Some(link::forwarding()))?;
        let (to_node, to_pods) = (index(&inner, TO_NODE)?, index(&inner, TO_PODS)?);
        let end = index(&own, name.as_str())?;
        filter(&Netns::Own)?.ok_or_else(gone)?.load(FILTER, &outside())?;
        for network in networks {
            let like = network.ip();
            let ([source, node], [here_hop, there_hop]) = (nodes_like(like), hops_like(like));
            if like.is_ipv6() {
                netns::open_inside(&netns, || fs::write(FORWARDING_V6, "1"))?;
            }
            address::replace(&inner, to_pods, source)?;
            neighbour::replace(&inner, to_node, there_hop, there)?;
            let back = PodRoute::default_by(there_hop);
            let pods = PodRoute::plain(*network, None);
            for message in [by_hop(&back, to_node).message(), RouteRequest::unicast(&pods, to_pods).message()] {
                there_already_is_fine(route::add(&inner, &message, RoutePosition::Only))?;
            }
            address::replace(&own, end, node)?;
            neighbour::replace(&own, end, here_hop, here)?;
            for selector in [RuleSelector::Interface("lo".to_owned()), RuleSelector::Mark(TRANSLATED)] {
                let rule = PolicyRule { selector, table: TABLE }.message(PRIORITY, None);
                let rule = if like.is_ipv4() { rule } else { policy_rule::of_ipv6(rule) };
                there_already_is_fine(policy_rule::add(&own, &rule))?;
            }
        }
        link::set_up(&own, end, true)
    }

    /// False: another pod of this node has the address.
    fn add_routes(&self, side: &HostToPodSide, entry: &HostToPodEntry, direct: bool) -> Result<bool, Refused> {
        let own = self.socket(&Netns::Own)?.ok_or_else(gone)?;
        let end = index(&own, side.node_end().as_str())?;
        if let Err(refused) = route::add(&own, &to_pod(entry.address, end), RoutePosition::Only) {
            if refused.errno != Errno::EEXIST {
                return Err(refused);
            }
            if self.route_in_pool(entry.address)? != Some(HostToPodRoute::Side(side.node_end())) {
                return Ok(false);
            }
        }
        let other = if direct { to_pod(entry.pod, end) } else { prohibited(entry) };
        there_already_is_fine(route::add(&own, &other, RoutePosition::Only))?;
        Ok(true)
    }
}

/// The packet filter of a namespace; none: it is not there.
fn filter(netns: &Netns) -> io::Result<Option<FilterSocket>> {
    within(netns, FilterSocket::here)
}

/// Opens a socket in a namespace; none: it is not there.
fn within<T: Send>(netns: &Netns, open: fn() -> io::Result<T>) -> io::Result<Option<T>> {
    match netns {
        Netns::Own => open().map(Some),
        Netns::At(path) => match netns::open(path)? {
            None => Ok(None),
            Some(file) => match netns::open_inside(&file, open) {
                Err(error) if netns::is_no_netns(&error) => Ok(None),
                other => other.map(Some),
            },
        },
    }
}

/// The rules of the namespace of a subnet. Pods answer, and begin nothing.
fn inside() -> Vec<FilterChain> {
    use Expression::{Accept, Answers, By, DestinationFromMap, From, IsNeighbourDiscovery, Source};
    let pool = HostToPodPool::DEFAULT;
    let sources = [pool.source().into(), SOURCE_V6.into()].map(|source| vec![By(TO_PODS), Source(source)]);
    let neighbours = vec![From(TO_PODS), IsNeighbourDiscovery, Accept];
    let chain = |name, kind, hook, priority, drops, rules| FilterChain { name, kind, hook, priority, drops, rules };
    vec![
        chain("arriving", "filter", FilterHook::Input, 0, true, vec![neighbours]),
        chain(
            "passing",
            "filter",
            FilterHook::Forward,
            0,
            true,
            vec![vec![From(TO_NODE), By(TO_PODS), Accept], vec![From(TO_PODS), By(TO_NODE), Answers, Accept]],
        ),
        chain(
            "destinations",
            "nat",
            FilterHook::Prerouting,
            -100,
            false,
            FilterFamily::ALL.map(|family| vec![From(TO_NODE), DestinationFromMap(family)]).to_vec(),
        ),
        chain("sources", "nat", FilterHook::Postrouting, 100, false, sources.to_vec()),
    ]
}

/// The rules of the node's own namespace. Without them, no other host reaches a pod by this node.
fn outside() -> Vec<FilterChain> {
    let rules = vec![vec![Expression::IsTranslated, Expression::Mark(TRANSLATED)]];
    // Behind the translation of destinations (-100).
    vec![FilterChain {
        name: "translated",
        kind: "filter",
        hook: FilterHook::Prerouting,
        priority: -90,
        drops: false,
        rules,
    }]
}

fn element(entry: &HostToPodEntry) -> MapElement {
    MapElement { key: entry.address, value: entry.pod, comment: entry.interface.to_string() }
}

fn end(mtu: u32) -> VethEnd<'static> {
    VethEnd { mtu: Some(mtu), group: HOST_TO_POD_GROUP, single_queue: true, ..VethEnd::default() }
}

/// The index of a link.
fn index(socket: &Socket, name: &str) -> Result<u32, Refused> {
    link::by_name(socket, name)?.map(|link| link.index).ok_or_else(|| Refused::silent(Errno::ENODEV))
}

/// The index of an outer end, from the digits of its name: a large one, for the reason of [`host_index`].
fn outer_index(name: &IfName) -> u32 {
    let (kind, digits) = name.as_str().split_at(3);
    let bits = u64::from_str_radix(digits, 16).map_or(0, |bits| bits & 0x0fff_ffff);
    u32::try_from(bits).unwrap_or(0) | if kind == "ato" { 0x2000_0000 } else { 0x3000_0000 }
}

fn is_ours(link: &Link) -> bool {
    link.kind == LinkKind::Veth && link.group == HOST_TO_POD_GROUP
}

/// Makes a link whose inner end is in a namespace of ours. The rest of an earlier one goes.
fn make_pair(own: &Socket, outer: &VethEnd<'_>, inside: &Socket, inner: &VethEnd<'_>) -> Result<(), Refused> {
    let refused = match link::create_veth(own, outer, inner) {
        Err(refused) if refused.errno == Errno::EEXIST => refused,
        other => return other,
    };
    let (there, within) = (link::by_name(own, outer.name)?, link::by_name(inside, inner.name)?);
    if there.as_ref().is_some_and(|link| !is_ours(link)) {
        return Err(refused);
    }
    if let (Some(there), Some(within)) = (&there, &within)
        && there.peer == Some(within.index)
        && within.peer == Some(there.index)
    {
        return Ok(());
    }
    for (socket, found) in [(own, there), (inside, within)] {
        if let Some(found) = found {
            absent_is_fine(link::delete(socket, found.index), Errno::ENODEV)?;
        }
    }
    link::create_veth(own, outer, inner)
}

/// The node's route to an address of a pod.
fn to_pod(to: IpAddr, end: u32) -> RouteMessage {
    let ([hop, _], [_, node]) = (hops_like(to), nodes_like(to));
    let route = PodRoute { table: Some(TABLE), ..PodRoute::plain(to.into(), Some(hop)) };
    RouteRequest { source: Some(node), ..by_hop(&route, end) }.message()
}

/// A route by a next hop that is on the link whatever addresses the interface has. One of IPv6 is a link-local address, which is
/// on every link.
fn by_hop(route: &PodRoute, interface: u32) -> RouteRequest<'_> {
    RouteRequest { on_link: route.destination.is_ipv4(), ..RouteRequest::unicast(route, interface) }
}

/// The route that keeps the node's packets to a pod's own address on the node: several pods may have it, and an external host
/// may. Each attachment has one of its own, told apart by the metric.
fn prohibited(entry: &HostToPodEntry) -> RouteMessage {
    let (table, priority) = (Some(TABLE), Some(host_index(&entry.interface)));
    let route = PodRoute { table, priority, ..PodRoute::plain(entry.pod.into(), None) };
    RouteRequest::dead_end(&route, RouteType::Prohibit).message()
}
