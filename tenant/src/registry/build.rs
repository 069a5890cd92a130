//! From `building` to `active`: applies the tenant's network, then writes the phase.
//!
//! # Guarantees
//! - `active` is written only after every object exists.
//! - A record that changed concurrently is read again, and its network is applied again. What only the older record had is
//!   withdrawn (`overtaken`): a process that was paused between reading and applying brings nothing back.
//! - A partially created tenant of another call is completed.

use atoll_model::ids::TenantName;
use atoll_records::{BuildLeaseRecord, ClusterRecord, Lease, Phase, Query, TenantRecord, Versioned};
use atoll_store::{Committed, Compare, Store, StoreChange, Txn};

use super::Registry;
use super::build_lease::BuildLease;
use crate::attempts::RecordChange;
use crate::error::TenantError;
use crate::network::network;
use atoll_network::{Applied, Engine, Network};

impl<S: Store, E: Engine> Registry<'_, S, E> {
    /// The tenant with all its objects in the controller. `by`: the caller, for log lines. `again`: compare every object
    /// even if the tenant is active.
    pub(crate) async fn finish(
        &self,
        by: &str,
        cluster: &Versioned<ClusterRecord>,
        mut tenant: Versioned<TenantRecord>,
        again: bool,
    ) -> Result<Versioned<TenantRecord>, TenantError> {
        let name = tenant.record.name.clone();
        if again && built(&tenant.record).is_none() {
            // A repair of a tenant in use has no phase to wait for, and doing it twice has no effect.
            let wanted = network(&cluster.record, &tenant);
            let applied = self.apply(&wanted).await;
            let now = self.withdraw_stale(&name, cluster, vec![wanted]).await;
            // The first failure is the cause.
            applied?;
            tenant = now?.ok_or_else(|| TenantError::Deleting { tenant: name.clone() })?;
        }
        if needs_building(&tenant.record)?.is_none() {
            return Ok(tenant);
        }
        let mut stale = Vec::new();
        let finished = self.finish_building(by, cluster, tenant, &mut stale).await;
        self.without_stale(&name, cluster, finished, stale).await
    }

    /// What was finished, once nothing of older records is left.
    async fn without_stale(
        &self,
        name: &TenantName,
        cluster: &Versioned<ClusterRecord>,
        finished: Result<Versioned<TenantRecord>, TenantError>,
        stale: Vec<Network>,
    ) -> Result<Versioned<TenantRecord>, TenantError> {
        if stale.is_empty() {
            return finished;
        }
        let withdrawn = self.withdraw_stale(name, cluster, stale).await;
        // The first failure is the cause.
        let finished = finished?;
        withdrawn.map(|_| finished)
    }

    /// Applies the networks of several tenants together, and makes each tenant active. For each of them a result in its place.
    /// No build lease is taken: a call that builds one of them at the same time makes the same objects.
    pub(crate) async fn finish_together(
        &self,
        by: &str,
        tenants: Vec<(Versioned<ClusterRecord>, Versioned<TenantRecord>)>,
    ) -> Vec<Result<Versioned<TenantRecord>, TenantError>> {
        let networks: Vec<_> = tenants.iter().map(|(cluster, tenant)| network(&cluster.record, tenant)).collect();
        let applied = self.engine.ensure_networks(&networks).await;
        let mut finished = Vec::with_capacity(tenants.len());
        for (((cluster, tenant), wanted), applied) in tenants.into_iter().zip(networks).zip(applied) {
            let name = tenant.record.name.clone();
            let mut stale = vec![wanted];
            let result = match applied.map_err(TenantError::engine(format!("build tenant {name}"))) {
                Ok(_) => Box::pin(self.activate(by, &cluster, tenant, &mut stale)).await,
                Err(error) => Err(error),
            };
            finished.push(self.without_stale(&name, &cluster, result, stale).await);
        }
        finished
    }

    /// Writes that a tenant is active whose network was applied; a record that changed meanwhile is built again.
    async fn activate(
        &self,
        by: &str,
        cluster: &Versioned<ClusterRecord>,
        tenant: Versioned<TenantRecord>,
        stale: &mut Vec<Network>,
    ) -> Result<Versioned<TenantRecord>, TenantError> {
        let Some(record) = needs_building(&tenant.record)? else { return Ok(tenant) };
        let key = TenantRecord::at(&record.name);
        let mut change = RecordChange::repeated(format!("build tenant {}", record.name));
        change.begin()?;
        match change.commit(self.store, activation(&tenant, &record)).await? {
            Committed::Yes(done) => {
                stale.clear();
                Ok(tenant.updated(record, done.revision))
            }
            Committed::Lost(snapshot) => {
                let now: Option<Versioned<TenantRecord>> = snapshot.get(&key)?;
                let now = now.filter(|now| now.record.incarnation == record.incarnation);
                let now = now.ok_or_else(|| TenantError::Deleting { tenant: record.name.clone() })?;
                self.finish_building(by, cluster, now, stale).await
            }
        }
    }

    /// Builds until the tenant is active. `stale`: networks that were applied, whole or in part, from a record that is not
    /// known to be the current one.
    async fn finish_building(
        &self,
        by: &str,
        cluster: &Versioned<ClusterRecord>,
        mut tenant: Versioned<TenantRecord>,
        stale: &mut Vec<Network>,
    ) -> Result<Versioned<TenantRecord>, TenantError> {
        let name = tenant.record.name.clone();
        let incarnation = tenant.record.incarnation;
        let mut change = RecordChange::repeated(format!("build tenant {name}"));
        while let Some(record) = needs_building(&tenant.record)? {
            change.begin()?;
            let now = match self.acquire(by, &tenant, change.attempts()).await? {
                BuildLease::Held(lease) => {
                    let wanted = network(&cluster.record, &tenant);
                    stale.push(wanted.clone());
                    match self.build(lease, &wanted, &tenant, record, &mut change).await? {
                        Built::Active(tenant) => {
                            // The transaction has verified that the record was the current one.
                            stale.pop();
                            return Ok(tenant);
                        }
                        Built::Overtaken(now) => now,
                    }
                }
                BuildLease::Ended(now) => now,
            };
            // Another incarnation is another tenant: the caller has to check its access again.
            match now.filter(|now| now.record.incarnation == incarnation) {
                Some(now) => tenant = now,
                None => return Err(TenantError::Deleting { tenant: name }),
            }
        }
        Ok(tenant)
    }

    /// Builds while the build lease is held.
    async fn build(
        &self,
        lease: Lease,
        wanted: &Network,
        tenant: &Versioned<TenantRecord>,
        record: TenantRecord,
        change: &mut RecordChange,
    ) -> Result<Built, TenantError> {
        match self.while_held(lease, self.apply(wanted)).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                self.release(lease).await;
                return Err(error);
            }
            // The lease expired before the work was done: another process may be at it, so acquire it again.
            None => return Ok(Built::Overtaken(Some(tenant.clone()))),
        }
        let key = TenantRecord::at(&record.name);
        let mut txn = activation(tenant, &record);
        txn.then.push(StoreChange::delete(BuildLeaseRecord::at(&record.name)));
        match change.commit(self.store, txn).await? {
            Committed::Yes(done) => Ok(Built::Active(tenant.updated(record, done.revision))),
            Committed::Lost(snapshot) => {
                self.release(lease).await;
                Ok(Built::Overtaken(snapshot.get(&key)?))
            }
        }
    }

    /// Makes everything of a tenant's network exist in the engine.
    pub(super) async fn apply(&self, wanted: &Network) -> Result<Applied, TenantError> {
        let name = &wanted.tenant;
        let applied = self.engine.ensure_network(wanted).await;
        let applied = applied.map_err(TenantError::engine(format!("build tenant {name}")))?;
        tracing::info!(tenant = %name, ?applied, "built");
        Ok(applied)
    }
}

