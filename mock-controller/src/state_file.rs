//! The state across restarts: a file with the tables at some time, and a line for every change since.
//!
//! ```text
//! {"mock_controller_state":2,"dialect":"5","changes":   2,"boot":"..","ended":false}<TAB>check     the tally
//! {"routers":{..},"bridges":{..}, ..}<TAB>check                                                   the tables
//! {"ports":{"..":{..}}}<TAB>check                                                                 a change
//! {"ports":{"..":null}}<TAB>check                                                                 a change
//! ```
//!
//! Promises: a change that was answered is in the file before the answer leaves, and one that the file cannot take is an
//! error that leaves the file as it was. Killing the process loses nothing; a power failure may lose what the kernel had
//! not written; this is a mock. The file is replaced atomically when it is rewritten; where it is named by a link, what
//! the link leads to is replaced, and its mode stays. A damaged file is an error that says where and what to do, never an
//! empty start and never fewer objects: the check of a line covers the line before it, so that a line which is altered,
//! missing, doubled or out of place is noticed, and the tally says how many changes there are. Only a last line without
//! its end, whose change was never answered, is dropped.

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

use crate::controller::Keeper;
use crate::dialect::Dialect;
use crate::state::{Patch, Tables};

/// Version of the format. Version 1 had no tally and no checks; it is read, and written in this version.
const VERSION: u32 = 2;
/// After so many changes the file is rewritten, unless it holds more objects than that.
const REWRITE: usize = 10_000;
/// The mode of a new file.
const MODE: u32 = 0o600;
/// What the check of the first line covers.
const SEED: Uuid = Uuid::from_u128(0x6d6f_636b_2d73_7461_7465_2d66_696c_6532);
/// How many links are followed to the file.
const LINKS: usize = 40;

/// The largest file that is read, in bytes: a hundred times what a full cluster takes.
const LARGEST: u64 = 1 << 30;

/// The first line, whose length never changes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tally {
    mock_controller_state: u32,
    dialect: Dialect,
    /// How many changes follow the tables; padded, so that it can be written over.
    changes: u64,
    /// Which life of the machine wrote it: within one, the kernel loses nothing.
    boot: Uuid,
    /// The program ended in order, and everything was on the disk.
    ended: bool,
}

/// The first line of version 1.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OldHead {
    #[serde(rename = "mock_controller_state")]
    _version: u32,
    dialect: Dialect,
    tables: Tables,
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
    /// Another file has taken its place while the controller ran.
    #[error(
        "state file {} was replaced by another file while this program runs: put it back, or start this program again \
         with the file that is to count",
        path.display()
    )]
    Replaced {
        /// The file.
        path: PathBuf,
    },
    /// It is not a state file, or was damaged.
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
    boot: Uuid,
    file: File,
    /// How long the file is with every change that was kept.
    length: u64,
    /// The check of the last line.
    check: Uuid,
    changes: u64,
    /// After how many changes it is rewritten.
    rewrite: u64,
}

/// What stands under the path of an open file.
enum Place {
    Ours,
    Nothing,
    Another,
}

