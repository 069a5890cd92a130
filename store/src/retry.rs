//! A change that is decided on again until it is made: the one retry loop for transactions.
//!
//! A lost race and an unknown outcome are different. After both, the records as they are now decide what comes next. After
//! an unknown outcome the cause that etcd gave is kept. If etcd would give it again, for example because it is full, no
//! further transaction is sent. When the attempts are used up, the cause is what the caller gets.

use crate::{Choice, Chosen, Committed, Store, StoreError, Txn};

/// Calls `decide` until it gives a result, at most `attempts` times.
///
/// # Errors
/// Whatever `decide` fails with. When the attempts are used up, what `exhausted` makes of the cause of the last unknown
/// outcome; without a cause each attempt lost a race.
pub async fn retry<T, E>(
    attempts: u32,
    exhausted: impl FnOnce(Option<StoreError>) -> E,
    mut decide: impl AsyncFnMut(&mut Attempt) -> Result<Option<T>, E>,
) -> Result<T, E> {
    let mut attempt = Attempt::default();
    for number in 1..=attempts {
        (attempt.number, attempt.is_repeated) = (number, number > 1);
        if let Some(done) = decide(&mut attempt).await? {
            return Ok(done);
        }
    }
    Err(exhausted(attempt.cause()))
}

/// One attempt of [`retry`], and what the one before it left unknown.
#[derive(Debug, Default)]
pub struct Attempt {
    number: u32,
    /// Nothing was sent in this attempt so far, and it repeats another.
    is_repeated: bool,
    unknown: Option<StoreError>,
}

impl Attempt {
    /// The number of this attempt, from 1 on.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Commits. None: whether it happened is unknown, and the caller has to read.
    ///
    /// # Errors
    /// Every failure that is definite. In a repeated attempt also the cause of [`Attempt::may_repeat`]: then nothing was
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
    /// As [`Attempt::commit`], and those of reading.
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
        let mut attempt = Attempt::default();
        assert_eq!(attempt.outcome::<u8>(Err(unknown("timed out"))), Ok(None));
        assert_eq!(attempt.may_repeat(), Ok(()));
        for lasting in ["etcdserver: mvcc: database space exceeded", "etcdserver: corrupt cluster"] {
            assert_eq!(attempt.outcome::<u8>(Err(unknown(lasting))), Ok(None));
            assert_eq!(attempt.may_repeat(), Err(unknown(lasting)));
        }
        assert_eq!(attempt.outcome::<u8>(Err(unknown("timed out"))), Ok(None));
        let denied = StoreError::Denied("no role".to_owned());
        assert_eq!(attempt.outcome::<u8>(Err(denied.clone())), Err(denied));
        assert_eq!(attempt.outcome::<u8>(Err(unknown("timed out"))), Ok(None));
        assert_eq!(attempt.outcome(Ok(1)), Ok(Some(1)));
        assert_eq!(attempt.cause(), None, "a definite answer clears the cause");
        assert_eq!(attempt.outcome::<u8>(Err(unknown("timed out"))), Ok(None));
        assert_eq!(attempt.cause(), Some(unknown("timed out")));
    }

    #[tokio::test]
    async fn the_attempts_are_counted_and_the_last_cause_is_given() {
        let mut made = Vec::new();
        let outcome = retry(
            3,
            |cause| cause,
            async |attempt: &mut Attempt| {
                made.push(attempt.number());
                attempt.outcome::<u8>(Err(unknown("timed out"))).map_err(Some)
            },
        );
        assert_eq!(outcome.await, Err(Some(unknown("timed out"))));
        let lost = retry(2, |cause| cause, async |_: &mut Attempt| Ok(None::<u8>)).await;
        assert_eq!(lost, Err(None));
        let third = retry(
            4,
            |cause| cause,
            async |attempt: &mut Attempt| Ok((attempt.number() == 3).then_some(attempt.number())),
        );
        assert_eq!(third.await, Ok(3));
        assert_eq!(made, [1, 2, 3]);
    }
}
