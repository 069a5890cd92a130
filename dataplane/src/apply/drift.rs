//! Drift of links: their group, options and settings, and the entries of their bridges.

use std::collections::{BTreeMap, BTreeSet};

use atoll_node::netlink::fdb::{FdbEntry, FdbOrigin};
use atoll_node::netlink::link::{Link, LinkKind};

use super::kernel_namespace::KernelNamespace;
use crate::compile::{DeviceKind, GROUP, RouterNamespace};
use crate::error::PlaneError;
use crate::kernel::link::MTU;
use crate::kernel::{options, sysctl};

impl KernelNamespace {
    /// Repairs options of our links and removes foreign queues. Interfaces of the machine keep their MTU and their queues.
    pub(super) fn options(
        &mut self,
        want: &RouterNamespace,
        links: &BTreeMap<String, Link>,
    ) -> Result<usize, PlaneError> {
        let mut changes = 0;
        let mut settings = Vec::new();
        let mut ours = BTreeSet::new();
        for (name, device) in &want.devices {
            let Some(link) = links.get(name) else { continue };
            settings.extend(options::wrong_settings(link).into_iter().map(|setting| (name.clone(), setting)));
            if matches!(device.kind, DeviceKind::Uplink { .. }) && link.group != GROUP {
                continue;
            }
            ours.insert(link.index);
            if link.group != GROUP || !link.uses_arp() || (link.mtu != MTU && link.kind != LinkKind::Bridge) {
                self.netlink.repair_link(link)?;
                changes += 1;
            }
            changes += self.netlink.repair_bridge(link)?;
            if link.master.is_some() {
                // Ends of links: hosts behind the other router are learned.
                changes += self.netlink.repair_port(link, true)?;
                changes += self.resume(link)?;
            }
        }
        let pods = self.pods.values().map(|pod| (links.get(&pod.interface), pod.allowed_sources.is_empty()));
        let ports = pods.filter_map(|(link, learning)| Some((link.filter(|link| link.master.is_some())?, learning)));
        for (link, learning) in ports.collect::<Vec<_>>() {
            changes += self.netlink.repair_port(link, learning)?;
            changes += self.resume(link)?;
        }
        changes += sysctl::interfaces(&self.netns, &settings)?;
        Ok(changes + self.netlink.remove_queues(|index| ours.contains(&index))?)
    }

    /// A port that has a carrier forwards, unless another process has stopped it.
    fn resume(&mut self, link: &Link) -> Result<usize, PlaneError> {
        if link.is_blocked() {
            self.netlink.let_forward(link)?;
        }
        Ok(usize::from(link.is_blocked()))
    }

    /// Compares the entries of bridges, and notes which ports of pods are programmed; `plug` does the rest.
    pub(super) fn fdb(&mut self, want: &RouterNamespace, links: &BTreeMap<String, Link>) -> Result<usize, PlaneError> {
        let (mut wanted, mut programmed) = (BTreeSet::new(), BTreeMap::new());
        // Ports that learn nothing, and all whose static entries are ours.
        let (mut mute, mut ports) = (BTreeSet::new(), BTreeMap::new());
        for (port, pod) in self.placed(links) {
            let (Some(link), Some(bridge)) = (links.get(&pod.interface), links.get(&pod.bridge)) else { continue };
            ports.insert(link.index, link.mac);
            if !pod.allowed_sources.is_empty() {
                mute.insert(link.index);
            }
            let sticky = |mac: &_| FdbEntry { port: link.index, mac: *mac, origin: FdbOrigin::Sticky };
            wanted.extend(pod.fdb.iter().map(sticky));
            programmed.insert(*port, (link.index, bridge.index));
        }
        self.programmed = programmed;
        let mut bridges = BTreeSet::new();
        for (name, device) in &want.devices {
            let Some(link) = links.get(name) else { continue };
            if device.kind == DeviceKind::Bridge {
                bridges.insert(link.index);
                wanted.extend(link.mac.map(|mac| FdbEntry { port: link.index, mac, origin: FdbOrigin::Local }));
            }
            if device.kind == DeviceKind::Bridge || link.master.is_some() {
                ports.insert(link.index, link.mac);
            }
        }
        let is_ours = |entry: &FdbEntry| match entry.origin {
            FdbOrigin::Learned => mute.contains(&entry.port),
            // The kernel has a local entry for each port.
            FdbOrigin::Local => ports.get(&entry.port).is_some_and(|own| *own != Some(entry.mac)),
            FdbOrigin::Sticky | FdbOrigin::Static => ports.contains_key(&entry.port),
        };
        let have: BTreeSet<_> = self.netlink.fdb()?.into_iter().collect();
        let wrong: Vec<_> = have.difference(&wanted).filter(|entry| is_ours(entry)).copied().collect();
        let missing: Vec<_> = wanted.difference(&have).copied().collect();
        for FdbEntry { port, mac, .. } in &wrong {
            if bridges.contains(port) {
                self.netlink.delete_own_fdb_entry(*port, *mac)?;
            } else {
                self.netlink.delete_fdb_entry(*port, *mac)?;
            }
        }
        for FdbEntry { port, mac, origin } in &missing {
            if *origin == FdbOrigin::Local {
                self.netlink.add_own_fdb_entry(*port, *mac)?;
            } else {
                self.netlink.add_fdb_entry(*port, *mac)?;
            }
        }
        Ok(wrong.len() + missing.len())
    }
}
