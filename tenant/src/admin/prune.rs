//! Finds tenants that have been idle for long, and deletes them on request.
//!
//! No ADD records when a tenant was last used. Instead an observation writes a record for every tenant without a claim
//! (`idle/<t>`, with the time), and every claim deletes the record of its tenant in its own transaction, at no cost if
//! there is none. So an existing record means that no address was claimed since it was written. The idle time is known
//! from the first observation on: to prune tenants that were idle for 30 days, the first observation must be at least
//! 30 days old.
//!
//! The record is written in two steps, so that a concurrent claim is never missed: a provisional record on a lease, a
//! read of the claims, and then the permanent record, which compares the provisional one. A claim that commits after
//! the first step deletes it; one that committed before is found by the read. A process that dies in between leaves
//! nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use atoll_model::clock::now;
use atoll_model::ids::TenantName;
use atoll_records::{
    IdleRecord, Key, Origin, Query, ReservationRecord, SCHEMA, Snapshot, TenantRecord, Unknown, Versioned,
};
use atoll_store::{Committed, Compare, Store, StoreChange, Txn};
use futures_util::{StreamExt as _, stream};

use super::Admin;
use super::delete::{Deletion, delete};
use crate::attempts::RecordChange;
use crate::error::TenantError;
use atoll_network::Engine;

/// Time to live of a provisional mark whose writer died.
const PROVISIONAL: Duration = Duration::from_mins(1);

/// Tenants that are deleted at once: each waits the maximum request lifetime.
const AT_ONCE: usize = 16;

/// A tenant without claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idle {
    /// Its name.
    pub tenant: TenantName,
    /// No address was claimed since then, seconds since 1970; `None`: first observation.
    pub since: Option<u64>,
    /// Why it is not pruned, however long it is idle.
    pub kept: Option<&'static str>,
}

/// The tenants without claims. `mark`: remember when they were seen so.
pub async fn idle<S: Store, E: Engine>(admin: &Admin<'_, S, E>, mark: bool) -> Result<Vec<Idle>, TenantError> {
    let (tenants, marks, reserved) = (TenantRecord::all(), IdleRecord::all(), Query::keys(ReservationRecord::all()));
    let queries = vec![Query::all(&tenants), Query::all(&marks), reserved.clone()];
    let snapshot = admin.store.read(queries).await.map_err(TenantError::store("read the tenants"))?;
    let reserved = &snapshot.answer(&reserved)?.entries;
    let reserved: BTreeSet<&str> =
        reserved.iter().filter_map(|entry| ReservationRecord::tenant_in(&entry.key)).collect();
    let marks = &snapshot.answer(&Query::all(&marks))?.entries;
    let used = used(admin).await?;
    let mut tenants = snapshot.list(&tenants)?.readable();
    tenants.retain(|tenant| !used.contains(&tenant.record.name));
    let since = |record: &TenantRecord| {
        let key = Key::from(IdleRecord::at(&record.name));
        let entry = marks.iter().find(|entry| entry.key == key)?;
        let mark = Versioned::<IdleRecord>::read(entry).ok()?.record;
        // A mark of the future was written by a clock that was ahead: it is made again, with the time of today.
        (mark.incarnation == record.incarnation && mark.lasting && mark.since <= now()).then_some(mark.since)
    };
    let idle = tenants.iter().map(|tenant| &tenant.record).map(|record| Idle {
        tenant: record.name.clone(),
        since: since(record),
        kept: match record.origin {
            Origin::Operator => Some("made by an operator"),
            _ if reserved.contains(record.name.as_str()) => Some("has reservations"),
            _ => None,
        },
    });
    let mut idle: Vec<Idle> = idle.collect();
    if mark {
        let new = tenants.iter().map(|tenant| &tenant.record).filter(|record| since(record).is_none());
        let came = self::mark(admin, &new.collect::<Vec<_>>()).await?;
        idle.retain(|idle| !came.contains(&idle.tenant));
    }
    Ok(idle)
}

/// Deletes tenants; returns the outcome of each. One that is in use again is not deleted.
pub async fn prune<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    tenants: &[TenantName],
    request_lifetime: Duration,
) -> Vec<(TenantName, Result<(), TenantError>)> {
    // In a list first: a closure that borrows inside a stream makes a future that is not `Send`.
    let deletions: Vec<_> = tenants.iter().map(|name| prune_one(admin, name, request_lifetime)).collect();
    stream::iter(deletions).buffered(AT_ONCE).collect().await
}

async fn prune_one<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    name: &TenantName,
    request_lifetime: Duration,
) -> (TenantName, Result<(), TenantError>) {
    let how = Deletion { request_lifetime, force: false };
    (name.clone(), delete(admin, name, how, |_| {}).await)
}

/// The tenants that have claims.
async fn used<S: Store, E: Engine>(admin: &Admin<'_, S, E>) -> Result<BTreeSet<TenantName>, TenantError> {
    Ok(admin.claims().await?.into_iter().map(|claim| claim.record.tenant).collect())
}

/// Records tenants as idle from now on. Returns those that are in use.
async fn mark<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    tenants: &[&TenantRecord],
) -> Result<BTreeSet<TenantName>, TenantError> {
    if tenants.is_empty() {
        return Ok(BTreeSet::new());
    }
    let what = "mark idle tenants";
    let lease = admin.store.lease(PROVISIONAL).await.map_err(TenantError::store(what))?;
    let record = |tenant: &TenantRecord, lasting| IdleRecord {
        v: SCHEMA,
        incarnation: tenant.incarnation,
        since: now(),
        lasting,
        unknown: Unknown::new(),
    };
    let put = |tenant: &TenantRecord, lasting: bool| {
        let (key, record) = (IdleRecord::at(&tenant.name), record(tenant, lasting));
        if lasting { StoreChange::put(&key, &record) } else { StoreChange::put_leased(&key, &record, lease) }
    };
    let mut provisional = Vec::new();
    for tenant in tenants {
        let txn = Txn { then: vec![put(tenant, false)], ..Txn::default() };
        // Unconditional, so it never loses a race; an unknown outcome ends the pruning, and the mark ends with its lease.
        if let Committed::Yes(Snapshot { revision, .. }) =
            admin.store.commit(txn).await.map_err(TenantError::store(what))?
        {
            provisional.push((tenant, revision));
        }
    }
    let used = used(admin).await?;
    for (tenant, revision) in provisional.into_iter().filter(|(tenant, _)| !used.contains(&tenant.name)) {
        let key = IdleRecord::at(&tenant.name);
        let mut change = RecordChange::repeated(what);
        loop {
            change.begin()?;
            let compare = vec![Compare::modified(&key, revision)];
            let txn =
                Txn { compare, then: vec![put(tenant, true)], read: Vec::new(), otherwise: vec![Query::key(&key)] };
            let Committed::Lost(snapshot) = change.commit(admin.store, txn).await? else { break };
            // The provisional mark is there: the request was lost. Otherwise a pod has claimed meanwhile, or only the
            // answer was lost.
            if snapshot.revision_of(&key)? != Some(revision) {
                break;
            }
        }
    }
    // Lasting marks are on no lease any more; what is left on it belongs to tenants in use.
    admin.store.revoke(lease).await.map_err(TenantError::store(what))?;
    Ok(used)
}
