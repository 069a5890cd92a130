//! Counting: one namespace at a time, and other work in between.

use std::collections::BTreeMap;

use tokio::sync::oneshot;
use uuid::Uuid;

use super::counting::Job;
use super::state::Plane;
use crate::counters::{Count, Counters};
use crate::error::line;

impl Plane {
    /// Queues a request for counters.
    pub(super) fn count(&mut self, done: oneshot::Sender<Counters>) {
        self.forget_counts();
        let rules: BTreeMap<_, _> = self.rules().map(|rule| (rule, Count::default())).collect();
        let counters = Counters { rules, ..Counters::default() };
        self.counting.0.push_back(Job { counters, left: self.namespaces.keys().copied().collect(), done });
    }

    /// Reads the next namespace, or sends the answer after the last one. A namespace that cannot be read is left out.
    pub(super) fn count_one(&mut self) {
        let Some(job) = self.counting.0.front_mut() else { return };
        // The caller may have given up.
        if let Some(id) = job.left.pop_first().filter(|_| !job.done.is_closed()) {
            if let Some(managed) = self.namespaces.get_mut(&id)
                && let Err(error) = managed.kernel.count(&mut job.counters)
            {
                tracing::warn!(object = %id, error = line(&error), "counters");
            }
        } else if let Some(Job { counters, done, .. }) = self.counting.0.pop_front() {
            let _ = done.send(counters);
        }
    }

    /// Counts do not grow with what was there once.
    pub(super) fn forget_counts(&mut self) {
        let rules = self.rules().collect();
        self.namespaces.values_mut().for_each(|managed| managed.kernel.forget_counts(&rules));
    }

    fn rules(&self) -> impl Iterator<Item = Uuid> {
        self.compiled.topology().chains.values().flat_map(|chain| &chain.rules).map(|rule| rule.id)
    }
}
