//! Counts, refuses or cuts off the changes that a data plane makes to the kernel.
//!
//! The simulated death is exact for the kernel: from that step on no change takes effect, even if the program tries.
//! Reads continue.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use atoll_dataplane::BeforeChange;
use nix::errno::Errno;

/// The changes that one data plane makes. Without a planned end it only counts.
#[derive(Debug, Default)]
pub struct Steps {
    /// The number of steps that are made; later ones are not.
    last: Option<usize>,
    /// The index of the step that is refused, as by a kernel without that feature.
    refused: Option<usize>,
    /// The index of the step at which the thread panics.
    panics: Option<usize>,
    /// The steps so far.
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

    /// The steps so far, and the refused ones.
    pub fn made(&self) -> Vec<String> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl BeforeChange for Steps {
    fn change(&self, what: &str) -> io::Result<()> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
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
