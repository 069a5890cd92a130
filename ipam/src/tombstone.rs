//! The pending cleanup of an attachment, stored so that it survives the process and the node's files.
//!
//! # Guarantees
//! * A tombstone is never weakened: writing it again merges the cleanup that was pending with the new one.
//! * It has no lease. It is removed when its cleanup is done; until then the address stays taken.

use atoll_model::attachment::Attachment;
use atoll_records::{ClaimRecord, Revision, TombstoneKind, TombstoneRecord};
use atoll_store::{Attempts, Committed, Compare, Store, StoreChange, Txn};

use crate::error::IpamError;
use crate::find::Found;

/// Others write the tombstone of an attachment only while they hold its lock, or evict its node: this is plenty.
const ATTEMPTS: u32 = 10;

/// Makes a tombstone durable. `seen` is the revision of the one that the caller has read and means to replace; another
/// one is merged with the new one. The call is idempotent.
pub async fn put_tombstone<S: Store>(
    store: &S,
    tombstone: &TombstoneRecord,
    seen: Option<Revision>,
) -> Result<(), IpamError> {
    let attachment = &tombstone.attachment;
    let object = format!("tombstone of {attachment}");
    let failed = || IpamError::store(&object);
    let key = TombstoneRecord::at(attachment);
    let mut record = tombstone.clone();
    let mut seen = seen;
    let exhausted = IpamError::exhausted(&object, "the tombstone changed at each attempt");
    let mut attempts = Attempts::at_most(ATTEMPTS);
    loop {
        attempts.begin().map_err(&exhausted)?;
        let compare = vec![Compare::unchanged(&key, seen)];
        let then = vec![StoreChange::put(&key, &record)];
        let txn = Txn { compare, then, read: Vec::new(), otherwise: Found::queries(attachment) };
        let found = match attempts.commit_or_read(store, txn).await.map_err(failed())? {
            Committed::Yes(_) => return Ok(()),
            Committed::Lost(snapshot) => Found::read(&snapshot, attachment)?,
        };
        let Some(there) = found.tombstone else {
            seen = None;
            continue;
        };
        record = merge(&there.record, tombstone);
        if record == there.record {
            return Ok(());
        }
        seen = Some(there.mod_revision);
    }
}

/// The cleanup that both stand for: a fence stays a fence, the later time counts, a known port stays known.
fn merge(there: &TombstoneRecord, new: &TombstoneRecord) -> TombstoneRecord {
    let fence = [there.kind, new.kind].contains(&TombstoneKind::Fence);
    TombstoneRecord {
        kind: if fence { TombstoneKind::Fence } else { TombstoneKind::Delete },
        port: there.port.or(new.port),
        not_before: there.not_before.max(new.not_before),
        // A tombstone of kind `delete` may already be being resolved.
        deletion_sent: new.deletion_sent || if fence { there.may_have_deletion() } else { there.deletion_sent },
        ..there.clone()
    }
}

/// Removes a tombstone that was read at revision `seen`, if its attachment has no claim. The caller has finished its
/// cleanup. True: it is removed, now or earlier. False: there is a claim, or the tombstone was written again.
pub async fn remove_tombstone<S: Store>(store: &S, attachment: &Attachment, seen: Revision) -> Result<bool, IpamError> {
    let tombstone = TombstoneRecord::at(attachment);
    let txn = Txn {
        compare: vec![Compare::modified(&tombstone, seen), Compare::absent(ClaimRecord::at(attachment))],
        then: vec![StoreChange::delete(tombstone)],
        read: Vec::new(),
        otherwise: Found::queries(attachment),
    };
    let failed = || IpamError::store(format!("tombstone of {attachment}"));
    let mut attempts = Attempts::once();
    let found = match attempts.commit_or_read(store, txn).await.map_err(failed())? {
        Committed::Yes(_) => return Ok(true),
        Committed::Lost(snapshot) => Found::read(&snapshot, attachment)?,
    };
    if found.tombstone.is_some() {
        attempts.may_repeat().map_err(failed())?;
    }
    Ok(found.tombstone.is_none())
}
