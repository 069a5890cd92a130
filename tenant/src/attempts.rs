//! One change of records, decided on again until it is made: the store's [`Attempts`] with the errors of this crate.

use atoll_store::{Attempts, Committed, Store, StoreError, Txn};

use crate::error::TenantError;

/// How often a decision is made again when others were faster. Each time one of them got further.
const ATTEMPTS: u32 = 16;

/// A change of records. Its description is part of each error.
pub(crate) struct RecordChange {
    what: String,
    attempts: Attempts,
}

impl RecordChange {
    /// One that is decided on again until it is made. `what` describes it, for people.
    pub(crate) fn repeated(what: impl Into<String>) -> Self {
        Self { what: what.into(), attempts: Attempts::at_most(ATTEMPTS) }
    }

    /// One that is tried once; the attempt has begun.
    pub(crate) fn once(what: impl Into<String>) -> Self {
        Self { what: what.into(), attempts: Attempts::once() }
    }

    /// The description.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// The attempts, for a transaction with a description of its own.
    pub(crate) fn attempts(&mut self) -> &mut Attempts {
        &mut self.attempts
    }

    /// Begins the next attempt.
    ///
    /// # Errors
    /// The attempts are used up.
    pub(crate) fn begin(&mut self) -> Result<(), TenantError> {
        let number = self.attempts.number();
        self.attempts.begin().map_err(|cause| exhausted(&self.what, number, cause))
    }

    /// Commits. `Lost`, with the records as they are now, also when the outcome is unknown.
    pub(crate) async fn commit<S: Store>(&mut self, store: &S, txn: Txn) -> Result<Committed, TenantError> {
        self.attempts.commit_or_read(store, txn).await.map_err(TenantError::store(&self.what))
    }

    /// Why a change that is not tried again did not happen.
    pub(crate) fn failed(mut self) -> TenantError {
        exhausted(&self.what, 1, self.attempts.cause())
    }
}

/// The cause of the last outcome if that is unknown; otherwise others were faster.
fn exhausted(what: &str, attempts: u32, cause: Option<StoreError>) -> TenantError {
    let contended = || TenantError::Contended { what: what.to_owned(), attempts };
    cause.map_or_else(contended, TenantError::store(what))
}
