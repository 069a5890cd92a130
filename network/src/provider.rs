//! The provider router: the router that all tenants' routers are linked to, with the uplinks to the external network.

use std::fmt;
use std::net::IpAddr;

use atoll_model::derive;
use atoll_model::ids::{ClusterId, HostId, IfName, Incarnation};
use ipnetwork::IpNetwork;
use uuid::Uuid;

/// A provider router of the cluster's own, as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderNetwork {
    /// The cluster that owns it.
    pub cluster: ClusterId,
    /// Its uplinks.
    pub uplinks: Vec<ProviderUplink>,
}

/// An uplink: a port of the provider router on an interface of a host, with a default route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderUplink {
    /// The address of the port, with the prefix length of its network.
    pub address: IpNetwork,
    /// The next hop of the default route.
    pub gateway: IpAddr,
    /// The host.
    pub host: HostId,
    /// The interface on that host.
    pub interface: IfName,
}

/// The id of an object of the provider router that a cluster makes. `role`: a [`NetworkPart`](derive::NetworkPart), or a role
/// that one engine alone has.
pub fn provider_object(cluster: ClusterId, role: &dyn fmt::Display) -> Uuid {
    derive::object(cluster, Incarnation(cluster.0), role)
}

/// A router that exists in the engine and could be the provider router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderCandidate {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Its owner in the engine.
    pub tenant: String,
}
