//! An attachment gives its addresses back.
//!
//! One transaction deletes the claim, its chosen MAC and the tombstone that stood for it, and puts each address into
//! cool-down. It is guarded by the claim's revision, and each address by the revision at which the claim wrote it: records
//! of any other claim, even of a later claim of the same attachment, are not touched.
//!
//! It also leaves a mark that the attachment was released. A claim compares that mark, so that a request of the same
//! attachment that was sent before the release and delayed can never commit after it. If a deletion of the port may still
//! arrive, the mark has the time until which it can, and exists until then: the next claim has a port of another id.
//!
//! **The cool-down** needs a lease, so that the address becomes free by itself, but one lease per release would be too
//! many for etcd. The id of the lease is computed from the node and the current half-minute, so every process that
//! releases an address on this node in this half-minute uses the same lease without coordination. A process that finds
//! it missing creates it (idempotent, one more round trip per node and half-minute). Its time to live is the cool-down
//! plus the half-minute, so the last address on it has its full cool-down as well. If the node's clock jumps back over
//! a half-minute, addresses of that time have a shorter cool-down; the ownership of an address never depends on it.

use std::net::IpAddr;
use std::time::Duration;

use atoll_model::ids::TenantName;
use atoll_records::{
    AddressRecord, AddressState, ClaimRecord, CoolDown, Entry, Lease, MacOwner, MacRecord, Query, RecordKey,
    ReleasedRecord, Revision, SCHEMA, Snapshot, TombstoneRecord, Unknown, Versioned,
};

use atoll_model::clock::now;
use atoll_store::{Attempts, Committed, Compare, Store, StoreChange, StoreError, Txn};
use uuid::Uuid;

use crate::error::IpamError;
use crate::find::Found;

/// For how long releases of one node share a lease.
const SLOT: Duration = Duration::from_secs(30);

/// How long the mark of a release exists if there is no cool-down; longer than a request can be in flight.
const MARKED: Duration = Duration::from_mins(1);

/// A release conflicts only with repairs and lost leases, so this is sufficient.
const ATTEMPTS: u32 = 10;

/// Namespace of the ids of leases; a constant of this project.
const LEASES: Uuid = Uuid::from_u128(0x2c9e_51d8_7b1f_4d0a_8d35_a701_1c0f_fee2);

/// The outcome of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one at a time and never stored: its size does not matter")]
pub enum Released {
    /// Neither the claim nor the tombstone exists any more; the addresses are free or in cool-down.
    Done,
    /// There is another claim or another tombstone now. Nothing was released.
    Changed(Found),
}

/// A deletion of the port of a claim that is released may still arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateDeletions {
    /// Until then, seconds since 1970.
    pub until: u64,
    /// The same from now on: how long the mark must live.
    pub within: Duration,
}

/// Releases a claim as it was read, of which no deletion is on its way. See [`release_beside`].
pub async fn release<S: Store>(
    store: &S,
    claim: &Versioned<ClaimRecord>,
    tombstone: Option<Revision>,
    cooldown: Duration,
) -> Result<Released, IpamError> {
    release_beside(store, claim, tombstone, cooldown, None).await
}

/// Releases a claim as it was read. `tombstone` is the revision of the tombstone that the release resolves; `None` means
/// that there must be none. With a `cooldown` of zero the addresses are free at once.
pub async fn release_beside<S: Store>(
    store: &S,
    claim: &Versioned<ClaimRecord>,
    tombstone: Option<Revision>,
    cooldown: Duration,
    late: Option<LateDeletions>,
) -> Result<Released, IpamError> {
    let attachment = &claim.record.attachment;
    let object = format!("claim {} of {attachment}", claim.record.claim);
    let failed = || IpamError::store(&object);
    let mut plan = Plan::new(claim, tombstone, late);
    let lasting = if cooldown.is_zero() { MARKED } else { cooldown };
    let marked = late.map_or(lasting, |late| lasting.max(late.within));
    let exhausted = IpamError::exhausted(&object, "the records changed at each attempt");
    let mut attempts = Attempts::at_most(ATTEMPTS);
    loop {
        attempts.begin().map_err(&exhausted)?;
        // Both of one half-minute.
        let second = now();
        let leases = [lasting, marked].map(|lasting| slot(&claim.record, lasting, second));
        let txn = plan.transaction(leases, !cooldown.is_zero());
        match attempts.commit_or_read(store, txn).await {
            Ok(Committed::Yes(_)) => return Ok(Released::Done),
            Ok(Committed::Lost(snapshot)) => {
                if let Some(outcome) = plan.outcome(&snapshot)? {
                    return Ok(outcome);
                }
            }
            // It is unknown which of the two is gone. Usually they are the same.
            Err(StoreError::LeaseGone(_)) => {
                store.lease_as(leases[0], lasting + SLOT).await.map_err(failed())?;
                if leases[1] != leases[0] {
                    store.lease_as(leases[1], marked + SLOT).await.map_err(failed())?;
                }
            }
            Err(error) => return Err(failed()(error)),
        }
    }
}

