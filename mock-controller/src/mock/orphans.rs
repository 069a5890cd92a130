//! Orphans: objects that no tenant's network needs. A client that cleans up leaves none.
//!
//! The search visits every object, in a copy of the state. After each few hundred objects other tasks run.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::task::{Context, Poll, Waker};

use serde::Serialize;
use uuid::Uuid;

use crate::answer::PIECE;
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

/// Lets other tasks run after each few hundred objects.
#[derive(Default)]
struct Pace(usize);

impl Pace {
    async fn step(&mut self) {
        self.0 += 1;
        if self.0.is_multiple_of(PIECE) {
            tokio::task::yield_now().await;
        }
    }
}

/// As [`find`], without letting other tasks run.
pub(crate) fn find_at_once(tables: &Tables) -> Orphans {
    let mut search = std::pin::pin!(find(tables));
    loop {
        if let Poll::Ready(found) = search.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return found;
        }
    }
}

/// Visits every object.
pub(crate) async fn find(tables: &Tables) -> Orphans {
    let mut pace = Pace::default();
    let mut found = Orphans { odd_tenants: odd_tenants(tables, &mut pace).await, ..Orphans::default() };
    let mut interfaces = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    let mut used: BTreeSet<Uuid> = BTreeSet::new();
    for (id, port) in &tables.ports {
        pace.step().await;
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
        pace.step().await;
        let forwards = matches!(route.kind, RouteKind::Normal | RouteKind::Local);
        if forwards && route.port.is_none_or(|port| !tables.ports.contains_key(&port)) {
            found.routes_to_nowhere.push(*id);
        }
    }
    for (id, rule) in &tables.rules {
        pace.step().await;
        let ports = ["inPorts", "outPorts"].into_iter().flat_map(|name| rule_fields::ids(&rule.fields, name));
        if ports.into_iter().any(|port| !tables.ports.contains_key(&port)) {
            found.rules_with_missing_ports.push(*id);
        }
        used.extend(rule_fields::id(&rule.fields, "jumpChainId"));
    }
    for router in tables.routers.values() {
        pace.step().await;
        used.extend([router.device.inbound, router.device.outbound].into_iter().flatten());
        used.extend([router.local_redirect, router.forward].into_iter().flatten());
    }
    for bridge in tables.bridges.values() {
        pace.step().await;
        used.extend([bridge.device.inbound, bridge.device.outbound].into_iter().flatten());
    }
    for id in tables.chains.keys() {
        pace.step().await;
        found.unused_chains.extend(Some(*id).filter(|id| !used.contains(id)));
    }
    found
}

async fn odd_tenants(tables: &Tables, pace: &mut Pace) -> BTreeMap<String, Parts> {
    let mut tenants: BTreeMap<String, Parts> = BTreeMap::new();
    let mut count = |tenant: Option<&String>, what: fn(&mut Parts)| {
        if let Some(tenant) = tenant {
            what(tenants.entry(tenant.clone()).or_default());
        }
    };
    for (id, router) in &tables.routers {
        pace.step().await;
        if *id != provider_router() {
            count(router.device.tenant.as_ref(), |parts| parts.routers += 1);
        }
    }
    for bridge in tables.bridges.values() {
        pace.step().await;
        count(bridge.device.tenant.as_ref(), |parts| parts.bridges += 1);
    }
    for chain in tables.chains.values() {
        pace.step().await;
        count(chain.tenant.as_ref(), |parts| parts.chains += 1);
    }
    tenants.retain(|_, parts| parts.routers != 1 || parts.chains != 2 || parts.bridges == 0);
    tenants
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::objects::Chain;

    #[test]
    fn other_tasks_run_after_each_few_hundred_objects() {
        let chains = (0..10_000).map(|id| (Uuid::from_u128(id), Chain::default())).collect();
        let tables = Tables { chains, ..Tables::default() };
        let (mut search, mut turns) = (std::pin::pin!(find(&tables)), 0);
        let found = loop {
            match search.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(found) => break found,
                Poll::Pending => turns += 1,
            }
        };
        assert_eq!(found.unused_chains.len(), 10_000);
        // Each chain is visited twice.
        assert_eq!(turns, 2 * 10_000 / PIECE);
        assert_eq!(found, find_at_once(&tables));
    }
}
