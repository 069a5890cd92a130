//! Randomness from a seed, a yield before every call of the store, and the choice of who goes next.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use atoll_records::{Key, Lease, Query, Revision, Snapshot};

use atoll_store::{Choice, Chosen, Store, StoreError};

/// `SplitMix64`.
#[derive(Clone, Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("below a length")
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Lets the others go on.
pub(crate) async fn step() {
    let mut waited = false;
    std::future::poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// A store before each of whose calls the scheduler decides again.
#[derive(Clone)]
pub(crate) struct Yielding<S>(pub(crate) S);

impl<S: Store> Store for Yielding<S> {
    type Watch = S::Watch;

    async fn read(&self, queries: Vec<Query>) -> Result<Snapshot, StoreError> {
        step().await;
        self.0.read(queries).await
    }

    async fn commit_first(&self, choice: Choice) -> Result<Chosen, StoreError> {
        step().await;
        self.0.commit_first(choice).await
    }

    async fn watch(&self, prefix: Key, after: Revision) -> Result<S::Watch, StoreError> {
        step().await;
        self.0.watch(prefix, after).await
    }

    async fn lease(&self, ttl: Duration) -> Result<Lease, StoreError> {
        step().await;
        self.0.lease(ttl).await
    }

    async fn lease_as(&self, lease: Lease, ttl: Duration) -> Result<(), StoreError> {
        step().await;
        self.0.lease_as(lease, ttl).await
    }

    async fn keep_alive(&self, lease: Lease) -> Result<bool, StoreError> {
        step().await;
        self.0.keep_alive(lease).await
    }

    async fn revoke(&self, lease: Lease) -> Result<(), StoreError> {
        step().await;
        self.0.revoke(lease).await
    }
}

/// Runs all futures to their end, one step of one of them at a time, as the seed decides; `after` is called after every step
/// and may stop the run. Returns the number of steps, or the error of `after` or of the limit.
pub(crate) fn run(
    mut tasks: Vec<Pin<Box<dyn Future<Output = ()> + '_>>>,
    rng: &mut Rng,
    mut after: impl FnMut() -> Result<(), String>,
) -> Result<usize, String> {
    let mut cx = Context::from_waker(Waker::noop());
    for steps in 0..100_000 {
        if tasks.is_empty() {
            return Ok(steps);
        }
        let index = rng.index(tasks.len());
        if tasks[index].as_mut().poll(&mut cx).is_ready() {
            drop(tasks.swap_remove(index));
        }
        after()?;
    }
    Err("the schedule does not come to an end".to_owned())
}
