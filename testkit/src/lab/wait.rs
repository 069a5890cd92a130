//! Waits for a condition; the error of a timeout names what is missing.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Calls `ready` until it succeeds. Its `Err` names what is missing; the error of a timeout repeats it.
pub fn until(what: &str, limit: Duration, mut ready: impl FnMut() -> Result<()>) -> Result<()> {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        let Err(missing) = ready() else { return Ok(()) };
        if begin.elapsed() > limit {
            bail!("{what}: not within {limit:?}: {missing:#}");
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
