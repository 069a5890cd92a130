//! The pools of a cluster from which subnets get their prefixes: one for each family. Pure.

use atoll_ipam::pool;
use atoll_model::ids::TenantName;
use atoll_records::{ClusterRecord, PrefixEntry};
use ipnetwork::IpNetwork;

use crate::error::TenantError;

/// A pool from which the subnets of a cluster get a prefix.
pub(crate) struct SubnetPool {
    /// The key of the configuration.
    pub(crate) setting: &'static str,
    /// The pool.
    pub(crate) cidr: IpNetwork,
    /// The prefix length of a subnet.
    pub(crate) prefix: u8,
    /// The longest prefix length that a subnet may have.
    pub(crate) longest: u8,
}

/// The pools of a cluster, one for each family that its pods have, IPv4 first.
pub(crate) fn pools(cluster: &ClusterRecord) -> Vec<SubnetPool> {
    let ipv4 = cluster.ipv4.then(|| SubnetPool {
        setting: "podCidr",
        cidr: cluster.pod_cidr.into(),
        prefix: cluster.subnet_prefix,
        longest: 30,
    });
    let ipv6 = cluster.ipv6.map(|pools| SubnetPool {
        setting: "podCidr6",
        cidr: pools.pod_cidr.into(),
        prefix: pools.subnet_prefix,
        longest: 120,
    });
    ipv4.into_iter().chain(ipv6).collect()
}

/// A free part of a pool for a tenant; an error names the pool and its size.
pub(crate) fn free_part(
    tenant: &TenantName,
    what: &'static str,
    pool: IpNetwork,
    prefix: u8,
    taken: &[IpNetwork],
    seed: u128,
) -> Result<IpNetwork, TenantError> {
    pool::free_part(pool, prefix, taken, seed).ok_or_else(|| TenantError::Exhausted {
        tenant: tenant.clone(),
        what,
        pool,
        capacity: pool::subnet_count(pool, prefix).and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
    })
}

/// Prefixes of a subnet with their usual gateways.
pub(crate) fn prefixes(cidrs: &[IpNetwork]) -> Result<Vec<PrefixEntry>, TenantError> {
    let prefix = |cidr: &IpNetwork| {
        let gateway = pool::gateway(*cidr).ok_or_else(|| TenantError::Setting {
            setting: "subnetPrefix",
            value: cidr.prefix().to_string(),
            problem: "a subnet needs room for a gateway",
        })?;
        Ok(PrefixEntry { cidr: *cidr, gateway })
    };
    cidrs.iter().map(prefix).collect()
}
