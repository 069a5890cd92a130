//! Tracked flows are removed with what they belong to: the port of a pod, or a rule that translates. Otherwise the next pod with
//! the address would receive packets for the earlier one, and could answer them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use uuid::Uuid;

use super::kernel_namespace::KernelNamespace;
use crate::compile::marks::HOST_FLOW;
use crate::compile::{
    BridgePort, DeviceKind, KernelRoute, NextHop, RouterNamespace, TO_HOST, TO_PODS, TranslationTarget,
};
use crate::error::PlaneError;
use crate::kernel::flows::{Flow, Tuple};

/// Where packets go from a router namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// To another namespace.
    RouterNamespace(Uuid),
    /// To the external network, by an uplink whose other end may be in the machine's own namespace.
    External,
}

impl KernelNamespace {
    /// Removes every flow of a pod that is not wanted here any more.
    pub(crate) fn forget(&mut self, pod: &BridgePort) -> Result<(), PlaneError> {
        for source in &pod.allowed_sources {
            let flows = self.flows.of(source.address)?;
            self.forget_all(flows)?;
        }
        Ok(())
    }

    /// Removes the flow that these packets belong to, and returns it.
    pub(crate) fn forget_tuple(&mut self, tuple: &Tuple) -> Result<Option<Flow>, PlaneError> {
        let flow = self.flows.find(tuple)?;
        flow.iter().try_for_each(|flow| self.flows.forget(flow))?;
        Ok(flow)
    }

    /// The flows that were removed here since the last call.
    pub(crate) fn take_forgotten(&mut self) -> Vec<Flow> {
        std::mem::take(&mut self.forgotten)
    }

    fn forget_all(&mut self, flows: Vec<Flow>) -> Result<(), PlaneError> {
        flows.iter().try_for_each(|flow| self.flows.forget(flow))?;
        self.forgotten.extend(flows);
        Ok(())
    }

    /// Removes flows that no rule translates any more, because the kernel would go on translating them. Flows of a rule whose
    /// targets changed go on with their first target. At the first comparison the earlier rules are unknown: flows whose target no
    /// rule has are removed.
    pub(super) fn forget_translated(&mut self, want: &RouterNamespace) -> Result<(), PlaneError> {
        if self.targets.as_ref() == Some(&want.targets) {
            return Ok(());
        }
        let covers = |targets: &BTreeSet<TranslationTarget>, destination: bool, address: Ipv4Addr| {
            targets.iter().any(|it| it.destination == destination && (it.from..=it.to).contains(&address))
        };
        let there: BTreeSet<_> = want.targets.values().flatten().copied().collect();
        let gone: Option<BTreeSet<_>> = self.targets.as_ref().map(|before| {
            before
                .iter()
                .filter(|(rule, _)| !want.targets.contains_key(*rule))
                .flat_map(|(_, it)| it)
                .copied()
                .collect()
        });
        if gone.as_ref().is_none_or(|gone| !gone.is_empty()) {
            let stale = |destination: bool, address: Option<Ipv4Addr>| {
                let outdated = |address| gone.as_ref().is_none_or(|gone| covers(gone, destination, address));
                address.is_some_and(|address| !covers(&there, destination, address) && outdated(address))
            };
            let mut flows = self.flows.all()?;
            flows.retain(|flow| {
                flow.mark != HOST_FLOW
                    && (stale(true, flow.translated_destination()) || stale(false, flow.translated_source()))
            });
            self.forget_all(flows)?;
        }
        self.targets = Some(want.targets.clone());
        Ok(())
    }

    /// Removes flows whose packets leave by another interface than before, where a router translates: the kernel would keep
    /// the translation of the earlier way, or its absence.
    pub(super) fn forget_rerouted(&mut self, want: &RouterNamespace) -> Result<(), PlaneError> {
        if want.targets.is_empty() {
            self.routed = None;
        } else if self.routed.as_ref() != Some(&want.routes)
            && let Some(before) = self.routed.replace(want.routes.clone())
        {
            let moved = |address| {
                let [before, now] = [&before, &want.routes].map(|it| routes_to(it, address).collect::<BTreeSet<_>>());
                before != now
            };
            let mut flows = self.flows.all()?;
            // The destination after a translation is what is routed.
            flows.retain(|flow| flow.mark != HOST_FLOW && moved(flow.reply.source));
            self.forget_all(flows)?;
        }
        Ok(())
    }

    /// Removes flows of addresses on our bridges that no port has: their ports were removed while the plane did not run. If some
    /// port may send from any address, this is unknown.
    pub(crate) fn forget_unknown_addresses(&mut self, want: &RouterNamespace) -> Result<(), PlaneError> {
        if self.pods.values().any(|pod| pod.allowed_sources.is_empty()) {
            return Ok(());
        }
        let allowed_sources = self.pods.values().flat_map(|pod| &pod.allowed_sources).map(|source| source.address);
        let listed = want.elements.iter().filter_map(|element| element.source).map(|source| source.address);
        let own = want.devices.values().flat_map(|device| &device.addresses).copied();
        let neighbours = want.neighbours.iter().map(|neighbour| neighbour.address);
        let known: BTreeSet<_> = allowed_sources.chain(listed).chain(own).chain(neighbours).collect();
        let strange = |address: Ipv4Addr| !known.contains(&address) && on_bridge(want, address);
        let mut flows = self.flows.all()?;
        flows.retain(|flow| strange(flow.original.source) || strange(flow.reply.source));
        self.forget_all(flows)
    }
}

/// The interfaces of the routes to an address, the longest of each table.
fn routes_to(routes: &BTreeSet<KernelRoute<String>>, address: Ipv4Addr) -> impl Iterator<Item = &str> {
    let mut longest = BTreeMap::new();
    let fits = routes.iter().filter(|it| ![TO_HOST, TO_PODS].contains(&it.table) && it.destination.contains(address));
    for route in fits {
        let best = longest.entry(route.table).or_insert(route);
        if (route.destination.prefix(), best.metric) > (best.destination.prefix(), route.metric) {
            *best = route;
        }
    }
    longest.into_values().filter_map(|route| match &route.next {
        NextHop::Via { device, .. } | NextHop::Direct { device } => Some(device.as_str()),
        NextHop::BlackHole | NextHop::Prohibit => None,
    })
}

fn on_bridge(namespace: &RouterNamespace, address: Ipv4Addr) -> bool {
    routes_to(&namespace.routes, address)
        .any(|name| namespace.devices.get(name).is_some_and(|it| it.kind == DeviceKind::Bridge))
}

/// Where packets for `address` go from a router namespace: by its routes, and to further routers on its bridges.
pub(crate) fn ways(namespace: &RouterNamespace, address: Ipv4Addr) -> BTreeSet<Way> {
    let routed =
        routes_to(&namespace.routes, address).filter_map(|name| namespace.devices.get(name)).filter_map(|it| match it
            .kind
        {
            DeviceKind::Link { namespace, .. } => Some(Way::RouterNamespace(namespace)),
            DeviceKind::Uplink { .. } => Some(Way::External),
            DeviceKind::Bridge | DeviceKind::Host { .. } => None,
        });
    let bridged = namespace.devices.values().filter_map(|it| match it.kind {
        DeviceKind::Link { namespace, bridge: Some(_), .. } => Some(Way::RouterNamespace(namespace)),
        _ => None,
    });
    routed.chain(bridged).collect()
}
