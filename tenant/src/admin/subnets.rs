//! Adds a subnet to a tenant, or takes an empty one away.
//!
//! Taking away goes as deleting a tenant goes: closed for claims, looked through, deleted in the controller, a quiet
//! period, deleted again, freed. Interrupted it goes on where it stopped.

use std::time::Duration;

use atoll_ipam::{Versioned, reservations};
use atoll_model::ids::TenantName;
use atoll_model::range::AddressRange;
use atoll_model::record::{Phase, StaticRoute, SubnetEntry, TenantRecord, Via};
use atoll_store::{Change, Committed, Compare, Key, Query, Store, Txn};
use ipnetwork::Ipv4Network;

use super::delete::{held, list, quiet};
use super::{Admin, Deleted, OPERATOR};
use crate::controller::Controller;
use crate::error::TenantError;
use crate::graph::subnet_graph;
use crate::registry::{Attempts, choose, network, only, parts, put, with_subnet};

/// Adds a subnet: `cidr`, or a free part of the pool; no pod gets what is in `exclude`. Gives the tenant with the subnet in use.
pub async fn add_subnet<S: Store, C: Controller>(
    admin: &Admin<'_, S, C>,
    name: &TenantName,
    cidr: Option<Ipv4Network>,
    exclude: &[AddressRange],
) -> Result<SubnetEntry, TenantError> {
    let registry = admin.registry();
    let (cluster, tenant) = admin.known(name).await?;
    if tenant.record.phase == Phase::Deleting {
        return Err(TenantError::Deleting { tenant: name.clone() });
    }
    let extended = Box::pin(registry.extend(&cluster.record, &tenant, cidr, exclude)).await?;
    let added = extended
        .record
        .subnets
        .iter()
        .find(|subnet| tenant.record.subnets.iter().all(|before| before.ordinal != subnet.ordinal));
    let what = || format!("add a subnet to tenant {name}");
    let ordinal = added.ok_or_else(|| TenantError::Contended { what: what(), attempts: 1 })?.ordinal;
    let finished = Box::pin(registry.finish(OPERATOR, &cluster, extended, false)).await?;
    let entry = finished.record.subnets.into_iter().find(|subnet| subnet.ordinal == ordinal);
    entry.ok_or_else(|| TenantError::Contended { what: what(), attempts: 1 })
}

/// The network that [`add_subnet`] would try first.
pub async fn next_subnet<S: Store, C: Controller>(
    admin: &Admin<'_, S, C>,
    name: &TenantName,
    cidr: Option<Ipv4Network>,
    exclude: &[AddressRange],
) -> Result<Ipv4Network, TenantError> {
    let (cluster, tenant) = admin.known(name).await?;
    let taken = list(admin, Key::subnets()).await?;
    let taken: Vec<Ipv4Network> = taken.iter().filter_map(|entry| network(&entry.key)).collect();
    let cidr = choose(&cluster.record, &tenant.record, cidr, &taken)?;
    with_subnet(&cluster.record, &tenant.record, cidr, exclude)?;
    Ok(cidr)
}

