//! Pure questions about structures and what the kernel shows of them.

use std::collections::{BTreeMap, BTreeSet};

use atoll_model::attachment::Mac;

use crate::compile::marks::FROM_HOST;
use crate::compile::{DeviceKind, Domain, Neighbour, NextHop, Pod, Route, TO_NODE, TO_PODS};
use crate::kernel::nl::{Link, Steer};

/// True when links came or went, and none that stays is different: the kernel forgets neighbours and routes of a link
/// whose MAC or address changes, so that everything has to be compared.
pub(super) fn is_small(have: &Domain, want: &Domain) -> bool {
    want.devices.iter().all(|(name, device)| have.devices.get(name).is_none_or(|before| before == device))
}

/// What the settings of a namespace depend on: bridged packets are tracked, nobody from outside sends here, the node does.
pub(super) fn settings_of(domain: &Domain) -> (bool, bool, bool) {
    let inner = !domain.devices.values().any(|device| matches!(device.kind, DeviceKind::Uplink { .. }));
    (domain.track_bridged, inner, domain.node.is_some())
}

/// What leads packets of the node, and what answers them, to their tables.
pub(super) fn steers_of(domain: &Domain) -> BTreeSet<Steer> {
    let steers = |link: &str| {
        [Steer::From { link: link.to_owned(), table: TO_PODS }, Steer::Marked { mark: FROM_HOST, table: TO_NODE }]
    };
    domain.node.iter().flat_map(|link| steers(&link.name)).collect()
}

/// One MAC for each address: the last one counts.
pub(super) fn by_place(neighbours: &BTreeSet<Neighbour<String>>) -> BTreeMap<(&str, std::net::Ipv4Addr), Mac> {
    neighbours.iter().map(|it| ((it.device.as_str(), it.address), it.mac)).collect()
}

pub(super) fn indexed(route: &Route<String>, index: impl Fn(&str) -> Option<u32>) -> Option<Route<u32>> {
    let next = match &route.next {
        NextHop::Via { device, gateway } => NextHop::Via { device: index(device)?, gateway: *gateway },
        NextHop::Direct { device } => NextHop::Direct { device: index(device)? },
        NextHop::BlackHole => NextHop::BlackHole,
        NextHop::Prohibit => NextHop::Prohibit,
    };
    Some(Route { table: route.table, destination: route.destination, metric: route.metric, next })
}

pub(super) fn by_name(links: Vec<Link>) -> BTreeMap<String, Link> {
    links.into_iter().map(|link| (link.name.clone(), link)).collect()
}

/// The neighbours that the router knows because a pod is there.
pub(super) fn neighbours_of(pod: &Pod) -> impl Iterator<Item = Neighbour<String>> + '_ {
    let speakers = pod.routed.then_some(&pod.speakers).into_iter().flatten();
    speakers.map(|speaker| Neighbour { device: pod.bridge.clone(), address: speaker.address, mac: speaker.mac })
}
