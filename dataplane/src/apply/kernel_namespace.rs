//! One namespace in the kernel: read, compare, change only what differs.
//!
//! Order: settings, interfaces (down), the filter, bridges and up, addresses, neighbours, routes; pods last. A pod's
//! port: filter elements first, up last; the other way round when it is removed. So nothing is forwarded without its
//! filter. Every step starts from what the kernel shows, so a crash between any two is repaired by the next round.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use atoll_node::netlink::link::Link;
use atoll_node::netlink::policy_rule::PolicyRule;
use ipnetwork::Ipv4Network;
use uuid::Uuid;

use super::lookup::{by_name, indexed, is_small, neighbours_of, policy_rules_of, settings_of};
use super::surroundings::Surroundings;
use crate::compile::{
    BridgePort, DeviceKind, Element, GROUP, KernelDevice, KernelRoute, Neighbour, NextHop, RouterNamespace,
    TranslationTarget, host_to_pod,
};
use crate::counters::{Counters, PortCount};
use crate::error::PlaneError;
use crate::kernel::flows::{Flow, Flows};
use crate::kernel::netlink::Netlink;
use crate::kernel::netns::OpenNetns;
use crate::kernel::nft::Filter;
use crate::kernel::sysctl;
use crate::pins::EXTERNAL;

/// A router namespace with its sockets.
pub(crate) struct KernelNamespace {
    pub(crate) netns: OpenNetns,
    pub(super) netlink: Netlink,
    pub(super) filter: Filter,
    pub(super) flows: Flows,
    /// Flows that were removed here, and may exist in other namespaces.
    pub(super) forgotten: Vec<Flow>,
    /// The targets of translating rules at the last comparison with the tracked flows.
    pub(super) targets: Option<BTreeMap<Uuid, BTreeSet<TranslationTarget>>>,
    /// The routes at that comparison, of a router that translates.
    pub(super) routed: Option<BTreeSet<KernelRoute<String>>>,
    /// Ports of pods as they should be, by port.
    pub(super) pods: BTreeMap<Uuid, BridgePort>,
    /// Neighbours and elements of the structure: they stay when the last pod that has the same is removed.
    pub(super) structural: BTreeSet<Neighbour<String>>,
    pub(super) fixed: BTreeSet<Element>,
    /// Ports whose station, neighbours and route are there, with the indices of their link and bridge.
    pub(super) programmed: BTreeMap<Uuid, (u32, u32)>,
}

impl KernelNamespace {
    /// Opens the namespace of `namespace`, and makes it first when there is none.
    pub(crate) fn open(directory: &Path, namespace: Uuid) -> Result<Self, PlaneError> {
        let (netns, _) = OpenNetns::ensure(&directory.join(namespace.to_string()))?;
        let (netlink, filter, flows) = (Netlink::open(&netns)?, Filter::open(&netns)?, Flows::open(&netns)?);
        Ok(Self {
            netns,
            netlink,
            filter,
            flows,
            forgotten: Vec::new(),
            targets: None,
            routed: None,
            pods: BTreeMap::new(),
            structural: BTreeSet::new(),
            fixed: BTreeSet::new(),
            programmed: BTreeMap::new(),
        })
    }

    /// Makes the kernel match `want`; returns the number of changes. The kernel is known to have `have`, so what is the same in both
    /// is not read.
    pub(crate) fn realise(
        &mut self,
        have: Option<&RouterNamespace>,
        want: &RouterNamespace,
        around: &mut Surroundings<'_>,
    ) -> Result<usize, PlaneError> {
        if self.structural != want.neighbours {
            self.structural.clone_from(&want.neighbours);
        }
        if self.fixed != want.elements {
            self.fixed.clone_from(&want.elements);
        }
        let mut changes = match have.filter(|have| is_small(have, want)) {
            Some(have) => self.change(have, want, around)?,
            None => self.compare(want, around)?,
        };
        if let (Some(link), Some(device)) =
            (&want.node, want.node.as_ref().and_then(|link| want.devices.get(&link.name)))
        {
            // Last: the node sends nothing before the router is complete.
            changes += around.node.connect(link, device.mac)?;
        }
        self.forget_translated(want)?;
        self.forget_rerouted(want)?;
        Ok(changes)
    }

