//! Debouncing STATUS: whether an outage of etcd or the controller has lasted long enough to be reported. Pure but for its file.
//!
//! # Guarantees
//! * An outage is reported after three failed probes in a row over at least 15 s, and no longer after two successful ones.
//! * One call in a few seconds probes; the others reuse its result. A result older than two minutes is discarded.
//!
//! The file, `<runDir>/status.json`, may be lost.

use std::io;
use std::path::Path;

use atoll_node::files::{TEXT, atomic, make, read};
use serde::{Deserialize, Serialize};

/// Failed probes in a row.
const FAILURES: u32 = 3;
/// Between the first and the last of them, seconds.
const LASTING: u64 = 15;
/// Successful probes in a row until a reported outage is over.
const SUCCESSES: u32 = 2;
/// A probe is reused for less than this, seconds.
const REUSED: u64 = 4;
/// A probe older than this is discarded, seconds.
const FORGOTTEN: u64 = 120;

/// A failed probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// In words.
    pub problem: String,
    /// Pods that run may be cut off.
    pub limited: bool,
}

/// The debounce of `"status": "strict"`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StatusDebounce {
    /// When the last probe was, seconds since 1970; 0: never.
    probed: u64,
    /// When the first of the failed probes in a row was.
    failing_since: u64,
    failures: u32,
    successes: u32,
    /// The outage that is reported.
    reported: Option<Outage>,
}

impl StatusDebounce {
    /// The recorded state; empty if it cannot be read.
    pub fn load(path: &Path) -> Self {
        read::own(path, TEXT).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Remembers. Whole or not at all: others read it at any time.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        if let Some(directory) = path.parent() {
            make::directory(directory, make::PRIVATE_DIRECTORY)?;
        }
        atomic::replace(path, &serde_json::to_vec(self).map_err(io::Error::other)?, atomic::Durability::Lossy)
    }

    /// It is time for another probe. A clock that was set back makes it so, too.
    pub fn is_due(&self, now: u64) -> bool {
        now.checked_sub(self.probed).is_none_or(|age| age >= REUSED)
    }

    /// After one more probe.
    #[must_use]
    pub fn after(self, probe: Result<(), Outage>, now: u64) -> Self {
        let is_recent = now.checked_sub(self.probed).is_some_and(|age| age <= FORGOTTEN);
        let before = if is_recent { self } else { Self::default() };
        match probe {
            Ok(()) => {
                let successes = before.successes.saturating_add(1);
                let reported = before.reported.filter(|_| successes < SUCCESSES);
                Self { probed: now, failing_since: 0, failures: 0, successes, reported }
            }
            Err(trouble) => {
                let failures = before.failures.saturating_add(1);
                let failing_since = if before.failures == 0 { now } else { before.failing_since };
                let has_lasted = failures >= FAILURES && now.saturating_sub(failing_since) >= LASTING;
                let is_down = has_lasted || before.reported.is_some();
                Self { probed: now, failing_since, failures, successes: 0, reported: is_down.then_some(trouble) }
            }
        }
    }

    /// The outage to report.
    pub fn trouble(&self) -> Option<&Outage> {
        self.reported.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn down() -> Result<(), Outage> {
        Err(Outage { problem: "etcd".to_owned(), limited: false })
    }

    /// Probes at these times; whether each is reported as an outage afterwards.
    fn reports(probes: &[(u64, bool)]) -> Vec<bool> {
        let mut health = StatusDebounce::default();
        let mut reported = Vec::new();
        for (at, works) in probes {
            health = health.after(if *works { Ok(()) } else { down() }, *at);
            reported.push(health.trouble().is_some());
        }
        reported
    }

    #[test]
    fn an_outage_is_reported_when_it_has_lasted() {
        const UP: bool = true;
        const DOWN: bool = false;
        let five = [(100, DOWN), (105, DOWN), (110, DOWN), (114, DOWN), (115, DOWN)];
        assert_eq!(reports(&five), [false, false, false, false, true], "three, but over 15 s");
        assert_eq!(reports(&[(100, DOWN), (120, DOWN), (121, DOWN)]), [false, false, true], "15 s, but three");
        let wavering = [(100, DOWN), (107, DOWN), (114, UP), (121, DOWN), (128, DOWN), (130, DOWN), (136, DOWN)];
        assert_eq!(reports(&wavering), [false, false, false, false, false, false, true], "in a row");
        let over = [(100, DOWN), (108, DOWN), (116, DOWN), (120, UP), (125, DOWN), (130, UP), (135, UP), (140, DOWN)];
        assert_eq!(reports(&over), [false, false, true, true, true, true, false, false], "two successes end it");
    }

    #[test]
    fn what_is_old_or_of_the_future_is_discarded() {
        assert_eq!(reports(&[(100, false), (108, false), (300, false), (301, false)]), [false; 4]);
        assert_eq!(reports(&[(100, false), (108, false), (116, false), (50, false)]), [false, false, true, false]);
        let health = StatusDebounce::default().after(down(), 100);
        assert!(!health.is_due(100) && !health.is_due(103) && health.is_due(104) && health.is_due(99));
        assert!(StatusDebounce::default().is_due(1_000_000));
    }

    #[test]
    fn the_file_is_read_back_and_may_be_anything() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("run/status.json");
        assert_eq!(StatusDebounce::load(&path), StatusDebounce::default());
        let health = StatusDebounce::default().after(down(), 100).after(down(), 108).after(down(), 116);
        health.save(&path).expect("works");
        assert_eq!(StatusDebounce::load(&path), health);
        assert_eq!(fs::read_dir(directory.path().join("run")).expect("there").count(), 1, "nothing is left beside it");
        fs::write(&path, "{").expect("works");
        assert_eq!(StatusDebounce::load(&path), StatusDebounce::default());
    }
}
