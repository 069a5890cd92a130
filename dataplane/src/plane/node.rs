//! How the machine reaches the pod of each port: its address, its routes, and the guard of the machine's own namespace.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use atoll_model::port_security::PortSecurity;
use uuid::Uuid;

use super::addresses::{Asked, Denied};
use super::state::Plane;
use crate::compile::{DeviceKind, NodePool, NodeSide, Pod, Unsupported};
use crate::error::PlaneError;
use crate::mutex::lock;

impl Plane {
    /// Reads once, before the first port is compiled, what the kernel remembers.
    pub(super) fn remember_node_side(&mut self) {
        for (id, live) in &mut self.realms {
            if !std::mem::replace(&mut live.remembered, true) {
                // What cannot be read is as good as forgotten: the addresses are given anew.
                for (address, pod) in live.realm.remembered().unwrap_or_default() {
                    self.addresses.remembered.insert((*id, pod), address);
                }
            }
        }
    }

    /// How the node reaches this pod; none where there is no way.
    pub(super) fn node_side(&mut self, port: Uuid, pod: &Pod) -> Option<NodeSide> {
        let pool =
            self.compiled.plan().domains.get(&pod.domain).and_then(|domain| domain.node.as_ref()).map(|link| link.pool);
        let own = pod.speakers.first().filter(|_| pod.routed).map(|speaker| speaker.address);
        let (Some(pool), Some(own)) = (pool, own) else {
            self.addresses.release(port);
            return None;
        };
        let vif = self.compiled.topology().ports.get(&port).and_then(|port| PortSecurity::from_vif_id(port.vif?));
        let unique = vif.is_some_and(|vif| vif.unique);
        let (side, denied) = self.addresses.give(pool, &Asked { port, domain: pod.domain, own, unique });
        if let Some(denied) = denied {
            self.deny(port, own, pool, &denied);
        }
        side
    }

    fn deny(&mut self, port: Uuid, own: Ipv4Addr, pool: NodePool, denied: &Denied) {
        let unreached = "the node does not reach this pod".to_owned();
        let (why, effect) = match denied {
            Denied::Rival(rival) => (format!("port {rival} of the same router has the address {own} too"), unreached),
            Denied::Full => (format!("all addresses of {} are taken", pool.network()), unreached),
            Denied::Direct(holder) => (
                format!("port {holder} has the address {own} too, and both say that nobody else has"),
                format!("the node reaches port {holder} by it, and this one by its node-side address only"),
            ),
        };
        let field = "vifId".to_owned();
        self.left_out.add(port, Unsupported { object: port, field, why, effect, closes: false });
    }

    /// The node's routes to a pod's port.
    pub(super) fn lead(&mut self, port: Uuid, pod: &Pod) -> Result<(), PlaneError> {
        let Some(link) = self.compiled.plan().domains.get(&pod.domain).and_then(|domain| domain.node.as_ref()) else {
            return Ok(());
        };
        let before = self.pods.get(&port).and_then(|old| old.node).filter(|old| Some(*old) != pod.node);
        if let Some(before) = before {
            self.node.leave(link, before)?;
            self.node.forget_flows(before)?;
        }
        if let Some(side) = pod.node {
            lock(&self.report).node_side.insert(port, side);
            self.node.lead(link, side)
        } else {
            lock(&self.report).node_side.remove(&port);
            Ok(())
        }
    }

    /// A port is gone: what it had is free, and others may have waited for it.
    pub(super) fn forget_node_side(&mut self, port: Uuid, pod: &Pod) {
        lock(&self.report).node_side.remove(&port);
        let link = self.compiled.plan().domains.get(&pod.domain).and_then(|domain| domain.node.as_ref());
        if let (Some(side), Some(link)) = (pod.node, link)
            && let Err(error) = self.node.leave(link, side)
        {
            self.suspect_node = true;
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

    /// Packets of the node for an address that several may have must not leave it: a stranger would answer probes.
    pub(super) fn stop_at_node(&mut self, port: Uuid) {
        let speakers = self.pods.get(&port).into_iter().flat_map(|pod| &pod.speakers);
        let own = speakers.map(|speaker| speaker.address).filter(|_| self.settings.node_side.is_some()).collect();
        for (address, is) in self.addresses.claim(port, own) {
            if let Err(error) = self.node.stop(address, is) {
                self.suspect_node = true;
                self.fail(port, &error);
            }
        }
    }

    /// The guard of our own namespace stands before the first link to it does.
    pub(super) fn guard_node(&mut self) {
        let Some(pool) = self.settings.node_side.filter(|_| self.has_links()) else { return };
        let devices = self.compiled.plan().domains.values().flat_map(|domain| domain.devices.values());
        let uplinks = devices.filter(|device| matches!(device.kind, DeviceKind::Uplink { .. }));
        self.node.face(uplinks.map(|device| device.mac).collect(), self.settings.services);
        match self.node.guard(pool) {
            Ok(changes) => lock(&self.report).changes += changes,
            Err(error) => self.fail(Uuid::nil(), &error),
        }
        self.addresses.others = self.node.others(pool).map(<[_]>::to_vec).unwrap_or_default();
    }

    /// At the start, when the last link is gone: without a node side nothing of it stays here.
    pub(super) fn retire_node(&mut self) {
        if self.settings.node_side.is_none()
            && let Err(error) = self.node.retire()
        {
            self.fail(Uuid::nil(), &error);
        }
    }

    fn has_links(&self) -> bool {
        self.compiled.plan().domains.values().any(|domain| domain.node.is_some())
    }

    /// Compares our own namespace with what it should hold.
    pub(super) fn verify_node(&mut self) {
        let Some(pool) = self.settings.node_side.filter(|_| self.has_links()) else { return };
        let routes = |plane: &mut Self| {
            plane.try_verify_ends(pool)?;
            let domains = &plane.compiled.plan().domains;
            let led = |pod: &Pod| Some((domains.get(&pod.domain)?.node.as_ref()?, pod.node?));
            let pods: Vec<_> = plane.pods.values().filter_map(led).collect();
            plane.node.verify_routes(pool, &pods)
        };
        match routes(self) {
            Ok(changes) => lock(&self.report).changes += changes,
            Err(error) => {
                self.suspect_node = true;
                self.fail(Uuid::nil(), &error);
            }
        }
    }

    /// Compares links to routers before the first pod behind one is led to, where somebody may have changed them.
    pub(super) fn verify_ends(&mut self) {
        let Some(pool) = self.settings.node_side.filter(|_| self.node.is_unchecked()) else { return };
        if let Err(error) = self.try_verify_ends(pool) {
            self.suspect_node = true;
            self.fail(Uuid::nil(), &error);
        }
    }

    fn try_verify_ends(&mut self, pool: NodePool) -> Result<(), PlaneError> {
        let mut wanted = BTreeMap::new();
        let mut domains = BTreeMap::new();
        for (id, domain) in &self.compiled.plan().domains {
            let Some(link) = &domain.node else { continue };
            if let (Some(device), Some(true)) =
                (domain.devices.get(&link.name), self.realms.get(id).map(|l| l.complete))
            {
                wanted.insert(link.end.clone(), device.mac);
                domains.insert(link.end.clone(), *id);
            }
        }
        let (changes, missing) = self.node.verify_ends(pool, &wanted)?;
        lock(&self.report).changes += changes;
        self.addresses.others = self.node.others(pool).map(<[_]>::to_vec).unwrap_or_default();
        self.suspects.extend(missing.iter().filter_map(|end| domains.get(end)));
        Ok(())
    }
}
