//! Faults on demand: the wrappers of the seams consult a [`FaultPlan`] at every effect, and a sweep covers all effects.
//!
//! A crash is exact: the operation never returns, so the test drops the call at that point and no cleanup code runs, as
//! if a runtime had killed the process.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

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

type Late = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Default)]
struct State {
    /// Effects passed so far, each as "seam: what".
    passed: RefCell<Vec<String>>,
    /// The index of the effect that fails (0 is the first), and its fault.
    planned: Cell<Option<(usize, Fault)>>,
    crashed: Cell<bool>,
    late: RefCell<Vec<Late>>,
}

/// Counts effects and makes one of them fail. Clones share their state; without a plan it only counts.
#[derive(Clone, Default)]
pub struct FaultPlan(Rc<State>);

impl FaultPlan {
    /// A plan without a fault: effects are only counted.
    pub fn none() -> Self {
        Self::default()
    }

    /// Restarts the count at zero and injects `fault` at effect `at`.
    pub fn arm(&self, at: usize, fault: Fault) {
        self.reset();
        self.0.planned.set(Some((at, fault)));
    }

    /// Disables faults and restarts the count. Late requests stay in flight.
    pub fn reset(&self) {
        self.0.passed.borrow_mut().clear();
        self.0.planned.set(None);
        self.0.crashed.set(false);
    }

    /// The effects since the last reset.
    pub fn passed(&self) -> Vec<String> {
        self.0.passed.borrow().clone()
    }

    /// One effect. `lost` makes the error for an answer that did not come, `refused` that for a clean refusal.
    pub async fn effect<T: 'static, E: 'static>(
        &self,
        what: impl FnOnce() -> String,
        effect: impl Future<Output = Result<T, E>> + 'static,
        lost: impl FnOnce() -> E,
        refused: impl FnOnce() -> E,
    ) -> Result<T, E> {
        let index = self.0.passed.borrow().len();
        self.0.passed.borrow_mut().push(what());
        match self.0.planned.get() {
            Some((at, fault)) if at == index => match fault {
                Fault::CrashBefore => self.crash().await,
                Fault::CrashAfter => {
                    drop(effect.await);
                    self.crash().await
                }
                Fault::CrashLate => {
                    self.0.late.borrow_mut().push(Box::pin(async move { drop(effect.await) }));
                    self.crash().await
                }
                Fault::LostReply => {
                    drop(effect.await);
                    Err(lost())
                }
                Fault::LostRequest => Err(lost()),
                Fault::Refused => Err(refused()),
            },
            _ => effect.await,
        }
    }

    async fn crash<T>(&self) -> T {
        self.0.crashed.set(true);
        std::future::pending().await
    }

    /// Runs `call` until it returns or dies; `None` means that it died: it was dropped at that point.
    pub async fn run<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        let mut call = pin!(call);
        std::future::poll_fn(|cx| match call.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if self.0.crashed.get() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Delivers the in-flight requests of dead processes.
    pub async fn deliver_late(&self) -> usize {
        let late = std::mem::take(&mut *self.0.late.borrow_mut());
        let count = late.len();
        for request in late {
            request.await;
        }
        count
    }
}
