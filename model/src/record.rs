//! The records in etcd: JSON objects with a schema version.
//!
//! Promises: a field that this version does not know survives being read and written again; a record of a newer
//! schema is readable as long as the fields we need have kept their meaning, which is what [`SCHEMA`] counts. A record
//! that cannot be read is an error that names its key (`store` adds it) and is never overwritten.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::attachment::{Attachment, Mac};
use crate::config::DnsConfig;
use crate::ids::{ClaimId, ClusterId, Epoch, IfName, Incarnation, Namespace, PodName, TenantName};
use crate::range::AddressRange;

/// The schema that this version writes, and the newest that it understands.
pub const SCHEMA: u32 = 1;

/// Fields of a newer version, kept as they are.
pub type Unknown = Map<String, Value>;

/// A record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is not JSON of the expected shape.
    #[error("the record is damaged")]
    Damaged(#[source] serde_json::Error),
    /// It was written by a version whose records we do not understand.
    #[error("the record has schema {found}, this version understands {SCHEMA}")]
    Newer {
        /// The record's schema.
        found: u32,
    },
}

/// Reads a record.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordError> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let Version { v } = serde_json::from_slice(bytes).map_err(RecordError::Damaged)?;
    if v > SCHEMA {
        return Err(RecordError::Newer { found: v });
    }
    serde_json::from_slice(bytes).map_err(RecordError::Damaged)
}

/// Writes a record.
pub fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).expect("records are plain data with string keys")
}

/// How subnets are given to tenants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Addressing {
    /// No two subnets of the cluster overlap.
    #[default]
    Unique,
    /// Every tenant starts at the same subnet.
    Overlapping,
}

/// `cluster`: what all nodes must agree on; written once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// Schema.
    pub v: u32,
    /// The cluster's id.
    pub id: ClusterId,
    /// What caches are keyed by.
    pub epoch: Epoch,
    /// How subnets are given to tenants.
    pub addressing: Addressing,
    /// Where pod subnets are carved from.
    pub pod_cidr: Ipv4Network,
    /// The prefix length of a subnet.
    pub subnet_prefix: u8,
    /// Where transit links are carved from, a /30 each.
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

/// A provider router that `init` made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderRecord {
    /// Its ways outside.
    pub uplinks: Vec<Uplink>,
}

/// One way outside: a port of the provider router on an interface of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    /// The port's own address, with the length of its network.
    pub address: Ipv4Network,
    /// The next hop of the default route.
    pub gateway: Ipv4Addr,
    /// The id of the controller's agent on the machine.
    pub host: Uuid,
    /// The interface there.
    pub interface: IfName,
}

/// `nodes/<node>`: one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Schema.
    pub v: u32,
    /// The id of the controller's agent on this machine.
    pub host_id: Uuid,
    /// `/etc/machine-id`: tells two machines that were given one name; empty where there is none.
    pub machine_id: String,
    /// Raised by `evict-node`: whatever an evicted node still tries compares an old revision and loses.
    pub epoch: u64,
    /// It is being evicted, since then (seconds since 1970): nothing is claimed for it until that is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evicting: Option<u64>,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// `namespaces/<namespace>`: the tenant a namespace belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceRecord {
    /// Schema.
    pub v: u32,
    /// Its tenant.
    pub tenant: TenantName,
    /// The life of the tenant it belongs to.
    pub incarnation: Incarnation,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Who a tenant was created for. Names alone never open a door: a namespace that merely has a tenant's name is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The first pod of this namespace.
    Namespace(Namespace),
    /// Runtimes that name no namespace, through `tenant.default` of the node's configuration.
    Default,
    /// An operator.
    Operator,
}

/// How far a tenant or subnet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its objects may be incomplete: whoever needs it completes them.
    Building,
    /// Everything is there.
    Active,
    /// It is going: no claim may commit.
    Deleting,
}

