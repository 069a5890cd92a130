//! A topology and its plan, updated change by change.
//!
//! # Guarantees
//! After any changes in any order the plan equals that of a compilation from scratch. A change compiles only the namespaces that
//! have read what it changes. The kernel is not touched.

use std::collections::{BTreeMap, BTreeSet};

use atoll_model::port_security::PortSecurity;
use atoll_model::topology::{Device, Object, Port, Topology, TopologyChange};
use uuid::Uuid;

use super::plan::KernelPlan;
use super::pod::BridgePort;
use super::site::HostSite;
use super::unsupported::Unsupported;
use super::view::{Index, View, ViewKey};
use super::{location, namespace, port};

/// A unit of compilation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    /// Which namespace this bridge is in.
    Home(Uuid),
    /// A router namespace with its bridges.
    RouterNamespace(Uuid),
}

/// What has to be realised after changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Router namespaces that are new, different, or gone.
    pub namespaces: BTreeSet<Uuid>,
    /// Ports that an interface is bound to, or was, and that may be different or gone.
    pub ports: BTreeSet<Uuid>,
}

/// A topology and its plan.
#[derive(Clone, Debug)]
pub struct Compiled {
    site: HostSite,
    index: Index,
    pub(super) plan: KernelPlan,
    /// The namespace that each bridge is in.
    homes: BTreeMap<Uuid, Uuid>,
    /// The same by namespace.
    bridges_of: BTreeMap<Uuid, BTreeSet<Uuid>>,
    reads: BTreeMap<Unit, BTreeSet<ViewKey>>,
    readers: BTreeMap<ViewKey, BTreeSet<Unit>>,
    /// What changed since the plan was made.
    pending: BTreeSet<ViewKey>,
    /// The ports among it.
    ports: BTreeSet<Uuid>,
}

impl Compiled {
    /// Compiles everything.
    pub fn new(topology: Topology, site: impl Into<HostSite>) -> Self {
        let index = Index::new(topology);
        let mut compiled = Self {
            site: site.into(),
            pending: index.devices(),
            index,
            plan: KernelPlan::default(),
            homes: BTreeMap::new(),
            bridges_of: BTreeMap::new(),
            reads: BTreeMap::new(),
            readers: BTreeMap::new(),
            ports: BTreeSet::new(),
        };
        compiled.update();
        compiled
    }

    /// The topology with every change.
    pub fn topology(&self) -> &Topology {
        &self.index.topology
    }

    /// The plan, as of the last update.
    pub fn plan(&self) -> &KernelPlan {
        &self.plan
    }

    /// Compiles a port; `Ok(None)` if it is not on this host.
    pub fn pod(&self, id: Uuid) -> Result<Option<BridgePort>, Unsupported> {
        port::pod(&View::new(&self.index, self.site), &self.plan.bridges, id)
    }

    /// Ports of a router or bridge, lowest id first.
    pub fn ports_of(&self, device: Uuid) -> impl Iterator<Item = (Uuid, &Port)> {
        self.index.ports_of(device)
    }

    /// Applies a change. Returns the port if the change concerns one pod's port and nothing of the plan: no update is needed then.
    /// Any other change is compiled by the next update.
    pub fn apply(&mut self, change: TopologyChange) -> Option<Uuid> {
        let alone = self.isolated_port(&change);
        let id = change.id();
        let keys = self.index.apply(change);
        if alone.is_none() {
            // A port is new to the ports of its device, or gone from them.
            if keys.iter().any(|key| matches!(key, ViewKey::PortsOf(_))) {
                self.ports.insert(id);
            }
            self.pending.extend(keys);
        }
        alone
    }

    /// True when changes wait for an update.
    pub fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The port, when neither before nor after the change it is linked or filtered, its MAC and address are known, a
    /// router has its bridge, and no rule names it.
    fn isolated_port(&self, change: &TopologyChange) -> Option<Uuid> {
        let (id, after) = match change {
            TopologyChange::Put(Object::Port(id, port)) => (*id, Some(port)),
            TopologyChange::Remove(id) => (*id, None),
            TopologyChange::Put(_) => return None,
        };
        let before = self.index.topology.ports.get(&id);
        if (before.is_none() && after.is_none()) || self.readers.contains_key(&ViewKey::Object(id)) {
            return None;
        }
        let alone = |port: &Port| match port.device {
            Device::Bridge { id: bridge, .. } => {
                port.peer.is_none()
                    && port.inbound.is_none()
                    && port.outbound.is_none()
                    && port.vif_id.and_then(PortSecurity::from_vif_id).is_some()
                    && self.homes.get(&bridge).is_some_and(|namespace| *namespace != bridge)
            }
            Device::Router { .. } => false,
        };
        before.into_iter().chain(after).all(alone).then_some(id)
    }

