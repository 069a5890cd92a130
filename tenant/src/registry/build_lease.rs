//! The build lease: one process at a time builds a tenant. The others watch it, and take over when its holder dies.
//!
//! The controller knows no fencing: a holder that was cut off may still have a request on its way. That is harmless because
//! creating is idempotent. The lease only keeps many pods from causing the same requests at once.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use atoll_model::ids::TenantName;
use atoll_records::{BuildLeaseRecord, Key, Lease, Query, Revision, SCHEMA, TenantRecord, Unknown, Versioned};
use atoll_store::{Attempts, Committed, Compare, Store, StoreChange, StoreError, Txn, Watch as _, WatchEvent};
use futures_util::future::{Either, select};
use uuid::Uuid;

use super::Registry;
use crate::error::TenantError;
use atoll_network::Engine;

/// Time to live of the build lease.
const TTL: Duration = Duration::from_secs(10);

/// How often its holder renews it.
const RENEWAL: Duration = Duration::from_secs(3);

/// The outcome of acquiring the build lease.
#[expect(clippy::large_enum_variant, reason = "one at a time and never stored: its size does not matter")]
pub(super) enum BuildLease {
    /// We hold it.
    Held(Lease),
    /// Another process held it, and has finished or stopped. The tenant as it is now; none when it is gone.
    Ended(Option<Versioned<TenantRecord>>),
}

impl<S: Store, E: Engine> Registry<'_, S, E> {
    /// Acquires the build lease of a tenant, or waits until its holder has finished.
    pub(super) async fn acquire(
        &self,
        by: &str,
        tenant: &Versioned<TenantRecord>,
        attempts: &mut Attempts,
    ) -> Result<BuildLease, TenantError> {
        let name = &tenant.record.name;
        let what = format!("acquire the build lease of tenant {name}");
        let lease = self.store.lease(TTL).await.map_err(TenantError::store(&what))?;
        let record = BuildLeaseRecord { v: SCHEMA, holder: by.to_owned(), id: Uuid::new_v4(), unknown: Unknown::new() };
        let (key, tenant_key) = (BuildLeaseRecord::at(name), TenantRecord::at(name));
        let txn = Txn {
            compare: vec![Compare::absent(&key), Compare::modified(&tenant_key, tenant.mod_revision)],
            then: vec![StoreChange::put_leased(&key, &record, lease)],
            read: Vec::new(),
            otherwise: vec![Query::key(&tenant_key), Query::key(&key)],
        };
        let snapshot = match attempts.commit_or_read(self.store, txn).await.map_err(TenantError::store(&what))? {
            Committed::Yes(_) => return Ok(BuildLease::Held(lease)),
            Committed::Lost(snapshot) => snapshot,
        };
        let there = snapshot.get(&key)?;
        if there.as_ref().is_some_and(|there| there.record.id == record.id) {
            return Ok(BuildLease::Held(lease));
        }
        self.release(lease).await;
        let now = snapshot.get(&tenant_key)?;
        let unchanged = now.as_ref().is_some_and(|now| now.mod_revision == tenant.mod_revision);
        let Some(there) = there.filter(|_| unchanged) else { return Ok(BuildLease::Ended(now)) };
        tracing::info!(tenant = %name, holder = %there.record.holder, "waiting for the holder of the build lease");
        self.wait(name, snapshot.revision)
            .await
            .map_err(TenantError::store(format!("wait for the holder of the build lease of tenant {name}")))?;
        let read = self.store.read(vec![Query::key(&tenant_key)]).await;
        let snapshot = read.map_err(TenantError::store(format!("read tenant {name}")))?;
        Ok(BuildLease::Ended(snapshot.get(&tenant_key)?))
    }

    /// Waits until a tenant's record is written or its build lease ends. For as long as the caller has time.
    async fn wait(&self, name: &TenantName, after: Revision) -> Result<(), StoreError> {
        let keys = [Key::from(TenantRecord::at(name)), Key::from(BuildLeaseRecord::at(name))];
        let mut tenant = self.store.watch(keys[0].clone(), after).await?;
        let mut lease = self.store.watch(keys[1].clone(), after).await?;
        loop {
            let event = match select(pin!(tenant.next()), pin!(lease.next())).await {
                Either::Left((event, _)) | Either::Right((event, _)) => event?,
            };
            // A prefix also watches tenants whose names begin alike.
            let is_ours = match &event {
                WatchEvent::Put(entry) => keys.contains(&entry.key),
                WatchEvent::Delete(key, _) => keys.contains(key),
                WatchEvent::Resync(_) => true,
            };
            if is_ours {
                return Ok(());
            }
        }
    }

    /// Does `work` while the lease is renewed; `None` if the lease expired first.
    pub(super) async fn while_held<T>(&self, lease: Lease, work: impl Future<Output = T>) -> Option<T> {
        let renew = async {
            let mut silent = Duration::ZERO;
            while silent < TTL {
                tokio::time::sleep(RENEWAL).await;
                silent = match self.store.keep_alive(lease).await {
                    Ok(true) => Duration::ZERO,
                    Ok(false) => return,
                    Err(_) => silent + RENEWAL,
                };
            }
        };
        match select(pin!(work), pin!(renew)).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(((), _)) => None,
        }
    }

    /// Ends the lease, so that the next process can acquire it at once. If that fails it expires by itself.
    pub(super) async fn release(&self, lease: Lease) {
        if let Err(error) = self.store.revoke(lease).await {
            tracing::debug!(%error, "a build lease expires by itself");
        }
    }
}
