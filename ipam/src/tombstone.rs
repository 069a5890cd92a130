//! What is still owed for an attachment, written down so that it survives everybody who knew of it.
//!
//! A tombstone is never weakened: burying again merges what was owed with what is owed now. It has no lease: it goes
//! when what it stands for was done, and until then the address stays taken.

use atoll_model::attachment::Attachment;
use atoll_model::record::{Tombstone, TombstoneRecord, encode};
use atoll_store::{Change, Committed, Compare, Doubt, Key, Revision, Store, Txn};

use crate::error::{IpamError, unsteady};
use crate::find::{Found, find};

/// Others write the tombstone of an attachment only while they hold its lock, or evict its node: this is plenty.
const ATTEMPTS: u32 = 10;

/// Makes a tombstone durable. `seen` is the revision of the one that the caller has read and means to replace; whatever
/// else is found there is merged with. Burying the same twice is burying once.
pub async fn bury<S: Store>(store: &S, tombstone: &TombstoneRecord, seen: Option<Revision>) -> Result<(), IpamError> {
    let attachment = &tombstone.attachment;
    let failed = || IpamError::store(format!("tombstone of {attachment}"));
    let key = Key::tombstone(attachment);
    let mut record = tombstone.clone();
    let mut seen = seen;
    let mut doubt = Doubt::default();
    for _ in 0..ATTEMPTS {
        let condition = match seen {
            Some(revision) => Compare::Modified(key.clone(), revision),
            None => Compare::Absent(key.clone()),
        };
        let put = Change::Put { key: key.clone(), value: encode(&record), lease: None };
        let otherwise = Found::queries(attachment);
        let outcome = store.commit(Txn { compare: vec![condition], then: vec![put], otherwise }).await;
        let found = match doubt.weigh(outcome).map_err(failed())? {
            Some(Committed::Yes(_)) => return Ok(()),
            Some(Committed::Lost(snapshot)) => Found::read(&snapshot, attachment)?,
            None => find(store, attachment).await?,
        };
        let Some(there) = found.tombstone else {
            doubt.may_repeat().map_err(failed())?;
            seen = None;
            continue;
        };
        record = merge(&there.record, tombstone);
        if record == there.record {
            return Ok(());
        }
        doubt.may_repeat().map_err(failed())?;
        seen = Some(there.mod_revision);
    }
    Err(failed()(doubt.cause().unwrap_or_else(|| unsteady("the tombstone changed at each attempt"))))
}

/// What is owed when both are: a fence stays a fence, the later time counts, a known port stays known.
fn merge(there: &TombstoneRecord, new: &TombstoneRecord) -> TombstoneRecord {
    let fence = [there.why, new.why].contains(&Tombstone::Fence);
    TombstoneRecord {
        why: if fence { Tombstone::Fence } else { Tombstone::Delete },
        port: there.port.or(new.port),
        not_before: there.not_before.max(new.not_before),
        // One that asked for nothing but deleting was perhaps being settled.
        closing: new.closing || if fence { there.is_closing() } else { there.closing },
        ..there.clone()
    }
}

/// Removes a tombstone that was read at revision `seen`, owes nothing any more and has no claim. True: it is gone, now
/// or already. False: there is a claim, or the tombstone was written again.
pub async fn exhume<S: Store>(store: &S, attachment: &Attachment, seen: Revision) -> Result<bool, IpamError> {
    let (claim, tombstone) = (Key::attachment(attachment), Key::tombstone(attachment));
    let txn = Txn {
        compare: vec![Compare::Modified(tombstone.clone(), seen), Compare::Absent(claim)],
        then: vec![Change::Delete(tombstone)],
        otherwise: Found::queries(attachment),
    };
    let failed = || IpamError::store(format!("tombstone of {attachment}"));
    let mut doubt = Doubt::default();
    let found = match doubt.weigh(store.commit(txn).await).map_err(failed())? {
        Some(Committed::Yes(_)) => return Ok(true),
        Some(Committed::Lost(snapshot)) => Found::read(&snapshot, attachment)?,
        None => find(store, attachment).await?,
    };
    if found.tombstone.is_some() {
        doubt.may_repeat().map_err(failed())?;
    }
    Ok(found.tombstone.is_none())
}
