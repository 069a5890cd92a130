//! The state across restarts: a file with the tables at some time, and a line for every later change.
//!
//! ```text
//! {"mock_controller_state":2,"dialect":"5","changes":   2,"boot":"..","ended":false}<TAB>check     the header
//! {"routers":{..},"bridges":{..}, ..}<TAB>check                                                   the tables
//! {"ports":{"..":{..}}}<TAB>check                                                                 a change
//! {"ports":{"..":null}}<TAB>check                                                                 a change
//! ```
//!
//! Written by hand, in place of an embedded database: one file that a person can read and edit, and no second format beside
//! the dump's.
//!
//! # Guarantees
//!
//! - A change is in the file before its answer is sent. A change that cannot be written is an error and leaves the file as
//!   it was.
//! - Killing the process loses nothing. A power failure may lose what the kernel had not written.
//! - The file is replaced atomically when it is rewritten, and its mode stays. Of a symbolic link the target is replaced.
//! - A damaged file is an error that names the place and the remedy; the controller never starts empty or with fewer objects.
//!   The check of a line covers the line before it, so that altered, missing, doubled and misplaced lines are found, and the
//!   header holds the number of changes. Only a last line without its end is dropped: its change was never answered.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use atoll_node::files::atomic::{self, Durability, Replacement};
use atoll_node::files::lock::{NotTaken, ProcessLock};
use atoll_node::files::{TEXT, read as files};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::controller::Persistence;
use crate::state::{Patch, Tables};
use atoll_sdn_client::Dialect;

/// Version of the format. Version 1 had neither header nor checks; it is read, and rewritten in this version.
const VERSION: u32 = 2;
/// The number of changes after which the file is rewritten, unless it holds more objects.
const REWRITE: usize = 10_000;
/// The mode of a new file.
const MODE: u32 = 0o600;
/// The start of the chain of checks.
const SEED: Uuid = Uuid::from_u128(0x6d6f_636b_2d73_7461_7465_2d66_696c_6532);
/// The most symbolic links that are followed.
const LINKS: usize = 40;

/// The largest file that is read, in bytes: a hundred times the size for a full cluster.
const LARGEST: u64 = 1 << 30;

/// The first line, whose length never changes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    mock_controller_state: u32,
    dialect: Dialect,
    /// The number of changes after the tables; padded, so that it can be overwritten.
    changes: u64,
    /// The boot id of the machine that wrote it: within one boot the kernel loses nothing.
    boot: Uuid,
    /// The program ended in order, and everything was on the disk.
    ended: bool,
}

/// The first line of version 1.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderV1 {
    #[serde(rename = "mock_controller_state")]
    _version: u32,
    dialect: Dialect,
    tables: Tables,
}

/// An error of a state file.
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
    /// Another controller uses it.
    #[error("state file {} is in use by {}: end it, or name another file", path.display(), NotTaken::holder(*process))]
    InUse {
        /// The file.
        path: PathBuf,
        /// The process of that controller, if it is known.
        process: Option<u32>,
    },
    /// Another file has replaced it while the controller ran.
    #[error(
        "state file {} was replaced by another file while this program runs: put it back, or start this program again \
         with the file that is to count",
        path.display()
    )]
    Replaced {
        /// The file.
        path: PathBuf,
    },
    /// It is not a state file, or is damaged.
    #[error(
        "state file {} is damaged in line {line}: {reason}. Nothing was changed: restore the file from a copy, or move it \
         away to start empty",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// It is of another dialect, whose objects have another meaning.
    #[error("state file {} is of dialect {found}, not {wanted}", path.display())]
    Dialect {
        /// The file.
        path: PathBuf,
        /// Its dialect.
        found: Dialect,
        /// The dialect of the controller.
        wanted: Dialect,
    },
}

/// An open state file.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    dialect: Dialect,
    boot: Uuid,
    file: File,
    /// The length of the file with every change that was persisted.
    length: u64,
    /// The check of the last line.
    check: Uuid,
    changes: u64,
    /// The number of changes after which it is rewritten.
    rewrite: u64,
}

/// Which file the path of an open file names now.
enum Identity {
    Same,
    Missing,
    Another,
}

