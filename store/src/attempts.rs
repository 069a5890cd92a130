//! A change that is decided on again until it is made: the attempts at it.
//!
//! A lost race and an unknown outcome are different. After both, the records as they are now decide what comes next. After
//! an unknown outcome the cause that etcd gave is kept. If etcd would give it again, for example because it is full, no
//! further transaction is sent. When the attempts are used up, the cause is what the caller gets.
//!
//! The caller writes the loop, so that its future is `Send` when the store's futures are:
//!
//! ```text
//! let mut attempts = Attempts::at_most(10);
//! loop {
//!     attempts.begin().map_err(exhausted)?;
//!     match attempts.commit_or_read(store, txn).await? {
//!         Committed::Yes(done) => return Ok(done),
//!         Committed::Lost(snapshot) => ..., // decide again
//!     }
//! }
//! ```

use crate::{Choice, Chosen, Committed, Store, StoreError, Txn};

/// The attempts at one change, and what the last one left unknown.
#[derive(Debug)]
pub struct Attempts {
    most: u32,
    number: u32,
    /// Nothing was sent in this attempt so far, and it repeats another.
    is_repeated: bool,
    unknown: Option<StoreError>,
}

impl Attempts {
    /// None was made so far.
    pub fn at_most(most: u32) -> Self {
        Self { most, number: 0, is_repeated: false, unknown: None }
    }

    /// The only attempt, which has begun.
    pub fn once() -> Self {
        Self { number: 1, ..Self::at_most(1) }
    }

    /// Begins the next attempt.
    ///
    /// # Errors
    /// The attempts are used up: the cause, if the outcome of the last one is unknown; `None` if it lost a race.
    pub fn begin(&mut self) -> Result<(), Option<StoreError>> {
        if self.number >= self.most {
            return Err(self.cause());
        }
        (self.number, self.is_repeated) = (self.number + 1, self.number > 0);
        Ok(())
    }

    /// The number of this attempt, from 1 on.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Commits. None: whether it happened is unknown, and the caller has to read.
    ///
    /// # Errors
    /// Every failure that is definite. In a repeated attempt also the cause of [`Attempts::may_repeat`]: then nothing was
    /// sent.
    pub async fn commit<S: Store>(&mut self, store: &S, choice: Choice) -> Result<Option<Chosen>, StoreError> {
        // A request that was sent before in this attempt has taken effect.
        if std::mem::take(&mut self.is_repeated) {
            self.may_repeat()?;
        }
        let outcome = store.commit_first(choice).await;
        self.outcome(outcome)
    }

    /// Commits a transaction. `Lost`, with the answers as they are now, also when the outcome is unknown.
    ///
    /// # Errors
    /// As [`Attempts::commit`], and those of reading.
    pub async fn commit_or_read<S: Store>(&mut self, store: &S, txn: Txn) -> Result<Committed, StoreError> {
        let otherwise = txn.otherwise.clone();
        match self.commit(store, txn.into()).await? {
            Some(Chosen::Case(_, snapshot)) => Ok(Committed::Yes(snapshot)),
            Some(Chosen::Lost(snapshot)) => Ok(Committed::Lost(snapshot)),
            None => store.read(otherwise).await.map(Committed::Lost),
        }
    }

    /// The records show that the attempt before this one did not happen. May it be made again?
    ///
    /// # Errors
    /// The cause of its unknown outcome, when etcd would give it again.
    pub fn may_repeat(&mut self) -> Result<(), StoreError> {
        self.unknown.take_if(|cause| cause.is_lasting()).map_or(Ok(()), Err)
    }

    /// Why the outcome of the last attempt is unknown; none if it is known.
    pub fn cause(&mut self) -> Option<StoreError> {
        self.unknown.take()
    }

    fn outcome<T>(&mut self, outcome: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        self.unknown = None;
        match outcome {
            Ok(answer) => Ok(Some(answer)),
            Err(unknown @ StoreError::Unknown { .. }) => {
                self.unknown = Some(unknown);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(reason: &str) -> StoreError {
        StoreError::Unknown { endpoint: "here".to_owned(), reason: reason.to_owned() }
    }

    #[test]
    fn an_unknown_outcome_keeps_its_cause_and_a_lasting_one_ends_the_attempts() {
        let mut attempts = Attempts::once();
        assert_eq!(attempts.outcome::<u8>(Err(unknown("timed out"))), Ok(None));
        assert_eq!(attempts.may_repeat(), Ok(()));
        for lasting in ["etcdserver: mvcc: database space exceeded", "etcdserver: corrupt cluster"] {
            assert_eq!(attempts.outcome::<u8>(Err(unknown(lasting))), Ok(None));
            assert_eq!(attempts.may_repeat(), Err(unknown(lasting)));
        }
        assert_eq!(attempts.outcome::<u8>(Err(unknown("timed out"))), Ok(None));
        let denied = StoreError::Denied("no role".to_owned());
        assert_eq!(attempts.outcome::<u8>(Err(denied.clone())), Err(denied));
        assert_eq!(attempts.outcome::<u8>(Err(unknown("timed out"))), Ok(None));
        assert_eq!(attempts.outcome(Ok(1)), Ok(Some(1)));
        assert_eq!(attempts.cause(), None, "a definite answer clears the cause");
        assert_eq!(attempts.outcome::<u8>(Err(unknown("timed out"))), Ok(None));
        assert_eq!(attempts.cause(), Some(unknown("timed out")));
    }

    #[test]
    fn the_attempts_are_counted_and_the_last_cause_is_given() {
        let mut attempts = Attempts::at_most(3);
        for number in 1..=3 {
            assert_eq!((attempts.begin(), attempts.number()), (Ok(()), number));
            assert_eq!(attempts.outcome::<u8>(Err(unknown("timed out"))), Ok(None));
        }
        assert_eq!(attempts.begin(), Err(Some(unknown("timed out"))));
        let mut lost = Attempts::at_most(2);
        assert_eq!([lost.begin(), lost.begin(), lost.begin()], [Ok(()), Ok(()), Err(None)]);
        assert_eq!((Attempts::once().number(), Attempts::once().begin()), (1, Err(None)));
    }
}
