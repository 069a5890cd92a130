//! Keeping things as they should be: what the kernel tells, what failed before, and a look at everything now and then.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::state::Plane;
use crate::compile::names::HOST_PREFIX;
use crate::compile::{Pod, Touched};
use crate::kernel::watch::Event;
use crate::mutex::lock;

impl Plane {
    /// Looks at what the kernel told.
    pub(super) fn notice(&mut self, batch: Vec<Event>) {
        let mut ports = BTreeSet::new();
        let mut domains = BTreeSet::new();
        let mut links = BTreeSet::new();
        for event in batch {
            match event {
                Event::Link { scope: Some(domain), link } => {
                    if let Some(port) = self.bound.holder(domain, &link.name) {
                        ports.insert(port);
                        continue;
                    }
                    let devices = self.compiled.plan().domains.get(&domain).map(|domain| &domain.devices);
                    if !devices.is_some_and(|devices| devices.contains_key(&link.name)) {
                        continue;
                    }
                    links.insert((domain, link.name.clone()));
                    // Ports wait for their bridge.
                    let waits = |port: &Uuid, pod: &Pod| pod.bridge == link.name && !self.active.contains(port);
                    ports.extend(self.pods_of(domain).filter(|(port, pod)| waits(port, pod)).map(|(port, _)| *port));
                }
                Event::Gone { scope: Some(domain), name } => match self.bound.holder(domain, &name) {
                    Some(port) => drop(ports.insert(port)),
                    None => drop(links.insert((domain, name))),
                },
                Event::Link { scope: None, link } => {
                    self.suspect_node |= link.name.starts_with(HOST_PREFIX);
                    ports.extend(self.bound.holders(&link.name));
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
        // What was told may be over: a link of ours is down while it is made.
        for (domain, name) in links {
            let device = self.compiled.plan().domains.get(&domain).and_then(|domain| domain.devices.get(&name));
            let live = self.realms.get_mut(&domain).filter(|_| !domains.contains(&domain));
            if let (Some(device), Some(live)) = (device, live)
                && !(live.complete && live.realm.stands(&name, device))
            {
                domains.insert(domain);
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
        self.hold();
        for id in std::mem::take(&mut self.suspects) {
            self.verify(id);
        }
        if std::mem::take(&mut self.suspect_node) {
            self.verify_node();
        }
        for id in self.leftovers.clone() {
            self.remove_leftover(id);
        }
        let broken = |id: &Uuid| self.realms.get(id).is_none_or(|live| !live.complete);
        let domains: BTreeSet<_> = self.compiled.plan().domains.keys().copied().filter(broken).collect();
        if !domains.is_empty() {
            let ports = domains.iter().filter_map(|id| self.by_domain.get(id)).flatten().copied().collect();
            self.rebuild(&Touched { domains, ports });
        }
        for port in self.failed.clone() {
            if let Some(pod) = self.pods.get(&port).cloned() {
                self.plug(port, pod);
            }
        }
        self.tell();
    }

    /// Keeps namespaces where others look for them: the kernel tells nobody of mounts.
    fn hold(&mut self) {
        for (id, live) in &self.realms {
            match live.realm.netns.hold() {
                Ok(again) => lock(&self.report).changes += usize::from(again),
                Err(error) => self.fail(*id, &error),
            }
        }
    }

    /// Begins to compare everything with the kernel.
    pub(super) fn sweep(&mut self) {
        self.forget_counts();
        self.due.extend(self.realms.keys());
        self.suspect_outside = true;
        self.outside();
        self.verify_node();
        self.tell();
    }

    /// Compares one domain that is due.
    pub(super) fn sweep_one(&mut self) {
        if let Some(id) = self.due.pop_first() {
            self.verify(id);
            self.tell();
        }
    }

    /// All that should be there, not only what was there once: a port that came while its domain was incomplete has
    /// never been plugged.
    fn pods_of(&self, domain: Uuid) -> impl Iterator<Item = (&Uuid, &Pod)> {
        self.by_domain.get(&domain).into_iter().flatten().filter_map(|port| self.pods.get_key_value(port))
    }

    /// Compares one domain and its pods with the kernel.
    fn verify(&mut self, id: Uuid) {
        self.realise(id, true, &BTreeMap::new());
        self.outside();
        let pods: Vec<_> = self.pods_of(id).map(|(port, pod)| (*port, pod.clone())).collect();
        for (port, pod) in pods {
            self.plug(port, pod);
        }
    }
}
