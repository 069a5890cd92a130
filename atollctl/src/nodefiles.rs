//! The plugin's files on this node, as somebody sees them who only looks: locks and progress in
//! `<runDir>/attachments/`, local tombstones in `<stateDir>/tombstones/`. See `docs/design/attachment.md`.
//!
//! Promises: nothing is written here but by [`ProgressFile::remove`]; a lock is only tried, never waited for and never
//! kept; what cannot be read is told as such and hides nothing else.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use atoll_model::attachment::Attachment;
use atoll_node::files::trouble::named;
use atoll_node::files::{RECORD, read};
use atoll_node::paths;
use atoll_records::{ClaimRecord, TombstoneRecord, decode};
use serde::Deserialize;

/// Whether a process works on an attachment now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    Held,
    Free,
}

/// A progress file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ProgressFile {
    pub(crate) path: PathBuf,
    /// The attachment's hash: the file's name.
    pub(crate) hash: String,
    pub(crate) lock: Lock,
    pub(crate) progress: Progress,
    /// When it was last written, seconds since 1970.
    pub(crate) written: u64,
}

/// What a progress file says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Progress {
    /// An ADD has begun. With a free lock: it died.
    Adding(Option<Box<ClaimRecord>>),
    /// An ADD was finished.
    Done(Option<Box<ClaimRecord>>),
    /// Nothing, or nothing that can be read: an ADD has just begun, or died while it wrote.
    Unreadable,
}

impl Progress {
    pub(crate) fn claim(&self) -> Option<&ClaimRecord> {
        match self {
            Self::Adding(claim) | Self::Done(claim) => claim.as_deref(),
            Self::Unreadable => None,
        }
    }
}

/// The part of the file's shape that is looked at here.
#[derive(Deserialize)]
struct Shape {
    state: State,
    #[serde(default)]
    claim: Option<Versioned>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Adding,
    Done,
}

#[derive(Deserialize)]
struct Versioned {
    record: Box<ClaimRecord>,
}

/// All progress files of this node.
pub(crate) fn all_progress(run_dir: &Path) -> io::Result<Vec<ProgressFile>> {
    let mut files = Vec::new();
    for path in entries(&paths::attachments(run_dir))? {
        files.extend(read_progress(&path)?);
    }
    Ok(files)
}

/// The progress file of one attachment.
pub(crate) fn progress_of(run_dir: &Path, attachment: &Attachment) -> io::Result<Option<ProgressFile>> {
    read_progress(&paths::attachments(run_dir).join(attachment.hash()))
}

fn open(path: &Path) -> io::Result<File> {
    read::open_own(path, OpenOptions::new().read(true))
}

/// None: it is not there, or went while it was looked at.
fn read_progress(path: &Path) -> io::Result<Option<ProgressFile>> {
    let file = match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // No file of ours.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(None),
        other => other?,
    };
    // Shared: two who look do not lock each other out. An ADD or a DEL that comes in these microseconds tries again.
    let lock = match file.try_lock_shared() {
        Ok(()) => Lock::Free,
        Err(TryLockError::WouldBlock) => Lock::Held,
        Err(TryLockError::Error(error)) => return Err(error),
    };
    let metadata = file.metadata()?;
    let text = match read::contents(&file, RECORD) {
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Vec::new(),
        other => other?,
    };
    if lock == Lock::Free && metadata.nlink() == 0 {
        return Ok(None);
    }
    let claim = |claim: Option<Versioned>| claim.map(|versioned| versioned.record);
    let progress = match serde_json::from_slice(&text) {
        Ok(Shape { state: State::Adding, claim: found }) => Progress::Adding(claim(found)),
        Ok(Shape { state: State::Done, claim: found }) => Progress::Done(claim(found)),
        Err(_) => Progress::Unreadable,
    };
    Ok(Some(ProgressFile {
        path: path.to_owned(),
        hash: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        lock,
        progress,
        written: u64::try_from(metadata.mtime()).unwrap_or(0),
    }))
}

impl ProgressFile {
    /// Removes the file if it still is the one that was looked at and nobody works on it. False: it was left alone.
    /// The rule is the plugin's: whoever removes a lock file holds its lock.
    pub(crate) fn remove(&self) -> io::Result<bool> {
        let file = match open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            other => other?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let Some(now) = read_locked(&self.path, &file)? else { return Ok(false) };
        if now != self.written {
            return Ok(false);
        }
        fs::remove_file(&self.path)?;
        Ok(true)
    }
}

/// When the file at `path` was written, if it still is the one that is locked.
fn read_locked(path: &Path, locked: &File) -> io::Result<Option<u64>> {
    let there = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let same = there.ino() == locked.metadata()?.ino();
    Ok(same.then(|| u64::try_from(there.mtime()).unwrap_or(0)))
}

/// A local tombstone; none: the file cannot be read.
pub(crate) type Grave = (PathBuf, Option<TombstoneRecord>);

/// All local tombstones of this node.
pub(crate) fn graves(state_dir: &Path) -> io::Result<Vec<Grave>> {
    let paths = entries(&paths::tombstones(state_dir))?;
    // A name with a dot is one that is being written.
    let visible = paths.into_iter().filter(|path| !file_name(path).starts_with('.'));
    Ok(visible.map(|path| (path.clone(), read::own(&path, RECORD).ok().and_then(|text| decode(&text).ok()))).collect())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What is in a directory, by name; one that is not there is empty.
pub(crate) fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let names = read::names(directory, |_| true).map_err(named(directory))?;
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
        fs::create_dir_all(directory.join("attachments")).expect("made");
        let path = directory.join("attachments").join(name);
        fs::write(&path, text).expect("written");
        path
    }

    #[test]
    fn files_are_read_whatever_is_in_them_and_locks_are_seen() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(all_progress(directory.path()).expect("works"), []);
        write(directory.path(), "a", r#"{"state":"adding","unsettledUntil":0,"later":1}"#);
        write(directory.path(), "b", r#"{"state":"done"}"#);
        let torn = write(directory.path(), "c", r#"{"state":"do"#);
        let held = File::open(&torn).expect("there");
        held.lock().expect("free");
        let seen = all_progress(directory.path()).expect("works");
        let seen: Vec<_> = seen.iter().map(|file| (file.hash.as_str(), file.lock, file.progress.clone())).collect();
        assert_eq!(
            seen,
            [
                ("a", Lock::Free, Progress::Adding(None)),
                ("b", Lock::Free, Progress::Done(None)),
                ("c", Lock::Held, Progress::Unreadable)
            ]
        );
    }

    #[test]
    fn a_file_is_removed_only_while_it_is_the_one_that_was_seen_and_nobody_has_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = write(directory.path(), "a", r#"{"state":"adding"}"#);
        let look = || all_progress(directory.path()).expect("works").pop().expect("one");
        let held = File::open(&path).expect("there");
        held.lock().expect("free");
        assert!(!look().remove().expect("works"), "somebody works on it");
        drop(held);
        let seen = look();
        File::open(&path).expect("there").set_modified(std::time::UNIX_EPOCH).expect("set");
        assert!(!seen.remove().expect("works"), "it was written meanwhile");
        assert!(path.exists());
        assert!(look().remove().expect("works") && !path.exists());
        assert!(seen.remove().expect("works"), "gone already is fine");
    }
}
