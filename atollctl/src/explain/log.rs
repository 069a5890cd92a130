//! The lines of the plugin's log about a pod: the last warnings and errors, from the end of the file.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use atoll_node::files::read;
use serde::Serialize;
use serde_json::Value;

/// How much of the end of the log is read, bytes.
const TAIL: u64 = 1 << 20;
/// How many lines are shown.
const LINES: usize = 5;

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    pub(super) time: String,
    pub(super) level: String,
    pub(super) text: String,
}

/// The last warnings and errors that `concerns`, also from the last rotated file; a log that does not exist has
/// none.
pub(super) fn last(file: &Path, concerns: impl Fn(&Value) -> bool) -> io::Result<Vec<Line>> {
    let aside = PathBuf::from(format!("{}.1", file.display()));
    let text = format!("{}\n{}", tail(&aside)?, tail(file)?);
    Ok(pick(&text, concerns))
}

/// The end of a file.
fn tail(file: &Path) -> io::Result<String> {
    let mut file = match read::open_given(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        other => other?,
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut text = Vec::new();
    file.take(TAIL).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn pick(text: &str, concerns: impl Fn(&Value) -> bool) -> Vec<Line> {
    // The first line may be truncated; like every line that is not JSON, it is left out.
    let values = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let bad = values.filter(|value| matches!(value["level"].as_str(), Some("WARN" | "ERROR")) && concerns(value));
    let lines: Vec<Line> = bad.map(|value| line(&value)).collect();
    lines[lines.len().saturating_sub(LINES)..].to_vec()
}

fn line(value: &Value) -> Line {
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    let message = ["command", "message", "error", "note"].into_iter().filter_map(text).collect::<Vec<_>>().join(": ");
    Line { time: text("time").unwrap_or_default(), level: text("level").unwrap_or_default(), text: message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_warnings_and_errors_are_picked() {
        let line = |level: &str, container: &str, n: usize| {
            format!(
                r#"{{"time":"t{n}","level":"{level}","message":"failed","command":"ADD","container":"{container}","error":"e{n}"}}"#
            )
        };
        let mut all = vec!["cut short\"}".to_owned(), line("INFO", "a", 0), line("ERROR", "b", 1)];
        all.extend((2..9).map(|n| line("ERROR", "a", n)));
        let picked = pick(&all.join("\n"), |value| value["container"] == "a");
        let texts: Vec<_> = picked.iter().map(|line| (line.time.as_str(), line.text.as_str())).collect();
        assert_eq!(texts.len(), LINES);
        assert_eq!(texts.last(), Some(&("t8", "ADD: failed: e8")));
        assert_eq!(last(Path::new("/nowhere/log"), |_| true).expect("no log is no error"), []);
    }
}
