//! From `building` to `active`: applies the tenant's graph, then says so in its record.
//!
//! Promises: `active` is written only after everything was found or made; a record that changed meanwhile is read again
//! and its graph applied again; a tenant that another left half built is completed here.

use atoll_ipam::Versioned;
use atoll_model::record::{ClusterRecord, Phase, TenantRecord};
use atoll_store::{Change, Committed, Compare, Key, Lease, Query, Store, Txn};

use super::builder::Turn;
use super::{Attempts, Registry, only, put};
use crate::controller::{Applied, Controller};
use crate::error::TenantError;
use crate::graph::{graph, retired_graph};

impl<S: Store, C: Controller> Registry<'_, S, C> {
    /// The tenant with everything it needs in the controller. `by`: who asks, for people. `again`: look at every
    /// object even if the tenant is active.
    pub(crate) async fn finish(
        &self,
        by: &str,
        cluster: &Versioned<ClusterRecord>,
        mut tenant: Versioned<TenantRecord>,
        again: bool,
    ) -> Result<Versioned<TenantRecord>, TenantError> {
        let name = tenant.record.name.clone();
        let life = tenant.record.incarnation;
        if again && built(&tenant.record).is_none() {
            // Mending what is in use has no phase to wait for, and doing it twice does no harm.
            self.apply(cluster, &tenant.record).await?;
        }
        let mut attempts = Attempts::at(format!("build tenant {name}"));
        loop {
            if tenant.record.phase == Phase::Deleting {
                return Err(TenantError::Deleting { tenant: name });
            }
            let Some(record) = built(&tenant.record) else { return Ok(tenant) };
            let now = match self.turn(by, &tenant, &mut attempts).await? {
                Turn::Ours(lease) => match self.build(lease, cluster, &tenant, record, &mut attempts).await? {
                    Built::Active(tenant) => return Ok(tenant),
                    Built::Overtaken(now) => now,
                },
                Turn::Over(now) => now,
            };
            // Another life of it is another tenant: the caller has to look at its door again.
            match now.filter(|now| now.record.incarnation == life) {
                Some(now) => tenant = now,
                None => return Err(TenantError::Deleting { tenant: name }),
            }
            if tenant.record.phase != Phase::Deleting && built(&tenant.record).is_some() {
                attempts.again()?;
            }
        }
    }

    /// One turn at building.
    async fn build(
        &self,
        lease: Lease,
        cluster: &Versioned<ClusterRecord>,
        tenant: &Versioned<TenantRecord>,
        record: TenantRecord,
        attempts: &mut Attempts,
    ) -> Result<Built, TenantError> {
        match self.during(lease, self.apply(cluster, &tenant.record)).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                self.give_back(lease).await;
                return Err(error);
            }
            // The lease ended before the work: another may be at it, so ask for a turn again.
            None => return Ok(Built::Overtaken(Some(tenant.clone()))),
        }
        let key = Key::tenant(&record.name);
        let txn = Txn {
            compare: vec![Compare::Modified(key.clone(), tenant.mod_revision)],
            then: vec![put(key.clone(), &record), Change::Delete(Key::builder(&record.name))],
            otherwise: vec![Query::Key(key)],
        };
        match attempts.commit(self.store, txn).await? {
            Committed::Yes(revision) => {
                Ok(Built::Active(Versioned { record, create_revision: tenant.create_revision, mod_revision: revision }))
            }
            Committed::Lost(snapshot) => {
                self.give_back(lease).await;
                only(&snapshot).map(Built::Overtaken)
            }
        }
    }

    /// Makes everything of a tenant exist in the controller.
    async fn apply(&self, cluster: &Versioned<ClusterRecord>, tenant: &TenantRecord) -> Result<Applied, TenantError> {
        if !tenant.retired.is_empty() {
            self.controller
                .remove(&retired_graph(&cluster.record, tenant))
                .await
                .map_err(TenantError::controller(format!("delete routes of tenant {}", tenant.name)))?;
        }
        let applied = self
            .controller
            .apply(&graph(&cluster.record, tenant))
            .await
            .map_err(TenantError::controller(format!("build tenant {}", tenant.name)))?;
        tracing::info!(tenant = %tenant.name, ?applied, "built");
        Ok(applied)
    }
}

/// How a turn ended.
enum Built {
    /// Everything is there, and the record says so.
    Active(Versioned<TenantRecord>),
    /// Something came between: the tenant as it is now; none when it is gone.
    Overtaken(Option<Versioned<TenantRecord>>),
}

/// The record once everything of it is there; none when it says so already. Routes that were taken away stay in it until
/// the one who took them has looked twice (`admin::set`).
fn built(tenant: &TenantRecord) -> Option<TenantRecord> {
    let mut built = tenant.clone();
    let phases = std::iter::once(&mut built.phase).chain(built.subnets.iter_mut().map(|subnet| &mut subnet.phase));
    for phase in phases.filter(|phase| **phase == Phase::Building) {
        *phase = Phase::Active;
    }
    (built != *tenant).then_some(built)
}
