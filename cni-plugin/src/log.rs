//! The log: JSON lines in a file.
//!
//! Promises: a line is one write at the end of the file, so that calls which run at once do not mix theirs; the file is
//! readable by root alone; a log that cannot be opened never fails a call; what came on standard input is not logged.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use atoll_model::config::LogConfig;
use tracing::level_filters::LevelFilter;

/// Begins to log as configured.
pub fn begin(config: &LogConfig) {
    let Some(path) = &config.file else { return };
    // Without a log is better than without pods.
    let Ok(file) = open(path) else { return };
    let level = config.level.parse().unwrap_or(LevelFilter::INFO);
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_target(false)
        .with_max_level(level)
        .with_writer(Arc::new(file))
        .finish();
    // Somebody else's subscriber is there in tests only.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_json_and_private() {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a/b/cni.log");
        begin(&LogConfig { file: Some(path.clone()), level: "info".to_owned() });
        tracing::info!(attachment = "x", "first\nline");
        tracing::debug!("not this one");
        tracing::warn!("second");
        let text = std::fs::read_to_string(&path).expect("written");
        let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!((&lines[0]["message"], &lines[0]["attachment"]), (&"first\nline".into(), &"x".into()));
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        begin(&LogConfig { file: Some("/proc/no/such".into()), level: "info".to_owned() });
    }
}
