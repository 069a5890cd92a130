//! In-flight requests: which of our requests may still take effect.
//!
//! A request that changes an object and was not answered may take effect later: after the cleanup, after this process ended.
//! An ADD that fails must know whether there is one, because only then must its address wait for the maximum request
//! lifetime. So both seams to the network are wrapped. A request counts from its start until a definite answer. A timeout is
//! not an answer, and neither is that of a gateway; an error that the request could not be sent is one.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use atoll_ovn::ovsdb::{Database, DatabaseError, Freshness, Monitor, Outcome, RowOperation};
use atoll_records::{Key, Lease, Query, Revision, Snapshot};
use atoll_sdn_client::answer::may_have_happened;
use atoll_sdn_client::transport::{ApiRequest, ApiResponse, Transport, TransportError};
use atoll_store::{Choice, Chosen, Store, StoreError};

/// Counts what our requests may have done. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct InFlightRequests(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    unanswered: AtomicU64,
    deletions: AtomicU64,
    changes: AtomicU64,
}

/// The state of an [`InFlightRequests`] at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    unanswered: u64,
    changes: u64,
}

impl InFlightRequests {
    /// No request is in flight.
    pub fn new() -> Self {
        Self::default()
    }

    /// Now.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            unanswered: self.0.unanswered.load(Ordering::Relaxed),
            changes: self.0.changes.load(Ordering::Relaxed),
        }
    }

    /// A deletion in the controller may be in flight.
    pub fn may_have_deletion(&self) -> bool {
        self.0.deletions.load(Ordering::Relaxed) > 0
    }

    /// Every request since `mark` was answered.
    pub fn is_answered_since(&self, mark: Checkpoint) -> bool {
        self.0.unanswered.load(Ordering::Relaxed) == mark.unanswered
    }

    /// Since `mark` no request has changed the controller, and none still can.
    pub fn is_unchanged_since(&self, mark: Checkpoint) -> bool {
        self.checkpoint() == mark
    }

    async fn count<T, E>(
        &self,
        request: impl Future<Output = Result<T, E>>,
        is_definite: impl FnOnce(&Result<T, E>) -> bool,
    ) -> Result<T, E> {
        let Counters { unanswered, .. } = &*self.0;
        unanswered.fetch_add(1, Ordering::Relaxed);
        let answer = request.await;
        if is_definite(&answer) {
            unanswered.fetch_sub(1, Ordering::Relaxed);
        }
        answer
    }
}

/// A seam whose requests are counted.
#[derive(Clone, Debug)]
pub struct Tracked<X> {
    inner: X,
    in_flight: InFlightRequests,
}

impl<X> Tracked<X> {
    /// Wraps `inner`.
    pub fn new(inner: X, in_flight: InFlightRequests) -> Self {
        Self { inner, in_flight }
    }
}

impl<T: Transport> Transport for Tracked<T> {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, TransportError> {
        if request.method.is_safe() {
            return self.inner.send(request).await;
        }
        let is_definite = |answer: &Result<ApiResponse, TransportError>| match answer {
            Ok(response) => !may_have_happened(response),
            Err(TransportError::NoAnswer { .. } | TransportError::Unusable { .. }) => false,
            Err(TransportError::NotSent { .. } | TransportError::Denied { .. } | TransportError::Settings(_)) => true,
        };
        let Counters { deletions, .. } = &*self.in_flight.0;
        let is_deletion = u64::from(request.method.as_str() == "DELETE");
        deletions.fetch_add(is_deletion, Ordering::Relaxed);
        let answer = self.in_flight.count(self.inner.send(request), is_definite).await;
        if is_definite(&answer) {
            deletions.fetch_sub(is_deletion, Ordering::Relaxed);
        }
        // A server that failed may have come half way; one that refused has done nothing.
        if answer.as_ref().is_ok_and(|response| !(400..500).contains(&response.status)) {
            let Counters { changes, .. } = &*self.in_flight.0;
            changes.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    fn endpoints(&self) -> usize {
        self.inner.endpoints()
    }
}

impl<D: Database> Database for Tracked<D> {
    type Watch = D::Watch;

