//! Progress: a spinner if standard error is a terminal, otherwise a line for each step.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// The progress of the quickstart.
pub(crate) struct QuickstartProgress {
    bar: Option<ProgressBar>,
}

impl QuickstartProgress {
    /// Begins.
    pub(crate) fn start() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar }
    }

    /// Shows the current step.
    pub(crate) fn step(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            // Progress that cannot be shown must not stop the work.
            None => drop(writeln!(std::io::stderr(), "{what}")),
        }
    }

    /// Ends and clears the line.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
