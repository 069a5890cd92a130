//! What a link, once made, must stay: its mark, its options and settings, what its bridge knows.

use std::collections::{BTreeMap, BTreeSet};

use super::kernel_namespace::KernelNamespace;
use crate::compile::{DeviceKind, GROUP, RouterNamespace};
use crate::error::PlaneError;
use crate::kernel::fdb::{FdbEntry, FdbOrigin};
use crate::kernel::link::{Link, MTU};
use crate::kernel::sysctl;

impl KernelNamespace {
    /// Options of our links, and what hangs on them. Interfaces of the machine keep their size and their queues.
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
            settings.extend(link.drift.settings.iter().map(|setting| (name.clone(), *setting)));
            if matches!(device.kind, DeviceKind::Uplink { .. }) && link.group != GROUP {
                continue;
            }
            ours.insert(link.index);
            if link.group != GROUP || !link.uses_arp || (link.mtu != MTU && !link.is_bridge) {
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
        if link.stopped {
            self.netlink.let_forward(link)?;
        }
        Ok(usize::from(link.stopped))
    }

    /// What bridges know, and notes which ports of pods are programmed; the rest is up to `plug`.
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
            let fixed = |mac: &_| FdbEntry { port: link.index, mac: *mac, kind: FdbOrigin::Fixed };
            wanted.extend(pod.fdb.iter().map(fixed));
            programmed.insert(*port, (link.index, bridge.index));
        }
        self.programmed = programmed;
        let mut bridges = BTreeSet::new();
        for (name, device) in &want.devices {
            let Some(link) = links.get(name) else { continue };
            if device.kind == DeviceKind::Bridge {
                bridges.insert(link.index);
                wanted.extend(link.mac.map(|mac| FdbEntry { port: link.index, mac, kind: FdbOrigin::Own }));
            }
            if device.kind == DeviceKind::Bridge || link.master.is_some() {
                ports.insert(link.index, link.mac);
            }
        }
        let is_ours = |station: &FdbEntry| match station.kind {
            FdbOrigin::Learned => mute.contains(&station.port),
            // The kernel's own entry for each port stays.
            FdbOrigin::Own => ports.get(&station.port).is_some_and(|own| *own != Some(station.mac)),
            FdbOrigin::Fixed | FdbOrigin::ByHand => ports.contains_key(&station.port),
        };
        let have: BTreeSet<_> = self.netlink.fdb()?.into_iter().collect();
        let wrong: Vec<_> = have.difference(&wanted).filter(|station| is_ours(station)).copied().collect();
        let missing: Vec<_> = wanted.difference(&have).copied().collect();
        for FdbEntry { port, mac, .. } in &wrong {
            if bridges.contains(port) {
                self.netlink.delete_own_fdb_entry(*port, *mac)?;
            } else {
                self.netlink.delete_fdb_entry(*port, *mac)?;
            }
        }
        for FdbEntry { port, mac, kind } in &missing {
            if *kind == FdbOrigin::Own {
                self.netlink.add_own_fdb_entry(*port, *mac)?;
            } else {
                self.netlink.add_fdb_entry(*port, *mac)?;
            }
        }
        Ok(wrong.len() + missing.len())
    }
}
