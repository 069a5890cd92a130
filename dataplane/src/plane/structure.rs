//! Router namespaces as they should be now: opened, realised, and removed.

use std::collections::{BTreeMap, BTreeSet};

use atoll_model::topology::{Device, Port};
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::state::{ManagedNamespace, Plane, mark};
use crate::apply::{self, KernelNamespace, Surroundings};
use crate::compile::{BridgePort, DeviceKind, RouterNamespace, Touched};
use crate::error::PlaneError;
use crate::kernel::watch::watch;
use crate::mutex::lock;

impl Plane {
    /// Realises the namespaces and ports that changed.
    pub(super) fn rebuild(&mut self, touched: &Touched) {
        self.guard_host();
        let (ids, gone): (Vec<Uuid>, Vec<Uuid>) =
            touched.namespaces.iter().partition(|id| self.compiled.plan().namespaces.contains_key(id));
        // All namespaces first, so that both ends of a link have one.
        for id in &ids {
            let left = self.compiled.plan().namespaces.get(id).map(|namespace| namespace.unsupported.clone());
            self.unsupported.replace(*id, left.unwrap_or_default());
            if let Err(error) = self.open_namespace(*id) {
                self.fail(*id, &error);
            }
        }
        self.recall_host_to_pod();
        let wanted = self.compile_pods(&touched.ports);
        // Ports leave their old namespace before it is changed or removed.
        self.move_ports(&wanted);
        for id in gone {
            self.retire_namespace(id);
        }
        let exists = |port: &&Uuid| self.compiled.topology().ports.contains_key(*port);
        for port in touched.ports.iter().filter(|port| !exists(port)) {
            self.active.remove(port);
        }
        let touched: BTreeSet<_> = ids.into_iter().filter(|id| self.realise(*id, false, &wanted)).collect();
        self.external_network();
        self.verify_ends();
        for (port, pod) in wanted {
            if touched.contains(&pod.namespace) || self.pods.get(&port) != Some(&pod) {
                self.plug(port, pod);
            }
        }
        self.publish_status();
    }

    pub(super) fn open_namespace(&mut self, id: Uuid) -> Result<(), PlaneError> {
        if self.namespaces.contains_key(&id) {
            return Ok(());
        }
        self.adopt(id);
        // It was to be removed, and is wanted again.
        self.leftovers.remove(&id);
        let kernel = KernelNamespace::open(&self.settings.directory, id)?;
        let watches = watch(&kernel.netns, Some(id), kernel.port()?, &self.events, &mut self.tasks)?;
        self.namespaces.insert(
            id,
            ManagedNamespace {
                kernel,
                applied: RouterNamespace::default(),
                complete: false,
                remembered: false,
                watches,
            },
        );
        Ok(())
    }

    /// Realises a router namespace if its plan has changed, or compares it if `verify` is true. Returns false if there was nothing
    /// to do.
    pub(super) fn realise(&mut self, id: Uuid, verify: bool, pods: &BTreeMap<Uuid, BridgePort>) -> bool {
        let (Some(managed), Some(want)) = (self.namespaces.get_mut(&id), self.compiled.plan().namespaces.get(&id))
        else {
            return false;
        };
        if managed.complete && !verify && managed.applied == *want {
            return false;
        }
        let mut around = Surroundings {
            directory: &self.settings.directory,
            node: &mut self.node,
            preserved: self.preserved.links(),
        };
        let mut mine = pods.iter().filter(|(_, pod)| pod.namespace == id);
        let expected = mine.try_for_each(|(port, pod)| managed.kernel.expect(*port, pod));
        let have = (managed.complete && !verify).then_some(&managed.applied);
        let realised = expected.and_then(|()| managed.kernel.realise(have, want, &mut around));
        let realised = realised.and_then(|changes| {
            // Ports may have been removed while the plane did not run, or their flows could not be removed.
            if managed.complete { Ok(changes) } else { managed.kernel.forget_unknown_addresses(want).map(|()| changes) }
        });
        match realised {
            Ok(changes) => {
                managed.applied.clone_from(want);
                managed.complete = true;
                let mut report = lock(&self.report);
                report.changes += changes;
                report.errors.remove(&id);
            }
            Err(error) => {
                managed.complete = false;
                self.fail(id, &error);
            }
        }
        self.forget_elsewhere(id);
        self.uplinks(id);
        self.note_external(id);
        true
    }

