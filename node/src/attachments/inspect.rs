//! Reading attachment states without working on an attachment: what `atollctl` shows, and removes when an operator asks.
//!
//! # Guarantees
//! Nothing is written here but by [`remove`]. A lock is only tried, never waited for and never kept. A state that
//! cannot be read is reported as such and does not hide another one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use atoll_model::attachment::Attachment;

use super::state::AttachmentState;
use crate::files::trouble::named;
use crate::files::{RECORD, lock, read};
use crate::paths;

/// The file of an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachmentFile {
    /// Where it is.
    pub path: PathBuf,
    /// The attachment's hash: the file's name.
    pub hash: String,
    /// A process works on the attachment now.
    pub is_locked: bool,
    /// The state. None: the file has none, or none that can be read: an ADD has just begun, or died while it wrote.
    pub state: Option<AttachmentState>,
    /// When it was last written, seconds since 1970.
    pub written: u64,
}

/// The files of all attachments of this node.
///
/// # Errors
/// The error of the file system.
pub fn all(run_dir: &Path) -> io::Result<Vec<AttachmentFile>> {
    let directory = paths::attachments(run_dir);
    let mut files = Vec::new();
    for name in read::names(&directory, |_| true).map_err(named(&directory))? {
        files.extend(read(&directory.join(name))?);
    }
    Ok(files)
}

/// The file of one attachment.
///
/// # Errors
/// The error of the file system.
pub fn of(run_dir: &Path, attachment: &Attachment) -> io::Result<Option<AttachmentFile>> {
    read(&paths::attachments(run_dir).join(attachment.hash()))
}

fn open(path: &Path) -> io::Result<File> {
    read::open_own(path, OpenOptions::new().read(true))
}

/// None: there is no file of ours, or it went meanwhile.
fn read(path: &Path) -> io::Result<Option<AttachmentFile>> {
    let file = match open(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => return Ok(None),
        other => other?,
    };
    // Shared, so that two readers do not exclude each other. An ADD or a DEL that comes in these microseconds tries again.
    let is_locked = !lock::try_lock_shared(&file)?;
    let metadata = file.metadata()?;
    let text = match read::contents(&file, RECORD) {
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Vec::new(),
        other => other?,
    };
    if !is_locked && metadata.nlink() == 0 {
        return Ok(None);
    }
    Ok(Some(AttachmentFile {
        path: path.to_owned(),
        hash: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        is_locked,
        state: serde_json::from_slice(&text).ok(),
        written: u64::try_from(metadata.mtime()).unwrap_or(0),
    }))
}

/// Removes the file of an attachment if it was last written at `written` and no process works on the attachment. False: it stays.
/// The remover of a lock file holds its lock.
///
/// # Errors
/// The error of the file system.
pub fn remove(path: &Path, written: u64) -> io::Result<bool> {
    let file = match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        other => other?,
    };
    if !lock::try_lock(&file)? || !lock::is_at(&file, path)? {
        return Ok(false);
    }
    if u64::try_from(file.metadata()?.mtime()).unwrap_or(0) != written {
        return Ok(false);
    }
    fs::remove_file(path)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attachments::AddPhase;

    fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
        fs::create_dir_all(directory.join("attachments")).expect("made");
        let path = directory.join("attachments").join(name);
        fs::write(&path, text).expect("written");
        path
    }

    #[test]
    fn files_are_read_whatever_is_in_them_and_locks_are_seen() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(all(directory.path()).expect("works"), vec![]);
        write(directory.path(), "a", r#"{"phase":"adding","lateRequestsUntil":0,"later":1}"#);
        write(directory.path(), "b", r#"{"phase":"done"}"#);
        let torn = write(directory.path(), "c", r#"{"phase":"do"#);
        let held = File::open(&torn).expect("there");
        held.lock().expect("free");
        let seen = all(directory.path()).expect("works");
        let seen: Vec<_> = seen
            .iter()
            .map(|file| (file.hash.as_str(), file.is_locked, file.state.as_ref().map(|state| state.phase)))
            .collect();
        assert_eq!(seen, [("a", false, Some(AddPhase::Adding)), ("b", false, Some(AddPhase::Done)), ("c", true, None)]);
    }

    #[test]
    fn a_file_is_removed_only_while_it_is_the_one_that_was_seen_and_no_process_has_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = write(directory.path(), "a", r#"{"phase":"adding"}"#);
        let removed = |file: &AttachmentFile| remove(&file.path, file.written);
        let look = || all(directory.path()).expect("works").pop().expect("one");
        let held = File::open(&path).expect("there");
        held.lock().expect("free");
        assert!(!removed(&look()).expect("works"), "a process works on it");
        drop(held);
        let seen = look();
        File::open(&path).expect("there").set_modified(std::time::UNIX_EPOCH).expect("set");
        assert!(!removed(&seen).expect("works"), "it was written meanwhile");
        assert!(path.exists());
        assert!(removed(&look()).expect("works") && !path.exists());
        assert!(removed(&seen).expect("works"), "gone already is fine");
    }
}
