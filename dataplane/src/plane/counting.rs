//! Counting: one namespace at a time, and other work in between.
//!
//! With many tenants reading all counters takes a while, and monitoring reads them often. A pod must not wait for
//! that.

use std::collections::{BTreeSet, VecDeque};

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::counters::Counters;

/// Requests for counters, oldest first.
#[derive(Default)]
pub(super) struct Counting(pub(super) VecDeque<Job>);

/// What was read so far for one of them.
pub(super) struct Job {
    pub(super) counters: Counters,
    pub(super) left: BTreeSet<Uuid>,
    pub(super) done: oneshot::Sender<Counters>,
}

impl Counting {
    /// True when a request is pending.
    pub(super) fn is_pending(&self) -> bool {
        !self.0.is_empty()
    }
}
