//! Every change of the kernel is a step, and a test may let the process die before any of them.
//!
//! Dying is exact as far as the kernel is concerned: from that step on nothing is changed any more, whatever the rest of
//! the program still tries, as if the process were gone. Reading goes on. Or the kernel refuses one of them, as if it
//! lacked a feature. Production has no steps to die at.

use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Mutex};

use nix::errno::Errno;

use crate::handle::lock;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Steps>>> = const { RefCell::new(None) };
}

/// The changes that one data plane makes. Without a planned end it only counts.
#[derive(Debug, Default)]
pub struct Steps {
    /// So many steps are made, then none any more.
    last: Option<usize>,
    /// The step after so many is refused, as by a kernel that cannot do it.
    refused: Option<usize>,
    /// The step after so many is a defect of ours.
    panics: Option<usize>,
    /// What they were.
    made: Mutex<Vec<String>>,
}

impl Steps {
    /// All steps are made.
    pub fn all() -> Arc<Self> {
        Arc::default()
    }

    /// The process dies after `last` steps.
    pub fn dies_after(last: usize) -> Arc<Self> {
        Arc::new(Self { last: Some(last), ..Self::default() })
    }

    /// The kernel refuses the step after `place` others, and makes all the rest.
    pub fn refuses(place: usize) -> Arc<Self> {
        Arc::new(Self { refused: Some(place), ..Self::default() })
    }

    /// The thread panics before the step after `place` others.
    pub fn panics(place: usize) -> Arc<Self> {
        Arc::new(Self { panics: Some(place), ..Self::default() })
    }

    /// What was done so far, and what was refused.
    pub fn made(&self) -> Vec<String> {
        lock(&self.made).clone()
    }

    fn step(&self, what: &str) -> io::Result<()> {
        let mut made = lock(&self.made);
        if self.last.is_some_and(|last| made.len() >= last) {
            return Err(io::Error::other("the process is dead"));
        }
        assert!(self.panics != Some(made.len()), "a test has asked for this");
        made.push(what.to_owned());
        if self.refused == Some(made.len() - 1) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        Ok(())
    }
}

/// From now on the calling thread's steps, and those of threads it starts for a namespace, are these.
pub(crate) fn follow(steps: Option<Arc<Steps>>) {
    CURRENT.with(|current| *current.borrow_mut() = steps);
}

/// What the calling thread follows.
pub(crate) fn current() -> Option<Arc<Steps>> {
    CURRENT.with(|current| current.borrow().clone())
}

/// One change is about to be made.
pub(super) fn step(what: &str) -> io::Result<()> {
    CURRENT.with(|current| current.borrow().as_ref().map_or(Ok(()), |steps| steps.step(what)))
}
