//! Each change of the kernel is announced before it is made, and a listener may refuse it.
//!
//! Production has no listener. Tests listen to stop a data plane at each of its changes (`testkit/src/steps.rs`).

use std::cell::RefCell;
use std::fmt::Debug;
use std::io;
use std::sync::Arc;

thread_local! {
    static CURRENT: RefCell<Option<Listener>> = const { RefCell::new(None) };
}

/// Receives each change of the kernel before it is made.
pub trait BeforeChange: Debug + Send + Sync {
    /// The change `what` is about to be made.
    ///
    /// # Errors
    /// The change is not made, as if the kernel had refused it with this error.
    fn change(&self, what: &str) -> io::Result<()>;
}

/// A listener that several threads share.
pub(crate) type Listener = Arc<dyn BeforeChange>;

/// Sets the listener of the calling thread and of the threads that it starts for a namespace.
pub(crate) fn follow(listener: Option<Listener>) {
    CURRENT.with(|current| *current.borrow_mut() = listener);
}

/// The listener of the calling thread.
pub(crate) fn current() -> Option<Listener> {
    CURRENT.with(|current| current.borrow().clone())
}

/// Announces changes to the listener of the calling thread, on any thread.
pub(super) fn announcer() -> impl Fn(&str) -> io::Result<()> + Sync {
    let listener = current();
    move |what| listener.as_ref().map_or(Ok(()), |listener| listener.change(what))
}

/// Announces one change.
pub(super) fn step(what: &str) -> io::Result<()> {
    CURRENT.with(|current| current.borrow().as_ref().map_or(Ok(()), |listener| listener.change(what)))
}
