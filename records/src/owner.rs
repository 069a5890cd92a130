//! The owner of a part of one of the cluster's pools: of a transit link or a subnet.

use atoll_model::ids::{Incarnation, TenantName};
use ipnetwork::{IpNetwork, Ipv4Network};
use serde::{Deserialize, Serialize};

use crate::codec::Unknown;
use crate::key::{Key, Prefix, RecordKey, address_path};

/// `transit/<pair>` and `subnets/<cidr>`: who has this part of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerRecord {
    /// Schema.
    pub v: u32,
    /// The tenant.
    pub tenant: TenantName,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The subnet's ordinal; 0 for a transit link.
    #[serde(default)]
    pub ordinal: u32,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl OwnerRecord {
    /// The key of a transit link: a /30, by its network address. Its part of IPv6 has the same index in its own pool, and no
    /// key.
    pub fn transit(link: Ipv4Network) -> RecordKey<Self> {
        RecordKey::new(format!("v2/transit/{}", address_path(link.network().into())))
    }

    /// All transit links.
    pub fn transits() -> Prefix<Self> {
        Prefix::new("v2/transit/".to_owned())
    }

    /// The key of a part of a pod pool (addressing `unique`).
    pub fn subnet(cidr: IpNetwork) -> RecordKey<Self> {
        RecordKey::new(format!("v2/subnets/{}_{}", address_path(cidr.network()), cidr.prefix()))
    }

    /// All parts of the pod pools that are owned.
    pub fn subnets() -> Prefix<Self> {
        Prefix::new("v2/subnets/".to_owned())
    }

    /// The network whose key this is. Transit links are keyed by their address alone and have the length `transit_prefix`.
    pub fn network_in(key: &Key, transit_prefix: u8) -> Option<IpNetwork> {
        let (key, prefix) = match key.as_str().split_once('_') {
            Some((key, prefix)) => (Key::raw(key), prefix.parse().ok()?),
            None => (key.clone(), transit_prefix),
        };
        IpNetwork::new(key.address_part()?, prefix).ok()
    }
}
