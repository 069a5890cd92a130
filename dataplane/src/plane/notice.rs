//! Keeping things as they should be: what the kernel tells, what failed before, and a look at everything now and then.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::Plane;
use crate::compile::Pod;
use crate::compile::node_side::PREFIX;
use crate::kernel::watch::Event;

impl Plane {
    /// Looks at what the kernel told.
    pub(super) fn notice(&mut self, batch: Vec<Event>) {
        let mut ports = BTreeSet::new();
        let mut domains = BTreeSet::new();
        for event in batch {
            match event {
                Event::Link { scope: Some(domain), link } => {
                    if let Some(port) = self.bound.get(&(domain, link.name.clone())) {
                        ports.insert(*port);
                        continue;
                    }
                    let devices = self.plan.domains.get(&domain).map(|domain| &domain.devices);
                    let Some(device) = devices.and_then(|devices| devices.get(&link.name)) else { continue };
                    if !link.up || link.mac != Some(device.mac) {
                        domains.insert(domain);
                    }
                    // Ports wait for their bridge.
                    let waits = |port: &Uuid, pod: &Pod| pod.bridge == link.name && !self.active.contains(port);
                    ports.extend(self.pods_of(domain).filter(|(port, pod)| waits(port, pod)).map(|(port, _)| *port));
                }
                Event::Gone { scope: Some(domain), name } => match self.bound.get(&(domain, name.clone())) {
                    Some(port) => drop(ports.insert(*port)),
                    None if self.plan.domains.get(&domain).is_some_and(|d| d.devices.contains_key(&name)) => {
                        domains.insert(domain);
                    }
                    None => {}
                },
                Event::Link { scope: None, link } => {
                    self.suspect_node |= link.name.starts_with(PREFIX);
                    ports
                        .extend(self.bound.iter().filter(|((_, bound), _)| *bound == link.name).map(|(_, port)| *port));
                }
                Event::Suspect { scope } => drop(self.suspects.insert(scope)),
                // Our own transactions are the common case, and are known by their number.
                Event::Filter { scope } => {
                    if self.realms.get_mut(&scope).is_some_and(|live| live.complete && !live.realm.filter_is_ours()) {
                        self.suspects.insert(scope);
                    }
                }
                Event::Node | Event::Gone { scope: None, .. } | Event::Lost { scope: None } => self.suspect_node = true,
                Event::Lost { scope: Some(domain) } => drop(domains.insert(domain)),
            }
        }
        for domain in domains {
            self.verify(domain);
        }
        for port in ports {
            if let Some(pod) = self.pods.get(&port).cloned() {
                self.plug(port, pod);
            }
        }
        self.tell();
    }

    /// Tries again what failed.
    pub(super) fn retry(&mut self) {
        for id in std::mem::take(&mut self.suspects) {
            self.verify(id);
        }
        if std::mem::take(&mut self.suspect_node) {
            self.verify_node();
        }
        let broken = self.plan.domains.keys().any(|id| self.realms.get(id).is_none_or(|live| !live.complete));
        if broken {
            self.restructure();
        }
        for port in self.failed.clone() {
            if let Some(pod) = self.pods.get(&port).cloned() {
                self.plug(port, pod);
            }
        }
        self.tell();
    }

    /// Compares everything with the kernel.
    pub(super) fn sweep(&mut self) {
        self.forget_counts();
        for id in self.realms.keys().copied().collect::<Vec<_>>() {
            self.verify(id);
        }
        self.outside();
        self.verify_node();
        self.tell();
    }

    /// All that should be there, not only what was there once: a port that came while its domain was incomplete has
    /// never been plugged.
    fn pods_of(&self, domain: Uuid) -> impl Iterator<Item = (&Uuid, &Pod)> {
        self.by_domain.get(&domain).into_iter().flatten().filter_map(|port| self.pods.get_key_value(port))
    }

    /// Compares one domain and its pods with the kernel.
    fn verify(&mut self, id: Uuid) {
        self.realise(id, true, &BTreeMap::new());
        let pods: Vec<_> = self.pods_of(id).map(|(port, pod)| (*port, pod.clone())).collect();
        for (port, pod) in pods {
            self.plug(port, pod);
        }
    }
}