    /// Compares everything with the kernel, and changes what differs.
    fn compare(&mut self, want: &RouterNamespace, around: &mut Surroundings<'_>) -> Result<usize, PlaneError> {
        let mut changes = self.settings(want)?;
        changes += self.devices(want, around)?;
        changes += self.filter(want)?;
        let links = by_name(self.netlink.links()?);
        let preserved: BTreeSet<u32> =
            links.values().filter(|link| around.is_preserved(link)).map(|link| link.index).collect();
        changes += self.options(want, &links)?;
        changes += self.connect(want, &links)?;
        changes += self.addresses(want, &links)?;
        changes += self.neighbours(want, &links, &preserved)?;
        changes += self.routes(want, &links, &preserved)?;
        let rules = self.netlink.policy_rules()?.into_iter().collect();
        changes += self.policy_rules(&rules, &policy_rules_of(want))?;
        changes += self.fdb(want, &links)?;
        Ok(changes)
    }

    pub(super) fn settings(&mut self, want: &RouterNamespace) -> Result<usize, PlaneError> {
        let (track_bridged, inner, node) = settings_of(want);
        sysctl::router(&self.netns, track_bridged, inner, node)
    }

    pub(super) fn devices(
        &mut self,
        want: &RouterNamespace,
        around: &mut Surroundings<'_>,
    ) -> Result<usize, PlaneError> {
        let mut changes = 0;
        let links = by_name(self.netlink.links()?);
        for (name, link) in &links {
            if link.group == GROUP && !want.devices.contains_key(name) && !around.is_preserved(link) {
                self.netlink.delete(link)?;
                changes += 1;
            }
        }
        for (name, device) in &want.devices {
            if let Some(link) = links.get(name)
                && !is_whole(link, device, around)?
            {
                // Its other end is gone.
                self.netlink.delete(link)?;
                self.create(name, device, around)?;
                changes += 1;
                continue;
            }
            match links.get(name) {
                Some(link) if link.mac == Some(device.mac) => {}
                Some(link) => {
                    self.netlink.set_mac(link, device.mac)?;
                    changes += 1;
                }
                None => {
                    self.create(name, device, around)?;
                    changes += 1;
                }
            }
        }
        Ok(changes)
    }

    pub(super) fn create(
        &mut self,
        name: &str,
        device: &KernelDevice,
        around: &mut Surroundings<'_>,
    ) -> Result<(), PlaneError> {
        match &device.kind {
            DeviceKind::Bridge => self.netlink.add_bridge(name, device.mac),
            DeviceKind::Link { namespace, name: other, mac, .. } => {
                let (peer, _) = OpenNetns::ensure(&around.path(*namespace))?;
                // The end of an earlier pair may have the other end's name.
                let mut there = Netlink::open(&peer)?;
                if let Some(stale) = there.link(other)? {
                    there.delete(&stale)?;
                }
                self.netlink.add_veth(name, device.mac, &peer, other, *mac)
            }
            DeviceKind::Host { end, mac } => around.node.make_room(end).and_then(|own| {
                // The node's end is created in its final namespace.
                self.netlink.add_veth(name, device.mac, own, end, *mac)
            }),
            DeviceKind::Uplink { external } => {
                if !around.adopt(name, &self.netns)? {
                    let Some(external) = external else { return Ok(()) };
                    let (peer, _) = OpenNetns::ensure(&around.directory.join(EXTERNAL))?;
                    let mut there = Netlink::open(&peer)?;
                    if let Some(stale) = there.link(&external.name)? {
                        there.delete(&stale)?;
                    }
                    self.netlink.add_veth(name, device.mac, &peer, &external.name, external.mac)?;
                }
                if let Some(link) = self.netlink.link(name)?.filter(|link| link.mac != Some(device.mac)) {
                    self.netlink.set_mac(&link, device.mac)?;
                }
                Ok(())
            }
        }
    }

    pub(super) fn filter(&mut self, want: &RouterNamespace) -> Result<usize, PlaneError> {
        let pods = self.pods.values().flat_map(BridgePort::elements);
        let elements: BTreeSet<Element> = pods.chain(want.elements.iter().cloned()).collect();
        self.filter.ensure(&self.netns, &want.ruleset, &elements)
    }

    /// Ends of links into their bridges, and everything up.
    fn connect(&mut self, want: &RouterNamespace, links: &BTreeMap<String, Link>) -> Result<usize, PlaneError> {
        let mut changes = 0;
        for (name, device) in &want.devices {
            let Some(link) = links.get(name) else { continue };
            let master = match &device.kind {
                DeviceKind::Link { bridge: Some(bridge), .. } => links.get(bridge).map(|bridge| bridge.index),
                _ => None,
            };
            changes += self.connect_one(link, master)?;
        }
        // A port that was removed while the plane did not run. Its elements are gone too, so it could not send.
        let bridges: BTreeSet<_> = want.devices.keys().filter_map(|name| Some(links.get(name)?.index)).collect();
        let pods: BTreeSet<_> = self.pods.values().map(|pod| pod.interface.as_str()).collect();
        for (name, link) in links {
            let foreign = link.master.is_some_and(|master| bridges.contains(&master)) && link.group != GROUP;
            if foreign && !pods.contains(name.as_str()) {
                self.netlink.leave_master(link)?;
                changes += 1;
            }
        }
        Ok(changes)
    }

