//! Making directories and files. Their modes are those of the table in `docs/operations.md`, whatever the umask of the
//! caller: each program sets its own umask ([`umask`]) before it makes anything, and names the mode where it is not the
//! one that this umask leaves (0755 and 0644).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;

/// Only root enters.
pub const PRIVATE_DIRECTORY: u32 = 0o700;
/// Everybody enters, only root changes.
pub const DIRECTORY: u32 = 0o755;
/// Only root reads.
pub const PRIVATE: u32 = 0o600;

/// Whether a file must be there after a power failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// It is synced, and so is its directory.
    Durable,
    /// It may be lost.
    Lossy,
}

/// Forgets the umask of the caller: others may read what a mode lets them read, and only the owner may write. For the
/// first line of a program, as it holds for the whole process.
pub fn umask() {
    nix::sys::stat::umask(Mode::S_IWGRP | Mode::S_IWOTH);
}

/// Makes a directory with `mode` where there is none; those above it that are missing get [`DIRECTORY`]. What is there
/// stays as it is.
pub fn directory(path: &Path, mode: u32) -> io::Result<()> {
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(DIRECTORY).create(above)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

/// Makes `base` and the directories of the path `below` in it, all of them for root alone.
pub fn private(base: &Path, below: impl AsRef<Path>) -> io::Result<PathBuf> {
    let mut path = base.to_owned();
    directory(&path, PRIVATE_DIRECTORY)?;
    for name in below.as_ref() {
        path.push(name);
        directory(&path, PRIVATE_DIRECTORY)?;
    }
    Ok(path)
}

/// Replaces a file of ours, mode [`PRIVATE`]: whoever reads it finds the old content or the new one. Where there is no
/// room the old one stays, and nothing is left beside it. Each writer has a temporary file of its own.
pub fn replace(path: &Path, content: &[u8], lasting: Lasting) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.{}", uuid::Uuid::new_v4().simple()));
    let written = write_new(&aside, content, lasting).and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        // It may be all that fills the disk.
        drop(fs::remove_file(&aside));
    }
    written?;
    if lasting == Lasting::Durable { sync_directory(path) } else { Ok(()) }
}

/// The entry of a file, or of a directory, is durable.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

fn write_new(path: &Path, content: &[u8], lasting: Lasting) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(path)?;
    file.write_all(content)?;
    if lasting == Lasting::Durable { file.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o7777
    }

    #[test]
    fn what_is_missing_is_made_and_what_is_there_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let base = directory.path().join("a/b/run");
        // What another program may have left to us.
        nix::sys::stat::umask(Mode::S_IRWXG | Mode::S_IRWXO);
        umask();
        assert_eq!(private(&base, "attachments").expect("made"), base.join("attachments"));
        let modes = ["a", "a/b", "a/b/run", "a/b/run/attachments"].map(|name| mode(&directory.path().join(name)));
        assert_eq!(modes, [0o755, 0o755, 0o700, 0o700]);
        fs::write(directory.path().join("own"), "").expect("written");
        assert_eq!(mode(&directory.path().join("own")), 0o644);
        assert_eq!(nix::sys::stat::umask(Mode::S_IWGRP | Mode::S_IWOTH), Mode::S_IWGRP | Mode::S_IWOTH);
        fs::set_permissions(&base, fs::Permissions::from_mode(0o750)).expect("set");
        private(&base, "attachments").expect("there");
        assert_eq!(mode(&base), 0o750);
        fs::write(directory.path().join("file"), "").expect("written");
        assert!(super::directory(&directory.path().join("file"), DIRECTORY).is_err(), "a file is in its place");
    }

    #[test]
    fn a_file_is_replaced_whole_and_for_root_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, other) = (directory.path().join("file"), directory.path().join("other"));
        fs::write(&other, "untouched").expect("written");
        symlink(&other, &path).expect("linked");
        for (content, lasting) in [("one", Lasting::Lossy), ("two", Lasting::Durable)] {
            replace(&path, content.as_bytes(), lasting).expect("replaced");
            assert_eq!((fs::read_to_string(&path).expect("there").as_str(), mode(&path)), (content, 0o600));
        }
        assert_eq!(fs::read_to_string(&other).expect("there"), "untouched", "a link is replaced, not followed");
        assert_eq!(fs::read_dir(directory.path()).expect("there").count(), 2, "nothing is left beside it");
        replace(&directory.path().join("no/such"), b"", Lasting::Lossy).expect_err("no directory");
        fs::create_dir(directory.path().join("taken")).expect("made");
        replace(&directory.path().join("taken"), b"new", Lasting::Lossy).expect_err("a directory is in its place");
        assert_eq!(fs::read_dir(directory.path()).expect("there").count(), 3, "nothing is left of what failed");
    }

    #[test]
    fn writers_do_not_meet() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        let whole: Vec<_> = (0..4_u8).map(|n| vec![n; 100_000]).collect();
        std::thread::scope(|scope| {
            for content in &whole {
                let path = &path;
                scope.spawn(move || (0..50).for_each(|_| replace(path, content, Lasting::Lossy).expect("replaced")));
            }
        });
        assert!(whole.contains(&fs::read(&path).expect("there")), "one of them, whole");
        assert_eq!(fs::read_dir(directory.path()).expect("there").count(), 1);
    }
}
