//! Everything a controller knows: tables by id, and indexes so that no request walks over a table.
//!
//! # Guarantees
//! - Every mutation is a method here, which keeps indexes, cascades and the list of changed objects consistent.
//! - A method with existing ids cannot fail.
//! - A copy of a state has constant cost, so it can be kept for a rollback or for slow readers.
//!
//! `resources` decides whether a request is acceptable.

mod cascade;
mod index;
mod object_map;
pub mod objects;
mod patch;
mod topology;

use std::collections::BTreeSet;

use imbl::OrdSet;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use index::{IdIndex, Indexes, add_owned};
pub use object_map::{ObjectMap, visited};
use objects::{AddressGroup, Binding, Bridge, Chain, Host, Port, PortGroup, Route, Router, Rule, TunnelZone};
pub use patch::Patch;

/// The tables. Two states with equal tables are equal; indexes follow from them. What is written has every table, also
/// an empty one: one that is missing when it is read is damage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tables {
    /// Routers.
    pub routers: ObjectMap<Router>,
    /// Bridges.
    pub bridges: ObjectMap<Bridge>,
    /// Ports.
    pub ports: ObjectMap<Port>,
    /// Routes, with those that the server made.
    pub routes: ObjectMap<Route>,
    /// Chains.
    pub chains: ObjectMap<Chain>,
    /// Rules.
    pub rules: ObjectMap<Rule>,
    /// Port groups.
    pub port_groups: ObjectMap<PortGroup>,
    /// IP address groups.
    pub address_groups: ObjectMap<AddressGroup>,
    /// Hosts.
    pub hosts: ObjectMap<Host>,
    /// Tunnel zones.
    pub tunnel_zones: ObjectMap<TunnelZone>,
    /// Writes are refused (1.9).
    pub read_only: bool,
}

/// The tables, to name one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ObjectTable {
    Routers,
    Bridges,
    Ports,
    Routes,
    Chains,
    Rules,
    PortGroups,
    AddressGroups,
    Hosts,
    TunnelZones,
    /// The read-only switch, which has no id.
    ReadOnly,
}

/// Tables, indexes, and what was touched since the last call of `take_touched`.
#[derive(Clone, Debug, Default)]
pub(crate) struct ControllerState {
    tables: Tables,
    index: Indexes,
    /// Objects that changed since the last call of `take_touched`, in order.
    touched: Vec<(ObjectTable, Uuid)>,
    /// Ports whose packets flow. Ephemeral, as in the real controller.
    active: OrdSet<Uuid>,
    /// Ports that were bound since the last call, for the caller that decides when they become active.
    bound: Vec<Uuid>,
}

impl ControllerState {
    /// A state with these tables; the indexes are made from them.
    pub(crate) fn from_tables(tables: Tables) -> Self {
        let mut state = Self { tables, ..Self::default() };
        state.rebuild();
        state
    }

    /// The tables, to read.
    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Whether writes are refused (1.9).
    pub(crate) fn is_read_only(&self) -> bool {
        self.tables.read_only
    }

    /// Refuses writes, or accepts them again (1.9).
    pub(crate) fn set_read_only(&mut self, read_only: bool) {
        self.tables.read_only = read_only;
        self.touch(ObjectTable::ReadOnly, Uuid::nil());
    }

    fn rebuild(&mut self) {
        let t = &self.tables;
        let i = &mut self.index;
        for (id, router) in &t.routers {
            i.add_router(*id, router);
        }
        for (id, bridge) in &t.bridges {
            i.add_bridge(*id, bridge);
        }
        for (id, port) in &t.ports {
            i.add_port(*id, port);
        }
        for (id, route) in &t.routes {
            i.add_route(*id, route);
        }
        for (id, chain) in &t.chains {
            add_owned(&mut i.chains_of_tenant, chain.tenant.as_ref(), *id);
        }
        for (id, rule) in &t.rules {
            add_owned(&mut i.jumps_to_chain, jump_target(rule).as_ref(), *id);
        }
        for (id, group) in &t.port_groups {
            add_owned(&mut i.groups_of_tenant, group.tenant.as_ref(), *id);
            for port in &group.members {
                i.groups_of_port.add(*port, *id);
            }
        }
        for (id, zone) in &t.tunnel_zones {
            i.zones_of_name.add(zone.name.clone(), *id);
            for host in zone.members.keys() {
                i.zones_of_host.add(*host, *id);
            }
        }
    }

    pub(super) fn touch(&mut self, table: ObjectTable, id: Uuid) {
        self.touched.push((table, id));
    }

    // ---- routers and bridges -------------------------------------------------------------------------------------

    /// Adds or replaces a router.
    pub(crate) fn put_router(&mut self, id: Uuid, router: Router) {
        if let Some(old) = self.tables.routers.remove(&id) {
            self.index.drop_router(id, &old);
        }
        self.index.add_router(id, &router);
        self.tables.routers.insert(id, router);
        self.touch(ObjectTable::Routers, id);
    }

