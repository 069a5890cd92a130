//! The machine's own namespace: its ends of the links to tenants' routers, its routes to pods, and its guard.
//!
//! Only these are touched: links whose name begins with `atn` and that are of our group, routes of our protocol through
//! them or to the whole pool, and the table `atoll_node`. The guard stands before the first link does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use atoll_model::attachment::Mac;
use ipnetwork::Ipv4Network;

use super::by_name;
use crate::compile::node_side::{self, PREFIX, TABLE};
use crate::compile::{GROUP, MAIN, Neighbour, NextHop, NodeLink, NodePool, NodeSide, Route};
use crate::error::PlaneError;
use crate::kernel::guard::Guard;
use crate::kernel::netns::Netns;
use crate::kernel::nl::{Link, Netlink};

/// A route, and what is sent from when it is taken.
type Sourced = (Route<u32>, Option<Ipv4Addr>);

/// The namespace of this process.
pub(crate) struct Node {
    pub(crate) netns: Netns,
    pub(crate) netlink: Netlink,
    guard: Guard,
    /// The index of each link to a router.
    ends: BTreeMap<String, u32>,
    /// Our routes, as far as we know; none before the first look.
    known: Option<BTreeSet<Sourced>>,
}

impl Node {
    /// Opens sockets in the calling thread's namespace; changes nothing.
    pub(crate) fn open() -> Result<Self, PlaneError> {
        let netns = Netns::own()?;
        let (netlink, guard) = (Netlink::open(&netns)?, Guard::open(&netns, TABLE)?);
        Ok(Self { netns, netlink, guard, ends: BTreeMap::new(), known: None })
    }

    /// Makes the guard stand; answers how many changes that took.
    pub(crate) fn guard(&mut self, pool: NodePool) -> Result<usize, PlaneError> {
        self.guard.ensure(&self.netns, &node_side::node_table(pool))
    }

    /// Makes room for a new link; the namespace that its end is to be in.
    pub(super) fn take_place(&mut self, end: &str) -> Result<&Netns, PlaneError> {
        match self.netlink.link(end)? {
            Some(link) if link.group == GROUP => self.netlink.delete(&link)?,
            Some(_) => return Err(PlaneError::InUse { interface: end.to_owned(), why: "it is not ours" }),
            None => {}
        }
        Ok(&self.netns)
    }

    /// Makes the node's end of a link as it should be, when it is new to us or down; answers how many changes that took.
    pub(super) fn connect(&mut self, link: &NodeLink, router: Mac) -> Result<usize, PlaneError> {
        let Some(end) = self.netlink.link(&link.end)? else { return Ok(0) };
        if self.ends.insert(link.end.clone(), end.index) == Some(end.index) && end.up {
            return Ok(0);
        }
        let addresses = self.netlink.addresses()?;
        let neighbours = self.netlink.neighbours()?;
        let changes = self.fit(&end, link.pool, router, &addresses, &neighbours)?;
        if changes > 0 {
            // Routes go when an address does, or the link.
            self.known = None;
        }
        Ok(changes)
    }

    /// Address, up, neighbour: what is there already stays.
    fn fit(
        &mut self,
        end: &Link,
        pool: NodePool,
        router: Mac,
        addresses: &[(u32, Ipv4Network)],
        neighbours: &[Neighbour<u32>],
    ) -> Result<usize, PlaneError> {
        let mut changes = 0;
        let own = Ipv4Network::from(pool.node());
        let have: BTreeSet<_> = addresses.iter().filter(|(index, _)| *index == end.index).map(|(_, ip)| *ip).collect();
        for foreign in have.iter().filter(|address| **address != own) {
            self.netlink.delete_address(end.index, *foreign)?;
            changes += 1;
        }
        if !have.contains(&own) {
            self.netlink.add_address(end.index, own)?;
            changes += 1;
        }
        if !end.up {
            self.netlink.set_up(end, true)?;
            changes += 1;
        }
        // The router's end is the next hop, under the name of the source.
        let neighbour = Neighbour { device: end.index, address: pool.source(), mac: router };
        if !neighbours.contains(&neighbour) {
            self.netlink.add_neighbour(&neighbour)?;
            changes += 1;
        }
        Ok(changes)
    }

    /// Deletes the node's end of a link whose router goes: its namespace would take it along, but in its own time.
    pub(crate) fn disconnect(&mut self, end: &str) -> Result<(), PlaneError> {
        self.ends.remove(end);
        match self.netlink.link(end)?.filter(|link| link.group == GROUP) {
            Some(link) => {
                self.known = None;
                self.netlink.delete(&link)
            }
            None => Ok(()),
        }
    }

