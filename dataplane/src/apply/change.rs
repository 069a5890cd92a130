//! Changes a router namespace from one structure to the next. The kernel is known to have the first one, so only objects that
//! differ between the two are read: one more link costs the same whatever the number of links. `realise` compares with the
//! kernel.

use std::collections::{BTreeMap, BTreeSet};

use atoll_node::netlink::link::Link;

use super::kernel_namespace::KernelNamespace;
use super::lookup::{by_device_and_address, indexed, neighbours_of, policy_rules_of, settings_of};
use super::surroundings::Surroundings;
use crate::compile::{DeviceKind, KernelRoute, Neighbour, NextHop, RouterNamespace};
use crate::error::PlaneError;

impl KernelNamespace {
    /// Changes `have` to `want`, in the order of `realise`; returns the number of changes.
    pub(super) fn change(
        &mut self,
        have: &RouterNamespace,
        want: &RouterNamespace,
        around: &mut Surroundings<'_>,
    ) -> Result<usize, PlaneError> {
        let mut changes = if settings_of(have) == settings_of(want) { 0 } else { self.settings(want)? };
        for name in have.devices.keys().filter(|name| !want.devices.contains_key(*name)) {
            if let Some(link) = self.netlink.link(name)? {
                self.netlink.delete(&link)?;
                changes += 1;
            }
        }
        let new: Vec<_> = want.devices.iter().filter(|(name, _)| !have.devices.contains_key(*name)).collect();
        for (name, device) in &new {
            match self.netlink.link(name)? {
                Some(link) if link.mac == Some(device.mac) => continue,
                Some(link) => self.netlink.set_mac(&link, device.mac)?,
                None => self.create(name, device, around)?,
            }
            changes += 1;
        }
        changes += self.filter(want)?;
        let mut links = Links { kernel: self, known: BTreeMap::new() };
        for (name, device) in &new {
            changes += links.connect(name, &device.kind)?;
            let Some(index) = links.index(name)? else { continue };
            for address in &device.addresses {
                links.kernel.netlink.add_address(index, (*address).into())?;
                changes += 1;
            }
        }
        changes += links.neighbours(have, want)?;
        changes += links.routes(have, want)?;
        changes += self.policy_rules(&policy_rules_of(have), &policy_rules_of(want))?;
        Ok(changes)
    }
}

/// Links by name, each read once.
struct Links<'a> {
    kernel: &'a mut KernelNamespace,
    known: BTreeMap<String, Option<Link>>,
}

impl Links<'_> {
    fn get(&mut self, name: &str) -> Result<Option<&Link>, PlaneError> {
        if !self.known.contains_key(name) {
            let link = self.kernel.netlink.link(name)?;
            self.known.insert(name.to_owned(), link);
        }
        Ok(self.known.get(name).and_then(Option::as_ref))
    }

    fn index(&mut self, name: &str) -> Result<Option<u32>, PlaneError> {
        Ok(self.get(name)?.map(|link| link.index))
    }

    /// The route with indices; `None` if its link is gone, because the route is gone too.
    fn route(&mut self, route: &KernelRoute<String>) -> Result<Option<KernelRoute<u32>>, PlaneError> {
        if let NextHop::Via { device, .. } | NextHop::Direct { device } = &route.next {
            self.get(device)?;
        }
        Ok(indexed(route, |device| self.known.get(device).and_then(Option::as_ref).map(|link| link.index)))
    }

    fn connect(&mut self, name: &str, kind: &DeviceKind) -> Result<usize, PlaneError> {
        let master = match kind {
            DeviceKind::Link { bridge: Some(bridge), .. } => self.index(bridge)?,
            _ => None,
        };
        let Some(link) = self.get(name)?.cloned() else { return Ok(0) };
        self.kernel.connect_one(&link, master)
    }

    fn neighbours(&mut self, have: &RouterNamespace, want: &RouterNamespace) -> Result<usize, PlaneError> {
        let mut changes = 0;
        let (before, after) = (by_device_and_address(&have.neighbours), by_device_and_address(&want.neighbours));
        // If a pod has the address too, the pod's entry counts.
        let placed = self.kernel.pods.iter().filter(|(port, _)| self.kernel.programmed.contains_key(*port));
        let pods: Vec<_> = placed.flat_map(|(_, pod)| neighbours_of(pod)).collect();
        let free = |place: &(&str, _)| !pods.iter().any(|pod| (pod.device.as_str(), pod.address) == *place);
        for place in before.keys().filter(|place| !after.contains_key(*place) && free(place)) {
            if let Some(device) = self.index(place.0)? {
                let gone = Neighbour { device, address: place.1, mac: before[place] };
                self.kernel.netlink.delete_neighbour(&gone)?;
                changes += 1;
            }
        }
        for (place, mac) in after.iter().filter(|(place, mac)| before.get(*place) != Some(mac) && free(place)) {
            if let Some(device) = self.index(place.0)? {
                self.kernel.netlink.add_neighbour(&Neighbour { device, address: place.1, mac: *mac })?;
                changes += 1;
            }
        }
        Ok(changes)
    }

    fn routes(&mut self, have: &RouterNamespace, want: &RouterNamespace) -> Result<usize, PlaneError> {
        let (mut before, mut after) = (BTreeSet::new(), BTreeSet::new());
        for route in have.routes.difference(&want.routes) {
            before.extend(self.route(route)?);
        }
        for route in want.routes.difference(&have.routes) {
            after.extend(self.route(route)?);
        }
        self.kernel.change_routes(&before, &after)
    }
}
