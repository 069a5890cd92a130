//! The settings of a cluster: one record, written once.

use std::net::Ipv4Addr;

use atoll_model::config::Addressing;
use atoll_model::ids::{ClusterId, Epoch, HostId, IfName};
use ipnetwork::Ipv4Network;
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
    pub address: Ipv4Network,
    /// The next hop of the default route.
    pub gateway: Ipv4Addr,
    /// The id of the machine's host in the engine.
    pub host: HostId,
    /// The interface there.
    pub interface: IfName,
}
