//! Deletes a tenant, in the order in which nothing can come back:
//!
//! 1. its phase becomes `deleting`: every claim compares the record, so none commits from now on;
//! 2. its addresses are listed: with a pod among them the phase is put back and the pods are named;
//! 3. its objects are deleted in the controller, and its reservations are lifted;
//! 4. the quiet period passes, in which a request of a dead builder may still be carried out;
//! 5. what such a request made is deleted;
//! 6. only then are transit link and subnets free, and the record goes.
//!
//! Interrupted anywhere it goes on where it stopped: every step is found done or is done again.

use std::collections::BTreeSet;
use std::time::Duration;

use atoll_ipam::{Versioned, lift, reservations};
use atoll_model::attachment::Attachment;
use atoll_model::ids::{ClaimId, TenantName};
use atoll_model::record::{
    AddressRecord, AddressState, ClaimRecord, ClusterRecord, NamespaceRecord, Phase, TenantRecord,
};
use atoll_store::{Answer, Change, Committed, Compare, Entry, Key, Query, Revision, Store, Txn};

use super::Admin;
use super::members::shown;
use super::subnets::change;
use crate::controller::Controller;
use crate::error::TenantError;
use crate::graph::{Graph, graph};
use crate::registry::{Attempts, only, parts};

/// etcd takes 128 operations in one transaction by default; compares and changes are counted apart.
const BATCH: usize = 100;

/// The quiet period is shown in steps of this.
const TICK: Duration = Duration::from_millis(250);

/// How to delete.
#[derive(Clone, Copy, Debug)]
pub struct Deletion {
    /// How long a request of a dead builder may still be carried out.
    pub quiet: Duration,
    /// Pods that are there lose their network and their addresses.
    pub force: bool,
}

/// How far a deletion is; given to the caller's eyes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// No claim can commit any more.
    Closed,
    /// Its objects are gone.
    Objects(usize),
    /// So much of the quiet period has passed.
    Quiet(Duration),
    /// Record, transit link and subnets are gone.
    All,
}

/// See the module. `progress` is told how far it is.
pub async fn delete<S: Store, C: Controller>(
    admin: &Admin<'_, S, C>,
    name: &TenantName,
    how: Deletion,
    mut progress: impl FnMut(Deleted),
) -> Result<(), TenantError> {
    let (cluster, tenant) = admin.known(name).await?;
    let before = tenant.record.phase;
    let tenant = change(admin, tenant, |record| record.phase = Phase::Deleting).await?;
    progress(Deleted::Closed);

    let addresses = list(admin, Key::addresses_of(name)).await?;
    let held = held(admin, &addresses).await?;
    if !held.is_empty() && !how.force {
        // A deletion that was interrupted may have deleted objects: whoever comes next has to look.
        let phase = if before == Phase::Deleting { Phase::Building } else { before };
        change(admin, tenant, |record| record.phase = phase).await?;
        return Err(TenantError::InUse { tenant: name.clone(), pods: held.shown() });
    }

    let all = everything(&cluster.record, &tenant.record);
    let what = format!("delete the objects of tenant {name}");
    let removed = admin.controller.remove(&all).await.map_err(TenantError::controller(&what))?;
    progress(Deleted::Objects(removed.deleted));
    for claim in &held.claims {
        drop_claim(admin, claim).await?;
    }
    for orphan in &held.orphans {
        drop_orphan(admin, orphan).await?;
    }
    // Nobody can reserve any more: that compares the tenant's record, too.
    for reservation in reservations(admin.store, Some(name)).await.map_err(TenantError::record)? {
        lift(admin.store, &reservation.record, false).await.map_err(TenantError::record)?;
    }
    quiet(how.quiet, &mut progress).await;
    admin.controller.remove(&all).await.map_err(TenantError::controller(&what))?;
    free(admin, &cluster.record, &tenant).await?;
    progress(Deleted::All);
    Ok(())
}

/// Lets the quiet period pass.
pub(super) async fn quiet(whole: Duration, progress: &mut impl FnMut(Deleted)) {
    let began = tokio::time::Instant::now();
    while let Some(rest) = whole.checked_sub(began.elapsed()).filter(|rest| !rest.is_zero()) {
        progress(Deleted::Quiet(began.elapsed()));
        tokio::time::sleep(rest.min(TICK)).await;
    }
}