impl StateFile {
    /// The tables of a file; none when there is no file.
    pub fn load(path: &Path, dialect: Dialect) -> Result<Option<Tables>, StateFileError> {
        let path = &target(path)?;
        match files::given(path, LARGEST) {
            Ok(bytes) => read(path, &bytes, Some(dialect)).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateFileError::Io { path: path.clone(), source }),
        }
    }

    /// Keeps other processes away from a file, as long as the lock lives. It is beside the file, which is replaced now
    /// and then.
    pub fn lock(path: &Path) -> Result<ProcessLock, StateFileError> {
        let path = target(path)?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(".lock");
        ProcessLock::take(Path::new(&beside)).map_err(|why| match why {
            NotTaken::Held(process) => StateFileError::InUse { path, process },
            NotTaken::Io(source) => StateFileError::Io { path: beside.into(), source },
        })
    }

    /// The tables of a file of either dialect, or of a dump (`GET /mock/dump`): to look at, not to go on from.
    pub fn look(path: &Path) -> Result<Tables, StateFileError> {
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

    /// Adds a line for a change, and leaves no trace where that fails.
    fn append(&mut self, patch: &Patch) -> io::Result<()> {
        let (line, check) = line(&serde_json::to_string(patch)?, self.check);
        let written =
            self.file.write_all_at(&line, self.length).and_then(|()| self.write_tally(self.changes + 1, false));
        if let Err(error) = written {
            self.take_back();
            return Err(error);
        }
        self.length += line.len() as u64;
        self.check = check;
        self.changes += 1;
        Ok(())
    }

    /// Takes back what was written after the last change that counts. Where this fails too, the next change finds another
    /// length than it should.
    fn take_back(&self) {
        let _ = self.file.set_len(self.length);
        let _ = self.write_tally(self.changes, false);
    }

    fn write_tally(&self, changes: u64, ended: bool) -> io::Result<()> {
        let (tally, _) = tally(self.dialect, changes, self.boot, ended);
        self.file.write_all_at(&tally, 0)
    }

    fn place(&self) -> io::Result<Place> {
        let ours = self.file.metadata()?;
        match fs::metadata(&self.path) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => Ok(Place::Ours),
            Ok(_) => Ok(Place::Another),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Place::Nothing),
            Err(error) => Err(error),
        }
    }

    fn try_keep(&mut self, patch: &Patch, tables: &Tables) -> Result<(), StateFileError> {
        let path = self.path.clone();
        let io = |source| StateFileError::Io { path: path.clone(), source };
        if self.changes >= self.rewrite {
            match Self::create(&self.path, self.dialect, tables) {
                Ok(anew) => {
                    *self = anew;
                    return Ok(());
                }
                // It may still take a line.
                Err(error) => {
                    tracing::warn!(%error, "the state file could not be rewritten and grows on");
                    self.rewrite = self.changes + REWRITE as u64;
                }
            }
        }
        match self.place().map_err(io)? {
            Place::Ours if self.file.metadata().map_err(io)?.len() == self.length => {}
            // It was shortened, or a failed change could not be taken back, or it is gone: what counts is here.
            Place::Ours | Place::Nothing => {
                *self = Self::create(&self.path, self.dialect, tables)?;
                return Ok(());
            }
            Place::Another => return Err(StateFileError::Replaced { path }),
        }
        let before = (self.length, self.check, self.changes);
        self.append(patch).map_err(io)?;
        // What happened while it was written.
        let place = self.place();
        if matches!(place, Ok(Place::Ours)) {
            return Ok(());
        }
        (self.length, self.check, self.changes) = before;
        self.take_back();
        match place.map_err(io)? {
            Place::Another => Err(StateFileError::Replaced { path }),
            Place::Ours | Place::Nothing => {
                *self = Self::create(&self.path, self.dialect, tables)?;
                Ok(())
            }
        }
    }
}

impl Keeper for StateFile {
    fn keep(&mut self, change: &Patch, tables: &Tables) -> Result<(), Box<dyn std::error::Error>> {
        if change.is_empty() {
            return Ok(());
        }
        self.try_keep(change, tables).map_err(Into::into)
    }

    /// Everything is put on the disk, and the tally says that it is.
    fn close(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let end = || {
            self.file.sync_all()?;
            self.write_tally(self.changes, true)?;
            self.file.sync_all()
        };
        end().map_err(|source| StateFileError::Io { path: self.path.clone(), source }.into())
    }
}

/// The file that a path names, when links are followed; what it leads to need not be there. Only a regular file can be
/// replaced: a device or a pipe under this name is an error.
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

/// Which life of the machine this is; nil where the kernel does not say.
fn boot() -> Uuid {
    let text = files::text(Path::new("/proc/sys/kernel/random/boot_id"), TEXT).unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}

/// A text with its check, as a line; and the check.
fn line(text: &str, before: Uuid) -> (Vec<u8>, Uuid) {
    let check = Uuid::new_v5(&before, text.as_bytes());
    (format!("{text}\t{}\n", check.simple()).into_bytes(), check)
}

