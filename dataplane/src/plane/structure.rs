//! Domains as they should be now: opened, realised, and removed.

use std::collections::{BTreeMap, BTreeSet};

use atoll_model::topology::{Device, Port};
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::state::{Live, Plane, mark};
use crate::apply::{self, Realm, Surroundings};
use crate::compile::{DeviceKind, Domain, Pod, Touched};
use crate::error::PlaneError;
use crate::kernel::watch::watch;
use crate::mutex::lock;

impl Plane {
    /// Makes domains and ports as they should be now.
    pub(super) fn rebuild(&mut self, touched: &Touched) {
        self.guard_node();
        let (ids, gone): (Vec<Uuid>, Vec<Uuid>) =
            touched.domains.iter().partition(|id| self.compiled.plan().domains.contains_key(id));
        // Every namespace first, so that both ends of a link have a place.
        for id in &ids {
            let left = self.compiled.plan().domains.get(id).map(|domain| domain.unsupported.clone());
            self.left_out.replace(*id, left.unwrap_or_default());
            if let Err(error) = self.open_domain(*id) {
                self.fail(*id, &error);
            }
        }
        self.remember_node_side();
        let wanted = self.compile_pods(&touched.ports);
        // What moves to another domain leaves the old one before that is changed, or goes.
        self.carry(&wanted);
        for id in gone {
            self.remove_domain(id);
        }
        let exists = |port: &&Uuid| self.compiled.topology().ports.contains_key(*port);
        for port in touched.ports.iter().filter(|port| !exists(port)) {
            self.active.remove(port);
        }
        let touched: BTreeSet<_> = ids.into_iter().filter(|id| self.realise(*id, false, &wanted)).collect();
        self.outside();
        self.verify_ends();
        for (port, pod) in wanted {
            if touched.contains(&pod.domain) || self.pods.get(&port) != Some(&pod) {
                self.plug(port, pod);
            }
        }
        self.tell();
    }

    pub(super) fn open_domain(&mut self, id: Uuid) -> Result<(), PlaneError> {
        if self.realms.contains_key(&id) {
            return Ok(());
        }
        self.adopt(id);
        // It was to go, and did not in time: now it is wanted again.
        self.leftovers.remove(&id);
        let realm = Realm::open(&self.settings.directory, id)?;
        let watches = watch(&realm.netns, Some(id), realm.port()?, &self.events, &mut self.tasks)?;
        self.realms.insert(id, Live { realm, applied: Domain::default(), complete: false, remembered: false, watches });
        Ok(())
    }

    /// Makes a domain as it should be, if that is not what it is already or `verify` asks to compare. False: there
    /// was nothing to do.
    pub(super) fn realise(&mut self, id: Uuid, verify: bool, pods: &BTreeMap<Uuid, Pod>) -> bool {
        let (Some(live), Some(want)) = (self.realms.get_mut(&id), self.compiled.plan().domains.get(&id)) else {
            return false;
        };
        if live.complete && !verify && live.applied == *want {
            return false;
        }
        let mut around =
            Surroundings { directory: &self.settings.directory, node: &mut self.node, kept: self.kept.links() };
        let mut mine = pods.iter().filter(|(_, pod)| pod.domain == id);
        let expected = mine.try_for_each(|(port, pod)| live.realm.expect(*port, pod));
        let have = (live.complete && !verify).then_some(&live.applied);
        let realised = expected.and_then(|()| live.realm.realise(have, want, &mut around));
        let realised = realised.and_then(|changes| {
            // Ports may have gone while nobody looked, or their flows could not be forgotten.
            if live.complete { Ok(changes) } else { live.realm.forget_strangers(want).map(|()| changes) }
        });
        match realised {
            Ok(changes) => {
                live.applied.clone_from(want);
                live.complete = true;
                let mut report = lock(&self.report);
                report.changes += changes;
                report.errors.remove(&id);
            }
            Err(error) => {
                live.complete = false;
                self.fail(id, &error);
            }
        }
        self.forget_elsewhere(id);
        self.uplinks(id);
        self.note_outside(id);
        true
    }

    /// Router ports that are bound to an interface are active when it is there.
    pub(super) fn uplinks(&mut self, id: Uuid) {
        let Some(live) = self.realms.get_mut(&id) else { return };
        let (complete, domain) = (live.complete, self.compiled.plan().domains.get(&id));
        for (port, spec) in self.compiled.ports_of(id).filter(|(_, port)| matches!(port.device, Device::Router { .. }))
        {
            let interface = spec.binding.as_ref().filter(|b| b.host == self.settings.host).map(|b| &b.interface);
            let wanted = |name: &&String| domain.is_some_and(|domain| domain.devices.contains_key(*name));
            let there = complete && interface.filter(wanted).is_some_and(|name| live.realm.has(name));
            if mark(&mut self.active, port, there) {
                self.news.insert(port);
            }
        }
    }

    /// Notes what is behind the uplinks of a domain.
    pub(super) fn note_outside(&mut self, id: Uuid) {
        let devices = self.compiled.plan().domains.get(&id).into_iter().flat_map(|domain| domain.devices.values());
        let outsides = devices.filter_map(|device| match &device.kind {
            DeviceKind::Uplink { outside } => outside.clone(),
            _ => None,
        });
        let outsides: Vec<_> = outsides.collect();
        // The far end is made with the uplink, so it is to be looked at also when it should be the same.
        self.suspect_outside |= !outsides.is_empty() || self.outsides.contains_key(&id);
        if outsides.is_empty() {
            self.outsides.remove(&id);
        } else {
            self.outsides.insert(id, outsides);
        }
    }

    /// Makes the world behind the uplinks as it should be, where something happened to it.
    pub(super) fn outside(&mut self) {
        if !std::mem::take(&mut self.suspect_outside) {
            return;
        }
        let wanted: Vec<_> = self.outsides.values().flatten().collect();
        // An uplink that is down comes back to the same world: what runs there goes on.
        let uplink = |port: &Port| {
            let here = port.binding.as_ref().is_some_and(|binding| binding.host == self.settings.host);
            here && matches!(port.device, Device::Router { .. })
        };
        let waits = wanted.is_empty() && self.compiled.topology().ports.values().any(uplink);
        match apply::outside(&self.settings.directory, &wanted, waits) {
            Ok(changes) => lock(&self.report).changes += changes,
            Err(error) => {
                self.suspect_outside = true;
                self.fail(Uuid::nil(), &error);
            }
        }
    }

    pub(super) fn remove_domain(&mut self, id: Uuid) {
        self.left_out.replace(id, BTreeSet::new());
        self.note_outside(id);
        self.forget_pods(id);
        if let Some(live) = self.realms.remove(&id) {
            live.watches.iter().for_each(AbortHandle::abort);
            self.remove_leftover(id);
        }
        for port in self.by_domain.get(&id).cloned().unwrap_or_default() {
            self.drop_pod(port);
        }
    }

    /// Removes the namespace of a domain that is gone; tried again when it fails.
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
