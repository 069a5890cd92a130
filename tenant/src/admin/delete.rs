//! Deletes a tenant, in the order in which nothing can come back:
//!
//! 1. its phase becomes `deleting`: every claim compares the record, so none commits from now on;
//! 2. its addresses are listed: with a pod among them the phase is put back and the pods are named;
//! 3. its objects are deleted in the controller, and its reservations are lifted;
//! 4. the maximum request lifetime passes, in which a request of a process that died may still take effect;
//! 5. what such a request made is deleted;
//! 6. only then are transit link and subnets free, and the record goes.
//!
//! Interrupted anywhere it goes on where it stopped: every step is found done or is done again.

use std::time::Duration;

use atoll_ipam::{lift, reservations};
use atoll_model::ids::TenantName;
use atoll_records::{
    AddressRecord, BuildLeaseRecord, ClaimRecord, ClusterRecord, IdleRecord, Key, MacRecord, NamespaceRecord,
    OwnerRecord, Phase, Query, TenantRecord, Versioned,
};
use atoll_store::{Committed, Compare, Store, StoreChange, Txn};

use super::Admin;
use super::change::change;
use super::held::{Orphan, held, list};
use super::progress::{Deleted, wait_for_late_requests};
use crate::attempts::RecordChange;
use crate::error::TenantError;
use crate::network::whole_network;
use crate::registry::parts;
use atoll_network::Engine;

/// etcd takes 128 operations in one transaction by default; compares and changes are counted apart.
const BATCH: usize = 100;

/// How to delete.
#[derive(Clone, Copy, Debug)]
pub struct Deletion {
    /// How long a request of a process that died may still take effect.
    pub request_lifetime: Duration,
    /// Pods that are there lose their network and their addresses.
    pub force: bool,
}

/// Deletes a tenant as the module's head describes. `progress` receives each step.
pub async fn delete<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    name: &TenantName,
    how: Deletion,
    mut progress: impl FnMut(Deleted),
) -> Result<(), TenantError> {
    let (cluster, tenant) = admin.known(name).await?;
    let before = tenant.record.phase;
    let tenant = change(admin, tenant, |record| record.phase = Phase::Deleting).await?;
    progress(Deleted::Closed);

    let held = held(admin, AddressRecord::of_tenant(name)).await?;
    if !held.is_empty() && !how.force {
        // An interrupted deletion may have deleted objects: the next call has to check.
        let phase = if before == Phase::Deleting { Phase::Building } else { before };
        change(admin, tenant, |record| record.phase = phase).await?;
        return Err(TenantError::InUse { tenant: name.clone(), pods: held.shown() });
    }

    let all = whole_network(&cluster.record, &tenant);
    let what = format!("delete the objects of tenant {name}");
    let removed = admin.engine.delete_network(&all).await.map_err(TenantError::engine(&what))?;
    progress(Deleted::Objects(removed.deleted));
    for claim in &held.claims {
        drop_claim(admin, claim).await?;
    }
    for orphan in &held.orphans {
        drop_orphan(admin, orphan).await?;
    }
    // No new reservations are possible: they compare the tenant's record, too.
    for reservation in reservations(admin.store, Some(name)).await? {
        lift(admin.store, &reservation.record, false).await?;
    }
    wait_for_late_requests(admin.engine, how.request_lifetime, &mut progress).await;
    admin.engine.delete_network(&all).await.map_err(TenantError::engine(&what))?;
    free(admin, &cluster.record, &tenant).await?;
    progress(Deleted::All);
    Ok(())
}

/// Takes a pod's addresses and claim away, if the claim is still the one that was seen. Its DEL finds nothing to do.
async fn drop_claim<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    claim: &Versioned<ClaimRecord>,
) -> Result<(), TenantError> {
    let record = &claim.record;
    let key = ClaimRecord::at(&record.attachment);
    let addresses = record
        .addresses
        .iter()
        .map(|held| StoreChange::delete(AddressRecord::at(&record.tenant, held.ordinal, held.address.ip())));
    let chosen = record.addresses.first().filter(|_| record.mac != record.attachment.mac());
    let mac = chosen.map(|first| StoreChange::delete(MacRecord::at(&record.tenant, first.ordinal, record.mac)));
    let then = addresses.chain(mac).chain([StoreChange::delete(&key)]).collect();
    drop_guarded(admin, Compare::created(key, claim.create_revision), then).await
}

