//! One change of records, decided on again until it is made: the store's [`retry`](atoll_store::retry()) with the errors of
//! this crate.

use atoll_store::{Attempt, Committed, Store, Txn};

use crate::error::TenantError;

/// How often a decision is made again when others were faster. Each time one of them got further.
pub(crate) const ATTEMPTS: u32 = 16;

/// Calls `decide` until it gives a result. `what` names the change, for people.
pub(crate) async fn retry<T>(
    what: &str,
    decide: impl AsyncFnMut(&mut Attempt) -> Result<Option<T>, TenantError>,
) -> Result<T, TenantError> {
    let exhausted = |cause: Option<_>| {
        let contended = || TenantError::Contended { what: what.to_owned(), attempts: ATTEMPTS };
        cause.map_or_else(contended, TenantError::store(what))
    };
    atoll_store::retry(ATTEMPTS, exhausted, decide).await
}

/// Commits. `Lost`, with the records as they are now, also when the outcome is unknown.
pub(crate) async fn commit<S: Store>(
    store: &S,
    what: &str,
    attempt: &mut Attempt,
    txn: Txn,
) -> Result<Committed, TenantError> {
    attempt.commit_or_read(store, txn).await.map_err(TenantError::store(what))
}

/// Why a change that is not tried again did not happen.
pub(crate) fn failed(what: &str, mut attempt: Attempt) -> TenantError {
    let contended = || TenantError::Contended { what: what.to_owned(), attempts: 1 };
    attempt.cause().map_or_else(contended, TenantError::store(what))
}