/// The lease of this node's half-minute.
fn slot(claim: &ClaimRecord, lasting: Duration, second: u64) -> Lease {
    let name =
        format!("{}\0{}\0{}\0{}", claim.attachment.node, claim.host_id, lasting.as_millis(), second / SLOT.as_secs());
    let id = Uuid::new_v5(&LEASES, name.as_bytes()).as_u64_pair().0;
    // etcd's lease ids are positive.
    Lease(i64::try_from(id >> 1).unwrap_or(i64::MAX).max(1))
}

struct Plan<'a> {
    claim: &'a Versioned<ClaimRecord>,
    tombstone: Option<Revision>,
    late: Option<LateDeletions>,
    /// The claim is gone, only the tombstone is left.
    released: bool,
    /// The addresses that are still this claim's: their index in it, and when they were written.
    owned: Vec<(usize, Revision)>,
    /// When the record of its MAC was written, if it has one.
    mac: Option<Revision>,
}

impl<'a> Plan<'a> {
    fn new(claim: &'a Versioned<ClaimRecord>, tombstone: Option<Revision>, late: Option<LateDeletions>) -> Self {
        // The transaction that created the claim wrote its addresses and its MAC, unless that is derived: same revision.
        let owned = (0..claim.record.addresses.len()).map(|index| (index, claim.create_revision)).collect();
        let mac = (claim.record.mac != claim.record.attachment.mac()).then_some(claim.create_revision);
        Self { claim, tombstone, late, released: false, owned, mac }
    }

    /// The key of the MAC, if it is not derived. It may belong to a reservation.
    fn mac_key(&self) -> Option<RecordKey<MacRecord>> {
        let ClaimRecord { tenant, attachment, addresses, mac, .. } = &self.claim.record;
        let first = addresses.first().filter(|_| *mac != attachment.mac())?;
        Some(MacRecord::at(tenant, first.ordinal, *mac))
    }

    fn key<R>(&self, index: usize, of: impl Fn(&TenantName, u32, IpAddr) -> RecordKey<R>) -> RecordKey<R> {
        let record = &self.claim.record;
        let address = &record.addresses[index];
        of(&record.tenant, address.ordinal, address.address.ip())
    }

    /// [`Plan::outcome`] reads the answers.
    fn queries(&self) -> Vec<Query> {
        let mut queries = Found::queries(&self.claim.record.attachment);
        let addresses = 0..self.claim.record.addresses.len();
        queries.extend(addresses.map(|index| Query::key(self.key(index, AddressRecord::at))));
        queries.extend(self.mac_key().map(Query::key));
        queries
    }