    async fn transact(
        &self,
        operations: Vec<RowOperation>,
        freshness: Freshness,
    ) -> Result<Vec<Outcome>, DatabaseError> {
        if operations.iter().all(RowOperation::reads) {
            return self.inner.transact(operations, freshness).await;
        }
        let is_definite = |answer: &Result<_, DatabaseError>| {
            let unknown = matches!(
                answer,
                Err(DatabaseError::NoAnswer { .. }
                    | DatabaseError::NotDatabase { .. }
                    | DatabaseError::Unreadable { .. })
            );
            !unknown
        };
        let Counters { deletions, changes, .. } = &*self.in_flight.0;
        let is_deletion = u64::from(operations.iter().any(RowOperation::deletes));
        deletions.fetch_add(is_deletion, Ordering::Relaxed);
        let answer = self.in_flight.count(self.inner.transact(operations, freshness), is_definite).await;
        if is_definite(&answer) {
            deletions.fetch_sub(is_deletion, Ordering::Relaxed);
        }
        if answer.is_ok() {
            changes.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    async fn watch(&self, monitor: Monitor) -> Result<D::Watch, DatabaseError> {
        self.inner.watch(monitor).await
    }
}

impl<S: Store> Store for Tracked<S> {
    type Watch = S::Watch;

    async fn read(&self, queries: Vec<Query>) -> Result<Snapshot, StoreError> {
        self.inner.read(queries).await
    }

    async fn commit_first(&self, choice: Choice) -> Result<Chosen, StoreError> {
        let is_definite = |answer: &Result<_, StoreError>| !matches!(answer, Err(StoreError::Unknown { .. }));
        self.in_flight.count(self.inner.commit_first(choice), is_definite).await
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
    async fn only_a_definite_answer_ends_a_request() {
        let in_flight = InFlightRequests::new();
        let ask = |answer: Result<(), bool>| in_flight.count(async move { answer }, |answer| *answer != Err(false));
        let start = in_flight.checkpoint();
        ask(Ok(())).await.expect("fine");
        ask(Err(true)).await.expect_err("refused");
        assert!(in_flight.is_answered_since(start));
        ask(Err(false)).await.expect_err("lost");
        assert!(!in_flight.is_answered_since(start));
        let later = in_flight.checkpoint();
        let never = in_flight.count(std::future::pending::<Result<(), bool>>(), |_| true);
        tokio::time::timeout(Duration::from_millis(1), never).await.expect_err("given up");
        assert!(!in_flight.is_answered_since(later) && !in_flight.is_unchanged_since(later));
    }

    /// Gives one answer.
    struct Answers(Result<u16, TransportError>);

    impl Transport for Answers {
        async fn send(&self, _request: ApiRequest) -> Result<ApiResponse, TransportError> {
            self.0.clone().map(|status| ApiResponse { status, headers: http::HeaderMap::new(), body: "".into() })
        }
    }

    #[tokio::test]
    async fn a_controllers_answer_resolves_only_its_own_requests() {
        let unusable = TransportError::Unusable { endpoint: String::new(), reason: String::new() };
        let not_sent = TransportError::NotSent { endpoint: String::new(), reason: String::new() };
        for (answer, is_definite, unchanged) in [
            (Ok(201), true, false),
            (Ok(204), true, false),
            // If a gateway answers a request itself, the outcome of the request is unknown.
            (Ok(302), false, false),
            (Ok(404), false, false),
            (Ok(410), false, false),
            (Ok(408), false, false),
            (Ok(409), true, true),
            (Ok(429), true, true),
            (Ok(500), true, false),
            (Ok(502), false, false),
            (Ok(503), false, false),
            (Ok(504), false, false),
            (Err(unusable), false, false),
            (Err(not_sent), true, true),
        ] {
            let in_flight = InFlightRequests::new();
            let (begun, case, again) = (in_flight.checkpoint(), format!("{answer:?}"), answer.clone());
            let (method, path) = (http::Method::POST, "/bridges/1/ports".to_owned());
            let request = ApiRequest { method, path, headers: http::HeaderMap::new(), body: "".into() };
            drop(Tracked::new(Answers(answer), in_flight.clone()).send(request).await);
            assert_eq!(
                (in_flight.is_answered_since(begun), in_flight.is_unchanged_since(begun)),
                (is_definite, unchanged),
                "{case}"
            );
            assert!(!in_flight.may_have_deletion(), "{case}: it was no deletion");
            let (method, path) = (http::Method::DELETE, "/ports/1".to_owned());
            let request = ApiRequest { method, path, headers: http::HeaderMap::new(), body: "".into() };
            drop(Tracked::new(Answers(again), in_flight.clone()).send(request).await);
            assert_eq!(in_flight.may_have_deletion(), !is_definite, "{case}: a deletion");
        }
    }
}
