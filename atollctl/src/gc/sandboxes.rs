//! The existing containers: from the sockets of runtimes, or from a list.
//!
//! An id in a list may be abbreviated, as tools print it: a container whose id begins with it counts as existing.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use atoll_node::files::LIST;
use serde_json::Value;

use crate::failure::Failure;
use crate::runtime::{cri, sockets};

/// Shorter prefixes of an id match nothing.
const SHORTEST: usize = 12;

/// The source of the list.
pub(crate) enum Source {
    /// Runtimes, by their sockets; all of them must answer.
    Runtimes(Vec<PathBuf>),
    /// A file, read at each observation.
    File(PathBuf),
    /// Standard input, read once.
    Input(Option<Sandboxes>),
}

/// The existing containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sandboxes(BTreeSet<String>);

impl Sandboxes {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    pub(super) fn has(&self, container: &str) -> bool {
        self.0.contains(container) || self.0.iter().any(|id| id.len() >= SHORTEST && container.starts_with(id.as_str()))
    }

    /// One id a line, empty lines and lines with `#` left out; or JSON: a list of ids, of objects with an id, or an
    /// object with such a list as `items` (`crictl pods -o json`, `podman ps --format json`).
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with(['[', '{']) {
            let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
            let list = value.get("items").unwrap_or(&value).as_array().ok_or("a list of containers is expected")?;
            let id = |value: &Value| {
                let named = ["id", "Id", "ID"].iter().find_map(|key| value.get(key));
                named.unwrap_or(value).as_str().filter(|id| !id.is_empty()).map(str::to_owned)
            };
            let ids = list.iter().map(|item| id(item).ok_or_else(|| format!("{item} has no id")));
            return Ok(Self(ids.collect::<Result<_, _>>()?));
        }
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let checked = lines.map(|line| match line.split_whitespace().count() {
            1 => Ok(line.to_owned()),
            _ => Err(format!("{line:?} is no container id: one id a line is expected")),
        });
        Ok(Self(checked.collect::<Result<_, _>>()?))
    }
}

impl FromIterator<String> for Sandboxes {
    fn from_iter<I: IntoIterator<Item = String>>(ids: I) -> Self {
        Self(ids.into_iter().collect())
    }
}

impl Source {
    /// A list; `-` is standard input.
    pub(crate) fn list(file: &Path) -> Self {
        if file == Path::new("-") { Self::Input(None) } else { Self::File(file.to_owned()) }
    }

    /// The runtimes that listen at `endpoints`, else those that listen where runtimes usually do.
    pub(super) fn choose(list: Option<&Path>, endpoints: &[PathBuf]) -> Result<Self, Failure> {
        if let Some(file) = list {
            return Ok(Self::list(file));
        }
        let plain = |socket: &PathBuf| {
            let text = socket.display().to_string();
            text.strip_prefix("unix://").map_or_else(|| socket.clone(), PathBuf::from)
        };
        let given: Vec<_> = endpoints.iter().map(plain).collect();
        if !given.is_empty() {
            return Ok(Self::Runtimes(given));
        }
        // A socket that cannot be inspected is asked: its error has the cause.
        let there: Vec<_> = sockets().filter(|socket| socket.try_exists().unwrap_or(true)).collect();
        if there.is_empty() {
            let places: Vec<_> = sockets().map(|socket| socket.display().to_string()).collect();
            return Err(Failure::config(format!(
                "no container runtime listens at {}: name its socket with --runtime-endpoint, or give a list with --sandboxes",
                places.join(" or ")
            )));
        }
        Ok(Self::Runtimes(there))
    }

    /// Reads the list. A failure of one runtime is a failure of all: a partial list is not used.
    pub(crate) async fn ask(&mut self) -> Result<Sandboxes, Failure> {
        let wrong = |what: String, why: String| Failure::unavailable(format!("{what}: {why}"), "nothing was collected");
        match self {
            Self::Runtimes(sockets) => {
                let mut all = Sandboxes::default();
                for socket in sockets {
                    let asked = cri::list(socket).await;
                    let answer =
                        asked.map_err(|why| wrong(format!("the runtime at {}", socket.display()), why.to_string()))?;
                    tracing::debug!(runtime = answer.runtime, sandboxes = answer.sandboxes.len(), "asked");
                    all.0.extend(answer.sandboxes);
                }
                Ok(all)
            }
            Self::File(file) => {
                let text = list(file).map_err(|error| error.to_string());
                text.and_then(|text| Sandboxes::parse(&text)).map_err(|why| wrong(file.display().to_string(), why))
            }
            Self::Input(Some(sandboxes)) => Ok(sandboxes.clone()),
            Self::Input(none) => {
                let mut text = String::new();
                let read = std::io::stdin().lock().take(LIST).read_to_string(&mut text);
                let parsed = read.map_err(|error| error.to_string()).and_then(|_| Sandboxes::parse(&text));
                let sandboxes = parsed.map_err(|why| wrong("standard input".to_owned(), why))?;
                *none = Some(sandboxes.clone());
                Ok(sandboxes)
            }
        }
    }
}

/// The file that the command line names. It may be a pipe (`<(podman ps ...)`): the command waits for its writer.
fn list(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(LIST).read_to_string(&mut text)?;
    Ok(text)
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtimes(sockets) => {
                let all: Vec<_> = sockets.iter().map(|socket| socket.display().to_string()).collect();
                write!(f, "the runtime at {}", all.join(", "))
            }
            Self::File(file) => write!(f, "the list {}", file.display()),
            Self::Input(_) => f.write_str("the list on standard input"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_tools_print_them() {
        let wanted: Sandboxes = ["aaaaaaaaaaaaaaaa", "b"].map(str::to_owned).into_iter().collect();
        for text in [
            "# sandboxes\naaaaaaaaaaaaaaaa\n\n  b \n",
            r#"["aaaaaaaaaaaaaaaa", "b"]"#,
            r#"{"items": [{"id": "aaaaaaaaaaaaaaaa", "state": "SANDBOX_READY"}, {"id": "b"}]}"#,
            r#"[{"Id": "aaaaaaaaaaaaaaaa"}, {"Id": "b"}]"#,
        ] {
            assert_eq!(Sandboxes::parse(text).as_ref(), Ok(&wanted), "{text}");
        }
        assert_eq!(Sandboxes::parse("\n# none\n"), Ok(Sandboxes::default()));
        for bad in ["CONTAINER ID\n", "[1]", r#"{"items": 1}"#, "[", r#"[{"id": ""}]"#, r#"{"id": "a"}"#] {
            assert!(Sandboxes::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_short_id_keeps_what_begins_with_it() {
        let list: Sandboxes = ["0123456789ab", "short"].map(str::to_owned).into_iter().collect();
        assert!(list.has("0123456789abcdef") && list.has("short"));
        assert!(!list.has("shortest") && !list.has("0123456789a"));
    }
}
