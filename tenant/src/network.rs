//! From the records of a tenant to the network that an engine makes real. Pure.
//!
//! # Guarantees
//! The same records give the same network. The network carries the revision of the tenant's record.

use std::net::Ipv4Addr;

use atoll_ipam::pool::{self, Block, TRANSIT_PREFIX6};
use atoll_network::{
    EngineMemory, Network, NetworkId, NetworkNextHop, NetworkRoute, NetworkSubnet, ProviderNetwork, ProviderUplink,
    SubnetPrefix, TransitLink,
};
use atoll_records::{self as records, ClusterRecord, Phase, StaticRoute, SubnetEntry, TenantRecord, Versioned, Via};
use ipnetwork::{IpNetwork, Ipv4Network};

/// The two ends of a transit link, each with the length of the /30.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Transit {
    /// The provider router's end: the first usable address.
    pub provider: Ipv4Network,
    /// The tenant router's end: the second.
    pub tenant: Ipv4Network,
}

impl Transit {
    /// The ends of `pair`. A pair that is no /30 gives its first addresses all the same; `registry` makes only /30s.
    pub fn of(pair: Ipv4Network) -> Self {
        let end = |n: u32| {
            let address = Ipv4Addr::from(u32::from(pair.network()).wrapping_add(n));
            Ipv4Network::new(address, pair.prefix()).unwrap_or(pair)
        };
        Self { provider: end(1), tenant: end(2) }
    }
}

/// The network of a tenant: its router, and every subnet that is being built or in use.
pub fn network(cluster: &ClusterRecord, tenant: &Versioned<TenantRecord>) -> Network {
    with_subnets(cluster, tenant, |subnet| subnet.phase != Phase::Deleting)
}

/// The network with every subnet, also those that are being deleted.
pub(crate) fn whole_network(cluster: &ClusterRecord, tenant: &Versioned<TenantRecord>) -> Network {
    with_subnets(cluster, tenant, |_| true)
}

/// The identity of a tenant's network.
pub fn network_id(cluster: &ClusterRecord, tenant: &TenantRecord) -> NetworkId {
    NetworkId { cluster: cluster.id, incarnation: tenant.incarnation }
}

fn with_subnets(
    cluster: &ClusterRecord,
    tenant: &Versioned<TenantRecord>,
    included: impl Fn(&SubnetEntry) -> bool,
) -> Network {
    let record = &tenant.record;
    Network {
        id: network_id(cluster, record),
        tenant: record.name.clone(),
        revision: tenant.mod_revision,
        provider: cluster.provider_router,
        transit: transit_links(cluster, record.transit),
        subnets: record.subnets.iter().filter(|subnet| included(subnet)).map(subnet).collect(),
        routes: routes(&record.routes),
        removed_routes: routes(&record.retired),
        services: cluster.service_cidr.map(IpNetwork::V4).into_iter().collect(),
        names: record.pod_domain.is_some(),
        memory: EngineMemory(record.engine.clone()),
    }
}

/// The links of a tenant that has the /30 `pair`. The /126 has the same index in its pool, so that no second record exists.
fn transit_links(cluster: &ClusterRecord, pair: Ipv4Network) -> Vec<TransitLink> {
    let Transit { provider, tenant } = Transit::of(pair);
    let ipv4 = cluster.ipv4.then(|| TransitLink { provider: provider.into(), tenant: tenant.into() });
    let ipv6 = cluster.ipv6.and_then(|pools| {
        let index = Block::from(cluster.transit_cidr).index_of(Block::from(pair))?;
        let link = pool::subnet(pools.transit_cidr.into(), TRANSIT_PREFIX6, index)?;
        let (provider, tenant) = pool::transit_sides(link)?;
        let end = |address| IpNetwork::new(address, TRANSIT_PREFIX6).ok();
        Some(TransitLink { provider: end(provider)?, tenant: end(tenant)? })
    });
    ipv4.into_iter().chain(ipv6).collect()
}

fn subnet(entry: &SubnetEntry) -> NetworkSubnet {
    let prefix = |of: &records::PrefixEntry| SubnetPrefix { prefix: of.cidr, gateway: of.gateway };
    NetworkSubnet { ordinal: entry.ordinal, prefixes: entry.prefixes.iter().map(prefix).collect() }
}

/// A static route of a record, as one of a network.
pub(crate) fn route(route: &StaticRoute) -> NetworkRoute {
    let next_hop = match route.via {
        Via::Gateway(address) => NetworkNextHop::Gateway(address),
        Via::Reject => NetworkNextHop::Reject,
        Via::Blackhole => NetworkNextHop::Blackhole,
    };
    NetworkRoute { destination: route.destination, next_hop }
}

/// Static routes of a record, as those of a network.
pub(crate) fn routes(routes: &[StaticRoute]) -> Vec<NetworkRoute> {
    routes.iter().map(route).collect()
}

/// The provider router that `init` makes; none: the cluster has adopted one.
pub fn provider(cluster: &ClusterRecord) -> Option<ProviderNetwork> {
    let uplinks = cluster.provider.as_ref()?.uplinks.iter().map(|uplink| ProviderUplink {
        address: uplink.address,
        gateway: uplink.gateway,
        host: uplink.host.clone(),
        interface: uplink.interface.clone(),
    });
    Some(ProviderNetwork { cluster: cluster.id, uplinks: uplinks.collect() })
}

#[cfg(test)]
pub(crate) mod tests {
    use atoll_model::ids::{Incarnation, Namespace, TenantName};
    use atoll_records::{Origin, Quota, SCHEMA};
    use uuid::Uuid;

    use super::*;

    /// Tenant `red` with `subnets` subnets.
    pub(crate) fn tenant(subnets: usize) -> TenantRecord {
        TenantRecord {
            v: SCHEMA,
            name: TenantName::new("red").expect("valid"),
            incarnation: Incarnation(Uuid::from_u128(4)),
            origin: Origin::Namespace(Namespace::new("red").expect("valid")),
            phase: Phase::Active,
            engine: serde_json::Map::new(),
            transit: "100.64.1.4/30".parse().expect("valid"),
            subnets: (1..)
                .take(subnets)
                .map(|ordinal| SubnetEntry {
                    ordinal,
                    prefixes: vec![records::PrefixEntry {
                        cidr: format!("10.128.{ordinal}.0/24").parse().expect("valid"),
                        gateway: [10, 128, u8::try_from(ordinal).expect("small"), 1].into(),
                    }],
                    phase: Phase::Active,
                    exclude: Vec::new(),
                    unknown: serde_json::Map::new(),
                })
                .collect(),
            quota: Quota::default(),
            routes: Vec::new(),
            retired: Vec::new(),
            dns: None,
            pod_domain: None,
            unknown: serde_json::Map::new(),
        }
    }

    #[test]
    fn the_provider_has_the_first_usable_address_and_the_tenant_the_second() {
        let transit = Transit::of("100.64.1.4/30".parse().expect("valid"));
        assert_eq!(transit.provider.to_string(), "100.64.1.5/30");
        assert_eq!(transit.tenant.to_string(), "100.64.1.6/30");
    }
}
