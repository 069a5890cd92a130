//! The machine's own namespace: its ends of the links to tenants' routers, its routes to pods, and its guard.
//!
//! Only these are touched: links whose name begins with `atn` and that are of our group, routes of our protocol through
//! them or to the whole pool, and the table `atoll_node`. The guard is loaded before the first link is created.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use atoll_model::attachment::Mac;
use atoll_model::host_to_pod::HostToPodPool;
use atoll_node::netlink::link::Link;
use ipnetwork::Ipv4Network;

use super::lookup::by_name;
use crate::compile::host_to_pod::{self, Guarded, TABLE};
use crate::compile::names::HOST_PREFIX;
use crate::compile::{GROUP, HostLink, HostToPod, KernelRoute, MAIN, Neighbour, NextHop};
use crate::error::PlaneError;
use crate::kernel::flows::{Flow, Flows, Tuple};
use crate::kernel::guard::Guard;
use crate::kernel::netlink::Netlink;
use crate::kernel::netns::OpenNetns;

/// A route and its preferred source.
type Sourced = (KernelRoute<u32>, Option<Ipv4Addr>);

/// The interface by which kube-proxy in IPVS mode has the addresses of all services: they are not the machine's.
const IPVS: &str = "kube-ipvs0";

/// The machine's own addresses and networks.
#[derive(Default)]
struct Machine {
    /// Networks within the pool that it uses for something else.
    others: Vec<Ipv4Network>,
    /// Its addresses.
    own: BTreeSet<Ipv4Addr>,
}

/// The namespace of this process.
pub(crate) struct HostNamespace {
    pub(crate) netns: OpenNetns,
    pub(crate) netlink: Netlink,
    flows: Flows,
    guard: Guard,
    /// The guard was loaded by this process, or was found unchanged.
    guarded: bool,
    /// Addresses of pods that the node does not route, because others may have them too.
    stopped: BTreeSet<Ipv4Addr>,
    /// The index of each link to a router.
    ends: BTreeMap<String, u32>,
    /// `None` before it is first read.
    machine: Option<Machine>,
    /// MACs of the uplinks.
    uplinks: BTreeSet<Mac>,
    /// Addresses of services.
    services: Option<Ipv4Network>,
    /// Some end was up when it was first read.
    unchecked: bool,
    /// Our routes, as last read or written; `None` before that.
    known: Option<BTreeSet<Sourced>>,
}

impl HostNamespace {
    /// Opens sockets in the calling thread's namespace; changes nothing.
    pub(crate) fn open() -> Result<Self, PlaneError> {
        let netns = OpenNetns::own()?;
        let (netlink, flows, guard) = (Netlink::open(&netns)?, Flows::open(&netns)?, Guard::open(&netns, TABLE)?);
        Ok(Self {
            netns,
            netlink,
            flows,
            guard,
            guarded: false,
            stopped: BTreeSet::new(),
            ends: BTreeMap::new(),
            machine: None,
            uplinks: BTreeSet::new(),
            services: None,
            unchecked: false,
            known: None,
        })
    }

    /// Sets what the guard is made of when it is loaded next: packets of pods come from these MACs, and packets to these services
    /// are not for pods.
    pub(crate) fn set_guard_inputs(&mut self, uplinks: BTreeSet<Mac>, services: Option<Ipv4Network>) {
        self.uplinks = uplinks;
        self.services = services;
    }

    /// Networks within the pool that the machine uses for something else. They are not assigned to pods.
    pub(crate) fn others(&mut self, pool: HostToPodPool) -> Result<&[Ipv4Network], PlaneError> {
        Ok(&self.machine(pool)?.others)
    }