    /// Compiles the units that have read something that changed.
    pub fn update(&mut self) -> Touched {
        let mut touched = Touched { ports: std::mem::take(&mut self.ports), ..Touched::default() };
        let (mut homes, mut namespaces) = (BTreeSet::new(), BTreeSet::new());
        for key in std::mem::take(&mut self.pending) {
            if let ViewKey::Object(id) = key {
                if self.index.topology.bridges.contains_key(&id) {
                    homes.insert(id);
                }
                if self.index.topology.routers.contains_key(&id) {
                    namespaces.insert(id);
                }
            }
            for unit in self.readers.get(&key).into_iter().flatten() {
                match unit {
                    Unit::Home(bridge) => homes.insert(*bridge),
                    Unit::RouterNamespace(namespace) => namespaces.insert(*namespace),
                };
            }
        }
        let mut bridges = homes.clone();
        for bridge in homes {
            namespaces.extend(self.find_home(bridge));
        }
        for namespace in namespaces {
            bridges.extend(self.bridges_of.get(&namespace).into_iter().flatten());
            if self.compile(namespace) {
                touched.namespaces.insert(namespace);
            }
        }
        touched.ports.extend(bridges.iter().flat_map(|bridge| self.index.ports_of(*bridge)).map(|(id, _)| id));
        touched
    }

    /// Finds the namespace of a bridge; returns the namespaces that differ because of it.
    fn find_home(&mut self, bridge: Uuid) -> BTreeSet<Uuid> {
        let view = View::new(&self.index, self.site);
        let after = view.bridge(bridge).and_then(|_| location::of_bridge(&view, bridge));
        let (exists, reads) = (self.index.topology.bridges.contains_key(&bridge), view.into_reads());
        self.note(Unit::Home(bridge), if exists { reads } else { BTreeSet::new() });
        let before = match after {
            Some(namespace) => self.homes.insert(bridge, namespace),
            None => self.homes.remove(&bridge),
        };
        if before == after {
            return BTreeSet::new();
        }
        self.plan.bridges.remove(&bridge);
        if let Some(bridges) = before.and_then(|namespace| self.bridges_of.get_mut(&namespace)) {
            bridges.remove(&bridge);
        }
        if let Some(namespace) = after {
            self.bridges_of.entry(namespace).or_default().insert(bridge);
        }
        before.into_iter().chain(after).collect()
    }

    /// Compiles a router namespace; true if the result differs from the earlier one.
    fn compile(&mut self, id: Uuid) -> bool {
        let bridges: Vec<_> = self.bridges_of.get(&id).into_iter().flatten().copied().collect();
        if bridges.is_empty() && !self.index.topology.routers.contains_key(&id) {
            self.bridges_of.remove(&id);
            self.note(Unit::RouterNamespace(id), BTreeSet::new());
            return self.plan.namespaces.remove(&id).is_some();
        }
        let view = View::new(&self.index, self.site);
        let namespace = namespace::compile(&view, id, &bridges);
        for bridge in bridges {
            self.plan.bridges.insert(bridge, port::attached(&view, id, bridge, &namespace.closed));
        }
        let reads = view.into_reads();
        self.note(Unit::RouterNamespace(id), reads);
        let before = self.plan.namespaces.get(&id);
        let different = before != Some(&namespace);
        if different {
            self.plan.namespaces.insert(id, namespace);
        }
        different
    }

    /// Notes the lookups of a unit.
    fn note(&mut self, unit: Unit, reads: BTreeSet<ViewKey>) {
        let before = self.reads.remove(&unit).unwrap_or_default();
        for key in before.difference(&reads) {
            if let Some(readers) = self.readers.get_mut(key) {
                readers.remove(&unit);
                if readers.is_empty() {
                    self.readers.remove(key);
                }
            }
        }
        for key in reads.difference(&before) {
            self.readers.entry(*key).or_default().insert(unit);
        }
        if !reads.is_empty() {
            self.reads.insert(unit, reads);
        }
    }
}
