//! Adds a subnet to a tenant, or takes an empty one away.
//!
//! A subnet is removed like a tenant: closed for claims, checked, deleted in the controller, deleted again after the maximum
//! request lifetime, freed. An interrupted call is resumed by the next one.

use std::time::Duration;

use atoll_ipam::reservations;
use atoll_model::ids::TenantName;
use atoll_model::range::AddressRange;
use atoll_records::{AddressRecord, OwnerRecord, Phase, Query, StaticRoute, SubnetEntry, TenantRecord, Via};
use atoll_store::{Store, StoreChange};
use ipnetwork::IpNetwork;

use super::change::{change, change_with};
use super::held::held;
use super::progress::{Deleted, wait_for_late_requests};
use super::{Admin, OPERATOR};
use crate::error::TenantError;
use crate::network::whole_network;
use crate::registry::{choose, networks, parts, with_subnet};
use atoll_network::Engine;

/// Adds a subnet: with the prefixes `cidrs`, at most one of a family, and else a free part of each pool; no pod gets what is in `exclude`. Gives the tenant with the subnet in use.
pub async fn add_subnet<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    name: &TenantName,
    cidrs: &[IpNetwork],
    exclude: &[AddressRange],
) -> Result<SubnetEntry, TenantError> {
    let registry = admin.registry();
    let (cluster, tenant) = admin.known(name).await?;
    if tenant.record.phase == Phase::Deleting {
        return Err(TenantError::Deleting { tenant: name.clone() });
    }
    let extended = Box::pin(registry.extend(&cluster.record, &tenant, cidrs, exclude)).await?;
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

/// The prefixes that [`add_subnet`] would try first.
pub async fn next_subnet<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    name: &TenantName,
    cidrs: &[IpNetwork],
    exclude: &[AddressRange],
) -> Result<Vec<IpNetwork>, TenantError> {
    let (cluster, tenant) = admin.known(name).await?;
    let subnets = Query::all(OwnerRecord::subnets());
    let read = admin.store.read(vec![subnets.clone()]).await;
    let taken = networks(read.map_err(TenantError::store("list the subnets"))?.answer(&subnets)?);
    let cidrs = choose(&cluster.record, &tenant.record, cidrs, &taken)?;
    with_subnet(&tenant.record, &cidrs, exclude)?;
    Ok(cidrs)
}

/// Takes an empty subnet away: without pods, and without addresses that are kept for one.
pub async fn delete_subnet<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
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
    let leads_there = |route: &&StaticRoute| matches!(route.via, Via::Gateway(address) if entry.contains(address));
    if let Some(route) = tenant.record.routes.iter().find(leads_there) {
        return Err(TenantError::Needed { tenant: name.clone(), ordinal, destination: route.destination });
    }
    let tenant = change(admin, tenant, |record| set(record, ordinal, Phase::Deleting)).await?;
    progress(Deleted::Closed);
    let held = held(admin, AddressRecord::of_subnet(name, ordinal)).await?;
    if !held.is_empty() {
        // The next call checks whether an earlier attempt has deleted objects.
        change(admin, tenant, |record| set(record, ordinal, Phase::Building)).await?;
        return Err(TenantError::InUse { tenant: name.clone(), pods: held.shown() });
    }
    let kept = reservations(admin.store, Some(name)).await?;
    let kept = kept.into_iter().map(|kept| kept.record).filter(|kept| kept.ordinal == ordinal);
    let kept: Vec<_> = kept.map(|kept| format!("{} for {}/{}", kept.address, kept.namespace, kept.pod)).collect();
    if !kept.is_empty() {
        change(admin, tenant, |record| set(record, ordinal, Phase::Building)).await?;
        return Err(TenantError::Reserved { tenant: name.clone(), ordinal, kept });
    }
    let network = whole_network(&cluster.record, &tenant);
    let what = format!("delete the objects of subnet {ordinal} of tenant {name}");
    let removed = admin.engine.delete_subnet(&network, ordinal).await.map_err(TenantError::engine(&what))?;
    progress(Deleted::Objects(removed.deleted));
    wait_for_late_requests(admin.engine, wait, &mut progress).await;
    admin.engine.delete_subnet(&network, ordinal).await.map_err(TenantError::engine(&what))?;
    let freed = entry
        .prefixes
        .iter()
        .flat_map(|prefix| parts(&cluster.record, prefix.cidr))
        .map(|part| StoreChange::delete(OwnerRecord::subnet(part)));
    let without = |record: &mut TenantRecord| record.subnets.retain(|subnet| subnet.ordinal != ordinal);
    change_with(admin, tenant, without, freed.collect()).await?;
    progress(Deleted::All);
    Ok(())
}

fn set(record: &mut TenantRecord, ordinal: u32, phase: Phase) {
    for subnet in record.subnets.iter_mut().filter(|subnet| subnet.ordinal == ordinal) {
        subnet.phase = phase;
    }
}