    pub(super) fn connect_one(&mut self, link: &Link, master: Option<u32>) -> Result<usize, PlaneError> {
        let mut changes = 0;
        if link.master != master {
            self.netlink.set_master(link, master)?;
            changes += 1;
        }
        if !link.up {
            self.netlink.set_up(link, true)?;
            changes += 1;
        }
        Ok(changes)
    }

    fn addresses(&mut self, want: &RouterNamespace, links: &BTreeMap<String, Link>) -> Result<usize, PlaneError> {
        let have: BTreeSet<(u32, Ipv4Network)> = self.netlink.addresses()?.into_iter().collect();
        let mut wanted = BTreeSet::new();
        let mut ours = BTreeSet::new();
        for (name, device) in &want.devices {
            let Some(link) = links.get(name) else { continue };
            ours.insert(link.index);
            wanted.extend(device.addresses.iter().map(|address| (link.index, Ipv4Network::from(*address))));
        }
        for (index, address) in have.difference(&wanted).filter(|(index, _)| ours.contains(index)) {
            self.netlink.delete_address(*index, *address)?;
        }
        for (index, address) in wanted.difference(&have) {
            self.netlink.add_address(*index, *address)?;
        }
        // An address without the kernel's local route accepts no packets: it is added again.
        let local: BTreeSet<_> = self.netlink.local_addresses()?.into_iter().collect();
        let up = |index: u32| links.values().any(|link| link.index == index && link.up);
        let deaf = |(index, address): &&(u32, Ipv4Network)| up(*index) && !local.contains(&(*index, address.ip()));
        let deaf: Vec<_> = wanted.intersection(&have).filter(deaf).collect();
        for (index, address) in &deaf {
            self.netlink.delete_address(*index, *address)?;
            self.netlink.add_address(*index, *address)?;
        }
        Ok(deaf.len()
            + have.difference(&wanted).filter(|(index, _)| ours.contains(index)).count()
            + wanted.difference(&have).count())
    }

    fn neighbours(
        &mut self,
        want: &RouterNamespace,
        links: &BTreeMap<String, Link>,
        preserved: &BTreeSet<u32>,
    ) -> Result<usize, PlaneError> {
        let structural = want.neighbours.iter().cloned();
        let pods = self.placed(links).flat_map(|(_, pod)| neighbours_of(pod));
        // One MAC for each address: the last one counts, and those of ports come last.
        let known: BTreeMap<_, _> =
            structural.chain(pods).filter_map(|n| Some(((links.get(&n.device)?.index, n.address), n.mac))).collect();
        let wanted: BTreeSet<_> =
            known.into_iter().map(|((device, address), mac)| Neighbour { device, address, mac }).collect();
        // Neighbours of other links are foreign.
        let ours = |device: u32| {
            !preserved.contains(&device)
                && want.devices.keys().any(|name| links.get(name).is_some_and(|it| it.index == device))
        };
        let have: BTreeSet<_> = self.netlink.neighbours()?.into_iter().filter(|it| ours(it.device)).collect();
        for neighbour in have.difference(&wanted) {
            self.netlink.delete_neighbour(neighbour)?;
        }
        for neighbour in wanted.difference(&have) {
            self.netlink.add_neighbour(neighbour)?;
        }
        Ok(have.symmetric_difference(&wanted).count() + self.netlink.remove_proxies(ours)?)
    }

    fn routes(
        &mut self,
        want: &RouterNamespace,
        links: &BTreeMap<String, Link>,
        preserved: &BTreeSet<u32>,
    ) -> Result<usize, PlaneError> {
        let pods =
            self.placed(links).filter_map(|(_, pod)| Some(host_to_pod::route_to(pod.node?.pod, pod.bridge.clone())));
        let wanted = want.routes.iter().cloned().chain(pods);
        let index = |device: &str| links.get(device).map(|link| link.index);
        let wanted: BTreeSet<KernelRoute<u32>> = wanted.filter_map(|route| indexed(&route, index)).collect();
        let through = |route: &KernelRoute<u32>| match route.next {
            NextHop::Via { device, .. } | NextHop::Direct { device } => Some(device),
            NextHop::BlackHole | NextHop::Prohibit => None,
        };
        let odd = self.netlink.remove_odd_routes()? + self.netlink.repair_rules()?;
        let have = self.netlink.routes()?.into_iter();
        let have: BTreeSet<_> =
            have.filter(|route| through(route).is_none_or(|link| !preserved.contains(&link))).collect();
        Ok(odd + self.change_routes(&have, &wanted)?)
    }

