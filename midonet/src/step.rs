//! The result of one step, and how many steps run at once.

/// Requests in flight at once. A MidoNet takes one lock for every write: further requests would only wait there.
pub(crate) const CONCURRENCY: usize = 8;

/// The result of a step.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StepResult {
    pub(crate) created: usize,
    pub(crate) updated: usize,
    pub(crate) kept: usize,
    /// Requests one after the other.
    pub(crate) rounds: usize,
}

impl StepResult {
    /// The object was missing.
    pub(crate) const CREATED: Self = Self { created: 1, updated: 0, kept: 0, rounds: 1 };
    /// The object existed as wanted: a refusal and a read.
    pub(crate) const KEPT: Self = Self { created: 0, updated: 0, kept: 1, rounds: 2 };

    /// The object differed; `rounds` requests updated it.
    pub(crate) const fn updated(rounds: usize) -> Self {
        Self { created: 0, updated: 1, kept: 0, rounds }
    }
}