impl StateFile {
    /// The tables of a file; `None` when there is no file.
    pub fn load(path: &Path, dialect: Dialect) -> Result<Option<Tables>, StateFileError> {
        let path = &target(path)?;
        match files::given(path, LARGEST) {
            Ok(bytes) => read(path, &bytes, Some(dialect)).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateFileError::Io { path: path.clone(), source }),
        }
    }

    /// Locks a file against other processes until the lock is dropped. The lock is a file beside it, because the file itself
    /// is replaced now and then.
    pub fn lock(path: &Path) -> Result<ProcessLock, StateFileError> {
        let path = target(path)?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(".lock");
        ProcessLock::take(Path::new(&beside)).map_err(|why| match why {
            NotTaken::Held(process) => StateFileError::InUse { path, process },
            NotTaken::Io(source) => StateFileError::Io { path: beside.into(), source },
        })
    }

    /// The tables of a file of either dialect, or of a dump (`GET /mock/dump`), to read only.
    pub fn tables_of(path: &Path) -> Result<Tables, StateFileError> {
        let bytes =
            files::given(path, LARGEST).map_err(|source| StateFileError::Io { path: path.to_owned(), source })?;
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
        let path = target(path)?;
        let boot = boot();
        let rewrite = u64::try_from(REWRITE.max(tables.ports.len() + tables.routes.len())).unwrap_or(u64::MAX);
        match write(&path, dialect, boot, tables) {
            Ok((file, length, check)) => Ok(Self { path, dialect, boot, file, length, check, changes: 0, rewrite }),
            Err(source) => Err(StateFileError::Io { path, source }),
        }
    }

    /// Adds a line for a change. After an error the file is as before.
    fn append(&mut self, patch: &Patch) -> io::Result<()> {
        let (line, check) = line(&serde_json::to_string(patch)?, self.check);
        let written =
            self.file.write_all_at(&line, self.length).and_then(|()| self.write_header(self.changes + 1, false));
        if let Err(error) = written {
            self.revert();
            return Err(error);
        }
        self.length += line.len() as u64;
        self.check = check;
        self.changes += 1;
        Ok(())
    }

    /// Removes what was written after the last persisted change. When this fails too, the next change finds that the length
    /// is wrong.
    fn revert(&self) {
        let _ = self.file.set_len(self.length);
        let _ = self.write_header(self.changes, false);
    }

    fn write_header(&self, changes: u64, ended: bool) -> io::Result<()> {
        let (header, _) = header(self.dialect, changes, self.boot, ended);
        self.file.write_all_at(&header, 0)
    }

    fn identity(&self) -> io::Result<Identity> {
        let ours = self.file.metadata()?;
        match fs::metadata(&self.path) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => Ok(Identity::Same),
            Ok(_) => Ok(Identity::Another),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Identity::Missing),
            Err(error) => Err(error),
        }
    }

    fn try_persist(&mut self, patch: &Patch, tables: &Tables) -> Result<(), StateFileError> {
        let path = self.path.clone();
        let io = |source| StateFileError::Io { path: path.clone(), source };
        if self.changes >= self.rewrite {
            match Self::create(&self.path, self.dialect, tables) {
                Ok(anew) => {
                    *self = anew;
                    return Ok(());
                }
                // The old file may still take a line.
                Err(error) => {
                    tracing::warn!(%error, "the state file could not be rewritten and continues to grow");
                    self.rewrite = self.changes + REWRITE as u64;
                }
            }
        }
        match self.identity().map_err(io)? {
            Identity::Same if self.file.metadata().map_err(io)?.len() == self.length => {}
            // It was shortened, a failed change could not be removed, or it is missing: the tables in memory count.
            Identity::Same | Identity::Missing => {
                *self = Self::create(&self.path, self.dialect, tables)?;
                return Ok(());
            }
            Identity::Another => return Err(StateFileError::Replaced { path }),
        }
        let before = (self.length, self.check, self.changes);
        self.append(patch).map_err(io)?;
        // The file may have been replaced during the write.
        let identity = self.identity();
        if matches!(identity, Ok(Identity::Same)) {
            return Ok(());
        }
        (self.length, self.check, self.changes) = before;
        self.revert();
        match identity.map_err(io)? {
            Identity::Another => Err(StateFileError::Replaced { path }),
            Identity::Same | Identity::Missing => {
                *self = Self::create(&self.path, self.dialect, tables)?;
                Ok(())
            }
        }
    }
}

