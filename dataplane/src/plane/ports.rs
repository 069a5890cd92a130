//! Ports of pods. The cost of a change does not depend on the number of other ports.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use uuid::Uuid;

use super::state::Plane;
use crate::apply::Surroundings;
use crate::compile::{self, BridgePort};
use crate::mutex::lock;

impl Plane {
    /// Compiles these ports, and ports that wait for interfaces that these release. Ports without a result are taken out.
    pub(super) fn compile_pods(&mut self, ports: &BTreeSet<Uuid>) -> BTreeMap<Uuid, BridgePort> {
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

    /// Compiles a port; returns the result, and the port that waits for the interface that it releases.
    fn compile_pod(&mut self, port: Uuid) -> (Option<BridgePort>, Option<Uuid>) {
        let compiled = self.compiled.pod(port);
        let asked = compiled.as_ref().ok().and_then(Option::as_ref).map(|pod| (pod.namespace, pod.interface.as_str()));
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
            let holder = self.bound.take(port, it.namespace, &it.interface);
            if holder == port {
                left.extend(it.left.iter().cloned());
            } else {
                left.insert(compile::taken(port, holder, &it.interface));
                pod = None;
            }
        }
        self.unsupported.replace(port, left);
        if let Some(it) = &mut pod {
            it.node = self.host_to_pod(port, it);
        }
        (pod, next)
    }

    /// Compiles and programs one port, and ports that wait for interfaces that it releases.
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
    pub(super) fn plug(&mut self, port: Uuid, pod: BridgePort) {
        if self.pods.get(&port).is_some_and(|old| old.namespace != pod.namespace) {
            self.drop_pod(port);
        }
        let active = match self.namespaces.get_mut(&pod.namespace) {
            Some(managed) if managed.complete => {
                let mut around = Surroundings {
                    directory: &self.settings.directory,
                    node: &mut self.node,
                    preserved: self.preserved.links(),
                };
                managed.kernel.plug(port, &pod, &mut around)
            }
            _ => Ok(false),
        };
        let active = active.and_then(|active| self.add_host_routes(port, &pod).map(|()| active));
        self.by_namespace.entry(pod.namespace).or_default().insert(port);
        let namespace = pod.namespace;
        self.pods.insert(port, pod);
        self.stop_at_host(port);
        self.forget_elsewhere(namespace);
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

    /// Moves ports with their interfaces from the namespaces in which their bridges were. A bridge that is linked to a router, or
    /// unlinked, has another namespace, and its pods get no event. At the start the kernel shows where they were.
    pub(super) fn move_ports(&mut self, wanted: &BTreeMap<Uuid, BridgePort>) {
        let mut moves = Vec::new();
        if self.pods.is_empty() {
            let by_interface: BTreeMap<_, _> =
                wanted.iter().map(|(port, pod)| (pod.interface.as_str(), port)).collect();
            for (namespace, managed) in &mut self.namespaces {
                let mine = managed.kernel.interfaces().unwrap_or_default();
                let ports = mine.iter().filter_map(|name| by_interface.get(name.as_str()));
                moves.extend(
                    ports.filter(|port| wanted[*port].namespace != *namespace).map(|port| (**port, *namespace)),
                );
            }
        } else {
            let old = |port| self.pods.get(port).map(|old| old.namespace);
            let moved =
                wanted.iter().filter_map(|(port, pod)| Some((*port, old(port)?)).filter(|it| it.1 != pod.namespace));
            moves.extend(moved);
        }
        for (port, from) in moves {
            self.drop_pod(port);
            let pod = &wanted[&port];
            let Some(mut managed) = self.namespaces.remove(&from) else { continue };
            let carried = self
                .namespaces
                .get(&pod.namespace)
                .map_or(Ok(()), |to| managed.kernel.hand_over(&pod.interface, &to.kernel));
            self.namespaces.insert(from, managed);
            if let Err(error) = carried {
                self.fail(port, &error);
            }
        }
    }

    /// Takes a port out.
    pub(super) fn drop_pod(&mut self, port: Uuid) {
        let Some(pod) = self.pods.remove(&port) else { return };
        if let Some(ports) = self.by_namespace.get_mut(&pod.namespace) {
            ports.remove(&port);
            if ports.is_empty() {
                self.by_namespace.remove(&pod.namespace);
            }
        }
        self.set_active(port, false);
        self.failed.remove(&port);
        self.release_host_to_pod(port, &pod);
        lock(&self.report).errors.remove(&port);
        self.stop_at_host(port);
        let removed = self.namespaces.get_mut(&pod.namespace).map_or(Ok(()), |managed| managed.kernel.remove(port));
        self.forget_elsewhere(pod.namespace);
        if let Err(error) = removed {
            // The next comparison takes out what is left.
            if let Some(managed) = self.namespaces.get_mut(&pod.namespace) {
                managed.complete = false;
            }
            // The port is gone, so the error belongs to its namespace.
            self.fail(pod.namespace, &error);
        }
    }
}
