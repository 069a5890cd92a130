//! Do addresses, claims, reservations and tombstones agree with each other, and with the controller's ports?
//!
//! | module | what |
//! |---|---|
//! | `observe` | reads it all, in pages |
//! | `judge` | inconsistent records, and the repair of each. Pure |
//! | `kept` | the same, of reservations and chosen MACs |
//! | `repair` | repairs them, with one guarded transaction each |
//!
//! # Guarantees
//! - The audit itself changes nothing.
//! - A repair requires that two observations, apart in time, found the same records at the same revisions; the
//!   transaction of the repair compares them again, so a concurrent change is never lost.
//! - An address whose claim exists is never freed, nor one with an unreadable record.
//! - What could be repaired only by a guess (an address with two owners, a damaged record, a port of an unknown pod) is
//!   only reported.

mod judge;
mod kept;
mod observe;
mod repair;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use atoll_model::ids::{NodeName, TenantName};
use atoll_records::{
    AddressRecord, ClaimRecord, ClusterRecord, CoolDown, Key, MacRecord, RecordKey, ReservationRecord, Revision,
    TenantRecord, TombstoneRecord, Versioned,
};
use atoll_store::{Compare, StoreChange};
use uuid::Uuid;

pub use judge::audit;
pub use observe::observe;
pub use repair::{RepairOutcome, Repaired, agreed, repair};

/// One address of one subnet of one tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct AddressId {
    /// The tenant.
    pub tenant: TenantName,
    /// The subnet's ordinal.
    pub subnet: u32,
    /// The address.
    pub address: IpAddr,
}

impl AddressId {
    /// The address of a key below `addresses/`, `cool-down/` or `reservations/`.
    fn of(key: &Key) -> Option<Self> {
        let mut parts = key.as_str().split('/').skip(2);
        let tenant = TenantName::new(parts.next()?).ok()?;
        let subnet = u32::from_str_radix(parts.next()?, 16).ok()?;
        let place = Self { tenant, subnet, address: key.address_part()? };
        // Another spelling of the same place would be another key.
        let all = [place.key(AddressRecord::at), place.key(CoolDown::at), place.key(ReservationRecord::at)];
        all.contains(key).then_some(place)
    }

    /// The key of this place in one of the lists.
    fn key<R>(&self, of: impl Fn(&TenantName, u32, IpAddr) -> RecordKey<R>) -> Key {
        of(&self.tenant, self.subnet, self.address).into()
    }
}

impl std::fmt::Display for AddressId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (tenant {}, subnet {})", self.address, self.tenant, self.subnet)
    }
}

/// An address record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedAddress {
    /// The record.
    pub record: Versioned<AddressRecord>,
    /// It is on a lease and expires by itself.
    pub leased: bool,
}

/// All that addresses rest on.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// Nothing changed while it was read: all of it was true at one revision.
    pub steady: bool,
    /// The cluster, once there is one.
    pub cluster: Option<ClusterRecord>,
    /// The machines.
    pub nodes: BTreeSet<NodeName>,
    /// The tenants.
    pub tenants: BTreeMap<TenantName, TenantRecord>,
    /// The addresses that are taken or in cool-down.
    pub addresses: BTreeMap<AddressId, ObservedAddress>,
    /// The cool-down markers.
    pub marks: BTreeMap<AddressId, Revision>,
    /// The reserved addresses.
    pub reserved: BTreeMap<AddressId, Versioned<ReservationRecord>>,
    /// The same from the pods' side, by their keys.
    pub reserved_for: BTreeMap<Key, Versioned<ReservationRecord>>,
    /// The MACs that were chosen, by their keys.
    pub macs: BTreeMap<Key, Versioned<MacRecord>>,
    /// The claims, by their keys.
    pub claims: BTreeMap<Key, Versioned<ClaimRecord>>,
    /// Pending cleanup, by its keys.
    pub tombstones: BTreeMap<Key, Versioned<TombstoneRecord>>,
    /// Keys that cannot be read, and why.
    pub damaged: BTreeMap<Key, String>,
    /// The pods' ports that the controller has, and where; none: it was not asked.
    pub ports: Option<BTreeMap<Uuid, String>>,
}

/// The kinds of inconsistencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditProblem {
    /// A record cannot be read.
    Damaged,
    /// A record names another key than its own.
    Misplaced,
    /// Two claims have one address.
    Duplicate,
    /// The record of a claim's address or MAC is missing, or names another attachment that does not own it.
    MissingAddressRecord,
    /// An address or a MAC belongs to a claim or a reservation that is not there.
    OrphanedAddress,
    /// One of the two keys of a reservation does not lead to the other.
    HalfReserved,
    /// A record of a tenant or subnet that is not there, or of an earlier incarnation of it.
    Orphaned,
    /// Pods may not have this address.
    OutOfRange,
    /// An address in cool-down has no lease: it never becomes free.
    Expired,
    /// The cool-down marker of an address that is not in cool-down.
    StaleCoolDown,
    /// A tombstone of a node that is not registered.
    OrphanedNodeRecord,
    /// A claim has no port.
    NoPort,
    /// A port has no claim.
    OrphanedPort,
}

/// Inconsistent records. Two findings are equal only if they rest on the same revisions of the same records.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AuditFinding {
    /// The kind.
    pub problem: AuditProblem,
    /// With which key, or which port.
    pub object: String,
    /// A sentence.
    pub text: String,
    /// The repair; `None`: an operator has to decide.
    #[serde(serialize_with = "spoken")]
    pub fix: Option<Fix>,
}

/// A transaction that repairs one finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// The effect, as a sentence without a subject: `gives 10.0.0.7 back to ...`.
    pub doing: String,
    pub(crate) compare: Vec<Compare>,
    pub(crate) then: Vec<StoreChange>,
    /// This address enters cool-down.
    pub(crate) cool_down: Option<AddressId>,
}

#[expect(clippy::ref_option, reason = "serde gives the field as it is")]
fn spoken<S: serde::Serializer>(fix: &Option<Fix>, serializer: S) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&fix.as_ref().map(|fix| &fix.doing), serializer)
}