impl Persistence for StateFile {
    fn persist(&mut self, change: &Patch, tables: &Tables) -> Result<(), Box<dyn std::error::Error>> {
        if change.is_empty() {
            return Ok(());
        }
        self.try_persist(change, tables).map_err(Into::into)
    }

    /// Syncs everything to the disk, and notes that in the header.
    fn close(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let end = || {
            self.file.sync_all()?;
            self.write_header(self.changes, true)?;
            self.file.sync_all()
        };
        end().map_err(|source| StateFileError::Io { path: self.path.clone(), source }.into())
    }
}

/// The file that a path names after following symbolic links; it need not exist. Only a regular file can be replaced: a
/// device or a pipe is an error.
fn target(path: &Path) -> Result<PathBuf, StateFileError> {
    let io = |source| StateFileError::Io { path: path.to_owned(), source };
    let mut target = path.to_owned();
    for _ in 0..LINKS {
        match fs::symlink_metadata(&target) {
            Ok(there) if there.is_symlink() => {
                let link = fs::read_link(&target).map_err(io)?;
                target = target.parent().unwrap_or(Path::new("")).join(link);
            }
            Ok(there) if there.is_file() => return Ok(target),
            Ok(_) => return Err(io(io::Error::new(ErrorKind::InvalidInput, "this is not a regular file"))),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(target),
            Err(error) => return Err(io(error)),
        }
    }
    Err(io(io::Error::new(ErrorKind::InvalidInput, "too many links lead to it")))
}

/// The boot id of this machine; nil where the kernel has none.
fn boot() -> Uuid {
    let text = files::text(Path::new("/proc/sys/kernel/random/boot_id"), TEXT).unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}

/// A text with its check, as a line; and the check.
fn line(text: &str, before: Uuid) -> (Vec<u8>, Uuid) {
    let check = Uuid::new_v5(&before, text.as_bytes());
    (format!("{text}\t{}\n", check.simple()).into_bytes(), check)
}

fn header(dialect: Dialect, changes: u64, boot: Uuid, ended: bool) -> (Vec<u8>, Uuid) {
    let space = if ended { " " } else { "" };
    let text = format!(
        r#"{{"mock_controller_state":{VERSION},"dialect":"{dialect}","changes":{changes:>20},"boot":"{boot}","ended":{space}{ended}}}"#
    );
    line(&text, SEED)
}

/// Replaces the file, and returns it open, with its length and the check of its last line. The caller holds its lock.
fn write(path: &Path, dialect: Dialect, boot: Uuid, tables: &Tables) -> io::Result<(File, u64, Uuid)> {
    atomic::remove_leftovers(path)?;
    let mode = fs::metadata(path).map_or(MODE, |there| there.permissions().mode() & 0o7777);
    let mut new = Replacement::create(path, mode, Durability::Lossy)?;
    // The header changes, so no later check covers it.
    let (first, _) = header(dialect, 0, boot, true);
    let (second, check) = line(&serde_json::to_string(tables)?, SEED);
    new.file().write_all(&first)?;
    new.file().write_all(&second)?;
    new.file().sync_all()?;
    let file = new.file().try_clone()?;
    new.commit()?;
    // The name is on the disk with the file, as far as the file system can do that.
    drop(atomic::sync_directory(path));
    Ok((file, (first.len() + second.len()) as u64, check))
}

/// Verifies the check of a line, and returns its text and its check. The error says what is wrong.
fn checked(line: &[u8], before: Uuid) -> Result<(&str, Uuid), String> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let text = std::str::from_utf8(line).map_err(|_| "it is not text".to_owned())?;
    let (text, given) = text.rsplit_once('\t').ok_or("it has no check")?;
    let check = Uuid::new_v5(&before, text.as_bytes());
    if given == check.simple().to_string() {
        Ok((text, check))
    } else {
        Err("its check is wrong: it was altered, or lines before it are missing, doubled or out of place".to_owned())
    }
}

