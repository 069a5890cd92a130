//! A store that fails on demand: every call consults a fault plan first.

use std::fmt::Write as _;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use atoll_records::{Key, Lease, Query, Revision, Snapshot};

use atoll_store::{Choice, Chosen, Store, StoreChange, StoreError};

use crate::fault::FaultPlan;

/// Wraps a store. Clones share the store and the plan.
pub struct FaultyStore<S> {
    inner: Arc<S>,
    plan: FaultPlan,
}

impl<S> FaultyStore<S> {
    /// Wraps `inner`; `plan` decides what fails.
    pub fn new(inner: S, plan: FaultPlan) -> Self {
        Self { inner: Arc::new(inner), plan }
    }

    async fn effect<T: Send + 'static, F>(
        &self,
        what: String,
        call: impl FnOnce(Arc<S>) -> F + Send,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let endpoint = || "fault plan".to_owned();
        let lost = || StoreError::Unknown { endpoint: endpoint(), reason: "the reply was lost".to_owned() };
        let refused = || StoreError::Unavailable { endpoints: endpoint(), reason: "refused".to_owned() };
        self.plan.effect(|| what, call(Arc::clone(&self.inner)), lost, refused).await
    }
}

impl<S> Clone for FaultyStore<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), plan: self.plan.clone() }
    }
}

impl<S: Store + 'static> Store for FaultyStore<S> {
    type Watch = S::Watch;

    async fn read(&self, queries: Vec<Query>) -> Result<Snapshot, StoreError> {
        let keys = queries.iter().map(|query| match query {
            Query::Key(key) => key.to_string(),
            Query::Range { prefix, .. } => format!("{prefix}*"),
        });
        let what = format!("store: read {}", keys.collect::<Vec<_>>().join(" "));
        self.effect(what, |store| async move { store.read(queries).await }).await
    }

    async fn commit_first(&self, choice: Choice) -> Result<Chosen, StoreError> {
        let mut what = "store: commit".to_owned();
        for (index, case) in choice.cases.iter().enumerate() {
            what.push_str(if index == 0 { "" } else { " or" });
            for change in &case.then {
                let sign = if matches!(change, StoreChange::Put { .. }) { '+' } else { '-' };
                // Writing to a string cannot fail.
                let _ = write!(what, " {sign}{}", change.key());
            }
        }
        self.effect(what, |store| async move { store.commit_first(choice).await }).await
    }

    async fn watch(&self, prefix: Key, after: Revision) -> Result<S::Watch, StoreError> {
        self.effect(format!("store: watch {prefix}*"), |store| async move { store.watch(prefix, after).await }).await
    }

    async fn lease(&self, ttl: Duration) -> Result<Lease, StoreError> {
        self.effect(format!("store: lease of {ttl:?}"), |store| async move { store.lease(ttl).await }).await
    }

    async fn lease_as(&self, lease: Lease, ttl: Duration) -> Result<(), StoreError> {
        let what = format!("store: lease {} of {ttl:?}", lease.0);
        self.effect(what, |store| async move { store.lease_as(lease, ttl).await }).await
    }

    async fn keep_alive(&self, lease: Lease) -> Result<bool, StoreError> {
        let what = format!("store: keep lease {} alive", lease.0);
        self.effect(what, |store| async move { store.keep_alive(lease).await }).await
    }

    async fn revoke(&self, lease: Lease) -> Result<(), StoreError> {
        let what = format!("store: revoke lease {}", lease.0);
        self.effect(what, |store| async move { store.revoke(lease).await }).await
    }
}