/// How building ended.
enum Built {
    /// All objects exist, and the record is `active`.
    Active(Versioned<TenantRecord>),
    /// The record has changed meanwhile: the tenant as it is now; `None` if it is gone.
    Overtaken(Option<Versioned<TenantRecord>>),
}

/// Writes the record of a tenant whose network exists, if its record is still the one that was applied.
fn activation(tenant: &Versioned<TenantRecord>, record: &TenantRecord) -> Txn {
    let key = TenantRecord::at(&record.name);
    Txn {
        compare: vec![Compare::modified(&key, tenant.mod_revision)],
        then: vec![StoreChange::put(&key, record)],
        read: Vec::new(),
        otherwise: vec![Query::key(&key)],
    }
}

/// The record to write once everything is built; `None` if nothing is to be built.
///
/// # Errors
/// The tenant is being deleted.
fn needs_building(tenant: &TenantRecord) -> Result<Option<TenantRecord>, TenantError> {
    match tenant.phase {
        Phase::Deleting => Err(TenantError::Deleting { tenant: tenant.name.clone() }),
        Phase::Building | Phase::Active => Ok(built(tenant)),
    }
}

/// The record once all objects exist; `None` if it has that already. Removed routes stay in it until the call that removed
/// them has deleted them twice (`admin::set`).
fn built(tenant: &TenantRecord) -> Option<TenantRecord> {
    let mut built = tenant.clone();
    let phases = std::iter::once(&mut built.phase).chain(built.subnets.iter_mut().map(|subnet| &mut subnet.phase));
    for phase in phases.filter(|phase| **phase == Phase::Building) {
        *phase = Phase::Active;
    }
    (built != *tenant).then_some(built)
}
