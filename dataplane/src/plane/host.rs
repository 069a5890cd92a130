//! How the machine reaches the pod of each port: its address, its routes, and the guard of the machine's own namespace.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use atoll_model::host_to_pod::HostToPodPool;
use atoll_model::port_security::PortSecurity;
use uuid::Uuid;

use super::addresses::{Denied, HostToPodRequest};
use super::state::Plane;
use crate::compile::{BridgePort, DeviceKind, HostToPod, Unsupported};
use crate::error::PlaneError;
use crate::mutex::lock;

impl Plane {
    /// Reads the addresses in the kernel's sets once, before the first port is compiled.
    pub(super) fn recall_host_to_pod(&mut self) {
        for (id, managed) in &mut self.namespaces {
            if !std::mem::replace(&mut managed.remembered, true) {
                // If it cannot be read, the addresses are assigned anew.
                for (address, pod) in managed.kernel.remembered().unwrap_or_default() {
                    self.addresses.remembered.insert((*id, pod), address);
                }
            }
        }
    }

    /// How the node reaches this pod; `None` if it does not.
    pub(super) fn host_to_pod(&mut self, port: Uuid, pod: &BridgePort) -> Option<HostToPod> {
        let pool = self
            .compiled
            .plan()
            .namespaces
            .get(&pod.namespace)
            .and_then(|namespace| namespace.node.as_ref())
            .map(|link| link.pool);
        let own = pod.allowed_sources.first().filter(|_| pod.routed).map(|source| source.address);
        let (Some(pool), Some(own)) = (pool, own) else {
            self.addresses.release(port);
            return None;
        };
        let vif = self.compiled.topology().ports.get(&port).and_then(|port| PortSecurity::from_vif_id(port.vif_id?));
        let unique = vif.is_some_and(|vif| vif.unique);
        let (side, denied) =
            self.addresses.assign(pool, &HostToPodRequest { port, namespace: pod.namespace, own, unique });
        if let Some(denied) = denied {
            self.deny(port, own, pool, &denied);
        }
        side
    }

    fn deny(&mut self, port: Uuid, own: Ipv4Addr, pool: HostToPodPool, denied: &Denied) {
        let unreached = "the node does not reach this pod".to_owned();
        let (why, effect) = match denied {
            Denied::Rival(rival) => (format!("port {rival} of the same router has the address {own} too"), unreached),
            Denied::Full => (format!("all addresses of {} are taken", pool.network()), unreached),
            Denied::Direct(holder) => (
                format!("port {holder} has the address {own} too, and both are marked as unique"),
                format!("the node reaches port {holder} by it, and this one by its host-to-pod address only"),
            ),
        };
        let field = "vifId".to_owned();
        self.unsupported.add(port, Unsupported { object: port, field, why, effect, closes: false });
    }

    /// The node's routes to a pod's port.
    pub(super) fn add_host_routes(&mut self, port: Uuid, pod: &BridgePort) -> Result<(), PlaneError> {
        let Some(link) =
            self.compiled.plan().namespaces.get(&pod.namespace).and_then(|namespace| namespace.node.as_ref())
        else {
            return Ok(());
        };
        let before = self.pods.get(&port).and_then(|old| old.node).filter(|old| Some(*old) != pod.node);
        if let Some(before) = before {
            self.node.remove_host_routes(link, before)?;
            self.node.forget_flows(before)?;
        }
        if let Some(side) = pod.node {
            lock(&self.report).host_to_pod.insert(port, side);
            self.node.add_host_routes(link, side)
        } else {
            lock(&self.report).host_to_pod.remove(&port);
            Ok(())
        }
    }

    /// Releases the address of a removed port, for which other ports may wait.
    pub(super) fn release_host_to_pod(&mut self, port: Uuid, pod: &BridgePort) {
        lock(&self.report).host_to_pod.remove(&port);
        let link = self.compiled.plan().namespaces.get(&pod.namespace).and_then(|namespace| namespace.node.as_ref());
        if let (Some(side), Some(link)) = (pod.node, link)
            && let Err(error) = self.node.remove_host_routes(link, side)
        {
            self.suspect_host = true;
            self.fail(port, &error);
        }
        if let Some(side) = pod.node
            && let Err(error) = self.node.forget_flows(side)
        {
            self.fail(port, &error);
        }
        if self.addresses.release(port) {
            for next in self.addresses.waiting.clone() {
                self.refresh(next);
            }
        }
    }