    /// Updates the status of router ports that are bound to an interface: they are active if it exists and is up.
    pub(super) fn uplinks(&mut self, id: Uuid) {
        let Some(managed) = self.namespaces.get_mut(&id) else { return };
        let (complete, namespace) = (managed.complete, self.compiled.plan().namespaces.get(&id));
        for (port, spec) in self.compiled.ports_of(id).filter(|(_, port)| matches!(port.device, Device::Router { .. }))
        {
            let interface = spec.binding.as_ref().filter(|b| b.host == self.settings.host).map(|b| &b.interface);
            let wanted = |name: &&String| namespace.is_some_and(|namespace| namespace.devices.contains_key(*name));
            let there = complete && interface.filter(wanted).is_some_and(|name| managed.kernel.has(name));
            if mark(&mut self.active, port, there) {
                self.changed.insert(port);
            }
        }
    }

    /// Notes the simulated external networks of a router namespace.
    pub(super) fn note_external(&mut self, id: Uuid) {
        let devices =
            self.compiled.plan().namespaces.get(&id).into_iter().flat_map(|namespace| namespace.devices.values());
        let externals = devices.filter_map(|device| match &device.kind {
            DeviceKind::Uplink { external } => external.clone(),
            _ => None,
        });
        let externals: Vec<_> = externals.collect();
        // The other end is created with the uplink, so it is compared even if its plan is the same.
        self.suspect_external |= !externals.is_empty() || self.externals.contains_key(&id);
        if externals.is_empty() {
            self.externals.remove(&id);
        } else {
            self.externals.insert(id, externals);
        }
    }

    /// Compares the namespace of the external network, if it may have changed.
    pub(super) fn external_network(&mut self) {
        if !std::mem::take(&mut self.suspect_external) {
            return;
        }
        let wanted: Vec<_> = self.externals.values().flatten().collect();
        // The namespace stays while an uplink is down, because programs may run in it.
        let uplink = |port: &Port| {
            let here = port.binding.as_ref().is_some_and(|binding| binding.host == self.settings.host);
            here && matches!(port.device, Device::Router { .. })
        };
        let waits = wanted.is_empty() && self.compiled.topology().ports.values().any(uplink);
        match apply::external(&self.settings.directory, &wanted, waits) {
            Ok(changes) => lock(&self.report).changes += changes,
            Err(error) => {
                self.suspect_external = true;
                self.fail(Uuid::nil(), &error);
            }
        }
    }

    pub(super) fn retire_namespace(&mut self, id: Uuid) {
        self.unsupported.replace(id, BTreeSet::new());
        self.note_external(id);
        self.forget_pods(id);
        if let Some(managed) = self.namespaces.remove(&id) {
            managed.watches.iter().for_each(AbortHandle::abort);
            self.remove_leftover(id);
        }
        for port in self.by_namespace.get(&id).cloned().unwrap_or_default() {
            self.drop_pod(port);
        }
    }

    /// Removes a router namespace that the topology no longer has. A failure is retried later.
    pub(super) fn remove_leftover(&mut self, id: Uuid) {
        match self.remove_namespace(&self.settings.directory.join(id.to_string())) {
            Ok(()) => {
                self.leftovers.remove(&id);
                lock(&self.report).errors.remove(&id);
            }
            Err(error) => {
                self.leftovers.insert(id);
                self.fail(id, &error);
            }
        }
    }
}
