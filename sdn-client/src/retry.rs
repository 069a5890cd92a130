//! Whether to ask again, and after what pause. Pure, but for the dice.

use std::time::Duration;

/// What came of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server says: not now. Nothing happened.
    Busy,
    /// The request did not leave. Nothing happened.
    NotSent,
    /// It may have happened.
    Unknown,
    /// Somebody else than the API answered. It may have happened.
    NotApi,
}

/// How often an operation is tried before its failure is reported.
pub const ATTEMPTS: u32 = 5;

/// A gateway that knows no way to the API may know one a moment later, and another endpoint does: asking once more tells.
/// A wrong path stays wrong.
const ATTEMPTS_PAST_A_STRANGER: u32 = 2;

const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The pause before attempt `done + 1`; none when there is no point or it is not safe. `repeatable`: doing it twice is
/// doing it once, as for everything whose id we choose.
pub fn pause(outcome: Outcome, repeatable: bool, done: u32) -> Option<Duration> {
    let safe = repeatable || matches!(outcome, Outcome::Busy | Outcome::NotSent);
    let attempts = if outcome == Outcome::NotApi { ATTEMPTS_PAST_A_STRANGER } else { ATTEMPTS };
    (safe && done < attempts).then(|| FIRST_PAUSE * 2_u32.pow(done.saturating_sub(1).min(5)))
}

/// Spreads a pause over its second half, so that nodes which failed together do not come back together.
pub fn jitter(pause: Duration) -> Duration {
    let dice = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
    pause / 2 + pause * dice / 512
}