    /// Leads the node to a pod.
    pub(crate) fn lead(&mut self, link: &NodeLink, side: NodeSide) -> Result<(), PlaneError> {
        let Some(end) = self.ends.get(&link.end).copied() else { return Ok(()) };
        if self.known.is_none() {
            self.known = Some(self.netlink.sourced_routes()?.into_iter().collect());
        }
        for (route, source) in routes(end, link.pool, side) {
            if self.known.as_ref().is_none_or(|known| !known.contains(&(route.clone(), source))) {
                self.netlink.add_sourced_route(&route, source)?;
                self.known.get_or_insert_default().insert((route, source));
            }
        }
        Ok(())
    }

    /// Stops leading the node to a pod.
    pub(crate) fn leave(&mut self, link: &NodeLink, side: NodeSide) -> Result<(), PlaneError> {
        let Some(end) = self.ends.get(&link.end).copied() else { return Ok(()) };
        for (route, source) in routes(end, link.pool, side) {
            self.netlink.delete_route(&route)?;
            if let Some(known) = &mut self.known {
                known.remove(&(route, source));
            }
        }
        Ok(())
    }

    /// Compares everything with the kernel: links with the MAC of their router's end, and pods with their link.
    /// Answers how many changes that took, and links that are not there.
    pub(crate) fn verify(
        &mut self,
        pool: NodePool,
        wanted: &BTreeMap<String, Mac>,
        pods: &[(&NodeLink, NodeSide)],
    ) -> Result<(usize, BTreeSet<String>), PlaneError> {
        let mut changes = self.guard(pool)?;
        let links = by_name(self.netlink.links()?);
        let ours = |name: &String| links.get(name).filter(|link| link.group == GROUP && name.starts_with(PREFIX));
        self.ends = wanted.keys().filter_map(|name| Some((name.clone(), ours(name)?.index))).collect();
        let addresses = self.netlink.addresses()?;
        let neighbours = self.netlink.neighbours()?;
        for (name, mac) in wanted {
            let Some(link) = ours(name) else { continue };
            changes += self.fit(link, pool, *mac, &addresses, &neighbours)?;
        }
        changes += self.verify_routes(pool, pods)?;
        let missing = wanted.keys().filter(|name| !self.ends.contains_key(*name)).cloned().collect();
        Ok((changes, missing))
    }

    fn verify_routes(&mut self, pool: NodePool, pods: &[(&NodeLink, NodeSide)]) -> Result<usize, PlaneError> {
        let ends: BTreeSet<u32> = self.ends.values().copied().collect();
        // Addresses of pods that are not there are nobody's: not for the machine's default route either.
        let nobody = (Route { table: MAIN, destination: pool.network(), metric: 0, next: NextHop::Prohibit }, None);
        let to_pods = pods.iter().filter_map(|(link, side)| Some(routes(*self.ends.get(&link.end)?, link.pool, *side)));
        let wanted: BTreeSet<Sourced> = to_pods.flatten().chain([nobody.clone()]).collect();
        let have: BTreeSet<Sourced> = self.netlink.sourced_routes()?.into_iter().collect();
        let is_ours = |route: &Route<u32>| match route.next {
            NextHop::Via { device, .. } | NextHop::Direct { device } => ends.contains(&device),
            NextHop::Prohibit => route.destination == pool.network(),
            NextHop::BlackHole => false,
        };
        let mut changes = 0;
        for (route, _) in have.difference(&wanted).filter(|(route, _)| is_ours(route)) {
            self.netlink.delete_route(route)?;
            changes += 1;
        }
        for (route, source) in wanted.difference(&have) {
            self.netlink.add_sourced_route(route, *source)?;
            changes += 1;
        }
        self.known = Some(wanted);
        Ok(changes)
    }

    /// Removes these ends with their routes, and the guard when no other is left.
    pub(crate) fn purge(&mut self, ends: &BTreeSet<String>) -> Result<(), PlaneError> {
        let links = self.netlink.links()?;
        let (ours, others): (Vec<_>, Vec<_>) = links
            .iter()
            .filter(|link| link.group == GROUP && link.name.starts_with(PREFIX))
            .partition(|link| ends.contains(&link.name));
        // The kernel takes routes along.
        ours.into_iter().try_for_each(|link| self.netlink.delete(link))?;
        if !others.is_empty() {
            return Ok(());
        }
        let nowhere = |route: &Route<u32>| route.next == NextHop::Prohibit;
        for route in self.netlink.routes()?.iter().filter(|route| nowhere(route)) {
            self.netlink.delete_route(route)?;
        }
        self.guard.remove(&self.netns)
    }
}

/// The node's routes to one pod.
fn routes(end: u32, pool: NodePool, side: NodeSide) -> Vec<Sourced> {
    let addresses = [Some(side.address), side.direct.then_some(side.pod)];
    let route = |to| (node_side::route_from_node(end, pool, to), Some(pool.node()));
    addresses.into_iter().flatten().map(route).collect()
}
