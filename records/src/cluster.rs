//! The settings of a cluster: one record, written once.

use std::net::IpAddr;

use atoll_model::config::{Addressing, Ipv6Pools};
use atoll_model::ids::{ClusterId, Epoch, HostId, IfName};
use ipnetwork::{IpNetwork, Ipv4Network};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::codec::Unknown;
use crate::engine;
use crate::key::RecordKey;

/// `cluster`: what all nodes must agree on; written once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// Schema.
    pub v: u32,
    /// The cluster's id.
    pub id: ClusterId,
    /// The key of caches.
    pub epoch: Epoch,
    /// The name of the engine that makes its networks.
    #[serde(default = "engine::first")]
    pub engine: String,
    /// How subnets are given to tenants.
    pub addressing: Addressing,
    /// The pool of pod subnets.
    pub pod_cidr: Ipv4Network,
    /// The prefix length of a subnet.
    pub subnet_prefix: u8,
    /// The pool of transit links, a /30 each.
    pub transit_cidr: Ipv4Network,
    /// Pods have an address of IPv4.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub ipv4: bool,
    /// Pods have an address of IPv6, from these pools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Pools>,
    /// Addresses by which a node reaches its own pods.
    pub node_side_cidr: Ipv4Network,
    /// Addresses of services: tenants' routers refuse what is for them. None: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_cidr: Option<Ipv4Network>,
    /// The shared router that every tenant links to.
    pub provider_router: Uuid,
    /// The provider router is ours: `init` made it. None: it was there before us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderRecord>,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl ClusterRecord {
    /// Its key.
    pub fn at() -> RecordKey<Self> {
        RecordKey::new("v2/cluster".to_owned())
    }
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn is_yes(it: &bool) -> bool {
    *it
}

/// A provider router that `init` made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderRecord {
    /// Its uplinks.
    pub uplinks: Vec<Uplink>,
}

/// An uplink: a port of the provider router on an interface of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    /// The port's own address, with the length of its network.
    pub address: IpNetwork,
    /// The next hop of the default route of its family.
    pub gateway: IpAddr,
    /// The id of the machine's host in the engine.
    pub host: HostId,
    /// The interface there.
    pub interface: IfName,
}
