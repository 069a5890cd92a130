//! Replacing a file atomically.
//!
//! # Guarantees
//! * A reader finds the old content or the new one, never a part of one.
//! * If writing fails, the old file stays and no temporary file is left. A process that is killed leaves a temporary file,
//!   which [`remove_leftovers`] removes.
//! * Writers do not share a temporary file: its name is random, and an existing file is never opened.
//! * A symbolic link at the path is replaced, not followed.
//! * With [`Durability::Durable`] the new file survives a power failure: the file and its directory are synced.
//!
//! Written by hand. `tempfile` neither syncs the directory nor finds what a killed process left, and it would bring a random
//! number generator and a second set of system call wrappers into the plugin, whose size has a bound. `atomicwrites` makes a
//! directory for each write.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::make::PRIVATE;
use super::read;

/// Whether a file must exist after a power failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The file is synced, and so is its directory.
    Durable,
    /// A power failure may lose the file.
    Lossy,
}

/// Replaces the file at `path` with `content`, mode [`PRIVATE`].
///
/// # Errors
/// The error of the file system; the old file is unchanged.
pub fn replace(path: &Path, content: &[u8], durability: Durability) -> io::Result<()> {
    let mut new = Replacement::create(path, PRIVATE, durability)?;
    new.file().write_all(content)?;
    new.commit()
}

/// The new content of a file, which is not in its place yet. Dropping it removes it.
#[derive(Debug)]
pub struct Replacement {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    durability: Durability,
    is_staged: bool,
}

impl Replacement {
    /// Creates an empty temporary file beside `path`, with `mode` whatever the umask.
    ///
    /// # Errors
    /// The error of the file system.
    pub fn create(path: &Path, mode: u32, durability: Durability) -> io::Result<Self> {
        Self::create_at(&temporary(path), path, mode, durability)
    }

    /// The same with a name of [`temporary`], for a caller that plans its steps before it takes them.
    ///
    /// # Errors
    /// The error of the file system.
    pub fn create_at(temporary: &Path, path: &Path, mode: u32, durability: Durability) -> io::Result<Self> {
        let temporary = temporary.to_owned();
        let file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&temporary)?;
        let new = Self { file, temporary, path: path.to_owned(), durability, is_staged: false };
        if mode != PRIVATE {
            new.file.set_permissions(Permissions::from_mode(mode))?;
        }
        Ok(new)
    }

    /// The temporary file, to write to.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// The error of the file system. If the sync of the directory fails, the new file is already in its place.
    pub fn commit(self) -> io::Result<()> {
        let (temporary, path, durability) = (self.temporary.clone(), self.path.clone(), self.durability);
        let staged = self.stage().and_then(|()| fs::rename(&temporary, &path));
        if staged.is_err() {
            drop(fs::remove_file(&temporary));
        }
        staged?;
        if durability == Durability::Durable { sync_directory(&path) } else { Ok(()) }
    }

    /// Leaves the finished file under its temporary name, for [`swap`].
    ///
    /// # Errors
    /// The error of the file system; the temporary file is removed.
    pub fn stage(mut self) -> io::Result<()> {
        if self.durability == Durability::Durable {
            self.file.sync_all()?;
        }
        self.is_staged = true;
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.is_staged {
            // It may be all that fills the disk. If it cannot be removed either, `remove_leftovers` finds it.
            drop(fs::remove_file(&self.temporary));
        }
    }
}

/// Puts a staged file in its place and syncs the directory.
///
/// # Errors
/// The error of the file system.
pub fn swap(temporary: &Path, path: &Path) -> io::Result<()> {
    fs::rename(temporary, path)?;
    sync_directory(path)
}

/// Makes the directory entry of a file, or of a directory, durable.
///
/// # Errors
/// The error of the file system.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory(path))?.sync_all()
}

