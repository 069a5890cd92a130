//! Who is connected, up to a number of places. When all of them are taken, the connection that has been idle longest makes
//! room for a new one, so that clients that only hold connections keep no other client out.
//!
//! A connection is idle unless a request of it is in work: from when the request has arrived whole until its answer is
//! written. Bytes that trickle in are no work: who sends a head or a body slowly is as idle as who sends nothing. One with a
//! request in work is never closed; if all are, a new one waits.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;

use crate::torn::{CutOnPurpose, Torn};

/// The places, and who has them. Clones are the same.
#[derive(Clone)]
pub(crate) struct Crowd(Rc<Inner>);

struct Inner {
    places: usize,
    state: RefCell<State>,
    /// A place became free, or a connection idle.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// What orders seats by when they became idle.
    clock: u64,
    /// By number: when it became idle; none: a request of it is in work.
    seats: BTreeMap<u64, (Option<u64>, Rc<Notify>)>,
}

impl State {
    /// Gives away the place of the connection that has been idle longest. None: no one is idle.
    fn dismiss(&mut self) -> Option<()> {
        let idle = self.seats.iter().filter_map(|(number, (since, _))| since.map(|since| (since, *number)));
        let (_, longest) = idle.min()?;
        let (_, go) = self.seats.remove(&longest)?;
        go.notify_one();
        Some(())
    }
}

/// The place of one connection. Clones are the same connection, which has the place until it was asked to go, or until the
/// last of them is dropped.
#[derive(Clone)]
pub(crate) struct Seat(Rc<Taken>);

struct Taken {
    crowd: Crowd,
    number: u64,
    go: Rc<Notify>,
}

/// A request of a connection is in work, as long as this lives.
pub(crate) struct Work(Seat);

/// An answer, whose request is in work until it is written.
pub(crate) struct Answered {
    body: Torn,
    work: Option<Work>,
}

impl Crowd {
    pub(crate) fn new(places: usize) -> Self {
        Self(Rc::new(Inner { places, state: RefCell::default(), changed: Notify::new() }))
    }

    /// A place: a free one, or that of the connection that has been idle longest, which is asked to go.
    pub(crate) async fn seat(&self) -> Seat {
        loop {
            let changed = self.0.changed.notified();
            if let Some(seat) = self.try_seat() {
                return seat;
            }
            changed.await;
        }
    }

    /// Asks the connection that has been idle longest to go, if there is one: the process is out of descriptors.
    pub(crate) fn make_room(&self) {
        self.0.state.borrow_mut().dismiss();
    }

    fn try_seat(&self) -> Option<Seat> {
        let mut state = self.0.state.borrow_mut();
        if state.seats.len() >= self.0.places {
            state.dismiss()?;
        }
        state.clock += 1;
        let (number, go) = (state.clock, Rc::new(Notify::new()));
        state.seats.insert(number, (Some(number), Rc::clone(&go)));
        Some(Seat(Rc::new(Taken { crowd: self.clone(), number, go })))
    }

    /// From now on a connection is idle, or not. One that was asked to go has no say.
    fn set(&self, number: u64, is_idle: bool) {
        let mut state = self.0.state.borrow_mut();
        state.clock += 1;
        let now = state.clock;
        if let Some((since, _)) = state.seats.get_mut(&number) {
            *since = is_idle.then_some(now);
        }
        if is_idle {
            self.0.changed.notify_one();
        }
    }
}

impl Seat {
    /// Ends when the place is given to another.
    pub(crate) async fn taken(&self) {
        self.0.go.notified().await;
    }

    pub(crate) fn work(&self) -> Work {
        self.0.crowd.set(self.0.number, false);
        Work(self.clone())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.crowd.0.state.borrow_mut().seats.remove(&self.number);
        self.crowd.0.changed.notify_one();
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.0.crowd.set(self.0.0.number, true);
    }
}

impl Answered {
    pub(crate) fn new(body: Torn, work: Option<Work>) -> Self {
        Self { body, work }
    }
}

impl Body for Answered {
    type Data = Bytes;
    type Error = CutOnPurpose;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOnPurpose>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.work = None;
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

    /// What a future has to say at once.
    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn the_one_that_is_idle_longest_goes_and_none_with_a_request_in_work() {
        let crowd = Crowd::new(2);
        let seat = || now(crowd.seat());
        let is_taken = |seat: &Seat| now(seat.taken()).is_some();
        let (first, second) = (seat().expect("free"), seat().expect("free"));
        let work = first.work();
        let third = seat().expect("the second is idle");
        assert!(is_taken(&second) && !is_taken(&first));
        let more = third.work();
        assert!(seat().is_none(), "all of them work");
        drop(work);
        let work = first.work();
        drop(more);
        drop(work);
        // The first worked last.
        let fourth = seat().expect("both are idle");
        assert!(is_taken(&third) && !is_taken(&first) && !is_taken(&fourth));
        // Who was asked to go gives no second place away.
        drop((second, third));
        let fifth = seat().expect("the first is idle longest");
        assert!(is_taken(&first));
        drop((first, fourth));
        assert!(seat().is_some() && !is_taken(&fifth), "a free place comes first");
    }
}
