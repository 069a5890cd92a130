//! One builder of a tenant at a time, by a key on a lease. The others wait for it by watch, and take over when it dies.
//!
//! The controller knows no fencing: a builder that was cut off may still have a request on its way. What makes it
//! harmless is that creating is idempotent; the lease only spares the controller the same work from many pods at once.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use atoll_ipam::Versioned;
use atoll_model::ids::TenantName;
use atoll_model::record::{SCHEMA, TenantRecord};
use atoll_store::{Change, Committed, Compare, Event, Key, Lease, Query, Revision, Store, StoreError, Txn, Watch as _};
use futures_util::future::{Either, select};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Attempts, Registry, one, unfit};
use crate::controller::Controller;
use crate::error::TenantError;

/// How long a builder that says nothing is believed to live.
const LIFE: Duration = Duration::from_secs(10);

/// How often it says something.
const BEAT: Duration = Duration::from_secs(3);

/// `builders/<tenant>`.
#[derive(Serialize, Deserialize)]
struct BuilderRecord {
    v: u32,
    /// Who, for people.
    by: String,
    /// This turn: a builder whose answer was lost knows its own by it.
    turn: Uuid,
}

/// What came of asking for a turn.
#[expect(clippy::large_enum_variant, reason = "one at a time and never stored: its size does not matter")]
pub(super) enum Turn {
    /// It is ours, until the lease ends.
    Ours(Lease),
    /// Another has built, or stopped building. The tenant as it is now; none when it is gone.
    Over(Option<Versioned<TenantRecord>>),
}

impl<S: Store, C: Controller> Registry<'_, S, C> {
    /// Waits until it is our turn to build a tenant, or until it need not be.
    pub(super) async fn turn(
        &self,
        by: &str,
        tenant: &Versioned<TenantRecord>,
        attempts: &mut Attempts,
    ) -> Result<Turn, TenantError> {
        let name = &tenant.record.name;
        let what = format!("take a turn at building tenant {name}");
        let lease = self.store.lease(LIFE).await.map_err(TenantError::store(&what))?;
        let record = BuilderRecord { v: SCHEMA, by: by.to_owned(), turn: Uuid::new_v4() };
        let key = Key::builder(name);
        let value = atoll_model::record::encode(&record);
        let txn = Txn {
            compare: vec![Compare::Absent(key.clone()), Compare::Modified(Key::tenant(name), tenant.mod_revision)],
            then: vec![Change::Put { key: key.clone(), value, lease: Some(lease) }],
            otherwise: vec![Query::Key(Key::tenant(name)), Query::Key(key)],
        };
        let snapshot = match attempts.commit(self.store, txn).await? {
            Committed::Yes(_) => return Ok(Turn::Ours(lease)),
            Committed::Lost(snapshot) => snapshot,
        };
        let [now, builder] = snapshot.answers.as_slice() else { return Err(unfit()) };
        let builder = one::<BuilderRecord>(builder)?;
        if builder.as_ref().is_some_and(|builder| builder.record.turn == record.turn) {
            return Ok(Turn::Ours(lease));
        }
        self.give_back(lease).await;
        let now = one::<TenantRecord>(now)?;
        let unchanged = now.as_ref().is_some_and(|now| now.mod_revision == tenant.mod_revision);
        let Some(builder) = builder.filter(|_| unchanged) else { return Ok(Turn::Over(now)) };
        tracing::info!(tenant = %name, by = %builder.record.by, "waiting for the builder");
        self.wait(name, snapshot.revision)
            .await
            .map_err(TenantError::store(format!("wait for the builder of {name}")))?;
        let snapshot = self
            .store
            .read(vec![Query::Key(Key::tenant(name))])
            .await
            .map_err(TenantError::store(format!("read tenant {name}")))?;
        super::only(&snapshot).map(Turn::Over)
    }

    /// Waits until a tenant's record is written or its builder stops. For as long as the caller has time.
    async fn wait(&self, name: &TenantName, after: Revision) -> Result<(), StoreError> {
        let keys = [Key::tenant(name), Key::builder(name)];
        let mut tenant = self.store.watch(keys[0].clone(), after).await?;
        let mut builder = self.store.watch(keys[1].clone(), after).await?;
        loop {
            let event = match select(pin!(tenant.next()), pin!(builder.next())).await {
                Either::Left((event, _)) | Either::Right((event, _)) => event?,
            };
            // A prefix watches the tenants whose names begin alike as well.
            let meant = match &event {
                Event::Put(entry) => keys.contains(&entry.key),
                Event::Delete(key, _) => keys.contains(key),
                Event::Resync(_) => true,
            };
            if meant {
                return Ok(());
            }
        }
    }

    /// Does `work` for as long as the lease lives; none when it ended before the work did.
    pub(super) async fn during<T>(&self, lease: Lease, work: impl Future<Output = T>) -> Option<T> {
        let beat = async {
            let mut silent = Duration::ZERO;
            while silent < LIFE {
                tokio::time::sleep(BEAT).await;
                silent = match self.store.keep_alive(lease).await {
                    Ok(true) => Duration::ZERO,
                    Ok(false) => return,
                    Err(_) => silent + BEAT,
                };
            }
        };
        match select(pin!(work), pin!(beat)).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(((), _)) => None,
        }
    }

    /// Lets the next builder begin at once. If that fails it begins when the lease ends by itself.
    pub(super) async fn give_back(&self, lease: Lease) {
        if let Err(error) = self.store.revoke(lease).await {
            tracing::debug!(%error, "a builder's lease ends by itself");
        }
    }
}
