//! One process at a time: an advisory lock on a file that has no other purpose.
//!
//! Promises: the kernel frees the lock when its process ends, however it ends, so that a lock cannot be stale; the file
//! is removed at an orderly end, and only by who holds it; who finds it held is told by whom.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use atoll_files::{TEXT, make, read};

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

/// Why a lock was not taken.
#[derive(Debug)]
pub enum NotTaken {
    /// Another process holds it: its id, if that could be read.
    Held(Option<u32>),
    /// The file could not be made or locked.
    Io(io::Error),
}

impl NotTaken {
    /// Who holds it, in words.
    pub fn holder(process: Option<u32>) -> String {
        process.map_or_else(|| "another process".to_owned(), |id| format!("process {id}"))
    }
}

impl Lock {
    /// Takes the lock whose file is `path`; never waits.
    pub fn take(path: &Path) -> Result<Self, NotTaken> {
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(make::PRIVATE);
            let mut file = read::open_own(path, &mut options).map_err(NotTaken::Io)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let text = read::contents(&file, TEXT).ok().and_then(|text| String::from_utf8(text).ok());
                    return Err(NotTaken::Held(text.and_then(|text| text.trim().parse().ok())));
                }
                Err(TryLockError::Error(error)) => return Err(NotTaken::Io(error)),
            }
            // Its holder may have removed it between our opening and locking it: then others lock another file.
            if is_there(&file, path).map_err(NotTaken::Io)? {
                let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
                written.map_err(NotTaken::Io)?;
                return Ok(Self { file, path: path.to_owned() });
            }
        }
    }
}

/// True when `path` is still this file.
fn is_there(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is held. Somebody may have put another file there.
        if is_there(&self.file, &self.path).unwrap_or_default() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_holds_it_and_the_others_are_told_who() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lock");
        let first = Lock::take(&path).expect("free");
        for _ in 0..2 {
            assert!(matches!(Lock::take(&path), Err(NotTaken::Held(Some(id))) if id == std::process::id()));
        }
        drop(first);
        assert!(!path.exists(), "nothing is left");
        // What a killed process leaves, whatever is in it.
        fs::write(&path, "4194304999 and more").expect("written");
        let second = Lock::take(&path).expect("a file is no lock");
        assert_eq!(fs::read_to_string(&path).expect("readable"), format!("{}\n", std::process::id()));
        // Somebody has removed it by hand: what is there next is not ours to remove.
        fs::remove_file(&path).expect("removed");
        let third = Lock::take(&path).expect("free");
        drop(second);
        assert!(path.exists());
        drop(third);
        assert!(matches!(Lock::take(&directory.path().join("no/such")), Err(NotTaken::Io(_))));
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, other) = (directory.path().join("lock"), directory.path().join("other"));
        fs::write(&other, "untouched").expect("written");
        std::os::unix::fs::symlink(&other, &path).expect("linked");
        assert!(matches!(Lock::take(&path), Err(NotTaken::Io(_))));
        assert_eq!(fs::read_to_string(&other).expect("there"), "untouched");
        // One that leads to the very file which is locked, put there meanwhile: it is not ours to remove.
        fs::remove_file(&path).expect("removed");
        let held = Lock::take(&path).expect("free");
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
                        let Ok(lock) = Lock::take(&path) else { continue };
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