/// The graph with every subnet, also one that is going already.
fn everything(cluster: &ClusterRecord, tenant: &TenantRecord) -> Graph {
    let mut tenant = tenant.clone();
    for subnet in &mut tenant.subnets {
        subnet.phase = Phase::Active;
    }
    graph(cluster, &tenant)
}

pub(super) async fn list<S: Store, C: Controller>(
    admin: &Admin<'_, S, C>,
    prefix: Key,
) -> Result<Vec<Entry>, TenantError> {
    let what = format!("list {prefix}");
    let snapshot = admin.store.read(vec![Query::all(prefix)]).await.map_err(TenantError::store(what))?;
    Ok(snapshot.answers.into_iter().next().unwrap_or_default().entries)
}

/// Who has addresses.
pub(super) struct Held {
    claims: Vec<Versioned<ClaimRecord>>,
    orphans: Vec<Orphan>,
}

/// An address that is taken by a claim that is not there or cannot be read. A pod may run with it all the same.
struct Orphan {
    key: Key,
    mod_revision: Revision,
    attachment: Attachment,
}

impl Held {
    /// No pod has any of the addresses.
    pub(super) fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.orphans.is_empty()
    }

    /// The pods, as operators know them.
    pub(super) fn shown(&self) -> Vec<String> {
        let orphan = |Orphan { key, attachment, .. }: &Orphan| {
            let address = key.address_part().map_or_else(|| key.to_string(), |address| address.to_string());
            format!("{address} of attachment {attachment}, whose claim cannot be read")
        };
        let pods = self.claims.iter().map(|claim| shown(&claim.record));
        pods.chain(self.orphans.iter().map(orphan)).collect()
    }
}

/// Who has these addresses. One that only cools down belongs to no pod.
pub(super) async fn held<S: Store, C: Controller>(
    admin: &Admin<'_, S, C>,
    addresses: &[Entry],
) -> Result<Held, TenantError> {
    let mut taken: Vec<(ClaimId, Orphan)> = Vec::new();
    for entry in addresses {
        let address = Versioned::<AddressRecord>::read(entry).map_err(TenantError::record)?;
        if let AddressState::Claimed { claim, attachment } = address.record.state {
            taken.push((claim, Orphan { key: entry.key.clone(), mod_revision: entry.mod_revision, attachment }));
        }
    }
    if taken.is_empty() {
        return Ok(Held { claims: Vec::new(), orphans: Vec::new() });
    }
    let wanted: BTreeSet<ClaimId> = taken.iter().map(|(claim, _)| *claim).collect();
    let mut claims = admin.claims().await?;
    claims.retain(|claim| wanted.contains(&claim.record.claim));
    let found: BTreeSet<ClaimId> = claims.iter().map(|claim| claim.record.claim).collect();
    taken.retain(|(claim, _)| !found.contains(claim));
    Ok(Held { claims, orphans: taken.into_iter().map(|(_, orphan)| orphan).collect() })
}

/// Takes a pod's addresses and claim away, if the claim is still the one that was seen. Its DEL finds nothing to do.
async fn drop_claim<S: Store, C: Controller>(
    admin: &Admin<'_, S, C>,
    claim: &Versioned<ClaimRecord>,
) -> Result<(), TenantError> {
    let record = &claim.record;
    let key = Key::attachment(&record.attachment);
    let addresses = record
        .addresses
        .iter()
        .map(|address| Change::Delete(Key::address(&record.tenant, address.ordinal, address.address.ip())));
    let chosen = record.addresses.first().filter(|_| record.mac != record.attachment.mac());
    let mac = chosen.map(|first| Change::Delete(Key::mac(&record.tenant, first.ordinal, record.mac)));
    let then = addresses.chain(mac).chain([Change::Delete(key.clone())]).collect();
    drop_guarded(admin, Compare::Created(key, claim.create_revision), then).await
}

