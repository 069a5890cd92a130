//! One change of records, decided on anew until it is made.
//!
//! An unknown outcome is no lost race. What is there now decides about both in the same way, but the cause that the store
//! gave is kept: it ends the attempts where the next one would get it again, and it is what the caller is told when they are
//! used up.

use atoll_store::{Committed, Doubt, Store, Txn};

use super::ATTEMPTS;
use crate::error::TenantError;

/// See the module.
pub(crate) struct Attempts {
    /// The change, for people.
    what: String,
    /// How many did not happen.
    made: u32,
    doubt: Doubt,
}

impl Attempts {
    /// None was made yet.
    pub(crate) fn at(what: impl Into<String>) -> Self {
        Self { what: what.into(), made: 0, doubt: Doubt::default() }
    }

    /// Commits. `Lost`, with the records as they are now, also when the outcome is not known.
    pub(crate) async fn commit<S: Store>(&mut self, store: &S, txn: Txn) -> Result<Committed, TenantError> {
        let otherwise = txn.otherwise.clone();
        let outcome = self.doubt.weigh(store.commit(txn).await);
        match outcome.map_err(TenantError::store(&self.what))? {
            Some(committed) => Ok(committed),
            None => store.read(otherwise).await.map(Committed::Lost).map_err(TenantError::store(&self.what)),
        }
    }

    /// The records show that the last attempt did not happen, and another is to be made.
    ///
    /// # Errors
    /// It would end in the same way, or enough were made.
    pub(crate) fn again(&mut self) -> Result<(), TenantError> {
        self.made += 1;
        self.doubt.may_repeat().map_err(TenantError::store(&self.what))?;
        if self.made < ATTEMPTS { Ok(()) } else { Err(self.failed()) }
    }

    /// Why the last attempt did not happen.
    pub(crate) fn failed(&mut self) -> TenantError {
        match std::mem::take(&mut self.doubt).cause() {
            Some(cause) => TenantError::store(&self.what)(cause),
            None => TenantError::Contended { what: self.what.clone(), attempts: self.made.max(1) },
        }
    }
}
