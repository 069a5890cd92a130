//! What is left over: objects that no tenant's network needs and that a client which cleans up leaves none of.
//!
//! This walks over everything; it is a report, not a request of the API.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use uuid::Uuid;

use crate::resources::rule_fields;
use crate::settings::provider_router;
use crate::state::Tables;
use crate::state::objects::RouteKind;

/// The report; every list is sorted.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Orphans {
    /// Neither bound nor linked.
    idle_ports: Vec<Uuid>,
    /// Their peer does not name them back.
    half_linked_ports: Vec<Uuid>,
    /// Several ports are bound to the same interface.
    shared_interfaces: Vec<Uuid>,
    /// Bound to a host that does not exist.
    lost_bindings: Vec<Uuid>,
    /// Routes that forward to a port that is gone.
    routes_to_nowhere: Vec<Uuid>,
    /// Rules that name a port that does not exist: they never match again.
    rules_with_missing_ports: Vec<Uuid>,
    /// Chains that filter nothing and that nothing jumps to.
    unused_chains: Vec<Uuid>,
    /// Ports of the provider router that have the same address.
    shared_transit_addresses: Vec<Uuid>,
    /// Tenants that do not have exactly one router, two chains and at least one bridge.
    odd_tenants: BTreeMap<String, Parts>,
}

/// How many parts a tenant has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Parts {
    routers: usize,
    chains: usize,
    bridges: usize,
}

/// Looks at everything.
pub(crate) fn find(tables: &Tables) -> Orphans {
    let mut found = Orphans { odd_tenants: odd_tenants(tables), ..Orphans::default() };
    let mut interfaces = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    let mut used: BTreeSet<Uuid> = BTreeSet::new();
    for (id, port) in &tables.ports {
        used.extend([port.inbound, port.outbound].into_iter().flatten());
        match (&port.binding, port.peer) {
            (None, None) => found.idle_ports.push(*id),
            (Some(binding), _) if !tables.hosts.contains_key(&binding.host) => found.lost_bindings.push(*id),
            (Some(binding), _) if !interfaces.insert(binding) => found.shared_interfaces.push(*id),
            _ => {}
        }
        if port.peer.is_some_and(|peer| tables.ports.get(&peer).is_none_or(|peer| peer.peer != Some(*id))) {
            found.half_linked_ports.push(*id);
        }
        if let crate::state::objects::PortKind::Router { address, .. } = port.kind
            && port.device == provider_router()
            && !addresses.insert(address)
        {
            found.shared_transit_addresses.push(*id);
        }
    }
    for (id, route) in &tables.routes {
        let forwards = matches!(route.kind, RouteKind::Normal | RouteKind::Local);
        if forwards && route.port.is_none_or(|port| !tables.ports.contains_key(&port)) {
            found.routes_to_nowhere.push(*id);
        }
    }
    for (id, rule) in &tables.rules {
        let ports = ["inPorts", "outPorts"].into_iter().flat_map(|name| rule_fields::ids(&rule.fields, name));
        if ports.into_iter().any(|port| !tables.ports.contains_key(&port)) {
            found.rules_with_missing_ports.push(*id);
        }
        used.extend(rule_fields::id(&rule.fields, "jumpChainId"));
    }
    for router in tables.routers.values() {
        used.extend([router.device.inbound, router.device.outbound].into_iter().flatten());
        used.extend([router.local_redirect, router.forward].into_iter().flatten());
    }
    for bridge in tables.bridges.values() {
        used.extend([bridge.device.inbound, bridge.device.outbound].into_iter().flatten());
    }
    found.unused_chains = tables.chains.keys().filter(|id| !used.contains(id)).copied().collect();
    found
}

fn odd_tenants(tables: &Tables) -> BTreeMap<String, Parts> {
    let mut tenants: BTreeMap<String, Parts> = BTreeMap::new();
    let mut count = |tenant: Option<&String>, what: fn(&mut Parts)| {
        if let Some(tenant) = tenant {
            what(tenants.entry(tenant.clone()).or_default());
        }
    };
    for (id, router) in &tables.routers {
        if *id != provider_router() {
            count(router.device.tenant.as_ref(), |parts| parts.routers += 1);
        }
    }
    for bridge in tables.bridges.values() {
        count(bridge.device.tenant.as_ref(), |parts| parts.bridges += 1);
    }
    for chain in tables.chains.values() {
        count(chain.tenant.as_ref(), |parts| parts.chains += 1);
    }
    tenants.retain(|_, parts| parts.routers != 1 || parts.chains != 2 || parts.bridges == 0);
    tenants
}
