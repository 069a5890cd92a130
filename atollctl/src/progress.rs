//! Progress of long operations. Nothing is drawn if standard error is not a terminal.

use std::time::Duration;

use atoll_tenant::admin::Deleted;
use indicatif::{ProgressBar, ProgressStyle};

use crate::interrupt;
use crate::output::count;

/// A bar over the maximum request lifetime.
pub(crate) struct Progress {
    bar: ProgressBar,
    length: u64,
}

impl Progress {
    pub(crate) fn new(max_request_lifetime: Duration) -> Self {
        let length = milliseconds(max_request_lifetime);
        let style = ProgressStyle::with_template("{bar:30} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(length).with_style(style);
        bar.set_message("closing");
        Self { bar, length }
    }

    pub(crate) fn show(&self, step: Deleted) {
        match step {
            Deleted::Closed => {
                interrupt::note("no new pods from now on");
                self.bar.set_message("no new pods from now on");
            }
            Deleted::Objects(number) => {
                interrupt::note(format!("{} deleted", count(number, "object")));
                self.bar.set_message(format!("{} deleted, waiting for late requests", count(number, "object")));
            }
            Deleted::Waited(passed) => self.bar.set_position(milliseconds(passed)),
            Deleted::All => self.bar.set_position(self.length),
        }
    }

    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// Waits, and shows the remaining time.
pub(crate) async fn wait(pause: Duration, message: &str) {
    let progress = Progress::new(pause);
    progress.bar.set_message(message.to_owned());
    let begun = tokio::time::Instant::now();
    while let Some(left) = pause.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
        progress.bar.set_position(milliseconds(begun.elapsed()));
        tokio::time::sleep(left.min(Duration::from_millis(200))).await;
    }
    progress.end();
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
