//! Changes a tenant's record.

use atoll_model::ids::TenantName;
use atoll_records::{Query, TenantRecord, Versioned};
use atoll_store::{Committed, Compare, Store, StoreChange, Txn};

use super::Admin;
use crate::attempts::RecordChange;
use crate::error::TenantError;
use atoll_network::Engine;

/// Changes a tenant's record, also for a deletion. Nothing is written when nothing changes.
pub(super) async fn change<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    tenant: Versioned<TenantRecord>,
    edit: impl FnOnce(&mut TenantRecord),
) -> Result<Versioned<TenantRecord>, TenantError> {
    change_with(admin, tenant, edit, Vec::new()).await
}

/// The same, and in the same transaction what else has to change with it.
pub(super) async fn change_with<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    tenant: Versioned<TenantRecord>,
    edit: impl FnOnce(&mut TenantRecord),
    with: Vec<StoreChange>,
) -> Result<Versioned<TenantRecord>, TenantError> {
    let mut change = RecordChange::once(changing(&tenant.record.name));
    let written = write(admin, tenant, edit, with, &mut change).await?;
    written.ok_or_else(|| change.failed())
}

/// The description of such a change.
pub(super) fn changing(tenant: &TenantName) -> String {
    format!("change the record of tenant {tenant}")
}

/// One attempt. `None`: the record has changed, or the attempt is known not to have taken effect.
pub(super) async fn write<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    tenant: Versioned<TenantRecord>,
    edit: impl FnOnce(&mut TenantRecord),
    with: Vec<StoreChange>,
    change: &mut RecordChange,
) -> Result<Option<Versioned<TenantRecord>>, TenantError> {
    let mut record = tenant.record.clone();
    edit(&mut record);
    if record == tenant.record && with.is_empty() {
        return Ok(Some(tenant));
    }
    let key = TenantRecord::at(&record.name);
    let mut then = vec![StoreChange::put(&key, &record)];
    then.extend(with);
    let compare = vec![Compare::modified(&key, tenant.mod_revision)];
    let txn = Txn { compare, then, read: Vec::new(), otherwise: vec![Query::key(&key)] };
    match change.commit(admin.store, txn).await? {
        Committed::Yes(done) => Ok(Some(tenant.updated(record, done.revision))),
        // The answer was lost, not the race.
        Committed::Lost(snapshot) => Ok(snapshot.get(&key)?.filter(|now| now.record == record)),
    }
}