/// `tenants/<tenant>`: everything from which the tenant's network is computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRecord {
    /// Schema.
    pub v: u32,
    /// Its name.
    pub name: TenantName,
    /// This life of it.
    pub incarnation: Incarnation,
    /// Who it was created for.
    pub origin: Origin,
    /// How far it is.
    pub phase: Phase,
    /// Raised when chains and rules change, which cannot be updated in place.
    pub generation: u32,
    /// Its transit link: a /30; the first usable address is the provider's side, the second the tenant's.
    pub transit: Ipv4Network,
    /// Its subnets, by ordinal.
    pub subnets: Vec<SubnetEntry>,
    /// Limits set by an operator.
    #[serde(default)]
    pub quota: Quota,
    /// Static routes of its router.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<StaticRoute>,
    /// Routes that were taken away, until the controller has deleted them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<StaticRoute>,
    /// What its pods are told of DNS, where neither the pod nor its node says anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsConfig>,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A route that an operator gave to a tenant's router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticRoute {
    /// Where to.
    pub destination: Ipv4Network,
    /// What to do with it.
    pub via: Via,
}

/// What a static route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// Send it to this address, which is in one of the tenant's subnets.
    Gateway(Ipv4Addr),
    /// Refuse it with an ICMP error.
    Reject,
    /// Drop it silently.
    Blackhole,
}

/// One subnet of a tenant: one bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetEntry {
    /// Its number within the tenant; never reused within one incarnation.
    pub ordinal: u32,
    /// Its network.
    pub cidr: Ipv4Network,
    /// The router's address in it.
    pub gateway: Ipv4Addr,
    /// How far it is; claims come from active subnets only.
    pub phase: Phase,
    /// Addresses that no pod gets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<AddressRange>,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Limits of a tenant; none means as far as the pool reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Most subnets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnets: Option<u32>,
    /// Most addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<u32>,
}

/// `transit/<pair>` and `subnets/<cidr>`: who has this part of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerRecord {
    /// Schema.
    pub v: u32,
    /// The tenant.
    pub tenant: TenantName,
    /// The life of it.
    pub incarnation: Incarnation,
    /// The subnet's ordinal; 0 for a transit link.
    #[serde(default)]
    pub ordinal: u32,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// `idle/<tenant>`: nobody has claimed anything of the tenant since this was written; every claim deletes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleRecord {
    /// Schema.
    pub v: u32,
    /// The life of the tenant that was seen without claims.
    pub incarnation: Incarnation,
    /// When, seconds since 1970.
    pub since: u64,
    /// False: it is being found out, and the key is on a lease.
    pub lasting: bool,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// `addresses/<tenant>/<ordinal>/<hex>`: one address that nobody else may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRecord {
    /// Schema.
    pub v: u32,
    /// Why it is taken.
    #[serde(flatten)]
    pub state: AddressState,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Why an address is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum AddressState {
    /// An attachment has it.
    Claimed {
        /// The claim.
        claim: ClaimId,
        /// Whose it is.
        attachment: Attachment,
    },
    /// It was released a short while ago; the key is on a lease.
    Cooling {
        /// When it was released, seconds since 1970.
        since: u64,
        /// Of which namespace the pod was, where that was known: it may ask for the address by name at once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<Namespace>,
    },
}

/// `reservations/<tenant>/<ordinal>/<address>` and `reserved-for/<namespace>/<pod>`: an address that is kept for a pod.
/// The same record under both keys, written and deleted in one transaction, so that either leads to the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationRecord {
    /// Schema.
    pub v: u32,
    /// The tenant.
    pub tenant: TenantName,
    /// The life of the tenant.
    pub incarnation: Incarnation,
    /// The subnet's ordinal.
    pub ordinal: u32,
    /// The address.
    pub address: Ipv4Addr,
    /// The pod's namespace.
    pub namespace: Namespace,
    /// The pod's name.
    pub pod: PodName,
    /// The MAC that the pod gets with it; none: the derived one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// When it was written, seconds since 1970.
    pub since: u64,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// `macs/<tenant>/<ordinal>/<mac>`: a MAC that was chosen. Derived ones have no record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MacRecord {
    /// Schema.
    pub v: u32,
    /// Whose it is.
    #[serde(flatten)]
    pub owner: MacOwner,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Whose a MAC is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum MacOwner {
    /// An attachment asked for it.
    Claimed {
        /// The claim.
        claim: ClaimId,
        /// Whose it is.
        attachment: Attachment,
    },
    /// It is kept for a pod, together with an address.
    Reserved {
        /// The pod's namespace.
        namespace: Namespace,
        /// The pod's name.
        pod: PodName,
    },
}

