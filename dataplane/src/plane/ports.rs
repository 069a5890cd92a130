//! Ports of pods: each costs itself and nothing else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use uuid::Uuid;

use super::state::Plane;
use crate::apply::Surroundings;
use crate::compile::{self, Pod};
use crate::mutex::lock;

impl Plane {
    /// What these ports become, and those that waited for what they give back. What became nothing is taken out.
    pub(super) fn compile_pods(&mut self, ports: &BTreeSet<Uuid>) -> BTreeMap<Uuid, Pod> {
        let mut queue: VecDeque<_> = ports.iter().copied().collect();
        let mut wanted = BTreeMap::new();
        while let Some(port) = queue.pop_front() {
            let (pod, next) = self.compile_pod(port);
            queue.extend(next);
            if let Some(pod) = pod {
                wanted.insert(port, pod);
            } else {
                wanted.remove(&port);
                self.drop_pod(port);
            }
        }
        wanted
    }

    /// What a port becomes, and the port that waited for the interface that it gives back.
    fn compile_pod(&mut self, port: Uuid) -> (Option<Pod>, Option<Uuid>) {
        let compiled = self.compiled.pod(port);
        let asked = compiled.as_ref().ok().and_then(Option::as_ref).map(|pod| (pod.domain, pod.interface.as_str()));
        let next = self.bound.release(port, asked);
        let mut left = BTreeSet::new();
        let mut pod = match compiled {
            Ok(pod) => pod,
            Err(unsupported) => {
                left.insert(unsupported);
                None
            }
        };
        if let Some(it) = &pod {
            let holder = self.bound.take(port, it.domain, &it.interface);
            if holder == port {
                left.extend(it.left.iter().cloned());
            } else {
                left.insert(compile::taken(port, holder, &it.interface));
                pod = None;
            }
        }
        self.left_out.replace(port, left);
        if let Some(it) = &mut pod {
            it.node = self.node_side(port, it);
        }
        (pod, next)
    }

    /// Makes one port as it should be, and what waited for what it gives back.
    pub(super) fn refresh(&mut self, port: Uuid) {
        let mut queue = vec![port];
        while let Some(port) = queue.pop() {
            let (pod, next) = self.compile_pod(port);
            queue.extend(next);
            match pod {
                Some(pod) => self.plug(port, pod),
                None => self.drop_pod(port),
            }
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
        let domain = pod.domain;
        self.pods.insert(port, pod);
        self.stop_at_node(port);
        self.forget_elsewhere(domain);
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

    /// Takes ports out of the domains in which their bridges were, and their interfaces along: a bridge that is linked to a
    /// router, or is not any more, has another domain, and its pods hear nothing of it. At the start the kernel tells where
    /// they were.
    pub(super) fn carry(&mut self, wanted: &BTreeMap<Uuid, Pod>) {
        let mut moves = Vec::new();
        if self.pods.is_empty() {
            let by_interface: BTreeMap<_, _> =
                wanted.iter().map(|(port, pod)| (pod.interface.as_str(), port)).collect();
            for (domain, live) in &mut self.realms {
                let mine = live.realm.interfaces().unwrap_or_default();
                let ports = mine.iter().filter_map(|name| by_interface.get(name.as_str()));
                moves.extend(ports.filter(|port| wanted[*port].domain != *domain).map(|port| (**port, *domain)));
            }
        } else {
            let old = |port| self.pods.get(port).map(|old| old.domain);
            let moved =
                wanted.iter().filter_map(|(port, pod)| Some((*port, old(port)?)).filter(|it| it.1 != pod.domain));
            moves.extend(moved);
        }
        for (port, from) in moves {
            self.drop_pod(port);
            let pod = &wanted[&port];
            let Some(mut live) = self.realms.remove(&from) else { continue };
            let carried =
                self.realms.get(&pod.domain).map_or(Ok(()), |to| live.realm.hand_over(&pod.interface, &to.realm));
            self.realms.insert(from, live);
            if let Err(error) = carried {
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
        self.stop_at_node(port);
        let removed = self.realms.get_mut(&pod.domain).map_or(Ok(()), |live| live.realm.remove(port));
        self.forget_elsewhere(pod.domain);
        if let Err(error) = removed {
            // The next comparison takes out what is left.
            if let Some(live) = self.realms.get_mut(&pod.domain) {
                live.complete = false;
            }
            // The port is gone: what is not right any more is its domain.
            self.fail(pod.domain, &error);
        }
    }
}
