//! From `building` to `active`: applies the tenant's graph, then says so in its record.
//!
//! Promises: `active` is written only after everything was found or made; a record that changed meanwhile is read again
//! and its graph applied again; a tenant that another left half built is completed here.

use atoll_ipam::Versioned;
use atoll_model::record::{ClusterRecord, Phase, TenantRecord};
use atoll_store::{Committed, Compare, Key, Query, Store, Txn};

use super::{ATTEMPTS, Registry, only, put};
use crate::controller::Controller;
use crate::error::TenantError;
use crate::graph::graph;

impl<S: Store, C: Controller> Registry<'_, S, C> {
    /// The tenant with everything it needs in the controller. `again`: even if it is active, look at every object.
    pub(super) async fn finish(
        &self,
        cluster: &Versioned<ClusterRecord>,
        mut tenant: Versioned<TenantRecord>,
        again: bool,
    ) -> Result<Versioned<TenantRecord>, TenantError> {
        let name = tenant.record.name.clone();
        let deleting = || TenantError::Deleting { tenant: name.clone() };
        let mut again = again;
        for _ in 0..ATTEMPTS {
            if tenant.record.phase == Phase::Deleting {
                return Err(deleting());
            }
            let built = built(&tenant.record);
            if built.is_none() && !again {
                return Ok(tenant);
            }
            let applied = self
                .controller
                .apply(&graph(&cluster.record, &tenant.record))
                .await
                .map_err(TenantError::controller(format!("build tenant {name}")))?;
            tracing::info!(tenant = %name, ?applied, "built");
            again = false;
            let Some(record) = built else { return Ok(tenant) };
            let key = Key::tenant(&name);
            let txn = Txn {
                compare: vec![Compare::Modified(key.clone(), tenant.mod_revision)],
                then: vec![put(key.clone(), &record)],
                otherwise: vec![Query::Key(key)],
            };
            match self.commit(&format!("activate tenant {name}"), txn).await? {
                Committed::Yes(revision) => {
                    return Ok(Versioned { record, create_revision: tenant.create_revision, mod_revision: revision });
                }
                Committed::Lost(snapshot) => {
                    let now: Option<Versioned<TenantRecord>> = only(&snapshot)?;
                    // Another life of it is another tenant: the caller has to look at its door again.
                    let same = |now: &Versioned<TenantRecord>| now.record.incarnation == tenant.record.incarnation;
                    tenant = now.filter(same).ok_or_else(deleting)?;
                }
            }
        }
        Err(TenantError::Contended { what: format!("build tenant {name}"), attempts: ATTEMPTS })
    }
}

/// The record once everything of it is there; none when it says so already.
fn built(tenant: &TenantRecord) -> Option<TenantRecord> {
    let mut built = tenant.clone();
    let phases = std::iter::once(&mut built.phase).chain(built.subnets.iter_mut().map(|subnet| &mut subnet.phase));
    for phase in phases.filter(|phase| **phase == Phase::Building) {
        *phase = Phase::Active;
    }
    (built != *tenant).then_some(built)
}