    /// Adds or replaces a bridge.
    pub(crate) fn put_bridge(&mut self, id: Uuid, bridge: Bridge) {
        if let Some(old) = self.tables.bridges.remove(&id) {
            self.index.drop_bridge(id, &old);
        }
        self.index.add_bridge(id, &bridge);
        self.tables.bridges.insert(id, bridge);
        self.touch(ObjectTable::Bridges, id);
    }

    /// Changes the tables of a bridge (static MAC and ARP entries), which no index follows.
    pub(crate) fn edit_bridge(&mut self, id: Uuid, edit: impl FnOnce(&mut Bridge)) {
        if let Some(bridge) = self.tables.bridges.get_mut(&id) {
            edit(bridge);
            self.touch(ObjectTable::Bridges, id);
        }
    }

    /// Routers, all or those of a tenant.
    pub(crate) fn routers(&self, tenant: Option<&str>) -> Vec<Uuid> {
        listed(&self.tables.routers, &self.index.routers_of_tenant, tenant)
    }

    /// Bridges, all or those of a tenant.
    pub(crate) fn bridges(&self, tenant: Option<&str>) -> Vec<Uuid> {
        listed(&self.tables.bridges, &self.index.bridges_of_tenant, tenant)
    }

    /// Every tenant that owns an object.
    pub(crate) fn tenants(&self) -> BTreeSet<&str> {
        let i = &self.index;
        [&i.routers_of_tenant, &i.bridges_of_tenant, &i.chains_of_tenant, &i.groups_of_tenant]
            .into_iter()
            .flat_map(IdIndex::keys)
            .map(String::as_str)
            .collect()
    }

    // ---- ports ---------------------------------------------------------------------------------------------------

    /// Adds or replaces a port. Its link and binding are taken as they are: the caller has checked the other side.
    pub(crate) fn put_port(&mut self, id: Uuid, port: Port) {
        let old = self.tables.ports.remove(&id);
        if let Some(old) = &old {
            self.index.drop_port(id, old);
        }
        if old.and_then(|old| old.binding) != port.binding {
            self.active.remove(&id);
            self.bound.extend(port.binding.is_some().then_some(id));
        }
        self.index.add_port(id, &port);
        self.tables.ports.insert(id, port);
        self.touch(ObjectTable::Ports, id);
    }

    fn edit_port(&mut self, id: Uuid, edit: impl FnOnce(&mut Port)) {
        if let Some(mut port) = self.tables.ports.get(&id).cloned() {
            edit(&mut port);
            self.put_port(id, port);
        }
    }

    /// Links two ports, both ways.
    pub(crate) fn link(&mut self, one: Uuid, other: Uuid) {
        self.edit_port(one, |port| port.peer = Some(other));
        self.edit_port(other, |port| port.peer = Some(one));
    }

    /// Clears a port's link on both sides.
    pub(crate) fn unlink(&mut self, id: Uuid) {
        if let Some(peer) = self.tables.ports.get(&id).and_then(|port| port.peer) {
            self.edit_port(id, |port| port.peer = None);
            // A peer that has another link by now keeps it.
            if self.tables.ports.get(&peer).is_some_and(|port| port.peer == Some(id)) {
                self.edit_port(peer, |port| port.peer = None);
            }
        }
    }

    /// Binds a port; an earlier binding is replaced.
    pub(crate) fn bind(&mut self, id: Uuid, binding: Binding) {
        self.edit_port(id, |port| port.binding = Some(binding));
    }

    /// Clears a port's binding; it is not active any more.
    pub(crate) fn unbind(&mut self, id: Uuid) {
        self.edit_port(id, |port| port.binding = None);
    }

    /// Ports that were bound since the last call.
    pub(crate) fn take_bound(&mut self) -> Vec<Uuid> {
        std::mem::take(&mut self.bound)
    }

    /// Ports of a router or bridge.
    pub(crate) fn ports_of(&self, device: Uuid) -> Vec<Uuid> {
        self.index.ports_of_device.list(&device)
    }

    /// Ports bound to a host.
    pub(crate) fn bound_to(&self, host: Uuid) -> Vec<Uuid> {
        self.index.ports_of_host.list(&host)
    }

    /// Whether some port is bound to this interface.
    pub(crate) fn is_used(&self, binding: &Binding) -> bool {
        self.index.ports_of_interface.of(binding).next().is_some()
    }

    /// Whether a port's packets flow.
    pub(crate) fn is_active(&self, port: Uuid) -> bool {
        self.active.contains(&port)
    }

    /// Sets whether a port's packets flow. A port that does not exist or is not bound is never active.
    pub(crate) fn set_active(&mut self, port: Uuid, active: bool) {
        if active && self.tables.ports.get(&port).is_some_and(|port| port.binding.is_some()) {
            self.active.insert(port);
        } else {
            self.active.remove(&port);
        }
    }

