//! A topology as the compiler reads it: with indices, and with a record of each lookup.
//!
//! A router namespace depends on exactly what was looked up while it was compiled, also on lookups without a result. Therefore the
//! compiler reads the topology through a [`View`] only, and [`super::Compiled`] compiles a router namespace again if and only if
//! something that it has read changes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use atoll_model::topology::{
    AddressGroup, Bridge, Chain, Device, Object, Port, PortGroup, Route, Router, Topology, TopologyChange,
};
use uuid::Uuid;

use super::site::HostSite;

/// Something that can be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ViewKey {
    /// The object with this id.
    Object(Uuid),
    /// The ports of this router or bridge.
    PortsOf(Uuid),
    /// The routes of this router.
    RoutesOf(Uuid),
}

/// A topology, with ports and routes by what they belong to.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    pub(super) topology: Topology,
    ports: BTreeMap<Uuid, BTreeSet<Uuid>>,
    routes: BTreeMap<Uuid, BTreeSet<Uuid>>,
}

impl Index {
    pub(super) fn new(topology: Topology) -> Self {
        let mut index = Self::default();
        for (id, port) in &topology.ports {
            index.ports.entry(port.device.id()).or_default().insert(*id);
        }
        for (id, route) in &topology.routes {
            index.routes.entry(route.router).or_default().insert(*id);
        }
        Self { topology, ..index }
    }

    /// Every router and bridge: where compilation starts.
    pub(super) fn devices(&self) -> BTreeSet<ViewKey> {
        self.topology.routers.keys().chain(self.topology.bridges.keys()).map(|id| ViewKey::Object(*id)).collect()
    }

    /// Makes a change; returns which lookups give another result.
    pub(super) fn apply(&mut self, change: TopologyChange) -> BTreeSet<ViewKey> {
        let id = change.id();
        let mut keys = BTreeSet::from([ViewKey::Object(id)]);
        if let Some(device) = self.topology.ports.get(&id).map(|port| port.device.id()) {
            remove(&mut self.ports, device, id);
            keys.insert(ViewKey::PortsOf(device));
        }
        if let Some(router) = self.topology.routes.get(&id).map(|route| route.router) {
            remove(&mut self.routes, router, id);
            keys.insert(ViewKey::RoutesOf(router));
        }
        match &change {
            TopologyChange::Put(Object::Port(_, port)) => {
                self.ports.entry(port.device.id()).or_default().insert(id);
                keys.insert(ViewKey::PortsOf(port.device.id()));
            }
            TopologyChange::Put(Object::Route(_, route)) => {
                self.routes.entry(route.router).or_default().insert(id);
                keys.insert(ViewKey::RoutesOf(route.router));
            }
            _ => {}
        }
        self.topology.apply(change);
        keys
    }

    /// Ports of a device, lowest id first.
    pub(super) fn ports_of(&self, device: Uuid) -> impl Iterator<Item = (Uuid, &Port)> {
        let ids = self.ports.get(&device).into_iter().flatten();
        ids.filter_map(|id| self.topology.ports.get_key_value(id)).map(|(id, port)| (*id, port))
    }

    fn routes_of(&self, router: Uuid) -> impl Iterator<Item = (Uuid, &Route)> {
        let ids = self.routes.get(&router).into_iter().flatten();
        ids.filter_map(|id| self.topology.routes.get_key_value(id)).map(|(id, route)| (*id, route))
    }
}

fn remove(index: &mut BTreeMap<Uuid, BTreeSet<Uuid>>, owner: Uuid, id: Uuid) {
    if let Some(ids) = index.get_mut(&owner) {
        ids.remove(&id);
        if ids.is_empty() {
            index.remove(&owner);
        }
    }
}

/// What the compiler sees of a topology.
pub(super) struct View<'a> {
    index: &'a Index,
    /// Which machine this is.
    pub(super) site: HostSite,
    reads: RefCell<BTreeSet<ViewKey>>,
}

impl<'a> View<'a> {
    pub(super) fn new(index: &'a Index, site: HostSite) -> Self {
        Self { index, site, reads: RefCell::default() }
    }

    /// Everything that was looked up.
    pub(super) fn into_reads(self) -> BTreeSet<ViewKey> {
        self.reads.into_inner()
    }

    fn topology(&self, key: ViewKey) -> &'a Topology {
        self.reads.borrow_mut().insert(key);
        &self.index.topology
    }

    pub(super) fn router(&self, id: Uuid) -> Option<&'a Router> {
        self.topology(ViewKey::Object(id)).routers.get(&id)
    }

    pub(super) fn bridge(&self, id: Uuid) -> Option<&'a Bridge> {
        self.topology(ViewKey::Object(id)).bridges.get(&id)
    }

    pub(super) fn port(&self, id: Uuid) -> Option<&'a Port> {
        self.topology(ViewKey::Object(id)).ports.get(&id)
    }

    pub(super) fn chain(&self, id: Uuid) -> Option<&'a Chain> {
        self.topology(ViewKey::Object(id)).chains.get(&id)
    }

    pub(super) fn port_group(&self, id: Uuid) -> Option<&'a PortGroup> {
        self.topology(ViewKey::Object(id)).port_groups.get(&id)
    }

    pub(super) fn address_group(&self, id: Uuid) -> Option<&'a AddressGroup> {
        self.topology(ViewKey::Object(id)).address_groups.get(&id)
    }

    /// Ports of a router or bridge, lowest id first.
    pub(super) fn ports_of(&self, device: Uuid) -> impl Iterator<Item = (Uuid, &'a Port)> + use<'a> {
        self.reads.borrow_mut().insert(ViewKey::PortsOf(device));
        self.index.ports_of(device)
    }

    /// Routes of a router, lowest id first.
    pub(super) fn routes_of(&self, router: Uuid) -> impl Iterator<Item = (Uuid, &'a Route)> + use<'a> {
        self.reads.borrow_mut().insert(ViewKey::RoutesOf(router));
        self.index.routes_of(router)
    }

    /// The port at the other end of a link that carries packets: both ends are there and know of each other, and none has
    /// a VLAN.
    pub(super) fn peer(&self, port: &Port) -> Option<(Uuid, &'a Port)> {
        let id = port.peer?;
        let peer = self.port(id).filter(|peer| !tagged(&peer.device))?;
        let mutual = peer.peer.and_then(|back| self.port(back)).is_some_and(|back| std::ptr::eq(back, port));
        (mutual && !tagged(&port.device)).then_some((id, peer))
    }
}

/// A port of a bridge that belongs to a VLAN.
pub(super) fn tagged(device: &Device) -> bool {
    matches!(device, Device::Bridge { vlan: Some(vlan), .. } if *vlan != 0)
}
