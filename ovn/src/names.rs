//! Identities of rows: UUIDs, names and `external_ids`. Pure.
//!
//! # Guarantees
//! - A row's UUID follows from its owner and role, so that creating it twice is creating it once. Routers and switches have
//!   the ids that `atoll-network` gives to routers and subnets.
//! - A row with a UUID of ours that does not have our `external_ids` belongs to another owner.
//! - OVN identifies ports and groups of chassis by name; the name contains the UUID.

use std::fmt;

use atoll_model::derive::{self, NetworkPart};
use atoll_model::ids::{ClusterId, NodeName};
use atoll_network::{NetworkId, provider_object};
use uuid::Uuid;

use crate::ovsdb::{Row, Value};

/// The column that names a row's owner.
pub(crate) const EXTERNAL_IDS: &str = "external_ids";

/// Keys of `external_ids`.
pub(crate) mod key {
    /// The cluster.
    pub(crate) const CLUSTER: &str = "atoll-cluster";
    /// The incarnation of the tenant.
    pub(crate) const INCARNATION: &str = "atoll-incarnation";
    /// The tenant, for people.
    pub(crate) const TENANT: &str = "atoll-tenant";
    /// What the row is for.
    pub(crate) const ROLE: &str = "atoll-role";
    /// The revision of the record from which the network was computed; of a tenant's router.
    pub(crate) const REVISION: &str = "atoll-revision";
    /// The next hops of static routes in a subnet; of its switch.
    pub(crate) const NEXT_HOPS: &str = "atoll-next-hops";
    /// When the network was deleted, seconds since 1970; of the row that remembers it.
    pub(crate) const REMOVED_AT: &str = "atoll-removed-at";
    /// How many networks or parts of them were removed; of the cluster's row.
    pub(crate) const REMOVALS: &str = "atoll-removals";
    /// The node, of its writer epoch.
    pub(crate) const NODE: &str = "atoll-node";
    /// The writer epoch of a node.
    pub(crate) const EPOCH: &str = "atoll-epoch";
    /// The claim, of a pod's port.
    pub(crate) const CLAIM: &str = "atoll-claim";
    /// The subnet, of a pod's port.
    pub(crate) const SUBNET: &str = "atoll-subnet";
    /// The host end of the veth, of a pod's port.
    pub(crate) const INTERFACE: &str = "atoll-interface";
    /// The pod's names in DNS, with a space between them; of a pod's port.
    pub(crate) const NAMES: &str = "atoll-names";
    /// Open vSwitch's own: the logical port that an Interface belongs to.
    pub(crate) const IFACE_ID: &str = "iface-id";
}

/// What a row is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowRole {
    /// The tenant's router.
    Router,
    /// The tenant router's end of the transit link.
    UplinkPort,
    /// The provider router's end of the transit link.
    ProviderPort,
    /// The default route; 4 or 6.
    DefaultRoute(u8),
    /// The translation of what leaves; 4 or 6.
    Translation(u8),
    /// A subnet's switch; ordinal.
    Switch(u32),
    /// The router's port in a subnet; ordinal.
    GatewayPort(u32),
    /// The switch's port towards the router; ordinal.
    RouterPort(u32),
    /// The switch's port by which each node reaches its own pods; ordinal.
    HostToPodPort(u32),
    /// A static route; its number.
    StaticRoute(u32),
    /// A rule by which a subnet answers for a destination that is refused; ordinal of the subnet, number of the route.
    RefusedRoute(u32, u32),
    /// The route of a service prefix, which leads nowhere; its number.
    ServiceRoute(u32),
    /// A rule by which a subnet answers for a service prefix; ordinal of the subnet, number of the route.
    RefusedService(u32, u32),
    /// The names of the tenant's pods.
    Names,
    /// A pod's port.
    PodPort,
    /// The row that remembers that a network was deleted.
    Removed,
    /// The cluster's own row, which counts removals.
    Cluster,
    /// A node's row, with its writer epoch.
    Writer,
    /// The cluster's own provider router.
    ProviderRouter,
    /// The switch of the provider's uplinks.
    UplinkSwitch(u32),
    /// That switch's port to the physical network.
    PhysicalPort(u32),
    /// That switch's port towards the provider router.
    UplinkRouterPort(u32),
    /// The provider router's port in the physical network.
    ProviderUplink(u32),
    /// The provider router's default route over an uplink; 4 or 6.
    ProviderDefaultRoute(u32, u8),
    /// The chassis that can carry the uplinks.
    ChassisGroup,
    /// One of them; its place.
    GroupMember(u32),
}