    /// Every port that is bound.
    pub(crate) fn all_bound(&self) -> Vec<Uuid> {
        self.index.ports_of_host.ids().collect()
    }

    /// No port's packets flow.
    pub(crate) fn deactivate_all(&mut self) {
        self.active.clear();
    }

    // ---- routes --------------------------------------------------------------------------------------------------

    /// Adds a route.
    pub(crate) fn put_route(&mut self, id: Uuid, route: Route) {
        self.index.add_route(id, &route);
        self.tables.routes.insert(id, route);
        self.touch(ObjectTable::Routes, id);
    }

    /// Routes of a router.
    pub(crate) fn routes_of(&self, router: Uuid) -> Vec<Uuid> {
        self.index.routes_of_router.list(&router)
    }

    // ---- chains and rules ----------------------------------------------------------------------------------------

    /// Adds a chain.
    pub(crate) fn put_chain(&mut self, id: Uuid, chain: Chain) {
        add_owned(&mut self.index.chains_of_tenant, chain.tenant.as_ref(), id);
        self.tables.chains.insert(id, chain);
        self.touch(ObjectTable::Chains, id);
    }

    /// Chains, all or those of a tenant.
    pub(crate) fn chains(&self, tenant: Option<&str>) -> Vec<Uuid> {
        listed(&self.tables.chains, &self.index.chains_of_tenant, tenant)
    }

    /// Adds a rule to its chain before the one at `place`; 0 is the head.
    pub(crate) fn put_rule(&mut self, id: Uuid, rule: Rule, place: usize) {
        let chain = rule.chain;
        if let Some(owner) = self.tables.chains.get_mut(&chain) {
            owner.rules.insert(place.min(owner.rules.len()), id);
            add_owned(&mut self.index.jumps_to_chain, jump_target(&rule).as_ref(), id);
            self.tables.rules.insert(id, rule);
            self.touch(ObjectTable::Rules, id);
            self.touch(ObjectTable::Chains, chain);
        }
    }

    // ---- groups --------------------------------------------------------------------------------------------------

    /// Adds or replaces a port group.
    pub(crate) fn put_port_group(&mut self, id: Uuid, group: PortGroup) {
        self.drop_port_group(id);
        add_owned(&mut self.index.groups_of_tenant, group.tenant.as_ref(), id);
        for port in &group.members {
            self.index.groups_of_port.add(*port, id);
        }
        self.tables.port_groups.insert(id, group);
        self.touch(ObjectTable::PortGroups, id);
    }

    /// Port groups, all or those of a tenant.
    pub(crate) fn port_groups(&self, tenant: Option<&str>) -> Vec<Uuid> {
        listed(&self.tables.port_groups, &self.index.groups_of_tenant, tenant)
    }

    /// Port groups that a port is in.
    pub(crate) fn groups_of(&self, port: Uuid) -> Vec<Uuid> {
        self.index.groups_of_port.list(&port)
    }

    /// Adds or replaces an address group.
    pub(crate) fn put_address_group(&mut self, id: Uuid, group: AddressGroup) {
        self.tables.address_groups.insert(id, group);
        self.touch(ObjectTable::AddressGroups, id);
    }

    // ---- hosts and tunnel zones ----------------------------------------------------------------------------------

    /// Adds or replaces a host.
    pub(crate) fn put_host(&mut self, id: Uuid, host: Host) {
        self.tables.hosts.insert(id, host);
        self.touch(ObjectTable::Hosts, id);
    }

    /// Adds or replaces a tunnel zone.
    pub(crate) fn put_tunnel_zone(&mut self, id: Uuid, zone: TunnelZone) {
        self.drop_tunnel_zone(id);
        self.index.zones_of_name.add(zone.name.clone(), id);
        for host in zone.members.keys() {
            self.index.zones_of_host.add(*host, id);
        }
        self.tables.tunnel_zones.insert(id, zone);
        self.touch(ObjectTable::TunnelZones, id);
    }

    /// Whether a host is in some tunnel zone.
    pub(crate) fn in_tunnel_zone(&self, host: Uuid) -> bool {
        self.index.zones_of_host.of(&host).next().is_some()
    }

    /// The tunnel zone of this name.
    pub(crate) fn zone_named(&self, name: &str) -> Option<Uuid> {
        self.index.zones_of_name.of(name).next()
    }
}

/// The chain that a jump rule goes to.
pub(crate) fn jump_target(rule: &Rule) -> Option<Uuid> {
    rule.fields.get("jumpChainId").and_then(serde_json::Value::as_str).and_then(crate::body::parse_uuid)
}

fn listed<V>(table: &ObjectMap<V>, index: &IdIndex<String>, tenant: Option<&str>) -> Vec<Uuid> {
    tenant.map_or_else(|| table.keys().copied().collect(), |tenant| index.list(tenant))
}
