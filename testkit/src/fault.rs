//! Faults on demand: the wrappers of the seams consult a [`FaultPlan`] at every effect, and a sweep covers all effects.
//!
//! A crash is exact: the operation never returns, so the test drops the call at that point and no cleanup code runs, as
//! if a runtime had killed the process.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use atoll_model::sync::locked;
use tokio::sync::Notify;

/// A fault at an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The process dies before the effect.
    CrashBefore,
    /// The process dies after the effect, before it sees the result.
    CrashAfter,
    /// The process dies while the request is in flight: it takes effect later, when [`FaultPlan::deliver_late`] is
    /// called.
    CrashLate,
    /// The effect happens; the caller gets an unknown outcome.
    LostReply,
    /// The effect never happens; the caller gets an unknown outcome.
    LostRequest,
    /// The effect does not happen, and the caller gets that error.
    Refused,
}

impl Fault {
    /// Every fault, in the order of a sweep.
    pub const ALL: [Self; 6] =
        [Self::CrashBefore, Self::CrashAfter, Self::CrashLate, Self::LostReply, Self::LostRequest, Self::Refused];
}

type Late = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Which effect fails.
#[derive(Clone, Debug)]
enum Place {
    /// Its index; 0 is the first.
    Index(usize),
    /// The first that has this in its name.
    Named(String),
}

#[derive(Default)]
struct State {
    /// Effects passed so far, each as "seam: what".
    passed: Mutex<Vec<String>>,
    /// The effect that fails, and its fault.
    planned: Mutex<Option<(Place, Fault)>>,
    crashed: AtomicBool,
    late: Mutex<Vec<Late>>,
    /// The effect before which the process stops for a while.
    pause_at: Mutex<Option<usize>>,
    is_paused: AtomicBool,
    resumed: Notify,
}

/// Counts effects and makes one of them fail. Clones share their state; without a plan it only counts.
#[derive(Clone, Default)]
pub struct FaultPlan(Arc<State>);

impl FaultPlan {
    /// A plan without a fault: effects are only counted.
    pub fn none() -> Self {
        Self::default()
    }

    /// Restarts the count at zero and injects `fault` at effect `at`.
    pub fn arm(&self, at: usize, fault: Fault) {
        self.reset();
        *locked(&self.0.planned) = Some((Place::Index(at), fault));
    }

    /// The same at the first effect that has `part` in its name.
    pub fn arm_named(&self, part: &str, fault: Fault) {
        self.reset();
        *locked(&self.0.planned) = Some((Place::Named(part.to_owned()), fault));
    }

    /// The fault of this effect. There is one at most.
    fn take(&self, index: usize, name: &str) -> Option<Fault> {
        let mut planned = locked(&self.0.planned);
        let (_, fault) = planned.take_if(|(place, _)| match place {
            Place::Index(at) => *at == index,
            Place::Named(part) => name.contains(&**part),
        })?;
        Some(fault)
    }

    /// Disables faults and restarts the count. Late requests stay in flight.
    pub fn reset(&self) {
        locked(&self.0.passed).clear();
        *locked(&self.0.planned) = None;
        self.0.crashed.store(false, Ordering::Relaxed);
    }

    /// Restarts the count at zero. The process stops before effect `at`, until [`FaultPlan::resume`].
    pub fn pause_at(&self, at: usize) {
        self.reset();
        *locked(&self.0.pause_at) = Some(at);
    }

    /// Runs `call` until it returns or stops; `None` means that it stopped, and goes on when it is resumed and polled again.
    pub async fn run_until_paused<T>(&self, mut call: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        std::future::poll_fn(|cx| match call.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if self.0.is_paused.load(Ordering::Relaxed) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// The process that stopped goes on.
    pub fn resume(&self) {
        self.0.is_paused.store(false, Ordering::Relaxed);
        self.0.resumed.notify_one();
    }

    /// Whether the process stops before this effect.
    fn stops(&self, index: usize) -> bool {
        let stops = locked(&self.0.pause_at).take_if(|at| *at == index).is_some();
        self.0.is_paused.fetch_or(stops, Ordering::Relaxed);
        stops
    }

    /// The effects since the last reset.
    pub fn passed(&self) -> Vec<String> {
        locked(&self.0.passed).clone()
    }

    /// One effect. `lost` makes the error for an answer that did not come, `refused` that for a clean refusal.
    pub async fn effect<T: Send + 'static, E: Send + 'static>(
        &self,
        what: impl FnOnce() -> String + Send,
        effect: impl Future<Output = Result<T, E>> + Send + 'static,
        lost: impl FnOnce() -> E + Send,
        refused: impl FnOnce() -> E + Send,
    ) -> Result<T, E> {
        let (index, planned) = {
            let mut passed = locked(&self.0.passed);
            let (index, what) = (passed.len(), what());
            let planned = self.take(index, &what);
            passed.push(what);
            (index, planned)
        };
        match planned {
            Some(fault) => match fault {
                Fault::CrashBefore => self.crash().await,
                Fault::CrashAfter => {
                    drop(effect.await);
                    self.crash().await
                }
                Fault::CrashLate => {
                    locked(&self.0.late).push(Box::pin(async move { drop(effect.await) }));
                    self.crash().await
                }
                Fault::LostReply => {
                    drop(effect.await);
                    Err(lost())
                }
                Fault::LostRequest => Err(lost()),
                Fault::Refused => Err(refused()),
            },
            // In a box: every other effect would be as large.
            None if self.stops(index) => {
                let resumed = self.0.resumed.notified();
                Box::pin(async move {
                    resumed.await;
                    effect.await
                })
                .await
            }
            None => effect.await,
        }
    }

    async fn crash<T>(&self) -> T {
        self.0.crashed.store(true, Ordering::Relaxed);
        std::future::pending().await
    }

    /// Runs `call` until it returns or dies; `None` means that it died: it was dropped at that point.
    pub async fn run<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        let mut call = pin!(call);
        std::future::poll_fn(|cx| match call.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if self.0.crashed.load(Ordering::Relaxed) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Delivers the in-flight requests of dead processes.
    pub async fn deliver_late(&self) -> usize {
        let late = std::mem::take(&mut *locked(&self.0.late));
        let count = late.len();
        for request in late {
            request.await;
        }
        count
    }
}
