//! Waiting for a condition, with a reason when it does not come.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks `ready` until it says so. It answers `Err` with what is still missing, which the error at the end repeats.
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
