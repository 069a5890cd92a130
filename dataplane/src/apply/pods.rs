//! Ports of pods in the kernel: filter elements first, the bridge last; the other way round when they go.

use std::collections::{BTreeMap, BTreeSet};

use atoll_node::netlink::link::Link;
use uuid::Uuid;

use super::kernel_namespace::KernelNamespace;
use super::lookup::neighbours_of;
use super::surroundings::Surroundings;
use crate::compile::{BridgePort, Element, GROUP, Neighbour, host_to_pod};
use crate::error::PlaneError;

impl KernelNamespace {
    /// Adds a pod to the next `realise`, which adds its elements together with the rules.
    pub(crate) fn expect(&mut self, port: Uuid, pod: &BridgePort) -> Result<(), PlaneError> {
        if self.pods.get(&port).is_some_and(|old| !is_same(old, pod)) {
            self.remove(port)?;
        }
        self.pods.insert(port, pod.clone());
        Ok(())
    }

    /// Makes a pod's port carry packets; false while its interface is not there or does not forward yet.
    pub(crate) fn plug(
        &mut self,
        port: Uuid,
        pod: &BridgePort,
        around: &mut Surroundings<'_>,
    ) -> Result<bool, PlaneError> {
        if self.pods.get(&port) != Some(pod) {
            // Other rules leave its flows alone, another place or name does not.
            let same = self.pods.get(&port).is_some_and(|old| is_same(old, pod));
            if same {
                self.unplug(port)?;
            } else {
                self.remove(port)?;
            }
            self.filter.change(&pod.elements(), &[])?;
            self.pods.insert(port, pod.clone());
        }
        let mut link = self.netlink.link(&pod.interface)?;
        if link.is_none() && around.adopt(&pod.interface, &self.netns)? {
            link = self.netlink.link(&pod.interface)?;
        }
        let (Some(link), Some(bridge)) = (link, self.netlink.link(&pod.bridge)?) else {
            if self.programmed.remove(&port).is_some() {
                self.unprogram(pod)?;
                self.forget(pod)?;
            }
            return Ok(false);
        };
        let place = (link.index, bridge.index);
        // A link that was created again may have the index of the earlier one, but it has no bridge.
        let programmed = link.master == Some(bridge.index) && self.programmed.get(&port) == Some(&place);
        if link.master != Some(bridge.index) {
            self.netlink.set_master(&link, Some(bridge.index))?;
        }
        let learning = pod.allowed_sources.is_empty();
        if link.master == Some(bridge.index) {
            self.netlink.repair_port(&link, learning)?;
        } else {
            self.netlink.set_learning(&link, learning)?;
        }
        if !programmed {
            // Another interface of that name belongs to another pod, or to the same pod after it was attached again.
            if self.programmed.contains_key(&port) {
                self.forget(pod)?;
            }
            for mac in &pod.fdb {
                self.netlink.add_fdb_entry(link.index, *mac)?;
            }
            for neighbour in neighbours_of(pod) {
                let (address, mac) = (neighbour.address, neighbour.mac);
                self.netlink.add_neighbour(&Neighbour { device: bridge.index, address, mac })?;
            }
            if let Some(side) = pod.node {
                self.netlink.add_route(&host_to_pod::route_to(side.pod, bridge.index))?;
            }
            self.programmed.insert(port, place);
        }
        if !link.up {
            self.netlink.set_up(&link, true)?;
        }
        // The kernel enables ports and carriers asynchronously, and sends an event when it has.
        let port = self.netlink.link(&pod.interface)?;
        let bridge = self.netlink.link(&pod.bridge)?;
        Ok(port.is_some_and(|link| link.is_forwarding()) && bridge.is_some_and(|link| link.is_forwarding()))
    }

    /// Interfaces that are not ours.
    pub(crate) fn interfaces(&mut self) -> Result<Vec<String>, PlaneError> {
        let links = self.netlink.links()?.into_iter();
        Ok(links.filter(|link| link.group != GROUP && link.name != "lo").map(|link| link.name).collect())
    }

