//! Ports of pods: each costs itself and nothing else.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::Plane;
use crate::apply::Surroundings;
use crate::compile::{self, Pod};
use crate::handle::lock;

impl Plane {
    /// Every port that this host carries, as it should be.
    pub(super) fn compile_pods(&mut self) -> BTreeMap<Uuid, Pod> {
        let mut wanted = BTreeMap::new();
        let ports: Vec<_> =
            self.topology.ports.iter().filter(|(_, port)| port.binding.is_some()).map(|(id, _)| *id).collect();
        lock(&self.report).unsupported =
            self.plan.domains.values().flat_map(|domain| domain.unsupported.iter().cloned()).collect();
        self.bound.clear();
        for port in ports {
            if let Some(pod) = self.compile_pod(port) {
                wanted.insert(port, pod);
            }
        }
        wanted
    }

    fn compile_pod(&mut self, port: Uuid) -> Option<Pod> {
        match compile::pod(&self.topology, &self.plan.bridges, self.site(), port) {
            Ok(Some(mut pod)) => {
                let key = (pod.domain, pod.interface.clone());
                let holder = *self.bound.entry(key).or_insert(port);
                if holder == port {
                    lock(&self.report).unsupported.extend(pod.left.iter().cloned());
                    pod.node = self.node_side(port, &pod);
                    return Some(pod);
                }
                lock(&self.report).unsupported.insert(compile::taken(port, holder, &pod.interface));
                None
            }
            Ok(None) => None,
            Err(unsupported) => {
                lock(&self.report).unsupported.insert(unsupported);
                None
            }
        }
    }

    /// Makes one port as it should be.
    pub(super) fn refresh(&mut self, port: Uuid) {
        lock(&self.report).unsupported.retain(|unsupported| unsupported.object != port);
        if let Some(old) = self.pods.get(&port) {
            let key = (old.domain, old.interface.clone());
            if self.bound.get(&key) == Some(&port) {
                self.bound.remove(&key);
            }
        }
        match self.compile_pod(port) {
            Some(pod) => self.plug(port, pod),
            None => self.drop_pod(port),
        }
    }

    /// Makes a port carry packets, as far as its interface allows.
    pub(super) fn plug(&mut self, port: Uuid, pod: Pod) {
        if self.pods.get(&port).is_some_and(|old| old.domain != pod.domain) {
            self.drop_pod(port);
        }
        let active = match self.realms.get_mut(&pod.domain) {
            Some(live) if live.complete => {
                let mut around =
                    Surroundings { directory: &self.settings.directory, node: &mut self.node, kept: self.kept.links() };
                live.realm.plug(port, &pod, &mut around)
            }
            _ => Ok(false),
        };
        let active = active.and_then(|active| self.lead(port, &pod).map(|()| active));
        self.by_domain.entry(pod.domain).or_default().insert(port);
        self.pods.insert(port, pod);
        match active {
            Ok(active) => {
                self.failed.remove(&port);
                lock(&self.report).errors.remove(&port);
                self.set_active(port, active);
            }
            Err(error) => {
                self.set_active(port, false);
                self.failed.insert(port);
                self.fail(port, &error);
            }
        }
    }

    /// Takes a port out.
    pub(super) fn drop_pod(&mut self, port: Uuid) {
        let Some(pod) = self.pods.remove(&port) else { return };
        if let Some(ports) = self.by_domain.get_mut(&pod.domain) {
            ports.remove(&port);
            if ports.is_empty() {
                self.by_domain.remove(&pod.domain);
            }
        }
        self.set_active(port, false);
        self.failed.remove(&port);
        self.forget_node_side(port, &pod);
        lock(&self.report).errors.remove(&port);
        let removed = self.realms.get_mut(&pod.domain).map_or(Ok(()), |live| live.realm.unplug(port));
        if let Err(error) = removed {
            // The next comparison takes out what is left.
            if let Some(live) = self.realms.get_mut(&pod.domain) {
                live.complete = false;
            }
            self.fail(port, &error);
        }
    }
}
