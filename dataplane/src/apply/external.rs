//! The external network behind an uplink: interfaces taken from this machine go back to it, and where it has none, a namespace
//! answers as the next hop would.

use std::collections::BTreeSet;
use std::path::Path;

use atoll_node::netlink::link::LinkKind;
use ipnetwork::Ipv4Network;

use super::host::HostNamespace;
use super::lookup::by_name;
use crate::compile::host_to_pod;
use crate::compile::{ExternalNetwork, GROUP, KernelRoute, MAIN, NextHop};
use crate::error::PlaneError;
use crate::kernel::link::is_taken;
use crate::kernel::netlink::Netlink;
use crate::kernel::netns::{self, OpenNetns};
use crate::kernel::sysctl;
use crate::pins::EXTERNAL;

/// Gives the interfaces that were taken from this machine back to it, before a namespace is removed.
pub(crate) fn give_back(netns: &OpenNetns, node: &mut HostNamespace) -> Result<(), PlaneError> {
    let mut netlink = Netlink::open(netns)?;
    for link in netlink.links()?.iter().filter(|link| is_taken(link)) {
        // The mark stays until the interface has arrived: otherwise a crash in between would lose it.
        netlink.move_to(link, &node.netns)?;
        if let Some(link) = node.netlink.link(&link.name)? {
            node.netlink.mark_taken(&link, false)?;
        }
    }
    Ok(())
}

/// Brings the bridges of a namespace down before it is removed: the kernel removes its filters before its links.
pub(crate) fn close(netns: &OpenNetns) -> Result<(), PlaneError> {
    let mut netlink = Netlink::open(netns)?;
    let links = netlink.links()?;
    links
        .iter()
        .filter(|link| link.group == GROUP && link.kind == LinkKind::Bridge && link.up)
        .try_for_each(|link| netlink.set_up(link, false))
}

/// The contents of a namespace that the topology does not have.
#[derive(Default)]
pub(crate) struct Contents {
    /// Interfaces that are neither ours nor taken from this machine: pods.
    pub(crate) has_foreign_interfaces: bool,
    /// Our links, seen from their other ends: the index there, and here.
    pub(crate) links: BTreeSet<(u32, u32)>,
}

impl Contents {
    /// Reads them.
    pub(crate) fn of(netns: &OpenNetns) -> Result<Self, PlaneError> {
        let links = Netlink::open(netns)?.links()?;
        let (ours, others): (Vec<_>, Vec<_>) = links.iter().partition(|link| link.group == GROUP);
        let has_foreign_interfaces = others.iter().any(|link| link.name != "lo" && !is_taken(link));
        let links = ours.iter().filter_map(|link| Some((link.peer?, link.index))).collect();
        Ok(Self { has_foreign_interfaces, links })
    }
}

/// The node's ends of the links of a namespace, by their names.
pub(crate) fn host_ends(netns: &OpenNetns) -> Result<BTreeSet<String>, PlaneError> {
    let links = Netlink::open(netns)?.links()?;
    Ok(links.iter().filter(|link| link.group == GROUP).filter_map(|link| host_to_pod::end_of(&link.name)).collect())
}

/// Configures the namespace that stands for the external network, so that it answers as the next hop would. `waits`: an uplink
/// that is down now is connected to it.
pub(crate) fn external(directory: &Path, wanted: &[&ExternalNetwork], waits: bool) -> Result<usize, PlaneError> {
    let path = directory.join(EXTERNAL);
    let Some(netns) = OpenNetns::open(&path)? else { return Ok(0) };
    if wanted.is_empty() && !waits {
        netns::unpin(&path)?;
        return Ok(1);
    }
    let mut changes = sysctl::host(&netns)?;
    let mut netlink = Netlink::open(&netns)?;
    let links = by_name(netlink.links()?);
    let have = netlink.addresses()?;
    let mut routes: BTreeSet<KernelRoute<u32>> = netlink.routes()?.into_iter().collect();
    for (metric, network) in (0..).zip(wanted) {
        let Some(link) = links.get(&network.name) else { continue };
        if !link.up {
            netlink.set_up(link, true)?;
            changes += 1;
        }
        if !have.contains(&(link.index, network.address)) {
            netlink.add_address(link.index, network.address)?;
            changes += 1;
        }
        let destination = Ipv4Network::new(std::net::Ipv4Addr::UNSPECIFIED, 0).expect("0 is a length");
        let next = NextHop::Via { device: link.index, gateway: network.back };
        let route = KernelRoute { table: MAIN, destination, metric, next };
        if !routes.remove(&route) {
            netlink.add_route(&route)?;
            changes += 1;
        }
    }
    Ok(changes)
}
