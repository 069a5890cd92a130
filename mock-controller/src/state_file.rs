//! The state across restarts: a file with the tables at some time, and a line for every change since.
//!
//! Promises: what was answered is in the file before the answer leaves, so that killing the process loses nothing (a
//! power failure may lose what the kernel had not written; this is a mock). The file is replaced atomically when it is
//! rewritten. A damaged file is an error that says where, never an empty start; only a last line without its end, which
//! nobody was told of, is dropped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use atoll_dataplane::{Lock, NotTaken};
use serde::{Deserialize, Serialize};

use crate::dialect::Dialect;
use crate::state::{Patch, Tables};

/// Version of the format.
const VERSION: u32 = 1;
/// After so many changes the file is rewritten, unless it holds more objects than that.
const REWRITE: usize = 10_000;

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head<T> {
    mock_controller_state: u32,
    dialect: Dialect,
    tables: T,
}

/// What is wrong with a state file.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// It could not be read or written.
    #[error("state file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another controller writes it.
    #[error("state file {} is in use by {}: end it, or name another file", path.display(), NotTaken::holder(*process))]
    InUse {
        /// The file.
        path: PathBuf,
        /// Who writes it, if that is known.
        process: Option<u32>,
    },
    /// It is not a state file, or was damaged.
    #[error("state file {} is damaged in line {line}: {reason}; move it away to start empty", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What was found there.
        reason: String,
    },
    /// It was written in another dialect, whose objects do not mean the same.
    #[error("state file {} is of dialect {found}, not {wanted}", path.display())]
    Dialect {
        /// The file.
        path: PathBuf,
        /// What it was written in.
        found: Dialect,
        /// What was asked for.
        wanted: Dialect,
    },
}

/// An open state file.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    dialect: Dialect,
    file: File,
    lines: usize,
    /// The last line may be torn: rewrite before the next one.
    broken: bool,
}

impl StateFile {
    /// The tables of a file; none when there is no file.
    pub fn load(path: &Path, dialect: Dialect) -> Result<Option<Tables>, StateFileError> {
        match fs::read(path) {
            Ok(bytes) => read(path, &bytes, Some(dialect)).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateFileError::Io { path: path.to_owned(), source }),
        }
    }

    /// Keeps other processes away from a file, as long as the lock lives. It is beside the file, which is replaced now
    /// and then.
    pub fn lock(path: &Path) -> Result<Lock, StateFileError> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".lock");
        Lock::take(Path::new(&beside)).map_err(|why| match why {
            NotTaken::Held(process) => StateFileError::InUse { path: path.to_owned(), process },
            NotTaken::Io(source) => StateFileError::Io { path: beside.into(), source },
        })
    }

    /// The tables of a file of either dialect, or of a dump (`GET /mock/dump`): to look at, not to go on from.
    pub fn look(path: &Path) -> Result<Tables, StateFileError> {
        let bytes = fs::read(path).map_err(|source| StateFileError::Io { path: path.to_owned(), source })?;
        // A dump has every table, also an empty one. Anything else has to be a state file.
        let dump =
            serde_json::from_slice::<serde_json::Value>(&bytes).ok().filter(|dump| dump.get("routers").is_some());
        let damaged = |error: serde_json::Error| StateFileError::Damaged {
            path: path.to_owned(),
            line: error.line(),
            reason: error.to_string(),
        };
        match dump {
            Some(_) => serde_json::from_slice(&bytes).map_err(damaged),
            None => read(path, &bytes, None),
        }
    }

    /// Writes a file with these tables and keeps it open for changes.
    pub fn create(path: &Path, dialect: Dialect, tables: &Tables) -> Result<Self, StateFileError> {
        let file =
            write(path, dialect, tables).map_err(|source| StateFileError::Io { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), dialect, file, lines: 0, broken: false })
    }

    /// Adds a change; `tables` is what it leads to, for the case that the file is better written anew.
    pub fn append(&mut self, patch: &Patch, tables: &Tables) -> Result<(), StateFileError> {
        if patch.is_empty() && !self.broken {
            return Ok(());
        }
        if self.broken || self.lines >= REWRITE.max(tables.ports.len() + tables.routes.len()) {
            *self = Self::create(&self.path, self.dialect, tables)?;
            return Ok(());
        }
        let written = line(patch).and_then(|line| self.file.write_all(&line));
        self.lines += 1;
        self.broken = written.is_err();
        written.map_err(|source| StateFileError::Io { path: self.path.clone(), source })
    }
}

fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// Writes beside the file and moves it there, so that there is always a whole one.
fn write(path: &Path, dialect: Dialect, tables: &Tables) -> io::Result<File> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&beside)?;
    file.write_all(&line(&Head { mock_controller_state: VERSION, dialect, tables })?)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    Ok(file)
}

fn read(path: &Path, bytes: &[u8], dialect: Option<Dialect>) -> Result<Tables, StateFileError> {
    let damaged = |line: usize, reason: String| StateFileError::Damaged { path: path.to_owned(), line, reason };
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate();
    let (_, first) = lines.next().ok_or_else(|| damaged(1, "it is empty".to_owned()))?;
    let head: Head<Tables> = serde_json::from_slice(first).map_err(|error| damaged(1, error.to_string()))?;
    if head.mock_controller_state != VERSION {
        return Err(damaged(1, format!("format {} is not known", head.mock_controller_state)));
    }
    if let Some(wanted) = dialect.filter(|wanted| *wanted != head.dialect) {
        return Err(StateFileError::Dialect { path: path.to_owned(), found: head.dialect, wanted });
    }
    let mut tables = head.tables;
    for (number, line) in lines {
        if !line.ends_with(b"\n") {
            tracing::warn!(path = %path.display(), line = number + 1, "the last line has no end and is dropped");
            break;
        }
        let patch: Patch = serde_json::from_slice(line).map_err(|error| damaged(number + 1, error.to_string()))?;
        patch.apply(&mut tables);
    }
    Ok(tables)
}