    /// `lease`: of the addresses in cool-down; `of_mark`: of the mark of the release.
    fn transaction(&self, [lease, of_mark]: [Lease; 2], cool_down: bool) -> Txn {
        let attachment = &self.claim.record.attachment;
        let (claim, tombstone) = (ClaimRecord::at(attachment), TombstoneRecord::at(attachment));
        let mut compare = vec![Compare::unchanged(&tombstone, self.tombstone)];
        let mut then: Vec<_> = self.tombstone.map(|_| StoreChange::delete(tombstone)).into_iter().collect();
        if self.released {
            compare.push(Compare::absent(claim));
            return Txn { compare, then, read: Vec::new(), otherwise: self.queries() };
        }
        // Not only as old: a claim that was written again has another port.
        compare.push(Compare::modified(&claim, self.claim.mod_revision));
        then.push(StoreChange::delete(claim));
        let marker = ReleasedRecord::at(attachment);
        then.push(match self.late {
            Some(late) => {
                let record = ReleasedRecord { v: SCHEMA, deletions_until: late.until, unknown: Unknown::new() };
                StoreChange::put_leased(&marker, &record, of_mark)
            }
            None => StoreChange::mark(&marker, of_mark),
        });
        for &(index, written) in &self.owned {
            let address = self.key(index, AddressRecord::at);
            compare.push(Compare::modified(&address, written));
            if !cool_down {
                then.push(StoreChange::delete(address));
                continue;
            }
            let state = AddressState::CoolDown { since: now(), namespace: self.claim.record.namespace.clone() };
            let record = AddressRecord { v: SCHEMA, state, unknown: Unknown::new() };
            then.push(StoreChange::put_leased(&address, &record, lease));
            then.push(StoreChange::mark(&self.key(index, CoolDown::at), lease));
        }
        if let Some((key, written)) = self.mac_key().zip(self.mac) {
            compare.push(Compare::modified(&key, written));
            then.push(StoreChange::delete(key));
        }
        Txn { compare, then, read: Vec::new(), otherwise: self.queries() }
    }

    /// The outcome that the records show after an attempt that did not commit, or whose outcome is unknown.
    fn outcome(&mut self, snapshot: &Snapshot) -> Result<Option<Released>, IpamError> {
        let record = &self.claim.record;
        let found = Found::read(snapshot, &record.attachment)?;
        let tombstone = found.tombstone.as_ref().map(|tombstone| tombstone.mod_revision);
        let ours = found.claim.as_ref().map(|claim| claim.mod_revision == self.claim.mod_revision);
        match ours {
            None if tombstone.is_none() => return Ok(Some(Released::Done)),
            Some(false) => return Ok(Some(Released::Changed(found))),
            _ if tombstone != self.tombstone => return Ok(Some(Released::Changed(found))),
            None => self.released = true,
            Some(true) => {
                self.owned.clear();
                for index in 0..record.addresses.len() {
                    let there = snapshot.entry(&self.key(index, AddressRecord::at))?;
                    self.owned.extend(there.and_then(|entry| self.own(entry)).map(|written| (index, written)));
                }
                self.mac = match self.mac_key() {
                    Some(key) => snapshot.entry(&key)?.and_then(|entry| self.own_mac(entry)),
                    None => None,
                };
            }
        }
        Ok(None)
    }

    /// Revision of the record of its MAC; `None` if the record has another owner or is unreadable.
    fn own_mac(&self, entry: &Entry) -> Option<Revision> {
        let owner = Versioned::<MacRecord>::read(entry).ok()?.record.owner;
        let claim = self.claim.record.claim;
        matches!(owner, MacOwner::Claimed { claim: of, .. } if of == claim).then_some(entry.mod_revision)
    }

    /// Revision of the record of an address of this claim; `None` if the record has another owner or is unreadable.
    fn own(&self, entry: &Entry) -> Option<Revision> {
        match Versioned::<AddressRecord>::read(entry).map(|address| address.record.state) {
            Ok(AddressState::Claimed { claim, .. }) if claim == self.claim.record.claim => Some(entry.mod_revision),
            Ok(_) => {
                tracing::warn!(key = %entry.key, claim = %self.claim.record.claim, "the address of a claim is not its own");
                None
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "an address is left as it is");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Written down once: releases of two versions on one node share the lease of a half-minute.
    #[test]
    fn the_lease_of_a_half_minute_never_changes_for_a_uuid_and_any_host_id_has_one() {
        for (host, id) in [
            ("3f5e1b9a-0c5b-4f1e-9d2a-6a1f5e0c7b11", 2_339_144_350_029_884_899),
            ("node-1.example", 6_388_414_901_288_643_186),
        ] {
            let claim = json!({
                "v": 1, "claim": Uuid::from_u128(1), "tenant": "red", "incarnation": Uuid::from_u128(2),
                "attachment": { "node": "n1", "network": "atoll", "container": "c", "ifname": "eth0" },
                "addresses": [], "port": Uuid::from_u128(3), "host_interface": "at0", "mac": "02:00:00:00:00:01",
                "host_id": host, "since": 0,
            });
            let claim: ClaimRecord = serde_json::from_value(claim).expect("a claim");
            assert_eq!(slot(&claim, Duration::from_secs(30), 1_700_000_010), Lease(id), "{host}");
        }
    }
}