    /// The new ones first: they are added before those that they replace, so that packets always have a route.
    pub(super) fn change_routes(
        &mut self,
        have: &BTreeSet<KernelRoute<u32>>,
        wanted: &BTreeSet<KernelRoute<u32>>,
    ) -> Result<usize, PlaneError> {
        for route in wanted.difference(have) {
            self.netlink.add_route(route)?;
        }
        for route in have.difference(wanted) {
            self.netlink.delete_route(route)?;
        }
        Ok(have.symmetric_difference(wanted).count())
    }

    /// Tables are complete before packets are led to them. The new rules first: a source that gets another table is led
    /// by the one rule or the other.
    pub(super) fn policy_rules(
        &mut self,
        have: &BTreeSet<PolicyRule>,
        wanted: &BTreeSet<PolicyRule>,
    ) -> Result<usize, PlaneError> {
        for rule in wanted.difference(have) {
            self.netlink.add_policy_rule(rule)?;
        }
        for rule in have.difference(wanted) {
            self.netlink.delete_policy_rule(rule)?;
        }
        Ok(have.symmetric_difference(wanted).count())
    }

    /// The address of host-to-pod addressing of each pod's address, as the kernel's sets still have it.
    pub(crate) fn remembered(&mut self) -> Result<Vec<(std::net::Ipv4Addr, std::net::Ipv4Addr)>, PlaneError> {
        Ok(self.filter.elements()?.into_iter().filter_map(|element| element.node).collect())
    }

    /// True when an interface of this name is here and up.
    pub(crate) fn has(&mut self, interface: &str) -> bool {
        matches!(self.netlink.link(interface), Ok(Some(link)) if link.up)
    }

    /// True if this interface of the structure has its MAC and bridge, and is up.
    pub(crate) fn is_intact(&mut self, name: &str, device: &KernelDevice) -> bool {
        let bridged = matches!(device.kind, DeviceKind::Link { bridge: Some(_), .. });
        let as_it_should = |link: Link| link.up && link.mac == Some(device.mac) && link.master.is_some() == bridged;
        self.netlink.link(name).is_ok_and(|link| link.is_some_and(as_it_should))
    }

    /// The port id of the socket that changes are made with.
    pub(crate) fn port(&self) -> Result<u32, PlaneError> {
        self.netlink.port()
    }

    /// Drops the counts of all other rules.
    pub(crate) fn forget_counts(&mut self, rules: &BTreeSet<Uuid>) {
        self.filter.forget(rules);
    }

    /// Adds the counts of this namespace to those of the rules, and the counts of its ports.
    pub(crate) fn count(&mut self, counters: &mut Counters) -> Result<(), PlaneError> {
        let filter = self.filter.counters()?;
        for (rule, count) in filter.rules {
            // A rule that was removed since has no count any more.
            if let Some(sum) = counters.rules.get_mut(&rule) {
                *sum += count;
            }
        }
        let links: BTreeMap<_, _> = self.netlink.counts()?.into_iter().map(|(name, i, o)| (name, (i, o))).collect();
        for (port, pod) in &self.pods {
            let Some((sent, received)) = links.get(&pod.interface).copied() else { continue };
            let refused = filter.refused.get(&pod.interface).copied().unwrap_or_default();
            counters.ports.insert(*port, PortCount { sent, received, refused });
        }
        Ok(())
    }

    /// True if only this process has written to the packet filter.
    pub(crate) fn filter_is_ours(&mut self) -> bool {
        self.filter.untouched().unwrap_or_default()
    }
}

/// False if the other end of a link was renamed or moved.
fn is_whole(link: &Link, device: &KernelDevice, around: &mut Surroundings<'_>) -> Result<bool, PlaneError> {
    match &device.kind {
        DeviceKind::Host { end, .. } => around.node.has_end(end, link),
        DeviceKind::Uplink { external: Some(external) } if link.group == GROUP => {
            let Some(netns) = OpenNetns::open(&around.directory.join(EXTERNAL))? else { return Ok(false) };
            let end = Netlink::open(&netns)?.link(&external.name)?;
            Ok(end.is_some_and(|end| end.peer == Some(link.index)))
        }
        _ => Ok(true),
    }
}
