//! Counting: one namespace at a time, and whatever somebody waits for in between.
//!
//! With many tenants it takes a while to read all counters, and whoever watches them reads them often. A pod must not
//! wait for that.

use std::collections::{BTreeSet, VecDeque};

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::counters::Counters;

/// Those who wait for counters, first come first.
#[derive(Default)]
pub(super) struct Counting(pub(super) VecDeque<Job>);

/// What was read so far for one of them.
pub(super) struct Job {
    pub(super) counters: Counters,
    pub(super) left: BTreeSet<Uuid>,
    pub(super) done: oneshot::Sender<Counters>,
}

impl Counting {
    /// Somebody waits.
    pub(super) fn is_pending(&self) -> bool {
        !self.0.is_empty()
    }
}
