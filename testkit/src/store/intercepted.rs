//! A store that runs a closure before every call: the closure gets the call, may change the store, and decides whether
//! the call continues.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::cell::SyncCell;
use atoll_records::{Key, Lease, Query, Revision, Snapshot};
use atoll_store::{Choice, Chosen, Store, StoreError};

/// The call that is about to be made.
#[derive(Debug)]
pub enum StoreCall<'a> {
    /// [`Store::read`].
    Read(&'a [Query]),
    /// [`Store::commit_first`]; the closure may change what is committed.
    Commit(&'a mut Choice),
    /// [`Store::watch`].
    Watch(&'a Key),
    /// A call about a lease.
    Lease,
}

/// The decision about a call.
#[derive(Debug)]
pub enum Interception {
    /// The call is made.
    None,
    /// The call is not made, and returns this.
    Instead(StoreError),
    /// The call is made, and returns this nevertheless.
    Behind(StoreError),
}

/// What a closure returns: its decision, later.
pub type Deciding = Pin<Box<dyn Future<Output = Interception> + Send>>;

/// A closure that decides without waiting.
pub fn at_once(
    decide: impl for<'a> Fn(StoreCall<'a>) -> Interception + Send + Sync,
) -> impl for<'a> Fn(StoreCall<'a>) -> Deciding + Send + Sync {
    move |call| {
        let decision = decide(call);
        Box::pin(async { decision })
    }
}

/// A store with a closure before every call.
#[derive(Clone, Debug)]
pub struct InterceptedStore<S, F> {
    inner: S,
    intercept: F,
}

impl<S: Store, F: for<'a> Fn(StoreCall<'a>) -> Deciding + Send + Sync> InterceptedStore<S, F> {
    /// Calls `intercept` before every call of `inner`.
    pub fn new(inner: S, intercept: F) -> Self {
        Self { inner, intercept }
    }

    async fn around<T: Send>(
        &self,
        call: StoreCall<'_>,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        match (self.intercept)(call).await {
            Interception::None => work.await,
            Interception::Instead(error) => Err(error),
            Interception::Behind(error) => work.await.and(Err(error)),
        }
    }
}

impl<S: Store, F: for<'a> Fn(StoreCall<'a>) -> Deciding + Send + Sync> Store for InterceptedStore<S, F> {
    type Watch = S::Watch;

    async fn read(&self, queries: Vec<Query>) -> Result<Snapshot, StoreError> {
        self.around(StoreCall::Read(&queries.clone()), async { self.inner.read(queries).await }).await
    }

    async fn commit_first(&self, mut choice: Choice) -> Result<Chosen, StoreError> {
        // What is committed is known only when the closure has seen it.
        match (self.intercept)(StoreCall::Commit(&mut choice)).await {
            Interception::None => self.inner.commit_first(choice).await,
            Interception::Instead(error) => Err(error),
            Interception::Behind(error) => self.inner.commit_first(choice).await.and(Err(error)),
        }
    }

    async fn watch(&self, prefix: Key, after: Revision) -> Result<S::Watch, StoreError> {
        self.around(StoreCall::Watch(&prefix.clone()), async { self.inner.watch(prefix, after).await }).await
    }

    async fn lease(&self, ttl: Duration) -> Result<Lease, StoreError> {
        self.around(StoreCall::Lease, async { self.inner.lease(ttl).await }).await
    }

    async fn lease_as(&self, lease: Lease, ttl: Duration) -> Result<(), StoreError> {
        self.around(StoreCall::Lease, async { self.inner.lease_as(lease, ttl).await }).await
    }

    async fn keep_alive(&self, lease: Lease) -> Result<bool, StoreError> {
        self.around(StoreCall::Lease, async { self.inner.keep_alive(lease).await }).await
    }

    async fn revoke(&self, lease: Lease) -> Result<(), StoreError> {
        self.around(StoreCall::Lease, async { self.inner.revoke(lease).await }).await
    }
}

/// A store that answers every commit with an unknown outcome of this cause, and the number of commits. Reads work.
/// `happens`: the commit takes effect nevertheless.
pub fn unknown_commits<S: Store + Clone>(
    inner: &S,
    cause: &'static str,
    happens: bool,
) -> (impl Store + use<S>, Arc<SyncCell<usize>>) {
    let commits = Arc::new(SyncCell::new(0));
    let counted = Arc::clone(&commits);
    let intercept = at_once(move |call| {
        if !matches!(call, StoreCall::Commit(_)) {
            return Interception::None;
        }
        counted.set(counted.get() + 1);
        let unknown = StoreError::Unknown { endpoint: "test".to_owned(), reason: cause.to_owned() };
        if happens { Interception::Behind(unknown) } else { Interception::Instead(unknown) }
    });
    (InterceptedStore::new(inner.clone(), intercept), commits)
}
