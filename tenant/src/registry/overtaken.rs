//! What a writer does whose record was not the current one any more when it applied it.
//!
//! An engine cannot compare revisions of records in etcd. A process that is paused between reading a record and applying it
//! would bring back what was removed since: a route, a subnet, a whole tenant. So every writer that cannot prove that its
//! record was the current one reads the record again after applying, and withdraws what only its own record had, until the
//! record is the same before and after.
//!
//! # Guarantees
//! When [`Registry::withdraw_stale`] returns `Ok`, every request of this call has been answered, and nothing that only an
//! older record had is left by it. What a tenant or subnet that is being deleted still has in its record is left to the call
//! that deletes it, which deletes everything once more after the maximum request lifetime, or finds pods and puts it back.

use atoll_model::ids::TenantName;
use atoll_network::{Engine, Network};
use atoll_records::{ClusterRecord, Phase, Query, TenantRecord, Versioned};
use atoll_store::Store;

use super::Registry;
use crate::attempts::RecordChange;
use crate::error::TenantError;
use crate::network::{network, whole_network};

impl<S: Store, E: Engine> Registry<'_, S, E> {
    /// Withdraws what only the networks in `applied` have and the current record has not. They are of one incarnation.
    /// Returns the current record; `None`: there is none of this incarnation.
    pub(super) async fn withdraw_stale(
        &self,
        name: &TenantName,
        cluster: &Versioned<ClusterRecord>,
        mut applied: Vec<Network>,
    ) -> Result<Option<Versioned<TenantRecord>>, TenantError> {
        let mut change = RecordChange::repeated(format!("withdraw what older records of tenant {name} had"));
        let key = TenantRecord::at(name);
        // Nothing was withdrawn that a newer record may want.
        let mut is_complete = true;
        loop {
            change.begin()?;
            let what = change.what();
            let read = self.store.read(vec![Query::key(&key)]).await.map_err(TenantError::store(what))?;
            let now = read
                .get(&key)?
                .filter(|now| applied.iter().all(|applied| applied.id.incarnation == now.record.incarnation));
            let Some(now) = now else {
                for stale in &applied {
                    self.engine.withdraw_network(stale, None).await.map_err(TenantError::engine(what))?;
                }
                return Ok(None);
            };
            applied.retain(|applied| applied.revision != now.mod_revision);
            if applied.is_empty() {
                return Ok(Some(now));
            }
            // A subnet that is being deleted may have pods, and come back: the call that deletes it decides.
            let kept = whole_network(&cluster.record, &now);
            let mut withdrawn = 0;
            for stale in &applied {
                let done = self.engine.withdraw_network(stale, Some(&kept)).await;
                withdrawn += done.map_err(TenantError::engine(what))?.deleted;
            }
            if withdrawn > 0 {
                tracing::warn!(tenant = %name, withdrawn, "objects of an older record were withdrawn");
            } else if is_complete {
                return Ok(Some(now));
            }
            // A newer record may have wanted one of them again meanwhile. For a tenant that is being deleted nothing is made.
            is_complete = now.record.phase != Phase::Deleting;
            applied = vec![if is_complete { network(&cluster.record, &now) } else { kept }];
            if is_complete {
                self.apply(&applied[0]).await?;
            }
        }
    }
}