/// Takes an empty subnet away: without pods, and without addresses that are kept for one.
pub async fn delete_subnet<S: Store, C: Controller>(
    admin: &Admin<'_, S, C>,
    name: &TenantName,
    ordinal: u32,
    wait: Duration,
    mut progress: impl FnMut(Deleted),
) -> Result<(), TenantError> {
    let (cluster, tenant) = admin.known(name).await?;
    let missing = || TenantError::NoSubnet { tenant: name.clone(), ordinal };
    let entry = tenant.record.subnets.iter().find(|subnet| subnet.ordinal == ordinal).ok_or_else(missing)?.clone();
    let others = tenant.record.subnets.iter().filter(|other| other.ordinal != ordinal && other.phase == Phase::Active);
    if others.count() == 0 {
        return Err(TenantError::OnlySubnet { tenant: name.clone() });
    }
    let leads_there = |route: &&StaticRoute| matches!(route.via, Via::Gateway(address) if entry.cidr.contains(address));
    if let Some(route) = tenant.record.routes.iter().find(leads_there) {
        return Err(TenantError::Needed { tenant: name.clone(), ordinal, destination: route.destination });
    }
    let tenant = change(admin, tenant, |record| set(record, ordinal, Phase::Deleting)).await?;
    progress(Deleted::Closed);
    let addresses = list(admin, Key::addresses(name, ordinal)).await?;
    let held = held(admin, &addresses).await?;
    if !held.is_empty() {
        // Whoever comes next looks whether an earlier attempt deleted something.
        change(admin, tenant, |record| set(record, ordinal, Phase::Building)).await?;
        return Err(TenantError::InUse { tenant: name.clone(), pods: held.shown() });
    }
    let kept = reservations(admin.store, Some(name)).await.map_err(TenantError::record)?;
    let kept = kept.into_iter().map(|kept| kept.record).filter(|kept| kept.ordinal == ordinal);
    let kept: Vec<_> = kept.map(|kept| format!("{} for {}/{}", kept.address, kept.namespace, kept.pod)).collect();
    if !kept.is_empty() {
        change(admin, tenant, |record| set(record, ordinal, Phase::Building)).await?;
        return Err(TenantError::Reserved { tenant: name.clone(), ordinal, kept });
    }
    let graph = subnet_graph(&cluster.record, &tenant.record, ordinal);
    let what = format!("delete the objects of subnet {ordinal} of tenant {name}");
    let removed = admin.controller.remove(&graph).await.map_err(TenantError::controller(&what))?;
    progress(Deleted::Objects(removed.deleted));
    quiet(wait, &mut progress).await;
    admin.controller.remove(&graph).await.map_err(TenantError::controller(&what))?;
    let freed = parts(&cluster.record, entry.cidr).into_iter().map(|part| Change::Delete(Key::subnet(part)));
    let mut attempts = changing(name);
    let without = |record: &mut TenantRecord| record.subnets.retain(|subnet| subnet.ordinal != ordinal);
    let written = write(admin, tenant, without, freed.collect(), &mut attempts).await?;
    written.ok_or_else(|| attempts.failed())?;
    progress(Deleted::All);
    Ok(())
}

fn set(record: &mut TenantRecord, ordinal: u32, phase: Phase) {
    for subnet in record.subnets.iter_mut().filter(|subnet| subnet.ordinal == ordinal) {
        subnet.phase = phase;
    }
}

/// Changes a tenant's record, also for a deletion. Nothing is written when nothing changes.
pub(super) async fn change<S: Store, C: Controller>(
    admin: &Admin<'_, S, C>,
    tenant: Versioned<TenantRecord>,
    edit: impl FnOnce(&mut TenantRecord),
) -> Result<Versioned<TenantRecord>, TenantError> {
    let mut attempts = changing(&tenant.record.name);
    let written = write(admin, tenant, edit, Vec::new(), &mut attempts).await?;
    written.ok_or_else(|| attempts.failed())
}

/// Attempts at changing a tenant's record.
pub(super) fn changing(tenant: &TenantName) -> Attempts {
    Attempts::at(format!("change the record of tenant {tenant}"))
}

/// Changes a tenant's record, and what else has to change with it. Nothing is written when nothing changes. None: the
/// record is another one by now, or the attempt is known not to have happened.
pub(super) async fn write<S: Store, C: Controller>(
    admin: &Admin<'_, S, C>,
    tenant: Versioned<TenantRecord>,
    edit: impl FnOnce(&mut TenantRecord),
    with: Vec<Change>,
    attempts: &mut Attempts,
) -> Result<Option<Versioned<TenantRecord>>, TenantError> {
    let mut record = tenant.record.clone();
    edit(&mut record);
    if record == tenant.record && with.is_empty() {
        return Ok(Some(tenant));
    }
    let key = Key::tenant(&record.name);
    let mut then = vec![put(key.clone(), &record)];
    then.extend(with);
    let txn = Txn {
        compare: vec![Compare::Modified(key.clone(), tenant.mod_revision)],
        then,
        otherwise: vec![Query::Key(key)],
    };
    match attempts.commit(admin.store, txn).await? {
        Committed::Yes(revision) => {
            Ok(Some(Versioned { record, create_revision: tenant.create_revision, mod_revision: revision }))
        }
        // The answer was lost, not the race.
        Committed::Lost(snapshot) => Ok(only::<TenantRecord>(&snapshot)?.filter(|now| now.record == record)),
    }
}
