//! One-to-many indexes: the ids of each key. A key without ids is removed. A copy costs the same whatever is in it.

use imbl::{OrdMap, OrdSet};
use std::borrow::Borrow;
use std::fmt;
use uuid::Uuid;

use super::object_map::visit;
use super::objects::{Binding, Bridge, DeviceFields, Port, Route, Router};

/// Ids by key, sorted.
#[derive(Clone)]
pub(crate) struct IdIndex<K>(OrdMap<K, OrdSet<Uuid>>);

impl<K: Ord + fmt::Debug> fmt::Debug for IdIndex<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Index").field(&self.0).finish()
    }
}

impl<K> Default for IdIndex<K> {
    fn default() -> Self {
        Self(OrdMap::new())
    }
}

impl<K: Ord + Clone> IdIndex<K> {
    pub(crate) fn add(&mut self, key: K, id: Uuid) {
        self.0.entry(key).or_default().insert(id);
    }

    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q, id: Uuid)
    where
        K: Borrow<Q>,
    {
        if let Some(ids) = self.0.get_mut(key) {
            ids.remove(&id);
            if ids.is_empty() {
                self.0.remove(key);
            }
        }
    }

    /// The ids under `key`, sorted.
    pub(crate) fn of<Q: Ord + ?Sized>(&self, key: &Q) -> impl Iterator<Item = Uuid> + '_
    where
        K: Borrow<Q>,
    {
        self.0.get(key).into_iter().flatten().copied().inspect(|_| visit())
    }

    /// As [`IdIndex::of`], as a copy, for callers that change the index while they iterate.
    pub(crate) fn list<Q: Ord + ?Sized>(&self, key: &Q) -> Vec<Uuid>
    where
        K: Borrow<Q>,
    {
        self.of(key).collect()
    }

    /// Every key that has ids.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.keys().inspect(|_| visit())
    }

    /// Every id, under whatever key.
    pub(crate) fn ids(&self) -> impl Iterator<Item = Uuid> {
        self.0.values().flatten().copied().inspect(|_| visit())
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Every index: ids by what refers to them.
#[derive(Clone, Debug, Default)]
pub(super) struct Indexes {
    pub(super) routers_of_tenant: IdIndex<String>,
    pub(super) bridges_of_tenant: IdIndex<String>,
    pub(super) chains_of_tenant: IdIndex<String>,
    pub(super) groups_of_tenant: IdIndex<String>,
    pub(super) ports_of_device: IdIndex<Uuid>,
    pub(super) routes_of_router: IdIndex<Uuid>,
    pub(super) routes_of_port: IdIndex<Uuid>,
    /// Routers, bridges and ports that use a chain as a filter.
    pub(super) users_of_chain: IdIndex<Uuid>,
    /// Jump rules that target a chain.
    pub(super) jumps_to_chain: IdIndex<Uuid>,
    pub(super) ports_of_host: IdIndex<Uuid>,
    pub(super) ports_of_interface: IdIndex<Binding>,
    pub(super) groups_of_port: IdIndex<Uuid>,
    pub(super) zones_of_host: IdIndex<Uuid>,
    pub(super) zones_of_name: IdIndex<String>,
}

impl Indexes {
    pub(super) fn add_device(&mut self, id: Uuid, device: &DeviceFields) {
        for chain in [device.inbound, device.outbound].into_iter().flatten() {
            self.users_of_chain.add(chain, id);
        }
    }

    pub(super) fn drop_device(&mut self, id: Uuid, device: &DeviceFields) {
        for chain in [device.inbound, device.outbound].into_iter().flatten() {
            self.users_of_chain.remove(&chain, id);
        }
    }

    pub(super) fn add_router(&mut self, id: Uuid, router: &Router) {
        add_owned(&mut self.routers_of_tenant, router.device.tenant.as_ref(), id);
        self.add_device(id, &router.device);
        for chain in [router.local_redirect, router.forward].into_iter().flatten() {
            self.users_of_chain.add(chain, id);
        }
    }

    pub(super) fn drop_router(&mut self, id: Uuid, router: &Router) {
        drop_owned(&mut self.routers_of_tenant, router.device.tenant.as_ref(), id);
        self.drop_device(id, &router.device);
        for chain in [router.local_redirect, router.forward].into_iter().flatten() {
            self.users_of_chain.remove(&chain, id);
        }
    }

    pub(super) fn add_bridge(&mut self, id: Uuid, bridge: &Bridge) {
        add_owned(&mut self.bridges_of_tenant, bridge.device.tenant.as_ref(), id);
        self.add_device(id, &bridge.device);
    }

    pub(super) fn drop_bridge(&mut self, id: Uuid, bridge: &Bridge) {
        drop_owned(&mut self.bridges_of_tenant, bridge.device.tenant.as_ref(), id);
        self.drop_device(id, &bridge.device);
    }

    pub(super) fn add_port(&mut self, id: Uuid, port: &Port) {
        self.ports_of_device.add(port.device, id);
        for chain in [port.inbound, port.outbound].into_iter().flatten() {
            self.users_of_chain.add(chain, id);
        }
        if let Some(binding) = &port.binding {
            self.ports_of_host.add(binding.host, id);
            self.ports_of_interface.add(binding.clone(), id);
        }
    }

    pub(super) fn drop_port(&mut self, id: Uuid, port: &Port) {
        self.ports_of_device.remove(&port.device, id);
        for chain in [port.inbound, port.outbound].into_iter().flatten() {
            self.users_of_chain.remove(&chain, id);
        }
        if let Some(binding) = &port.binding {
            self.ports_of_host.remove(&binding.host, id);
            self.ports_of_interface.remove(binding, id);
        }
    }

    pub(super) fn add_route(&mut self, id: Uuid, route: &Route) {
        self.routes_of_router.add(route.router, id);
        if let Some(port) = route.port {
            self.routes_of_port.add(port, id);
        }
    }

    /// Whether the indexes hold nothing: for tests of the cascades.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let i = self;
        i.routers_of_tenant.is_empty()
            && i.bridges_of_tenant.is_empty()
            && i.chains_of_tenant.is_empty()
            && i.groups_of_tenant.is_empty()
            && i.ports_of_device.is_empty()
            && i.routes_of_router.is_empty()
            && i.routes_of_port.is_empty()
            && i.users_of_chain.is_empty()
            && i.jumps_to_chain.is_empty()
            && i.ports_of_host.is_empty()
            && i.ports_of_interface.is_empty()
            && i.groups_of_port.is_empty()
            && i.zones_of_host.is_empty()
            && i.zones_of_name.is_empty()
    }
}

pub(super) fn add_owned<K: Ord + Clone>(index: &mut IdIndex<K>, owner: Option<&K>, id: Uuid) {
    if let Some(owner) = owner {
        index.add(owner.clone(), id);
    }
}

pub(super) fn drop_owned<K: Ord + Clone>(index: &mut IdIndex<K>, owner: Option<&K>, id: Uuid) {
    if let Some(owner) = owner {
        index.remove(owner, id);
    }
}
