//! The claim of an attachment: it owns its addresses. Written first, deleted last.

use std::net::IpAddr;

use atoll_model::attachment::{Attachment, Mac};
use atoll_model::ids::{ClaimId, HostId, IfName, Incarnation, Namespace, NodeName, TenantName};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::codec::Unknown;
use crate::engine;
use crate::key::{Prefix, RecordKey, attachment_path};

/// `claims/<node>/<network>/<container>/<ifname>`: the claim. Written first, deleted last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRecord {
    /// Schema.
    pub v: u32,
    /// This claim.
    pub claim: ClaimId,
    /// The attachment.
    pub attachment: Attachment,
    /// The tenant.
    pub tenant: TenantName,
    /// The tenant's incarnation.
    pub incarnation: Incarnation,
    /// The pod's namespace, where the runtime named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// The pod's name, where the runtime named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The pod's uid, where the runtime named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    /// Its addresses, of all families of its subnet: all or none.
    pub addresses: Vec<ClaimedAddress>,
    /// Its port in the engine.
    pub port: Uuid,
    /// The name of the engine that has its port, which no other engine can delete.
    #[serde(default = "engine::first", skip_serializing_if = "engine::is_first")]
    pub engine: String,
    /// The host end of the veth pair.
    pub host_interface: IfName,
    /// The MAC of the pod's end.
    pub mac: Mac,
    /// The id of the node's host in the engine.
    pub host_id: HostId,
    /// When it was claimed, seconds since 1970.
    pub since: u64,
    /// Until then, seconds since 1970, a deletion of an earlier port of this attachment may still arrive; 0: none can.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deletions_until: u64,
    /// Until then, seconds since 1970, a creation of its port that another machine sent may still arrive
    /// (`atollctl tenant repair`); 0: none can. Where an engine fences, no time ends that, but a fence.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub creations_until: u64,
    /// The pod's names in DNS, for which the network answers with the claim's addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl ClaimRecord {
    /// The key of an attachment's claim.
    pub fn at(attachment: &Attachment) -> RecordKey<Self> {
        RecordKey::new(format!("v2/claims/{}", attachment_path(attachment)))
    }

    /// Its first address of IPv4 and its first of IPv6, as far as it has them.
    pub fn first_of_each_family(&self) -> impl Iterator<Item = &ClaimedAddress> {
        let first = |v4: bool| self.addresses.iter().find(move |claimed| claimed.address.is_ipv4() == v4);
        first(true).into_iter().chain(first(false))
    }

    /// All claims of a node.
    pub fn of_node(node: &NodeName) -> Prefix<Self> {
        Prefix::new(format!("v2/claims/{node}/"))
    }

    /// All claims.
    pub fn all() -> Prefix<Self> {
        Prefix::new("v2/claims/".to_owned())
    }
}

/// One address of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedAddress {
    /// The subnet's ordinal.
    pub ordinal: u32,
    /// The address with the subnet's prefix length.
    pub address: IpNetwork,
    /// The gateway, of the same family.
    pub gateway: IpAddr,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
