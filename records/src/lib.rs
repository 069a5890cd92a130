//! Atoll's records in etcd: the key, the value and the typed read of each record, one file for each.
//!
//! | module | key | record |
//! |---|---|---|
//! | [`cluster`] | `cluster` | what all nodes agree on |
//! | [`node`] | `nodes/<node>` | a machine |
//! | [`tenant`] | `tenants/<tenant>` | a tenant and its subnets |
//! | [`namespace`] | `namespaces/<namespace>` | the tenant of a namespace |
//! | [`owner`] | `transit/…`, `subnets/…` | who owns a part of one of the cluster's pools |
//! | [`address`] | `addresses/<tenant>/<ordinal>/<address>` | an address that is claimed or in cool-down |
//! | [`reservation`] | `reservations/…`, `reserved-for/…` | an address that is reserved for a pod |
//! | [`mac`] | `macs/<tenant>/<ordinal>/<mac>` | a MAC that was chosen |
//! | [`claim`] | `claims/<node>/…` | the claim of an attachment |
//! | [`released`] | `released/<node>/…` | a claim that was released a short while ago |
//! | [`tombstone`] | `tombstones/<node>/…` | pending cleanup of an attachment |
//! | [`build_lease`] | `build-leases/<tenant>` | who builds a tenant's network |
//! | [`idle`] | `idle/<tenant>` | since when a tenant has no claims |
//!
//! [`key`] has what keys are made of, [`codec`] how values are written, [`engine`] to which engine they belong, [`read`]
//! queries and their answers, [`entry`] the store's own words. This crate does no I/O: `store` does.

pub mod address;
pub mod build_lease;
pub mod claim;
pub mod cluster;
pub mod codec;
pub mod engine;
pub mod entry;
pub mod idle;
pub mod key;
pub mod mac;
pub mod namespace;
pub mod node;
pub mod owner;
pub mod read;
pub mod released;
pub mod reservation;
pub mod tenant;
pub mod tombstone;

pub use address::{AddressRecord, AddressState, CoolDown};
pub use build_lease::BuildLeaseRecord;
pub use claim::{ClaimRecord, ClaimedAddress};
pub use cluster::{ClusterRecord, ProviderRecord, Uplink};
pub use codec::{NEWEST_SCHEMA, RecordError, SCHEMA, Unknown, decode, encode};
pub use engine::{FIRST_ENGINE, schema_of};
pub use entry::{Entry, Lease, Revision};
pub use idle::IdleRecord;
pub use key::{Key, Prefix, RecordKey};
pub use mac::{MacOwner, MacRecord};
pub use namespace::NamespaceRecord;
pub use node::NodeRecord;
pub use owner::OwnerRecord;
pub use read::{Answer, Listed, Query, ReadError, Snapshot, Versioned};
pub use released::ReleasedRecord;
pub use reservation::ReservationRecord;
pub use tenant::{Origin, Phase, PrefixEntry, Quota, StaticRoute, SubnetEntry, TenantRecord, Via, cidrs, prefixes};
pub use tombstone::{TombstoneKind, TombstoneRecord};
