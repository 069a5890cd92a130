//! A claim stays, and its port becomes another one: the next incarnation of the same attachment.
//!
//! A request that was sent for the port before it (its deletion, the release of the claim) may still arrive. The deletion
//! names an id that is never used again, and the release compares the claim's revision, which is another one from now on.
//!
//! The caller has deleted the port before, was answered, and knows that no request can make it again: only one port of an
//! attachment is there at any time, and it is the one that the claim names.

use atoll_records::{ClaimRecord, NodeRecord, Revision, TombstoneRecord, Versioned};
use atoll_store::{Attempts, Chosen, Compare, Store, StoreChange, Txn};
use uuid::Uuid;

use crate::error::IpamError;
use crate::find::{Found, find};

/// The most attempts. While the attachment lock is held, only a late request or an eviction can change the claim in between.
const ATTEMPTS: u32 = 4;

/// Gives a claim, as it was read, a port of another id, or keeps its port and changes only its revision: requests that were
/// sent for the claim before lose from then on. `node`: the revision of the node's record that the caller has read.
/// `deletions_until`: until when a deletion of the earlier port may still arrive, seconds since 1970. `None`: the claim, its
/// tombstone or the node has changed; nothing was done.
pub async fn renew<S: Store>(
    store: &S,
    claim: &Versioned<ClaimRecord>,
    node: Revision,
    port: Uuid,
    deletions_until: u64,
) -> Result<Option<Versioned<ClaimRecord>>, IpamError> {
    let attachment = &claim.record.attachment;
    let failed = || IpamError::store(attachment);
    let record = ClaimRecord { port, deletions_until, ..claim.record.clone() };
    let key = ClaimRecord::at(attachment);
    let txn = || Txn {
        compare: vec![
            Compare::modified(NodeRecord::at(&attachment.node), node),
            Compare::modified(&key, claim.mod_revision),
            Compare::absent(TombstoneRecord::at(attachment)),
        ],
        then: vec![StoreChange::put(&key, &record)],
        read: Vec::new(),
        otherwise: Found::queries(attachment),
    };
    let is_ours = |there: &Versioned<ClaimRecord>| there.record == record && there.mod_revision > claim.mod_revision;
    let exhausted = IpamError::exhausted(attachment, "the records changed at each attempt");
    let mut attempts = Attempts::at_most(ATTEMPTS);
    loop {
        attempts.begin().map_err(&exhausted)?;
        let found = match attempts.commit(store, txn().into()).await.map_err(failed())? {
            Some(Chosen::Case(_, done)) => return Ok(Some(claim.updated(record, done.revision))),
            // Another claim by now; or this one, by an attempt that was taken for lost.
            Some(Chosen::Lost(snapshot)) => {
                let found = Found::read(&snapshot, attachment)?;
                return Ok(found.claim.filter(is_ours));
            }
            None => find(store, attachment).await?,
        };
        match found.claim {
            Some(there) if is_ours(&there) => return Ok(Some(there)),
            // It did not happen. If it still does, the repetition loses and finds it.
            Some(there) if there.mod_revision == claim.mod_revision => {}
            _ => return Ok(None),
        }
    }
}