    fn machine(&mut self, pool: HostToPodPool) -> Result<&Machine, PlaneError> {
        if self.machine.is_none() {
            let links = self.netlink.links()?;
            let ours = |index: u32| links.iter().any(|link| link.index == index && link.group == GROUP);
            let own = Ipv4Network::from(pool.node());
            let inside = |network: &Ipv4Network| {
                pool.network().contains(network.ip()) && network.prefix() >= pool.network().prefix()
            };
            let routes = self.netlink.foreign_routes()?.into_iter();
            let routes = routes.filter(|(network, link)| inside(network) && !link.is_some_and(ours));
            let services = links.iter().find(|link| link.name == IPVS).map(|link| link.index);
            let addresses = self.netlink.addresses()?;
            let machines = || addresses.iter().filter(|(link, it)| *it != own && !ours(*link));
            let used = machines().filter(|(_, it)| pool.network().contains(it.ip()));
            let networks = used.map(|(_, it)| if inside(it) { *it } else { it.ip().into() });
            let mut others: Vec<_> = routes.map(|(network, _)| network).chain(networks).collect();
            others.sort();
            others.dedup();
            let own = machines().filter(|(link, it)| Some(*link) != services && !it.ip().is_loopback());
            let own = own.map(|(_, it)| it.ip()).collect();
            self.machine = Some(Machine { others, own });
        }
        Ok(self.machine.get_or_insert_default())
    }

    /// Loads the guard if it is absent or has changed; returns the number of changes.
    pub(crate) fn guard(&mut self, pool: HostToPodPool) -> Result<usize, PlaneError> {
        let own = self.machine(pool)?.own.clone();
        let parts = pool.parts(self.others(pool)?);
        let guarded =
            Guarded { node: pool.node(), parts: &parts, uplinks: &self.uplinks, services: self.services, own: &own };
        let changes = self.guard.ensure(&self.netns, &host_to_pod::host_ruleset(&guarded))?;
        if !std::mem::replace(&mut self.guarded, true) && changes > 0 {
            self.forget_unpublished(&own)?;
        }
        let routes: Vec<_> = parts.into_iter().map(prohibited).collect();
        let missing: Vec<_> =
            routes.into_iter().filter(|route| !self.known().is_ok_and(|it| it.contains(route))).collect();
        for (route, source) in &missing {
            self.netlink.add_sourced_route(route, *source)?;
        }
        let changes = changes + missing.len();
        self.known()?.extend(missing);
        Ok(changes)
    }

    /// Removes tracked flows to pods that were opened under another guard, or without one, and that this guard does not admit:
    /// the kernel would go on accepting their packets.
    fn forget_unpublished(&mut self, own: &BTreeSet<Ipv4Addr>) -> Result<(), PlaneError> {
        let pods: BTreeSet<_> = self.known()?.iter().map(|(route, _)| route.destination).collect();
        let services = self.services;
        let published = |to| services.map_or_else(|| own.contains(&to), |services| !services.contains(to));
        let to_pod = |flow: &Flow| flow.translated_destination().is_some_and(|to| pods.contains(&to.into()));
        let flows = self.flows.all()?;
        let old = flows.iter().filter(|flow| to_pod(flow) && !published(flow.original.destination));
        old.into_iter().try_for_each(|flow| self.flows.forget(flow))
    }

    /// Removes tracked flows of a pod that is gone.
    pub(crate) fn forget_flows(&mut self, side: HostToPod) -> Result<(), PlaneError> {
        for address in [side.address, side.pod].into_iter().take(if side.direct { 2 } else { 1 }) {
            for flow in self.flows.of(address)? {
                self.flows.forget(&flow)?;
            }
        }
        Ok(())
    }

    /// Removes the tracked flow that these packets belong to.
    pub(crate) fn forget_tuple(&mut self, tuple: &Tuple) -> Result<(), PlaneError> {
        let flow = self.flows.find(tuple)?;
        flow.iter().try_for_each(|flow| self.flows.forget(flow))
    }

    /// Adds or removes the route that keeps packets to this address on the node. It is removed when no port or exactly one unique
    /// port has the address.
    pub(crate) fn stop(&mut self, address: Ipv4Addr, is: bool) -> Result<(), PlaneError> {
        let (route, source) = prohibited(address.into());
        if is {
            self.stopped.insert(address);
            if !self.known()?.contains(&(route.clone(), source)) {
                self.netlink.add_sourced_route(&route, source)?;
                self.known()?.insert((route, source));
            }
        } else if self.stopped.remove(&address) {
            self.netlink.delete_route(&route)?;
            if let Some(known) = &mut self.known {
                known.remove(&(route, source));
            }
        }
        Ok(())
    }

