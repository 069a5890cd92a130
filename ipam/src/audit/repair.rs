//! Repairs findings that two observations share.

use std::time::Duration;

use atoll_records::{AddressRecord, AddressState, CoolDown, Lease, SCHEMA, Unknown, encode};

use atoll_model::clock::now;
use atoll_store::{Committed, Store, StoreChange, StoreError, Txn};

use super::{AuditFinding, Fix};
use crate::error::IpamError;

/// The outcome of the repair of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RepairOutcome {
    /// It is repaired.
    Done,
    /// A record changed meanwhile: nothing was touched.
    Changed,
    /// The answer was lost: another audit shows the outcome.
    Unknown,
}

/// The repair of a finding.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Repaired {
    /// The finding.
    #[serde(flatten)]
    pub finding: AuditFinding,
    /// The outcome.
    pub outcome: RepairOutcome,
}

/// The findings of both observations, equal in all revisions.
pub fn agreed(first: &[AuditFinding], second: Vec<AuditFinding>) -> Vec<AuditFinding> {
    second.into_iter().filter(|finding| first.contains(finding)).collect()
}

/// Repairs what is in both findings and has a repair; records that changed since the second one are not touched. The caller
/// decides how much time passes between the two. A freed address is in cool-down for `cooldown`.
pub async fn repair<S: Store>(
    store: &S,
    first: &[AuditFinding],
    second: Vec<AuditFinding>,
    cooldown: Duration,
) -> Result<Vec<Repaired>, IpamError> {
    let mut lease = None;
    let mut repaired = Vec::new();
    for finding in agreed(first, second) {
        let Some(fix) = &finding.fix else { continue };
        let failed = || IpamError::store(finding.object.clone());
        if lease.is_none() && fix.cool_down.is_some() && !cooldown.is_zero() {
            lease = Some(store.lease(cooldown).await.map_err(failed())?);
        }
        let outcome = match store.commit(transaction(fix, lease)).await {
            Ok(Committed::Yes(_)) => RepairOutcome::Done,
            Ok(Committed::Lost(_)) => RepairOutcome::Changed,
            // If the cause lasts, no later repair can succeed either.
            Err(error @ StoreError::Unknown { .. }) if !error.is_lasting() => RepairOutcome::Unknown,
            Err(error) => return Err(failed()(error)),
        };
        repaired.push(Repaired { finding, outcome });
    }
    Ok(repaired)
}

fn transaction(fix: &Fix, lease: Option<Lease>) -> Txn {
    let mut then = fix.then.clone();
    if let Some(place) = &fix.cool_down {
        let (address, mark) = (place.key(AddressRecord::at), place.key(CoolDown::at));
        if lease.is_some() {
            let state = AddressState::CoolDown { since: now(), namespace: None };
            let value = encode(&AddressRecord { v: SCHEMA, state, unknown: Unknown::new() });
            then.push(StoreChange::Put { key: address, value, lease });
            then.push(StoreChange::Put { key: mark, value: Vec::new(), lease });
        } else {
            then.push(StoreChange::Delete(address));
            then.push(StoreChange::Delete(mark));
        }
    }
    Txn { compare: fix.compare.clone(), then, read: Vec::new(), otherwise: Vec::new() }
}