/// Removes the temporary files that killed writers of `path` left. The caller must hold a lock that makes it the only
/// writer: a temporary file in use looks the same.
///
/// # Errors
/// The error of the file system.
pub fn remove_leftovers(path: &Path) -> io::Result<()> {
    for left in leftovers(path)? {
        match fs::remove_file(left) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The temporary files of `path`.
///
/// # Errors
/// The directory cannot be listed.
pub fn leftovers(path: &Path) -> io::Result<Vec<PathBuf>> {
    let target = path.file_name().unwrap_or_default().to_string_lossy();
    let names = read::names(directory(path), |name| target_of(name) == Some(&*target))?;
    Ok(names.into_iter().map(|name| directory(path).join(name)).collect())
}

/// The name of the file that the temporary file `name` would replace; none: it is not a temporary file.
pub(crate) fn target_of(name: &str) -> Option<&str> {
    let (target, id) = name.strip_prefix('.')?.rsplit_once('.')?;
    (id.len() == 32 && uuid::Uuid::try_parse(id).is_ok()).then_some(target)
}

/// A new name for a temporary file of `path`, beside it. Every reader of one of our directories skips names that begin with
/// a dot.
pub fn temporary(path: &Path) -> PathBuf {
    let target = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{target}.{}", uuid::Uuid::new_v4().simple()))
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o7777
    }

    fn count(directory: &Path) -> usize {
        fs::read_dir(directory).expect("there").count()
    }

    #[test]
    fn a_file_is_replaced_whole_and_for_root_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, other) = (directory.path().join("file"), directory.path().join("other"));
        fs::write(&other, "untouched").expect("written");
        symlink(&other, &path).expect("linked");
        for (content, durability) in [("one", Durability::Lossy), ("two", Durability::Durable)] {
            replace(&path, content.as_bytes(), durability).expect("replaced");
            assert_eq!((fs::read_to_string(&path).expect("there").as_str(), mode(&path)), (content, 0o600));
        }
        assert_eq!(fs::read_to_string(&other).expect("there"), "untouched", "a link is replaced, not followed");
        assert_eq!(count(directory.path()), 2, "nothing is left beside it");
        replace(&directory.path().join("no/such"), b"", Durability::Lossy).expect_err("no directory");
        fs::create_dir(directory.path().join("taken")).expect("made");
        replace(&directory.path().join("taken"), b"new", Durability::Lossy).expect_err("a directory is in its place");
        assert_eq!(count(directory.path()), 3, "nothing is left of what failed");
    }

    #[test]
    fn writers_do_not_meet() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        let whole: Vec<_> = (0..4_u8).map(|n| vec![n; 100_000]).collect();
        std::thread::scope(|scope| {
            for content in &whole {
                let path = &path;
                scope.spawn(move || (0..50).for_each(|_| replace(path, content, Durability::Lossy).expect("replaced")));
            }
        });
        assert!(whole.contains(&fs::read(&path).expect("there")), "one of them, whole");
        assert_eq!(count(directory.path()), 1);
    }

    #[test]
    fn a_replacement_has_its_mode_and_is_not_seen_before_it_is_staged() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("program");
        fs::write(&path, "old").expect("written");
        let mut new = Replacement::create(&path, 0o4755, Durability::Durable).expect("created");
        new.file().write_all(b"new").expect("written");
        assert_eq!(fs::read_to_string(&path).expect("there"), "old");
        new.commit().expect("committed");
        assert_eq!((fs::read_to_string(&path).expect("there").as_str(), mode(&path)), ("new", 0o4755));
        drop(Replacement::create(&path, 0o600, Durability::Durable).expect("created"));
        assert_eq!((fs::read_to_string(&path).expect("there").as_str(), count(directory.path())), ("new", 1));
    }

    #[test]
    fn what_killed_writers_left_is_removed_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        for _ in 0..2 {
            std::mem::forget(Replacement::create(&path, 0o600, Durability::Lossy).expect("created"));
        }
        let foreign = ".other.0123456789abcdef0123456789abcdef";
        for name in [foreign, ".file.swp", "file", ".file"] {
            fs::write(directory.path().join(name), "").expect("written");
        }
        remove_leftovers(&path).expect("removed");
        let names = read::names(directory.path(), |_| true).expect("listed");
        assert_eq!(names, [".file", ".file.swp", foreign, "file"]);
        remove_leftovers(&directory.path().join("no/such")).expect("nothing is left there");
    }
}
