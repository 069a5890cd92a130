//! Whether to repeat a request, and after which pause. Pure, except for the random part of a pause.

use std::time::Duration;

/// Why an attempt may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryReason {
    /// The server is busy. The request had no effect.
    Busy,
    /// The request was not sent. It had no effect.
    NotSent,
    /// There was no answer. The request may have taken effect.
    Unknown,
    /// The answer is not the API's. The request may have taken effect.
    NotApi,
}

/// How often an operation is tried before its failure is reported.
pub const ATTEMPTS: u32 = 5;

/// How often when the answer is not the API's. A gateway without a route may have one a moment later, and another endpoint
/// may lead to the API, so one repetition makes sense. A wrong path stays wrong.
const ATTEMPTS_WITHOUT_API: u32 = 2;

const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// How long to wait in all for a server that names a time (`Retry-After`), when the caller has no deadline.
pub const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How often to wait for it: a server may name no time at all.
const WAITS: u32 = 30;

/// The attempts of one operation so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tries {
    /// Attempts made.
    pub done: u32,
    failed: u32,
    waits: u32,
    waited: Duration,
}

impl Tries {
    /// The pause before the next attempt; `None` when a repetition is pointless or unsafe. `is_repeatable`: the request is
    /// idempotent, as for every object whose id we choose. `retry_after`: how long the server asks to wait. Such waits are limited
    /// by the deadline and do not count as attempts.
    pub fn pause(
        &mut self,
        reason: RetryReason,
        is_repeatable: bool,
        retry_after: Option<Duration>,
        has_deadline: bool,
    ) -> Option<Duration> {
        if !is_repeatable && matches!(reason, RetryReason::Unknown | RetryReason::NotApi) {
            return None;
        }
        if let Some(retry_after) = retry_after {
            (self.waits, self.waited) = (self.waits + 1, self.waited.saturating_add(retry_after));
            let is_enough = !has_deadline && (self.waits > WAITS || self.waited > LONGEST_WAIT);
            // Not before that time, and not all nodes at the same moment.
            return (!is_enough).then(|| retry_after.saturating_add(jitter(FIRST_PAUSE)));
        }
        self.failed += 1;
        let attempts = if reason == RetryReason::NotApi { ATTEMPTS_WITHOUT_API } else { ATTEMPTS };
        (self.failed < attempts).then(|| jitter(FIRST_PAUSE * 2_u32.pow(self.failed.saturating_sub(1).min(5))))
    }
}

/// Spreads a pause over its second half, so that nodes which failed together do not come back together.
pub fn jitter(pause: Duration) -> Duration {
    let random = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
    pause / 2 + pause * random / 512
}