/// Frees an address whose claim is not there or cannot be read, if it is still as it was seen.
async fn drop_orphan<S: Store, E: Engine>(admin: &Admin<'_, S, E>, orphan: &Orphan) -> Result<(), TenantError> {
    let Orphan { key, mod_revision, .. } = orphan;
    drop_guarded(admin, Compare::Modified(key.clone(), *mod_revision), vec![StoreChange::Delete(key.clone())]).await
}

/// Deletes the records that were read. If the guarding record has changed, a DEL was faster.
async fn drop_guarded<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    guard: Compare,
    then: Vec<StoreChange>,
) -> Result<(), TenantError> {
    let (Compare::Created(key, _) | Compare::Modified(key, _) | Compare::Absent(key)) = &guard;
    let mut change = RecordChange::repeated(format!("delete {key}"));
    loop {
        change.begin()?;
        let otherwise = vec![Query::key(key)];
        let txn = Txn { compare: vec![guard.clone()], then: then.clone(), read: Vec::new(), otherwise };
        let Committed::Lost(snapshot) = change.commit(admin.store, txn).await? else { return Ok(()) };
        let same = snapshot.entry(key)?.is_some_and(|entry| match guard {
            Compare::Created(_, revision) => entry.create_revision == revision,
            Compare::Modified(_, revision) => entry.mod_revision == revision,
            Compare::Absent(_) => false,
        });
        // The answer was lost, and whether it happened is not to be seen: deleting is idempotent.
        if !same {
            return Ok(());
        }
    }
}

/// The last transaction; others precede it until it is small enough. Each compares the tenant's record, so none changes
/// a tenant that was created again.
async fn free<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    cluster: &ClusterRecord,
    tenant: &Versioned<TenantRecord>,
) -> Result<(), TenantError> {
    let (name, incarnation) = (&tenant.record.name, tenant.record.incarnation);
    let subnets =
        tenant.record.subnets.iter().flat_map(|subnet| &subnet.prefixes).flat_map(|prefix| parts(cluster, prefix.cidr));
    let mut keys: Vec<Key> = subnets.map(|part| OwnerRecord::subnet(part).into()).collect();
    for entry in list(admin, NamespaceRecord::all()).await? {
        let record = Versioned::<NamespaceRecord>::read(&entry)?.record;
        if record.tenant == *name && record.incarnation == incarnation {
            keys.push(entry.key);
        }
    }
    let last: [Key; 4] = [
        OwnerRecord::transit(tenant.record.transit).into(),
        BuildLeaseRecord::at(name).into(),
        IdleRecord::at(name).into(),
        TenantRecord::at(name).into(),
    ];
    let mut batches: Vec<Vec<Key>> = keys.chunks(BATCH).map(<[Key]>::to_vec).collect();
    match batches.last_mut() {
        Some(batch) if batch.len() + last.len() <= BATCH => batch.extend(last),
        _ => batches.push(last.into()),
    }
    for batch in batches {
        free_batch(admin, tenant, &batch).await?;
    }
    Ok(())
}

async fn free_batch<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    tenant: &Versioned<TenantRecord>,
    batch: &[Key],
) -> Result<(), TenantError> {
    let key = TenantRecord::at(&tenant.record.name);
    let mut change = RecordChange::repeated(format!("free what tenant {} had", tenant.record.name));
    loop {
        change.begin()?;
        let txn = Txn {
            compare: vec![Compare::modified(&key, tenant.mod_revision)],
            then: batch.iter().map(StoreChange::delete).collect(),
            read: Vec::new(),
            otherwise: vec![Query::key(&key)],
        };
        let Committed::Lost(snapshot) = change.commit(admin.store, txn).await? else { return Ok(()) };
        match snapshot.get(&key)? {
            // The answer was lost, not the race: the record went with this batch.
            None if batch.contains(&key) => return Ok(()),
            // The answer was lost, and whether it happened is not to be seen: deleting is idempotent.
            Some(now) if now.mod_revision == tenant.mod_revision => {}
            _ => return Err(change.failed()),
        }
    }
}
