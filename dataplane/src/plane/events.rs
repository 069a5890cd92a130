//! Events of the kernel, retries, and rounds that compare everything.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::state::Plane;
use crate::compile::names::HOST_PREFIX;
use crate::compile::{BridgePort, Touched};
use crate::kernel::watch::Event;
use crate::mutex::lock;

impl Plane {
    /// Handles events of the kernel.
    pub(super) fn handle_events(&mut self, batch: Vec<Event>) {
        let mut ports = BTreeSet::new();
        let mut namespaces = BTreeSet::new();
        let mut links = BTreeSet::new();
        for event in batch {
            match event {
                Event::Link { scope: Some(namespace), link } => {
                    if let Some(port) = self.bound.holder(namespace, &link.name) {
                        ports.insert(port);
                        continue;
                    }
                    let devices = self.compiled.plan().namespaces.get(&namespace).map(|namespace| &namespace.devices);
                    if !devices.is_some_and(|devices| devices.contains_key(&link.name)) {
                        continue;
                    }
                    links.insert((namespace, link.name.clone()));
                    // Ports wait for their bridge.
                    let waits = |port: &Uuid, pod: &BridgePort| pod.bridge == link.name && !self.active.contains(port);
                    ports.extend(self.pods_of(namespace).filter(|(port, pod)| waits(port, pod)).map(|(port, _)| *port));
                }
                Event::Gone { scope: Some(namespace), name } => match self.bound.holder(namespace, &name) {
                    Some(port) => drop(ports.insert(port)),
                    None => drop(links.insert((namespace, name))),
                },
                Event::Link { scope: None, link } => {
                    self.suspect_host |= link.name.starts_with(HOST_PREFIX);
                    ports.extend(self.bound.holders(&link.name));
                }
                Event::Suspect { scope } => drop(self.suspects.insert(scope)),
                // Most are our own transactions, which are recognised by their number.
                Event::Filter { scope } => {
                    if self
                        .namespaces
                        .get_mut(&scope)
                        .is_some_and(|managed| managed.complete && !managed.kernel.filter_is_ours())
                    {
                        self.suspects.insert(scope);
                    }
                }
                Event::Node | Event::Gone { scope: None, .. } | Event::Lost { scope: None } => self.suspect_host = true,
                Event::Lost { scope: Some(namespace) } => drop(namespaces.insert(namespace)),
            }
        }
        // An event may be outdated: a link of ours is down while it is created.
        for (namespace, name) in links {
            let device =
                self.compiled.plan().namespaces.get(&namespace).and_then(|namespace| namespace.devices.get(&name));
            let managed = self.namespaces.get_mut(&namespace).filter(|_| !namespaces.contains(&namespace));
            if let (Some(device), Some(managed)) = (device, managed)
                && !(managed.complete && managed.kernel.is_intact(&name, device))
            {
                namespaces.insert(namespace);
            }
        }
        for namespace in namespaces {
            self.verify(namespace);
        }
        for port in ports {
            if let Some(pod) = self.pods.get(&port).cloned() {
                self.plug(port, pod);
            }
        }
        self.publish_status();
    }

    /// Retries what failed.
    pub(super) fn retry(&mut self) {
        self.repin();
        for id in std::mem::take(&mut self.suspects) {
            self.verify(id);
        }
        if std::mem::take(&mut self.suspect_host) {
            self.verify_host();
        }
        for id in self.leftovers.clone() {
            self.remove_leftover(id);
        }
        let broken = |id: &Uuid| self.namespaces.get(id).is_none_or(|managed| !managed.complete);
        let namespaces: BTreeSet<_> = self.compiled.plan().namespaces.keys().copied().filter(broken).collect();
        if !namespaces.is_empty() {
            let ports = namespaces.iter().filter_map(|id| self.by_namespace.get(id)).flatten().copied().collect();
            self.rebuild(&Touched { namespaces, ports });
        }
        for port in self.failed.clone() {
            if let Some(pod) = self.pods.get(&port).cloned() {
                self.plug(port, pod);
            }
        }
        self.publish_status();
    }

    /// Pins namespaces again that were unpinned: the kernel sends no events of mounts.
    fn repin(&mut self) {
        for (id, managed) in &self.namespaces {
            match managed.kernel.netns.repin() {
                Ok(again) => lock(&self.report).changes += usize::from(again),
                Err(error) => self.fail(*id, &error),
            }
        }
    }

    /// Begins to compare everything with the kernel.
    pub(super) fn sweep(&mut self) {
        self.forget_counts();
        self.due.extend(self.namespaces.keys());
        self.suspect_external = true;
        self.external_network();
        self.verify_host();
        self.publish_status();
    }

    /// Compares one namespace that is due.
    pub(super) fn sweep_one(&mut self) {
        if let Some(id) = self.due.pop_first() {
            self.verify(id);
            self.publish_status();
        }
    }

    /// All that should be there, not only what was there once: a port that came while its namespace was incomplete has
    /// never been plugged.
    fn pods_of(&self, namespace: Uuid) -> impl Iterator<Item = (&Uuid, &BridgePort)> {
        self.by_namespace.get(&namespace).into_iter().flatten().filter_map(|port| self.pods.get_key_value(port))
    }

    /// Compares one namespace and its pods with the kernel.
    fn verify(&mut self, id: Uuid) {
        self.realise(id, true, &BTreeMap::new());
        self.external_network();
        let pods: Vec<_> = self.pods_of(id).map(|(port, pod)| (*port, pod.clone())).collect();
        for (port, pod) in pods {
            self.plug(port, pod);
        }
    }
}
