//! A tenant's network as it should be: one router, its transit link to the provider router, its subnets and its routes.

use std::net::IpAddr;

use atoll_model::derive::{self, NetworkPart};
use atoll_model::ids::{ClusterId, Incarnation, TenantName};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Namespace of the numbers of static routes; a constant of this project.
const STATIC_ROUTES: Uuid = Uuid::from_u128(0x6f0b_1d07_5a3c_4b8e_8d35_a701_1c0f_fee3);

/// Identifies the network of one incarnation of a tenant. Every id of its objects derives from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkId {
    /// The cluster.
    pub cluster: ClusterId,
    /// The incarnation of the tenant.
    pub incarnation: Incarnation,
}

impl NetworkId {
    /// The id of the tenant's router.
    pub fn router(self) -> Uuid {
        derive::object(self.cluster, self.incarnation, &NetworkPart::Router)
    }

    /// A subnet of the network.
    pub fn subnet(self, ordinal: u32) -> SubnetId {
        SubnetId { network: self, ordinal }
    }
}

/// Identifies a subnet of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubnetId {
    /// The network.
    pub network: NetworkId,
    /// The number of the subnet within the network, from 1; it is never reused.
    pub ordinal: u32,
}

impl SubnetId {
    /// The id of the subnet's bridge or switch.
    pub fn object(self) -> Uuid {
        derive::object(self.network.cluster, self.network.incarnation, &NetworkPart::Subnet(self.ordinal))
    }
}

/// A tenant's network as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its identity.
    pub id: NetworkId,
    /// The tenant, for names that people read.
    pub tenant: TenantName,
    /// The revision of the record from which this value was computed. A larger revision is newer.
    pub revision: i64,
    /// The provider router that the tenant's router is linked to.
    pub provider: Uuid,
    /// The link to the provider router, one for each address family.
    pub transit: Vec<TransitLink>,
    /// Its subnets, by ordinal.
    pub subnets: Vec<NetworkSubnet>,
    /// Static routes of its router.
    pub routes: Vec<NetworkRoute>,
    /// Routes that were removed from the record and may still exist: a request of a dead process may have made one again.
    pub removed_routes: Vec<NetworkRoute>,
    /// Prefixes of service addresses. The router refuses what no service answers for.
    pub services: Vec<IpNetwork>,
    /// The network itself answers its pods' queries for the names of its pods ([`PodPort::names`](crate::PodPort::names)).
    pub names: bool,
    /// What the engine remembers about this network besides the fields above.
    pub memory: EngineMemory,
}

/// The link between a tenant's router and the provider router, in one address family. Packets that leave by it have the
/// tenant's address of the link as their source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransitLink {
    /// The address of the provider router, with the prefix length of the link.
    pub provider: IpNetwork,
    /// The address of the tenant's router, with the prefix length of the link.
    pub tenant: IpNetwork,
}

/// A subnet of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSubnet {
    /// Its number within the network, from 1.
    pub ordinal: u32,
    /// Its prefixes, at most one for each address family.
    pub prefixes: Vec<SubnetPrefix>,
}

/// A prefix of a subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubnetPrefix {
    /// The prefix, without host bits.
    pub prefix: IpNetwork,
    /// The address of the tenant's router in it.
    pub gateway: IpAddr,
}

/// A static route of a tenant's router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkRoute {
    /// The destination.
    pub destination: IpNetwork,
    /// What the router does with a packet for it.
    pub next_hop: NetworkNextHop,
}

impl NetworkRoute {
    /// Distinguishes the route from every other one of its network: part of the ids of its objects.
    ///
    /// The text is written here and does not change, because ids of existing routes derive from it.
    pub fn number(&self) -> u32 {
        let next_hop = match self.next_hop {
            NetworkNextHop::Gateway(address) => format!("Gateway({address})"),
            NetworkNextHop::Reject => "Reject".to_owned(),
            NetworkNextHop::Blackhole => "Blackhole".to_owned(),
        };
        Uuid::new_v5(&STATIC_ROUTES, format!("{} {next_hop}", self.destination).as_bytes()).as_fields().0
    }
}

/// What a static route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkNextHop {
    /// Forward to this address, which is in one of the tenant's subnets.
    Gateway(IpAddr),
    /// Answer with an ICMP error.
    Reject,
    /// Drop silently.
    Blackhole,
}

/// What an engine remembers about a network besides its description, for instance the generation of its filter rules.
/// Only the engine reads it. It is stored with the tenant's record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EngineMemory(pub serde_json::Map<String, serde_json::Value>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_static_route_never_changes() {
        let route = |next_hop| NetworkRoute { destination: "10.9.0.0/16".parse().expect("valid"), next_hop };
        let numbers =
            [NetworkNextHop::Gateway(IpAddr::from([10, 128, 1, 9])), NetworkNextHop::Reject, NetworkNextHop::Blackhole]
                .map(|next_hop| route(next_hop).number());
        // Written down once: a change would orphan the routes of every tenant.
        assert_eq!(numbers, [3_722_717_716, 3_687_773_417, 3_034_288_526]);
    }
}