fn read(path: &Path, bytes: &[u8], dialect: Option<Dialect>) -> Result<Tables, StateFileError> {
    let damaged = |line: usize, reason: String| StateFileError::Damaged { path: path.to_owned(), line, reason };
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let first = lines.first().copied().ok_or_else(|| damaged(1, "the file is empty".to_owned()))?;
    let right = |found: Dialect| match dialect.filter(|wanted| *wanted != found) {
        Some(wanted) => Err(StateFileError::Dialect { path: path.to_owned(), found, wanted }),
        None => Ok(()),
    };
    // The first line of version 1 holds the tables.
    if first.starts_with(br#"{"mock_controller_state":1,"#) {
        let header: HeaderV1 = serde_json::from_slice(first).map_err(|error| damaged(1, error.to_string()))?;
        right(header.dialect)?;
        return changes(header.tables, &lines, 1, |line| std::str::from_utf8(line).map_err(|error| error.to_string()))
            .map(|(tables, _)| tables)
            .map_err(|(line, reason)| damaged(line, reason));
    }
    let (text, _) = checked(first, SEED).map_err(|reason| damaged(1, reason))?;
    let head: Header = parse(text).map_err(|reason| damaged(1, reason))?;
    if head.mock_controller_state != VERSION {
        return Err(damaged(1, format!("format {} is not known", head.mock_controller_state)));
    }
    right(head.dialect)?;
    let second = lines.get(1).copied().ok_or_else(|| damaged(2, "the tables are missing".to_owned()))?;
    let (text, mut check) = checked(second, SEED).map_err(|reason| damaged(2, reason))?;
    let tables: Tables = parse(text).map_err(|reason| damaged(2, reason))?;
    let whole = |line| {
        let (text, next) = checked(line, check)?;
        check = next;
        Ok(text)
    };
    let (tables, found) = changes(tables, &lines, 2, whole).map_err(|(line, reason)| damaged(line, reason))?;
    if found < head.changes {
        let missing = head.changes - found;
        // Within one boot no answered change is lost, and none after an orderly end.
        if head.ended || !head.boot.is_nil() && head.boot == boot() {
            return Err(damaged(lines.len(), format!("{missing} changes that were answered are missing after it")));
        }
        tracing::warn!(path = %path.display(), missing, "the last changes were lost with the machine's power");
    }
    Ok(tables)
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Applies the lines from number `begin` on; returns the tables and the number of changes. The error has the number of the
/// line.
fn changes<'a>(
    mut tables: Tables,
    lines: &[&'a [u8]],
    begin: usize,
    mut text: impl FnMut(&'a [u8]) -> Result<&'a str, String>,
) -> Result<(Tables, u64), (usize, String)> {
    let mut count = 0;
    for (place, line) in lines.iter().enumerate().skip(begin) {
        let patch = text(line).and_then(parse::<Patch>);
        match patch {
            Ok(patch) => patch.apply(&mut tables),
            Err(_) if !line.ends_with(b"\n") => {
                tracing::warn!(line = place + 1, "the last line of the state file is incomplete and is dropped");
                break;
            }
            Err(reason) => return Err((place + 1, reason)),
        }
        count += 1;
    }
    Ok((tables, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with one change less than its header says.
    fn short(boot: Uuid, ended: bool) -> Vec<u8> {
        let (first, _) = header(Dialect::V5, 2, boot, ended);
        let (second, check) = line(&serde_json::to_string(&Tables::default()).expect("JSON"), SEED);
        let (third, _) = line("{\"read_only\":true}", check);
        [first, second, third].concat()
    }

    /// After a power failure the last changes may be missing, and the node has to start all the same.
    #[test]
    fn changes_lost_with_the_power_are_no_damage_and_all_others_are() {
        let read = |boot, ended| read(Path::new("file"), &short(boot, ended), Some(Dialect::V5));
        let other = Uuid::from_u128(1);
        assert!(!boot().is_nil(), "this kernel has a boot id");
        let lost = read(other, false).expect("another boot");
        assert!(lost.read_only, "what is there is taken");
        assert!(matches!(read(boot(), false), Err(StateFileError::Damaged { line: 3, .. })), "the same boot");
        assert!(matches!(read(other, true), Err(StateFileError::Damaged { line: 3, .. })), "an orderly end");
        assert!(read(Uuid::nil(), false).is_ok(), "a boot that is not known");
    }

    #[test]
    fn the_header_never_changes_its_length() {
        let lengths = [(0, true), (0, false), (9, true), (10_000, false), (u64::MAX, false)]
            .map(|(changes, ended)| header(Dialect::V5, changes, Uuid::nil(), ended).0.len());
        assert!(lengths.iter().all(|length| *length == lengths[0]), "{lengths:?}");
    }
}