/// Frees an address whose claim is not there or cannot be read, if it is still as it was seen.
async fn drop_orphan<S: Store, C: Controller>(admin: &Admin<'_, S, C>, orphan: &Orphan) -> Result<(), TenantError> {
    let Orphan { key, mod_revision, .. } = orphan;
    drop_guarded(admin, Compare::Modified(key.clone(), *mod_revision), vec![Change::Delete(key.clone())]).await
}

/// Deletes what was seen. When the record that guards it is another one by now, a DEL was faster.
async fn drop_guarded<S: Store, C: Controller>(
    admin: &Admin<'_, S, C>,
    guard: Compare,
    then: Vec<Change>,
) -> Result<(), TenantError> {
    let (Compare::Created(key, _) | Compare::Modified(key, _) | Compare::Absent(key)) = &guard;
    let mut attempts = Attempts::at(format!("delete {key}"));
    loop {
        let otherwise = vec![Query::Key(key.clone())];
        let txn = Txn { compare: vec![guard.clone()], then: then.clone(), otherwise };
        let Committed::Lost(snapshot) = attempts.commit(admin.store, txn).await? else { return Ok(()) };
        let there = snapshot.answers.first().and_then(Answer::one);
        let same = there.is_some_and(|entry| match guard {
            Compare::Created(_, revision) => entry.create_revision == revision,
            Compare::Modified(_, revision) => entry.mod_revision == revision,
            Compare::Absent(_) => false,
        });
        if !same {
            return Ok(());
        }
        // The answer was lost, and whether it happened is not to be seen: deleting twice is deleting once.
        attempts.again()?;
    }
}

/// The last transaction, after as many as it takes to make it small enough. Each compares the tenant's record, so that
/// none of them touches a tenant that somebody has recreated.
async fn free<S: Store, C: Controller>(
    admin: &Admin<'_, S, C>,
    cluster: &ClusterRecord,
    tenant: &Versioned<TenantRecord>,
) -> Result<(), TenantError> {
    let (name, life) = (&tenant.record.name, tenant.record.incarnation);
    let subnets = tenant.record.subnets.iter();
    let mut doomed: Vec<Key> = subnets.flat_map(|subnet| parts(cluster, subnet.cidr)).map(Key::subnet).collect();
    for entry in list(admin, Key::namespaces()).await? {
        let record = Versioned::<NamespaceRecord>::read(&entry).map_err(TenantError::record)?.record;
        if record.tenant == *name && record.incarnation == life {
            doomed.push(entry.key);
        }
    }
    let key = Key::tenant(name);
    let last = [Key::transit(tenant.record.transit), Key::builder(name), Key::idle(name), key.clone()];
    let mut batches: Vec<Vec<Key>> = doomed.chunks(BATCH).map(<[Key]>::to_vec).collect();
    match batches.last_mut() {
        Some(batch) if batch.len() + last.len() <= BATCH => batch.extend(last),
        _ => batches.push(last.into()),
    }
    let what = format!("free what tenant {name} had");
    for batch in batches {
        free_batch(admin, tenant, &what, &batch).await?;
    }
    Ok(())
}

async fn free_batch<S: Store, C: Controller>(
    admin: &Admin<'_, S, C>,
    tenant: &Versioned<TenantRecord>,
    what: &str,
    batch: &[Key],
) -> Result<(), TenantError> {
    let key = Key::tenant(&tenant.record.name);
    let mut attempts = Attempts::at(what);
    loop {
        let txn = Txn {
            compare: vec![Compare::Modified(key.clone(), tenant.mod_revision)],
            then: batch.iter().cloned().map(Change::Delete).collect(),
            otherwise: vec![Query::Key(key.clone())],
        };
        let Committed::Lost(snapshot) = attempts.commit(admin.store, txn).await? else { return Ok(()) };
        match only::<TenantRecord>(&snapshot)? {
            // The answer was lost, not the race: the record went with this batch.
            None if batch.contains(&key) => return Ok(()),
            // The answer was lost, and whether it happened is not to be seen: deleting twice is deleting once.
            Some(now) if now.mod_revision == tenant.mod_revision => {}
            _ => return Err(attempts.failed()),
        }
        attempts.again()?;
    }
}
