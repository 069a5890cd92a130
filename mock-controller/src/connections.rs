//! The limit of connections. When it is reached, the connection that has been idle longest makes room for a new one, so
//! that clients which only hold connections do not keep other clients out.
//!
//! A connection is idle unless a request of it is being handled: from when the request has arrived completely until its
//! answer is written. A client that sends a head or a body slowly is idle. A connection with a request in progress is never
//! closed; while all have one, a new connection waits.
//!
//! Written by hand: a semaphore, and tower's concurrency limit, let new connections wait but close no idle one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;

use crate::answer_body::{AnswerBody, ConnectionCut};

/// The limit, and the connections that count against it. Clones are the same.
#[derive(Clone)]
pub(crate) struct ConnectionLimit(Rc<Inner>);

struct Inner {
    limit: usize,
    slots: RefCell<Slots>,
    /// A slot became free, or a connection idle.
    changed: Notify,
}

#[derive(Default)]
struct Slots {
    /// Orders connections by when they became idle.
    clock: u64,
    /// By number: since when the connection is idle (`None`: a request is in progress), and the signal to close it.
    taken: BTreeMap<u64, (Option<u64>, Rc<Notify>)>,
}

impl Slots {
    /// Closes the connection that has been idle longest. `None`: no connection is idle.
    fn evict(&mut self) -> Option<()> {
        let idle = self.taken.iter().filter_map(|(number, (since, _))| since.map(|since| (since, *number)));
        let (_, longest) = idle.min()?;
        let (_, close) = self.taken.remove(&longest)?;
        close.notify_one();
        Some(())
    }
}

/// The slot of one connection. Clones are of the same connection, which has the slot until it is evicted, or until the last
/// clone is dropped.
#[derive(Clone)]
pub(crate) struct Slot(Rc<TakenSlot>);

struct TakenSlot {
    limit: ConnectionLimit,
    number: u64,
    close: Rc<Notify>,
}

/// A request of a connection is in progress while this exists.
pub(crate) struct InProgress(Slot);

/// The body of an answer, whose request is in progress until it is written.
pub(crate) struct TrackedBody {
    body: AnswerBody,
    request: Option<InProgress>,
}

impl ConnectionLimit {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Rc::new(Inner { limit, slots: RefCell::default(), changed: Notify::new() }))
    }

    /// A slot: a free one, or that of the connection that has been idle longest, which is evicted.
    pub(crate) async fn acquire(&self) -> Slot {
        loop {
            let changed = self.0.changed.notified();
            if let Some(slot) = self.try_acquire() {
                return slot;
            }
            changed.await;
        }
    }

    /// Evicts the connection that has been idle longest, if there is one: the process has no file descriptor left.
    pub(crate) fn evict_idle(&self) {
        self.0.slots.borrow_mut().evict();
    }

    fn try_acquire(&self) -> Option<Slot> {
        let mut slots = self.0.slots.borrow_mut();
        if slots.taken.len() >= self.0.limit {
            slots.evict()?;
        }
        slots.clock += 1;
        let (number, close) = (slots.clock, Rc::new(Notify::new()));
        slots.taken.insert(number, (Some(number), Rc::clone(&close)));
        Some(Slot(Rc::new(TakenSlot { limit: self.clone(), number, close })))
    }

    /// Notes whether a connection is idle. An evicted connection has no slot any more.
    fn set_idle(&self, number: u64, is_idle: bool) {
        let mut slots = self.0.slots.borrow_mut();
        slots.clock += 1;
        let now = slots.clock;
        if let Some((since, _)) = slots.taken.get_mut(&number) {
            *since = is_idle.then_some(now);
        }
        if is_idle {
            self.0.changed.notify_one();
        }
    }
}

impl Slot {
    /// Completes when the connection is evicted.
    pub(crate) async fn evicted(&self) {
        self.0.close.notified().await;
    }

    /// Notes that a request is in progress.
    pub(crate) fn begin_request(&self) -> InProgress {
        self.0.limit.set_idle(self.0.number, false);
        InProgress(self.clone())
    }
}

impl Drop for TakenSlot {
    fn drop(&mut self) {
        self.limit.0.slots.borrow_mut().taken.remove(&self.number);
        self.limit.0.changed.notify_one();
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.0.limit.set_idle(self.0.0.number, true);
    }
}

impl TrackedBody {
    pub(crate) fn new(body: AnswerBody, request: Option<InProgress>) -> Self {
        Self { body, request }
    }
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = ConnectionCut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ConnectionCut>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.request = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::Waker;

    use super::*;

    /// The output of a future that is ready at once.
    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn the_connection_that_is_idle_longest_is_evicted_and_none_with_a_request_in_progress() {
        let limit = ConnectionLimit::new(2);
        let slot = || now(limit.acquire());
        let is_evicted = |slot: &Slot| now(slot.evicted()).is_some();
        let (first, second) = (slot().expect("free"), slot().expect("free"));
        let request = first.begin_request();
        let third = slot().expect("the second is idle");
        assert!(is_evicted(&second) && !is_evicted(&first));
        let more = third.begin_request();
        assert!(slot().is_none(), "all have a request in progress");
        drop(request);
        let request = first.begin_request();
        drop(more);
        drop(request);
        // The first became idle last.
        let fourth = slot().expect("both are idle");
        assert!(is_evicted(&third) && !is_evicted(&first) && !is_evicted(&fourth));
        // An evicted connection frees no second slot.
        drop((second, third));
        let fifth = slot().expect("the first is idle longest");
        assert!(is_evicted(&first));
        drop((first, fourth));
        assert!(slot().is_some() && !is_evicted(&fifth), "a free slot comes first");
    }
}
