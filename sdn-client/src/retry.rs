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

/// A server that asks for more patience without a deadline of ours is not waited for.
pub const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// One attempt that brought nothing.
#[derive(Clone, Copy, Debug)]
pub struct Attempted {
    /// What came of it.
    pub outcome: Outcome,
    /// Doing it twice is doing it once, as for everything whose id we choose.
    pub repeatable: bool,
    /// How many attempts there were.
    pub done: u32,
    /// How long the server asks to wait.
    pub asked: Option<Duration>,
}

/// The pause before the next attempt; none when there is no point or it is not safe. A server that says when is asked then,
/// as often as the deadline allows.
pub fn pause(attempted: Attempted, has_deadline: bool) -> Option<Duration> {
    let Attempted { outcome, repeatable, done, asked } = attempted;
    let safe = repeatable || matches!(outcome, Outcome::Busy | Outcome::NotSent);
    let attempts = match outcome {
        Outcome::NotApi => ATTEMPTS_PAST_A_STRANGER,
        _ if asked.is_some() && has_deadline => u32::MAX,
        _ => ATTEMPTS,
    };
    if !safe || done >= attempts || (!has_deadline && asked > Some(LONGEST_WAIT)) {
        return None;
    }
    let own = jitter(FIRST_PAUSE * 2_u32.pow(done.saturating_sub(1).min(5)));
    // Not before the time, and not all nodes at the same moment.
    Some(own + asked.unwrap_or_default())
}

/// Spreads a pause over its second half, so that nodes which failed together do not come back together.
pub fn jitter(pause: Duration) -> Duration {
    let dice = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
    pause / 2 + pause * dice / 512
}