    /// Packets of the node for an address that several may have must not leave it: an external host could answer probes.
    pub(super) fn stop_at_host(&mut self, port: Uuid) {
        let allowed_sources = self.pods.get(&port).into_iter().flat_map(|pod| &pod.allowed_sources);
        let own =
            allowed_sources.map(|source| source.address).filter(|_| self.settings.host_to_pod.is_some()).collect();
        for (address, is) in self.addresses.claim(port, own) {
            if let Err(error) = self.node.stop(address, is) {
                self.suspect_host = true;
                self.fail(port, &error);
            }
        }
    }

    /// Loads the guard of the machine's own namespace before the first link to it is created.
    pub(super) fn guard_host(&mut self) {
        let Some(pool) = self.settings.host_to_pod.filter(|_| self.has_links()) else { return };
        let devices = self.compiled.plan().namespaces.values().flat_map(|namespace| namespace.devices.values());
        let uplinks = devices.filter(|device| matches!(device.kind, DeviceKind::Uplink { .. }));
        self.node.set_guard_inputs(uplinks.map(|device| device.mac).collect(), self.settings.services);
        match self.node.guard(pool) {
            Ok(changes) => lock(&self.report).changes += changes,
            Err(error) => self.fail(Uuid::nil(), &error),
        }
        self.addresses.others = self.node.others(pool).map(<[_]>::to_vec).unwrap_or_default();
    }

    /// Removes, at the start, what an earlier process left of host-to-pod addressing, if it is off now.
    pub(super) fn retire_host(&mut self) {
        if self.settings.host_to_pod.is_none()
            && let Err(error) = self.node.retire()
        {
            self.fail(Uuid::nil(), &error);
        }
    }

    fn has_links(&self) -> bool {
        self.compiled.plan().namespaces.values().any(|namespace| namespace.node.is_some())
    }

    /// Compares the machine's own namespace with the kernel.
    pub(super) fn verify_host(&mut self) {
        let Some(pool) = self.settings.host_to_pod.filter(|_| self.has_links()) else { return };
        let routes = |plane: &mut Self| {
            plane.try_verify_ends(pool)?;
            let namespaces = &plane.compiled.plan().namespaces;
            let led = |pod: &BridgePort| Some((namespaces.get(&pod.namespace)?.node.as_ref()?, pod.node?));
            let pods: Vec<_> = plane.pods.values().filter_map(led).collect();
            plane.node.verify_routes(pool, &pods)
        };
        match routes(self) {
            Ok(changes) => lock(&self.report).changes += changes,
            Err(error) => {
                self.suspect_host = true;
                self.fail(Uuid::nil(), &error);
            }
        }
    }

    /// Compares links to routers, if they may have changed, before the first route through one is added.
    pub(super) fn verify_ends(&mut self) {
        let Some(pool) = self.settings.host_to_pod.filter(|_| self.node.is_unchecked()) else { return };
        if let Err(error) = self.try_verify_ends(pool) {
            self.suspect_host = true;
            self.fail(Uuid::nil(), &error);
        }
    }

    fn try_verify_ends(&mut self, pool: HostToPodPool) -> Result<(), PlaneError> {
        let mut wanted = BTreeMap::new();
        let mut namespaces = BTreeMap::new();
        for (id, namespace) in &self.compiled.plan().namespaces {
            let Some(link) = &namespace.node else { continue };
            if let (Some(device), Some(true)) =
                (namespace.devices.get(&link.name), self.namespaces.get(id).map(|l| l.complete))
            {
                wanted.insert(link.end.clone(), device.mac);
                namespaces.insert(link.end.clone(), *id);
            }
        }
        let (changes, missing) = self.node.verify_ends(pool, &wanted)?;
        lock(&self.report).changes += changes;
        self.addresses.others = self.node.others(pool).map(<[_]>::to_vec).unwrap_or_default();
        self.suspects.extend(missing.iter().filter_map(|end| namespaces.get(end)));
        Ok(())
    }
}
