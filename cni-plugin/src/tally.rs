//! Which of our requests may still be on their way.
//!
//! A request that changes something and was not answered may take effect later: after we cleaned up, after we exited. An
//! ADD that fails must know whether there is one, because only then must its address wait for the quiet period. So both
//! seams to the network are wrapped: a request counts from when it is begun until a definite answer comes. Giving up
//! waiting is not an answer, and neither is that of a gateway; that the request could not be sent is one.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use atoll_records::{Key, Lease, Query, Revision, Snapshot};
use atoll_sdn_client::answer::may_have_happened;
use atoll_sdn_client::transport::{ApiRequest, ApiResponse, Transport, TransportError};
use atoll_store::{Choice, Chosen, Store, StoreError};

/// Counts what our requests may have done. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Tally(Rc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    unanswered: Cell<u64>,
    deletions: Cell<u64>,
    changes: Cell<u64>,
}

/// The state of a [`Tally`] at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    unanswered: u64,
    changes: u64,
}

impl Tally {
    /// Nothing is on its way.
    pub fn new() -> Self {
        Self::default()
    }

    /// Now.
    pub fn mark(&self) -> Mark {
        Mark { unanswered: self.0.unanswered.get(), changes: self.0.changes.get() }
    }

    /// A deletion that the controller was asked for may still be on its way.
    pub fn may_delete(&self) -> bool {
        self.0.deletions.get() > 0
    }

    /// Every request since `mark` was answered.
    pub fn is_settled_since(&self, mark: Mark) -> bool {
        self.0.unanswered.get() == mark.unanswered
    }

    /// No request since `mark` changed anything in the controller, or still may.
    pub fn is_unchanged_since(&self, mark: Mark) -> bool {
        self.mark() == mark
    }

    async fn count<T, E>(
        &self,
        request: impl Future<Output = Result<T, E>>,
        is_definite: impl FnOnce(&Result<T, E>) -> bool,
    ) -> Result<T, E> {
        let Counters { unanswered, .. } = &*self.0;
        unanswered.set(unanswered.get() + 1);
        let answer = request.await;
        if is_definite(&answer) {
            unanswered.set(unanswered.get() - 1);
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
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, TransportError> {
        if request.method.is_safe() {
            return self.inner.send(request).await;
        }
        let is_definite = |answer: &Result<ApiResponse, TransportError>| match answer {
            Ok(response) => !may_have_happened(response),
            Err(TransportError::NoAnswer { .. } | TransportError::Unusable { .. }) => false,
            Err(TransportError::NotSent { .. } | TransportError::Denied { .. } | TransportError::Settings(_)) => true,
        };
        let Counters { deletions, .. } = &*self.tally.0;
        let is_deletion = u64::from(request.method.as_str() == "DELETE");
        deletions.set(deletions.get() + is_deletion);
        let answer = self.tally.count(self.inner.send(request), is_definite).await;
        if is_definite(&answer) {
            deletions.set(deletions.get() - is_deletion);
        }
        // A server that failed may have come half way; one that refused has done nothing.
        if answer.as_ref().is_ok_and(|response| !(400..500).contains(&response.status)) {
            let Counters { changes, .. } = &*self.tally.0;
            changes.set(changes.get() + 1);
        }
        answer
    }

    fn endpoints(&self) -> usize {
        self.inner.endpoints()
    }
}

impl<S: Store> Store for Counted<S> {
    type Watch = S::Watch;

    async fn read(&self, queries: Vec<Query>) -> Result<Snapshot, StoreError> {
        self.inner.read(queries).await
    }

    async fn commit_first(&self, choice: Choice) -> Result<Chosen, StoreError> {
        let is_definite = |answer: &Result<_, StoreError>| !matches!(answer, Err(StoreError::Unknown { .. }));
        self.tally.count(self.inner.commit_first(choice), is_definite).await
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
        let ask = |answer: Result<(), bool>| tally.count(async move { answer }, |answer| *answer != Err(false));
        let start = tally.mark();
        ask(Ok(())).await.expect("fine");
        ask(Err(true)).await.expect_err("refused");
        assert!(tally.is_settled_since(start));
        ask(Err(false)).await.expect_err("lost");
        assert!(!tally.is_settled_since(start));
        let later = tally.mark();
        let never = tally.count(std::future::pending::<Result<(), bool>>(), |_| true);
        tokio::time::timeout(Duration::from_millis(1), never).await.expect_err("given up");
        assert!(!tally.is_settled_since(later) && !tally.is_unchanged_since(later));
    }

    /// Gives one answer.
    struct Says(Result<u16, TransportError>);

    impl Transport for Says {
        async fn send(&self, _request: ApiRequest) -> Result<ApiResponse, TransportError> {
            self.0.clone().map(|status| ApiResponse { status, headers: http::HeaderMap::new(), body: "".into() })
        }
    }

    #[tokio::test]
    async fn what_a_controller_says_settles_only_what_it_did_itself() {
        let unusable = TransportError::Unusable { endpoint: String::new(), reason: String::new() };
        let not_sent = TransportError::NotSent { endpoint: String::new(), reason: String::new() };
        for (answer, settled, unchanged) in [
            (Ok(201), true, false),
            (Ok(204), true, false),
            // Nobody knows what a gateway did with the request that it answers by itself.
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
            let tally = Tally::new();
            let (begun, said, again) = (tally.mark(), format!("{answer:?}"), answer.clone());
            let (method, path) = (http::Method::POST, "/bridges/1/ports".to_owned());
            let request = ApiRequest { method, path, headers: http::HeaderMap::new(), body: "".into() };
            drop(Counted::new(Says(answer), tally.clone()).send(request).await);
            assert_eq!(
                (tally.is_settled_since(begun), tally.is_unchanged_since(begun)),
                (settled, unchanged),
                "{said}"
            );
            assert!(!tally.may_delete(), "{said}: it was no deletion");
            let (method, path) = (http::Method::DELETE, "/ports/1".to_owned());
            let request = ApiRequest { method, path, headers: http::HeaderMap::new(), body: "".into() };
            drop(Counted::new(Says(again), tally.clone()).send(request).await);
            assert_eq!(tally.may_delete(), !settled, "{said}: a deletion");
        }
    }
}