/// `attachments/<node>/<network>/<container>/<ifname>`: the claim. Written first, deleted last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRecord {
    /// Schema.
    pub v: u32,
    /// This claim.
    pub claim: ClaimId,
    /// Whose it is.
    pub attachment: Attachment,
    /// The tenant.
    pub tenant: TenantName,
    /// The life of the tenant.
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
    /// Its addresses: all or none.
    pub addresses: Vec<ClaimedAddress>,
    /// The bridge port in the controller.
    pub port: Uuid,
    /// The host end of the veth pair.
    pub host_interface: IfName,
    /// The MAC of the pod's end.
    pub mac: Mac,
    /// The agent's id of the node.
    pub host_id: Uuid,
    /// When it was claimed, seconds since 1970.
    pub since: u64,
    /// Until then, seconds since 1970, a deletion of an earlier port of this attachment may still arrive; 0: none can.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deletions_until: u64,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// `released/<node>/<network>/<container>/<ifname>`: the attachment had a claim a short while ago. Without a late deletion
/// the value is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleasedRecord {
    /// Schema.
    pub v: u32,
    /// Until then, seconds since 1970, a deletion of one of its ports may still arrive.
    pub deletions_until: u64,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// One address of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedAddress {
    /// The subnet's ordinal.
    pub ordinal: u32,
    /// The address with the subnet's prefix length.
    pub address: Ipv4Network,
    /// The gateway.
    pub gateway: Ipv4Addr,
}

/// `tombstones/<node>/<network>/<container>/<ifname>`: what is still owed for an attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TombstoneRecord {
    /// Schema.
    pub v: u32,
    /// Why it is there.
    pub why: Tombstone,
    /// Whose it is.
    pub attachment: Attachment,
    /// The port to delete; none when the cluster's id was not known when this was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Uuid>,
    /// Not before this time, seconds since 1970, may the port be deleted for the last time and the address released.
    pub not_before: u64,
    /// When it was written, seconds since 1970.
    pub since: u64,
    /// What failed, for people.
    #[serde(default)]
    pub note: String,
    /// A deletion of the port may be on its way. See [`TombstoneRecord::is_closing`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closing: bool,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl TombstoneRecord {
    /// A deletion of the port may be on its way. A tombstone that asks for nothing else may be settled at any time.
    pub fn is_closing(&self) -> bool {
        self.closing || self.why == Tombstone::Delete
    }
}

/// Why a tombstone was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tombstone {
    /// A DEL could not finish.
    Delete,
    /// An ADD died half way: a late request of it must lose.
    Fence,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Seconds since 1970, for records only: nothing is decided by comparing the clocks of two machines.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock for records")]
pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_newer_version_survive() {
        let text = br#"{"v":1,"tenant":"red","incarnation":"00000000-0000-0000-0000-000000000001","colour":"blue"}"#;
        let record: NamespaceRecord = decode(text).expect("readable");
        let again: Value = serde_json::from_slice(&encode(&record)).expect("JSON");
        assert_eq!(again["colour"], "blue");
    }

    #[test]
    fn a_newer_schema_and_a_damaged_record_are_told_apart() {
        assert!(matches!(decode::<NamespaceRecord>(br#"{"v":2}"#), Err(RecordError::Newer { found: 2 })));
        assert!(matches!(decode::<NamespaceRecord>(br#"{"v":1}"#), Err(RecordError::Damaged(_))));
        assert!(matches!(decode::<NamespaceRecord>(b"\xff"), Err(RecordError::Damaged(_))));
    }
}
