//! Lets a namespace into a tenant, or takes it out.
//!
//! Running pods are not affected: a pod keeps its network until it is created again. To avoid surprise, moving a
//! namespace that has pods is refused unless the operator asks for new pods only; the output names the pods that stay
//! behind. The claim of a pod that starts concurrently compares the namespace's record: it is either among the listed
//! pods, or it is in the new tenant.

use atoll_model::ids::{Namespace, TenantName};
use atoll_records::{ClaimRecord, NamespaceRecord, Phase, Query, SCHEMA, TenantRecord, Unknown, Versioned};
use atoll_store::{Committed, Compare, Store, StoreChange, Txn};

use super::Admin;
use crate::attempts::RecordChange;
use crate::error::TenantError;
use atoll_network::Engine;

/// The outcome of moving a namespace.
#[derive(Clone, Debug)]
pub struct Moved {
    /// False: it was so already.
    pub changed: bool,
    /// Its tenant before.
    pub before: Option<TenantName>,
    /// Pods that keep their old network until they are made again.
    pub left_behind: Vec<ClaimRecord>,
}

/// Lets `namespace` into `tenant`.
pub async fn join<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    tenant: &TenantName,
    namespace: &Namespace,
    new_pods_only: bool,
) -> Result<Moved, TenantError> {
    let (_, target) = admin.known(tenant).await?;
    if target.record.phase == Phase::Deleting {
        return Err(TenantError::Deleting { tenant: tenant.clone() });
    }
    let record = NamespaceRecord {
        v: SCHEMA,
        tenant: tenant.clone(),
        incarnation: target.record.incarnation,
        unknown: Unknown::new(),
    };
    let guard = Compare::modified(TenantRecord::at(tenant), target.mod_revision);
    write(admin, namespace, Some(record), vec![guard], new_pods_only).await
}

/// Takes `namespace` out of `tenant`. Its next pod gets a tenant of its own.
pub async fn leave<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    tenant: &TenantName,
    namespace: &Namespace,
    new_pods_only: bool,
) -> Result<Moved, TenantError> {
    match current(admin, namespace).await? {
        Some(record) if record.record.tenant == *tenant => {
            write(admin, namespace, None, Vec::new(), new_pods_only).await
        }
        Some(record) => Err(TenantError::Elsewhere { namespace: namespace.clone(), tenant: record.record.tenant }),
        None => Ok(Moved { changed: false, before: None, left_behind: Vec::new() }),
    }
}

async fn current<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    namespace: &Namespace,
) -> Result<Option<Versioned<NamespaceRecord>>, TenantError> {
    let key = NamespaceRecord::at(namespace);
    let read = admin.store.read(vec![Query::key(&key)]).await;
    Ok(read.map_err(TenantError::store(format!("read namespace {namespace}")))?.get(&key)?)
}

async fn write<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    namespace: &Namespace,
    wanted: Option<NamespaceRecord>,
    mut compare: Vec<Compare>,
    new_pods_only: bool,
) -> Result<Moved, TenantError> {
    let now = current(admin, namespace).await?;
    let before = now.as_ref().map(|now| now.record.tenant.clone());
    let same = |now: &Option<Versioned<NamespaceRecord>>| match (now, &wanted) {
        (Some(now), Some(wanted)) => now.record.tenant == wanted.tenant && now.record.incarnation == wanted.incarnation,
        (None, None) => true,
        _ => false,
    };
    if same(&now) {
        return Ok(Moved { changed: false, before, left_behind: Vec::new() });
    }
    let pods = pods(admin, namespace).await?;
    if !pods.is_empty() && !new_pods_only {
        return Err(TenantError::Occupied { namespace: namespace.clone(), pods: pods.iter().map(shown).collect() });
    }
    let key = NamespaceRecord::at(namespace);
    compare.push(Compare::unchanged(&key, now.map(|now| now.mod_revision)));
    let written = wanted.as_ref().map_or_else(|| StoreChange::delete(&key), |record| StoreChange::put(&key, record));
    let txn = Txn { compare, then: vec![written], read: Vec::new(), otherwise: vec![Query::key(&key)] };
    let mut change = RecordChange::once(format!("move namespace {namespace}"));
    if let Committed::Lost(snapshot) = change.commit(admin.store, txn).await?
        && !same(&snapshot.get(&key)?)
    {
        return Err(change.failed());
    }
    // Pods that claimed between the first read and the change are among these.
    let left_behind = self::pods(admin, namespace).await?;
    Ok(Moved { changed: true, before, left_behind })
}

/// The pods of a namespace.
async fn pods<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    namespace: &Namespace,
) -> Result<Vec<ClaimRecord>, TenantError> {
    let claims = admin.claims().await?.into_iter().map(|claim| claim.record);
    Ok(claims.filter(|claim| claim.namespace.as_ref() == Some(namespace)).collect())
}

/// A pod as an operator knows it.
pub(super) fn shown(claim: &ClaimRecord) -> String {
    let container = || format!("container {}", claim.attachment.container);
    let pod = claim.pod.clone().unwrap_or_else(container);
    let namespace = claim.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
    format!("{namespace}{pod} on {}", claim.attachment.node)
}