fn tally(dialect: Dialect, changes: u64, boot: Uuid, ended: bool) -> (Vec<u8>, Uuid) {
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
    // The tally changes, so that no check covers it.
    let (first, _) = tally(dialect, 0, boot, true);
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

/// A line without its check, which must be right; and the check. The error is what is wrong with it.
fn checked(line: &[u8], before: Uuid) -> Result<(&str, Uuid), String> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let text = std::str::from_utf8(line).map_err(|_| "it is no text".to_owned())?;
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
    // Version 1 begins with its tables.
    if first.starts_with(br#"{"mock_controller_state":1,"#) {
        let head: OldHead = serde_json::from_slice(first).map_err(|error| damaged(1, error.to_string()))?;
        right(head.dialect)?;
        return changes(head.tables, &lines, 1, |line| std::str::from_utf8(line).map_err(|error| error.to_string()))
            .map(|(tables, _)| tables)
            .map_err(|(line, reason)| damaged(line, reason));
    }
    let (text, _) = checked(first, SEED).map_err(|reason| damaged(1, reason))?;
    let tally: Tally = parse(text).map_err(|reason| damaged(1, reason))?;
    if tally.mock_controller_state != VERSION {
        return Err(damaged(1, format!("format {} is not known", tally.mock_controller_state)));
    }
    right(tally.dialect)?;
    let second = lines.get(1).copied().ok_or_else(|| damaged(2, "the tables are missing".to_owned()))?;
    let (text, mut check) = checked(second, SEED).map_err(|reason| damaged(2, reason))?;
    let tables: Tables = parse(text).map_err(|reason| damaged(2, reason))?;
    let whole = |line| {
        let (text, next) = checked(line, check)?;
        check = next;
        Ok(text)
    };
    let (tables, found) = changes(tables, &lines, 2, whole).map_err(|(line, reason)| damaged(line, reason))?;
    if found < tally.changes {
        let missing = tally.changes - found;
        // In one life of the machine no answered change is lost, and none after an orderly end.
        if tally.ended || !tally.boot.is_nil() && tally.boot == boot() {
            return Err(damaged(lines.len(), format!("{missing} changes that were answered are missing after it")));
        }
        tracing::warn!(path = %path.display(), missing, "the last changes were lost with the machine's power");
    }
    Ok(tables)
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Applies the lines after the first `begin`; the tables, and how many changes there were. The error has the number of
/// the line.
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
                tracing::warn!(line = place + 1, "the last line of the state file has no end and is dropped");
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

    /// A file with one change less than its tally says.
    fn short(boot: Uuid, ended: bool) -> Vec<u8> {
        let (first, _) = tally(Dialect::V5, 2, boot, ended);
        let (second, check) = line(&serde_json::to_string(&Tables::default()).expect("JSON"), SEED);
        let (third, _) = line("{\"read_only\":true}", check);
        [first, second, third].concat()
    }

    /// After a power failure the last changes may be missing, and the node has to start all the same.
    #[test]
    fn what_the_power_took_is_no_damage_and_everything_else_is() {
        let read = |boot, ended| read(Path::new("file"), &short(boot, ended), Some(Dialect::V5));
        let other = Uuid::from_u128(1);
        assert!(!boot().is_nil(), "this kernel says which life it is");
        let lost = read(other, false).expect("another life of the machine");
        assert!(lost.read_only, "what is there is taken");
        assert!(matches!(read(boot(), false), Err(StateFileError::Damaged { line: 3, .. })), "the same life");
        assert!(matches!(read(other, true), Err(StateFileError::Damaged { line: 3, .. })), "an orderly end");
        assert!(read(Uuid::nil(), false).is_ok(), "a life that is not known");
    }

    #[test]
    fn the_tally_never_changes_its_length() {
        let lengths = [(0, true), (0, false), (9, true), (10_000, false), (u64::MAX, false)]
            .map(|(changes, ended)| tally(Dialect::V5, changes, Uuid::nil(), ended).0.len());
        assert!(lengths.iter().all(|length| *length == lengths[0]), "{lengths:?}");
    }
}