impl fmt::Display for RowRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Router => f.write_str("router"),
            Self::UplinkPort => f.write_str("uplink-port"),
            Self::ProviderPort => f.write_str("provider-port"),
            Self::DefaultRoute(family) => write!(f, "default-route/{family}"),
            Self::Translation(family) => write!(f, "translation/{family}"),
            Self::Switch(ordinal) => write!(f, "switch/{ordinal}"),
            Self::GatewayPort(ordinal) => write!(f, "gateway-port/{ordinal}"),
            Self::RouterPort(ordinal) => write!(f, "router-port/{ordinal}"),
            Self::HostToPodPort(ordinal) => write!(f, "host-to-pod-port/{ordinal}"),
            Self::StaticRoute(number) => write!(f, "static-route/{number}"),
            Self::RefusedRoute(ordinal, number) => write!(f, "refused-route/{ordinal}/{number}"),
            Self::ServiceRoute(number) => write!(f, "service-route/{number}"),
            Self::RefusedService(ordinal, number) => write!(f, "refused-service/{ordinal}/{number}"),
            Self::Names => f.write_str("names"),
            Self::PodPort => f.write_str("pod-port"),
            Self::Removed => f.write_str("removed"),
            Self::Cluster => f.write_str("cluster"),
            Self::Writer => f.write_str("writer"),
            Self::ProviderRouter => f.write_str("provider-router"),
            Self::UplinkSwitch(place) => write!(f, "uplink-switch/{place}"),
            Self::PhysicalPort(place) => write!(f, "physical-port/{place}"),
            Self::UplinkRouterPort(place) => write!(f, "uplink-router-port/{place}"),
            Self::ProviderUplink(place) => write!(f, "provider-uplink/{place}"),
            Self::ProviderDefaultRoute(place, family) => write!(f, "provider-default-route/{place}/{family}"),
            Self::ChassisGroup => f.write_str("chassis-group"),
            Self::GroupMember(place) => write!(f, "group-member/{place}"),
        }
    }
}

/// The UUID of a row of a tenant's network. A part whose MAC no pod may have is a [`NetworkPart`].
pub(crate) fn network_row(network: NetworkId, role: RowRole) -> Uuid {
    let object = |role: &dyn fmt::Display| derive::object(network.cluster, network.incarnation, role);
    match role {
        RowRole::Router => object(&NetworkPart::Router),
        RowRole::Switch(ordinal) => object(&NetworkPart::Subnet(ordinal)),
        RowRole::GatewayPort(ordinal) => object(&NetworkPart::GatewayPort(ordinal)),
        RowRole::HostToPodPort(ordinal) => object(&NetworkPart::HostToPodPort(ordinal)),
        RowRole::UplinkPort => object(&NetworkPart::UplinkPort),
        RowRole::ProviderPort => object(&NetworkPart::ProviderPort),
        _ => object(&format_args!("ovn/{role}")),
    }
}

/// The UUID of a row of a cluster.
pub(crate) fn cluster_row(cluster: ClusterId, role: RowRole) -> Uuid {
    match role {
        RowRole::ProviderRouter => provider_object(cluster, &NetworkPart::ProviderRouter),
        RowRole::ProviderUplink(place) => provider_object(cluster, &NetworkPart::ProviderUplink(place)),
        _ => Uuid::new_v5(&cluster.0, format!("ovn/{role}").as_bytes()),
    }
}

/// The UUID of a node's row.
pub(crate) fn writer_row(cluster: ClusterId, node: &NodeName) -> Uuid {
    Uuid::new_v5(&cluster.0, format!("ovn/{}/{node}", RowRole::Writer).as_bytes())
}

/// The name of a row where OVN refers to it by name.
pub(crate) fn name(uuid: Uuid) -> String {
    format!("at-{uuid}")
}

/// `external_ids` of a row of a network, without the tenant's name: what identifies the owner.
pub(crate) fn owner(network: NetworkId, role: RowRole) -> Value {
    let (cluster, incarnation) = (network.cluster.to_string(), network.incarnation.to_string());
    Value::map([(key::CLUSTER, cluster), (key::INCARNATION, incarnation), (key::ROLE, role.to_string())])
}

/// `external_ids` of a row of a cluster.
pub(crate) fn cluster_owner(cluster: ClusterId, role: RowRole) -> Value {
    Value::map([(key::CLUSTER, cluster.to_string()), (key::ROLE, role.to_string())])
}

/// A map with one pair more, or with another value for a key.
pub(crate) fn with(map: Value, key: &str, value: impl Into<String>) -> Value {
    match map {
        Value::Map(mut pairs) => {
            pairs.insert(key.into(), value.into().into());
            Value::Map(pairs)
        }
        other @ Value::Set(_) => other,
    }
}

/// A key of a row's `external_ids`.
pub(crate) fn id<'a>(row: &'a Row, key: &str) -> Option<&'a str> {
    row.get(EXTERNAL_IDS)?.get(key)
}

#[cfg(test)]
mod tests {
    use atoll_model::ids::Incarnation;

    use super::*;

    #[test]
    fn ids_never_change() {
        let network =
            NetworkId { cluster: ClusterId(Uuid::from_u128(1)), incarnation: Incarnation(Uuid::from_u128(2)) };
        // Written down once: a change would orphan every row of every cluster.
        assert_eq!(network_row(network, RowRole::Router).to_string(), "9419cb4a-0cb0-5f29-9c62-6c4a311a1c08");
        assert_eq!(network_row(network, RowRole::UplinkPort).to_string(), "3b0be1b7-1d9c-563e-a74f-1241b797322b");
        assert_eq!(cluster_row(network.cluster, RowRole::Cluster).to_string(), "26c53b60-a19f-5336-b342-2673ab7b6eea");
        assert_eq!(network_row(network, RowRole::RouterPort(1)).to_string(), "5e53d995-e882-54e0-833c-dbf8c1b89d63");
        let node = NodeName::new("node-1").expect("valid");
        assert_eq!(writer_row(network.cluster, &node).to_string(), "50737fe2-807a-58f2-bf06-c26aeec8eef2");
    }
}
