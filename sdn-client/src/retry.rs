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

/// Where no deadline of ours says otherwise, servers that name a time are waited for so long in all.
pub const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// And so often: a server may ask for no time at all.
const WAITS: u32 = 30;

/// The attempts of one operation so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tries {
    /// All of them.
    pub done: u32,
    failed: u32,
    waits: u32,
    waited: Duration,
}

impl Tries {
    /// The pause before the next attempt; none when there is no point or it is not safe. `repeatable`: doing it twice is
    /// doing it once, as for everything whose id we choose. `asked`: how long the server asks to wait; it is asked again
    /// then, as often as the deadline allows, and that uses up none of the attempts.
    pub fn pause(
        &mut self,
        outcome: Outcome,
        repeatable: bool,
        asked: Option<Duration>,
        has_deadline: bool,
    ) -> Option<Duration> {
        if !repeatable && matches!(outcome, Outcome::Unknown | Outcome::NotApi) {
            return None;
        }
        if let Some(asked) = asked {
            (self.waits, self.waited) = (self.waits + 1, self.waited.saturating_add(asked));
            let is_enough = !has_deadline && (self.waits > WAITS || self.waited > LONGEST_WAIT);
            // Not before the time, and not all nodes at the same moment.
            return (!is_enough).then(|| asked.saturating_add(jitter(FIRST_PAUSE)));
        }
        self.failed += 1;
        let attempts = if outcome == Outcome::NotApi { ATTEMPTS_PAST_A_STRANGER } else { ATTEMPTS };
        (self.failed < attempts).then(|| jitter(FIRST_PAUSE * 2_u32.pow(self.failed.saturating_sub(1).min(5))))
    }
}

/// Spreads a pause over its second half, so that nodes which failed together do not come back together.
pub fn jitter(pause: Duration) -> Duration {
    let dice = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
    pause / 2 + pause * dice / 512
}