    /// Moves an interface that is here to another namespace.
    pub(crate) fn hand_over(&mut self, interface: &str, to: &Self) -> Result<(), PlaneError> {
        let link = self.netlink.link(interface)?.filter(|link| link.group != GROUP);
        link.map_or(Ok(()), |link| self.netlink.move_to(&link, &to.netns))
    }

    /// Takes a pod's port out, for good or for another place: its flows go too, once nothing makes new ones.
    pub(crate) fn remove(&mut self, port: Uuid) -> Result<(), PlaneError> {
        let Some(pod) = self.pods.get(&port).cloned() else { return Ok(()) };
        let removed = self.unplug(port);
        self.forget(&pod).and(removed)
    }

    /// Takes a pod's port out. Its interface stays: the process that created it deletes it, often at the same time. From here on
    /// the port is not wanted, also when this fails half way: the next `realise` takes out what is left.
    fn unplug(&mut self, port: Uuid) -> Result<(), PlaneError> {
        let Some(pod) = self.pods.remove(&port) else { return Ok(()) };
        self.programmed.remove(&port);
        if let Some(link) = self.netlink.link(&pod.interface)?.filter(|link| link.master.is_some()) {
            self.netlink.leave_master(&link)?;
        }
        self.unprogram(&pod)?;
        // Two pods have the same address while one replaces the other.
        let others: BTreeSet<_> =
            self.pods.values().filter(|other| shares(other, &pod)).flat_map(BridgePort::elements).collect();
        let gone = |element: &Element| !others.contains(element) && !self.fixed.contains(element);
        let gone: Vec<_> = pod.elements().into_iter().filter(gone).collect();
        self.filter.change(&[], &gone)
    }

    /// Removes neighbours and route of a pod from the router: packets to an absent interface would be flooded to all others.
    fn unprogram(&mut self, pod: &BridgePort) -> Result<(), PlaneError> {
        let Some(bridge) = self.netlink.link(&pod.bridge)? else { return Ok(()) };
        let device = bridge.index;
        let others = self.programmed.keys().filter_map(|port| self.pods.get(port)).filter(|other| shares(other, pod));
        let others: Vec<_> = self.structural.iter().cloned().chain(others.flat_map(neighbours_of)).collect();
        for Neighbour { device: name, address, mac } in neighbours_of(pod) {
            let other = others.iter().rfind(|other| (&other.device, other.address) == (&name, address));
            match other.map(|other| other.mac) {
                Some(mac) => self.netlink.add_neighbour(&Neighbour { device, address, mac })?,
                None => self.netlink.delete_neighbour(&Neighbour { device, address, mac })?,
            }
        }
        pod.node.map_or(Ok(()), |side| self.netlink.delete_route(&host_to_pod::route_to(side.pod, device)))
    }

    /// Pods whose interface is a port of its bridge.
    pub(super) fn placed<'a>(
        &'a self,
        links: &'a BTreeMap<String, Link>,
    ) -> impl Iterator<Item = (&'a Uuid, &'a BridgePort)> {
        self.pods.iter().filter(|(_, pod)| {
            let (link, bridge) = (links.get(&pod.interface), links.get(&pod.bridge));
            link.zip(bridge).is_some_and(|(link, bridge)| link.master == Some(bridge.index))
        })
    }
}

/// True for the same pod on the same bridge, even if its rules differ.
fn is_same(old: &BridgePort, new: &BridgePort) -> bool {
    (&old.interface, &old.bridge, &old.allowed_sources) == (&new.interface, &new.bridge, &new.allowed_sources)
}

/// True if both have an address in common, on one bridge.
fn shares(one: &BridgePort, other: &BridgePort) -> bool {
    let has = |address| other.allowed_sources.iter().any(|source| source.address == address);
    one.bridge == other.bridge && one.allowed_sources.iter().any(|source| has(source.address))
}
