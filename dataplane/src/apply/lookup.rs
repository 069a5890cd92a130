//! Pure functions of structures and of what the kernel shows of them.

use std::collections::{BTreeMap, BTreeSet};

use atoll_model::attachment::Mac;
use atoll_node::netlink::link::Link;
use atoll_node::netlink::policy_rule::{PolicyRule, RuleSelector};

use crate::compile::marks::FROM_HOST;
use crate::compile::{
    BridgePort, DeviceKind, HostLink, KernelRoute, Neighbour, NextHop, RouterNamespace, SourceTable, TO_HOST, TO_PODS,
};

/// True if links were added or removed and no other link differs. The kernel removes neighbours and routes of a link whose MAC or
/// address changes, so everything has to be compared then.
pub(super) fn is_small(have: &RouterNamespace, want: &RouterNamespace) -> bool {
    want.devices.iter().all(|(name, device)| have.devices.get(name).is_none_or(|before| before == device))
}

/// What the settings of a namespace depend on: whether bridged packets are tracked, whether there is no uplink, whether the
/// host has a link to it.
pub(super) fn settings_of(namespace: &RouterNamespace) -> (bool, bool, bool) {
    let inner = !namespace.devices.values().any(|device| matches!(device.kind, DeviceKind::Uplink { .. }));
    (namespace.track_bridged, inner, namespace.node.is_some())
}

/// The policy rules of a namespace: by source, for packets of the node, and for answers to the node.
pub(super) fn policy_rules_of(namespace: &RouterNamespace) -> BTreeSet<PolicyRule> {
    let by_source =
        |of: &SourceTable| PolicyRule { selector: RuleSelector::Source(of.network.into()), table: of.table };
    let of_host = |link: &HostLink| {
        let from = PolicyRule { selector: RuleSelector::Interface(link.name.clone()), table: TO_PODS };
        [from, PolicyRule { selector: RuleSelector::Mark(FROM_HOST), table: TO_HOST }]
    };
    namespace.sources.iter().map(by_source).chain(namespace.node.iter().flat_map(of_host)).collect()
}

/// One MAC for each device and address: the last one counts.
pub(super) fn by_device_and_address(
    neighbours: &BTreeSet<Neighbour<String>>,
) -> BTreeMap<(&str, std::net::Ipv4Addr), Mac> {
    neighbours.iter().map(|it| ((it.device.as_str(), it.address), it.mac)).collect()
}

pub(super) fn indexed(route: &KernelRoute<String>, index: impl Fn(&str) -> Option<u32>) -> Option<KernelRoute<u32>> {
    let next = match &route.next {
        NextHop::Via { device, gateway } => NextHop::Via { device: index(device)?, gateway: *gateway },
        NextHop::Direct { device } => NextHop::Direct { device: index(device)? },
        NextHop::BlackHole => NextHop::BlackHole,
        NextHop::Prohibit => NextHop::Prohibit,
    };
    Some(KernelRoute { table: route.table, destination: route.destination, metric: route.metric, next })
}

pub(super) fn by_name(links: Vec<Link>) -> BTreeMap<String, Link> {
    links.into_iter().map(|link| (link.name.clone(), link)).collect()
}

/// The permanent neighbours of a pod's addresses.
pub(super) fn neighbours_of(pod: &BridgePort) -> impl Iterator<Item = Neighbour<String>> + '_ {
    let allowed_sources = pod.routed.then_some(&pod.allowed_sources).into_iter().flatten();
    allowed_sources.map(|source| Neighbour { device: pod.bridge.clone(), address: source.address, mac: source.mac })
}
