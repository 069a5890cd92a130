//! A claim records that a machine other than the pod's node may be making its port: `atollctl tenant repair`, after the engine
//! lost the port.
//!
//! # Guarantees
//! - It is recorded before the creation is sent, in a transaction that compares claim, tombstone and node. So a release of the
//!   claim as it was before loses, and its caller reads that a creation may still arrive; and a node that was evicted meanwhile
//!   has no port made.
//! - The record goes only if nothing else has changed the claim since: a second repair, whose request may be on its way,
//!   keeps it.

use atoll_records::{ClaimRecord, NodeRecord, Revision, TombstoneRecord, Versioned};
use atoll_store::{Chosen, Compare, Store, StoreChange, StoreError, Txn};

use crate::error::IpamError;

/// Records that a creation of the claim's port may arrive until then, seconds since 1970. `node`: the revision of the node's
/// record that the caller has read. `None`: claim, tombstone or node has changed, or whether this call wrote it is unknown. Then
/// nothing may be sent.
pub async fn expect_creation<S: Store>(
    store: &S,
    claim: &Versioned<ClaimRecord>,
    node: Revision,
    until: u64,
) -> Result<Option<Versioned<ClaimRecord>>, IpamError> {
    let creations_until = claim.record.creations_until.max(until);
    let record = ClaimRecord { creations_until, ..claim.record.clone() };
    let of_node = Compare::modified(NodeRecord::at(&claim.record.attachment.node), node);
    let no_tombstone = Compare::absent(TombstoneRecord::at(&claim.record.attachment));
    write(store, claim, record, vec![of_node, no_tombstone]).await
}

/// Every creation was answered: none arrives later. `claim`: as [`expect_creation`] wrote it. A claim that has changed since is
/// left as it is.
pub async fn creations_answered<S: Store>(store: &S, claim: &Versioned<ClaimRecord>) -> Result<(), IpamError> {
    let record = ClaimRecord { creations_until: 0, ..claim.record.clone() };
    write(store, claim, record, Vec::new()).await.map(drop)
}

/// Writes a claim once, if it is as it was read. An unknown outcome counts as not written: another call may have written the same.
async fn write<S: Store>(
    store: &S,
    claim: &Versioned<ClaimRecord>,
    record: ClaimRecord,
    mut compare: Vec<Compare>,
) -> Result<Option<Versioned<ClaimRecord>>, IpamError> {
    let attachment = &record.attachment;
    let key = ClaimRecord::at(attachment);
    compare.push(Compare::modified(&key, claim.mod_revision));
    let txn = Txn { compare, then: vec![StoreChange::put(&key, &record)], read: Vec::new(), otherwise: Vec::new() };
    match store.commit_first(txn.into()).await {
        Ok(Chosen::Case(_, done)) => Ok(Some(claim.updated(record, done.revision))),
        Ok(Chosen::Lost(_)) => Ok(None),
        Err(error @ StoreError::Unknown { .. }) if !error.is_lasting() => Ok(None),
        Err(error) => Err(IpamError::store(attachment)(error)),
    }
}
