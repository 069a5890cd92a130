//! The changes of the kernel that a data plane makes: counted, refused, or cut off by the death of the process.
//!
//! Dying is exact as far as the kernel is concerned: from that step on nothing is changed any more, whatever the rest of
//! the program still tries, as if the process were gone. Reading goes on.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use atoll_dataplane::BeforeChange;
use nix::errno::Errno;

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