    /// Our routes; read from the kernel if they are unknown.
    fn known(&mut self) -> Result<&mut BTreeSet<Sourced>, PlaneError> {
        if self.known.is_none() {
            self.known = Some(self.netlink.sourced_routes()?.into_iter().collect());
        }
        Ok(self.known.get_or_insert_default())
    }

    /// Deletes what is left of an earlier link of this name; returns the namespace of the new link's end.
    pub(super) fn make_room(&mut self, end: &str) -> Result<&OpenNetns, PlaneError> {
        match self.netlink.link(end)? {
            Some(link) if link.group == GROUP => self.netlink.delete(&link)?,
            Some(_) => return Err(PlaneError::InUse { interface: end.to_owned(), why: "it is not ours" }),
            None => {}
        }
        Ok(&self.netns)
    }

    /// True if the link's other end is in this namespace under this name.
    pub(super) fn has_end(&mut self, end: &str, link: &Link) -> Result<bool, PlaneError> {
        let there = self.netlink.link(end)?.filter(is_end);
        Ok(there.is_some_and(|end| end.peer == Some(link.index) && link.peer == Some(end.index)))
    }

    /// Configures the node's end of a link if it is down; returns the number of changes. An unknown end that is up was configured
    /// by an earlier process, and is compared together with all others.
    pub(super) fn connect(&mut self, link: &HostLink, router: Mac) -> Result<usize, PlaneError> {
        let Some(end) = self.netlink.link(&link.end)? else { return Ok(0) };
        let known = self.ends.insert(link.end.clone(), end.index) == Some(end.index);
        if end.up {
            self.unchecked |= !known;
            return Ok(0);
        }
        // The kernel removes routes with their link, and a new link may have the same index.
        self.forget(end.index);
        self.fit(&end, link.pool, router, &[], &[])
    }

    /// Notes that the kernel has no route through this link any more.
    fn forget(&mut self, link: u32) {
        if let Some(known) = &mut self.known {
            known.retain(|(route, _)| !matches!(route.next, NextHop::Via { device, .. } if device == link));
        }
    }

    /// Sets address, state and neighbour of an end, as far as they differ.
    fn fit(
        &mut self,
        end: &Link,
        pool: HostToPodPool,
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
        // The router's end is the next hop; its address is the pool's source address.
        let neighbour = Neighbour { device: end.index, address: pool.source(), mac: router };
        if !neighbours.contains(&neighbour) {
            self.netlink.add_neighbour(&neighbour)?;
            changes += 1;
        }
        Ok(changes)
    }

    /// Deletes the node's end of a link whose router is removed. The kernel would delete it with the router's namespace, but later.
    pub(crate) fn disconnect(&mut self, end: &str) -> Result<(), PlaneError> {
        self.ends.remove(end);
        match self.netlink.link(end)?.filter(|link| link.group == GROUP) {
            Some(link) => {
                self.forget(link.index);
                self.netlink.delete(&link)
            }
            None => Ok(()),
        }
    }

    /// Adds the node's routes to a pod.
    pub(crate) fn add_host_routes(&mut self, link: &HostLink, side: HostToPod) -> Result<(), PlaneError> {
        let Some(end) = self.ends.get(&link.end).copied() else { return Ok(()) };
        for sourced in routes(end, link.pool, side) {
            if !self.known()?.contains(&sourced) {
                self.netlink.add_sourced_route(&sourced.0, sourced.1)?;
                self.known()?.insert(sourced);
            }
        }
        Ok(())
    }

    /// Removes the node's routes to a pod.
    pub(crate) fn remove_host_routes(&mut self, link: &HostLink, side: HostToPod) -> Result<(), PlaneError> {
        let Some(end) = self.ends.get(&link.end).copied() else { return Ok(()) };
        for (route, source) in routes(end, link.pool, side) {
            self.netlink.delete_route(&route)?;
            if let Some(known) = &mut self.known {
                known.remove(&(route, source));
            }
        }
        Ok(())
    }

    /// True if some end was up when it was first read.
    pub(crate) fn is_unchecked(&self) -> bool {
        self.unchecked
    }

