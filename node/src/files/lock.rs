//! Advisory locks of files (flock(2)).
//!
//! # Guarantees
//! * The kernel frees a lock when its holder ends, however it ends: a lock is never stale.
//! * Nothing here waits for a lock.
//! * A lock file may be removed, and only its holder does so. A process that locked a removed file notices that and locks the
//!   file that is at the path now ([`lock_at`]).

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{TEXT, make, read};

/// Locks an open file for this process alone. False: another process has locked it.
///
/// # Errors
/// The error of `flock`.
pub fn try_lock(file: &File) -> io::Result<bool> {
    is_taken(file.try_lock())
}

/// Locks an open file together with other readers. False: a process has locked it for itself alone.
///
/// # Errors
/// The error of `flock`.
pub fn try_lock_shared(file: &File) -> io::Result<bool> {
    is_taken(file.try_lock_shared())
}

fn is_taken(outcome: Result<(), TryLockError>) -> io::Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// True if the file at `path` is this one.
///
/// # Errors
/// The error of the file system, unless the file does not exist.
pub fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens the lock file at `path` with `open`, and locks it. None: another process holds the lock.
///
/// # Errors
/// The error of `open`, `flock` or the file system.
pub fn lock_at<T>(path: &Path, open: impl Fn() -> io::Result<(File, T)>) -> io::Result<Option<(File, T)>> {
    loop {
        let (file, opened) = open()?;
        if !try_lock(&file)? {
            return Ok(None);
        }
        // The holder may have removed the file after we opened it: others lock another file then.
        if is_at(&file, path)? {
            return Ok(Some((file, opened)));
        }
    }
}

/// The lock of one process at a time: a file that has no other purpose and names its holder.
#[derive(Debug)]
pub struct ProcessLock {
    file: File,
    path: PathBuf,
}

/// Why a process lock was not taken.
#[derive(Debug)]
pub enum NotTaken {
    /// Another process holds it: its id, if the file has it.
    Held(Option<u32>),
    /// The file could not be made or locked.
    Io(io::Error),
}

impl NotTaken {
    /// The holder as a message names it.
    pub fn holder(process: Option<u32>) -> String {
        process.map_or_else(|| "another process".to_owned(), |id| format!("process {id}"))
    }
}

impl ProcessLock {
    /// Takes the lock whose file is `path`. Dropping it frees the lock and removes the file.
    ///
    /// # Errors
    /// [`NotTaken::Held`] if another process has it.
    pub fn take(path: &Path) -> Result<Self, NotTaken> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(make::PRIVATE);
        loop {
            let mut file = read::open_own(path, &mut options).map_err(NotTaken::Io)?;
            if !try_lock(&file).map_err(NotTaken::Io)? {
                let text = read::contents(&file, TEXT).ok().and_then(|text| String::from_utf8(text).ok());
                return Err(NotTaken::Held(text.and_then(|text| text.trim().parse().ok())));
            }
            if is_at(&file, path).map_err(NotTaken::Io)? {
                let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
                written.map_err(NotTaken::Io)?;
                return Ok(Self { file, path: path.to_owned() });
            }
        }
    }
}

impl Drop for ProcessLock {
    fn drop(&mut self) {
        // While it is held. Another file may have been put there by hand.
        if is_at(&self.file, &self.path).unwrap_or_default() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_process_holds_it_and_the_others_learn_which() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lock");
        let first = ProcessLock::take(&path).expect("free");
        for _ in 0..2 {
            assert!(matches!(ProcessLock::take(&path), Err(NotTaken::Held(Some(id))) if id == std::process::id()));
        }
        drop(first);
        assert!(!path.exists(), "nothing is left");
        // What a killed process leaves, whatever is in it.
        fs::write(&path, "4194304999 and more").expect("written");
        let second = ProcessLock::take(&path).expect("a file is no lock");
        assert_eq!(fs::read_to_string(&path).expect("readable"), format!("{}\n", std::process::id()));
        // It was removed by hand: the next file at the path is not ours to remove.
        fs::remove_file(&path).expect("removed");
        let third = ProcessLock::take(&path).expect("free");
        drop(second);
        assert!(path.exists());
        drop(third);
        assert!(matches!(ProcessLock::take(&directory.path().join("no/such")), Err(NotTaken::Io(_))));
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, other) = (directory.path().join("lock"), directory.path().join("other"));
        fs::write(&other, "untouched").expect("written");
        std::os::unix::fs::symlink(&other, &path).expect("linked");
        assert!(matches!(ProcessLock::take(&path), Err(NotTaken::Io(_))));
        assert_eq!(fs::read_to_string(&other).expect("there"), "untouched");
        // A link to the locked file was put there meanwhile: it is not ours to remove.
        fs::remove_file(&path).expect("removed");
        let held = ProcessLock::take(&path).expect("free");
        fs::rename(&path, &other).expect("moved");
        std::os::unix::fs::symlink(&other, &path).expect("linked");
        drop(held);
        assert!(fs::symlink_metadata(&path).is_ok_and(|there| there.is_symlink()));
    }

    #[test]
    fn never_two_hold_it_while_it_comes_and_goes() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, holders) = (directory.path().join("lock"), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut taken = 0;
                    while taken < 200 {
                        let Ok(lock) = ProcessLock::take(&path) else { continue };
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                        taken += 1;
                        assert_eq!(holders.fetch_sub(1, Ordering::SeqCst), 1);
                        drop(lock);
                    }
                });
            }
        });
    }
}
