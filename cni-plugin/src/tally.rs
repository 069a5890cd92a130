//! Which of our requests may still be on their way.
//!
//! A request that changes something and was not answered may take effect later: after we cleaned up, after we exited. An
//! ADD that fails must know whether there is one, because only then must its address wait for the quiet period. So both
//! seams to the network are wrapped: a request counts from when it is begun until a definite answer comes. Giving up
//! waiting is not an answer; that the request could not be sent is one.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use atoll_sdn_client::transport::{Request, Response, Transport, TransportError};
use atoll_store::{Committed, Key, Lease, Query, Revision, Snapshot, Store, StoreError, Txn};

/// Counts requests without an answer. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Tally(Rc<Cell<u64>>);

impl Tally {
    /// Nothing is on its way.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many requests were never answered so far.
    pub fn unanswered(&self) -> u64 {
        self.0.get()
    }

    async fn count<T, E>(
        &self,
        request: impl Future<Output = Result<T, E>>,
        is_definite: impl FnOnce(&E) -> bool,
    ) -> Result<T, E> {
        self.0.set(self.0.get() + 1);
        let answer = request.await;
        if answer.as_ref().map_or_else(is_definite, |_| true) {
            self.0.set(self.0.get() - 1);
        }
        answer
    }
}

/// A seam whose requests are counted.
#[derive(Clone, Debug)]
pub struct Counted<X> {
    inner: X,
    tally: Tally,
}

impl<X> Counted<X> {
    /// Wraps `inner`.
    pub fn new(inner: X, tally: Tally) -> Self {
        Self { inner, tally }
    }
}

impl<T: Transport> Transport for Counted<T> {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        if request.method.is_safe() {
            return self.inner.send(request).await;
        }
        let is_definite = |error: &TransportError| !matches!(error, TransportError::NoAnswer { .. });
        self.tally.count(self.inner.send(request), is_definite).await
    }
}

impl<S: Store> Store for Counted<S> {
    type Watch = S::Watch;

    async fn read(&self, queries: Vec<Query>) -> Result<Snapshot, StoreError> {
        self.inner.read(queries).await
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, StoreError> {
        let is_definite = |error: &StoreError| !matches!(error, StoreError::Unknown { .. });
        self.tally.count(self.inner.commit(txn), is_definite).await
    }

    async fn watch(&self, prefix: Key, after: Revision) -> Result<Self::Watch, StoreError> {
        self.inner.watch(prefix, after).await
    }

    // A late lease attaches to nothing: it expires, and is not counted.
    async fn lease(&self, ttl: Duration) -> Result<Lease, StoreError> {
        self.inner.lease(ttl).await
    }

    async fn lease_as(&self, lease: Lease, ttl: Duration) -> Result<(), StoreError> {
        self.inner.lease_as(lease, ttl).await
    }

    async fn keep_alive(&self, lease: Lease) -> Result<bool, StoreError> {
        self.inner.keep_alive(lease).await
    }

    async fn revoke(&self, lease: Lease) -> Result<(), StoreError> {
        self.inner.revoke(lease).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_definite_answer_settles_a_request() {
        let tally = Tally::new();
        let ask = |answer: Result<(), bool>| tally.count(async move { answer }, |definite| *definite);
        ask(Ok(())).await.expect("fine");
        ask(Err(true)).await.expect_err("refused");
        assert_eq!(tally.unanswered(), 0);
        ask(Err(false)).await.expect_err("lost");
        assert_eq!(tally.unanswered(), 1);
        let never = tally.count(std::future::pending::<Result<(), bool>>(), |_| true);
        tokio::time::timeout(Duration::from_millis(1), never).await.expect_err("given up");
        assert_eq!(tally.unanswered(), 2);
    }
}