    /// Compares the guard and the node's ends, with the MAC of their router's end, with the kernel. Returns the number of changes,
    /// and absent links.
    pub(crate) fn verify_ends(
        &mut self,
        pool: HostToPodPool,
        wanted: &BTreeMap<String, Mac>,
    ) -> Result<(usize, BTreeSet<String>), PlaneError> {
        self.machine = None;
        let mut changes = self.guard(pool)?;
        let links = by_name(self.netlink.links()?);
        let ours = |name: &String| links.get(name).filter(|link| is_end(link));
        self.ends = wanted.keys().filter_map(|name| Some((name.clone(), ours(name)?.index))).collect();
        let addresses = self.netlink.addresses()?;
        let neighbours = self.netlink.neighbours()?;
        for (name, mac) in wanted {
            let Some(link) = ours(name) else { continue };
            changes += self.fit(link, pool, *mac, &addresses, &neighbours)?;
        }
        self.unchecked = false;
        let missing = wanted.keys().filter(|name| !self.ends.contains_key(*name)).cloned().collect();
        Ok((changes, missing))
    }

    /// Compares routes to pods with the kernel, after the links.
    pub(crate) fn verify_routes(
        &mut self,
        pool: HostToPodPool,
        pods: &[(&HostLink, HostToPod)],
    ) -> Result<usize, PlaneError> {
        let ends: BTreeSet<u32> = self.ends.values().copied().collect();
        let unassigned: Vec<_> = pool.parts(self.others(pool)?).into_iter().map(prohibited).collect();
        let to_pods = pods.iter().filter_map(|(link, side)| Some(routes(*self.ends.get(&link.end)?, link.pool, *side)));
        let stopped = self.stopped.iter().map(|address| prohibited((*address).into()));
        let wanted: BTreeSet<Sourced> = to_pods.flatten().chain(unassigned).chain(stopped).collect();
        let have: BTreeSet<Sourced> = self.netlink.sourced_routes()?.into_iter().collect();
        let is_ours = |route: &KernelRoute<u32>| match route.next {
            NextHop::Via { device, .. } | NextHop::Direct { device } => ends.contains(&device),
            // Also those of an earlier pool.
            NextHop::Prohibit => true,
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

    /// Removes what an earlier process left here, if host-to-pod addressing is off now.
    pub(crate) fn retire(&mut self) -> Result<(), PlaneError> {
        if self.guard.is_loaded()? { self.purge(&BTreeSet::new()) } else { Ok(()) }
    }

    /// Removes these ends with their routes, and the guard if no other end is left.
    pub(crate) fn purge(&mut self, ends: &BTreeSet<String>) -> Result<(), PlaneError> {
        let links = self.netlink.links()?;
        let (ours, others): (Vec<_>, Vec<_>) =
            links.iter().filter(|link| is_end(link)).partition(|link| ends.contains(&link.name));
        // The kernel removes their routes.
        ours.into_iter().try_for_each(|link| self.netlink.delete(link))?;
        if !others.is_empty() {
            return Ok(());
        }
        let nowhere = |route: &KernelRoute<u32>| route.next == NextHop::Prohibit;
        for route in self.netlink.routes()?.iter().filter(|route| nowhere(route)) {
            self.netlink.delete_route(route)?;
        }
        self.guard.remove(&self.netns)
    }
}

/// The node's end of a link to a router.
fn is_end(link: &Link) -> bool {
    link.group == GROUP && link.name.starts_with(HOST_PREFIX)
}

/// A route for addresses of the pool that no pod has: otherwise the machine's default route would apply.
fn prohibited(destination: Ipv4Network) -> Sourced {
    (KernelRoute { table: MAIN, destination, metric: 0, next: NextHop::Prohibit }, None)
}

/// The node's routes to one pod.
fn routes(end: u32, pool: HostToPodPool, side: HostToPod) -> Vec<Sourced> {
    let addresses = [Some(side.address), side.direct.then_some(side.pod)];
    let route = |to| (host_to_pod::route_from_node(end, pool, to), Some(pool.node()));
    addresses.into_iter().flatten().map(route).collect()
}
