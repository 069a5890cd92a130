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
}

/// How often an operation is tried before its failure is reported.
pub const ATTEMPTS: u32 = 5;

const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The pause before attempt `done + 1`; none when there is no point or it is not safe. `repeatable`: doing it twice is
/// doing it once, as for everything whose id we choose.
pub fn pause(outcome: Outcome, repeatable: bool, done: u32) -> Option<Duration> {
    let safe = repeatable || outcome != Outcome::Unknown;
    (safe && done < ATTEMPTS).then(|| FIRST_PAUSE * 2_u32.pow(done.saturating_sub(1).min(5)))
}

/// Spreads a pause over its second half, so that nodes which failed together do not come back together.
pub fn jitter(pause: Duration) -> Duration {
    let dice = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
    pause / 2 + pause * dice / 512
}
