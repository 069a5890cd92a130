//! Making directories, and the modes of directories and files.
//!
//! # Guarantees
//! Modes are those of the table in `docs/operations.md`, whatever the umask of the caller: each program sets its own umask
//! ([`umask`]) before it makes anything, and names the mode where it is not the one that this umask leaves (0755, 0644).

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;

/// The mode of a directory that only root enters.
pub const PRIVATE_DIRECTORY: u32 = 0o700;
/// The mode of a directory that every user may enter and only root may change.
pub const DIRECTORY: u32 = 0o755;
/// The mode of a file that only root reads.
pub const PRIVATE: u32 = 0o600;

/// Replaces the umask of the caller: others may read what a mode lets them read, and only the owner may write. It holds for
/// the whole process, so a program calls this first.
pub fn umask() {
    nix::sys::stat::umask(Mode::S_IWGRP | Mode::S_IWOTH);
}

/// Makes a directory with `mode` if there is none. Missing directories above it get [`DIRECTORY`]. An existing directory
/// keeps its mode.
///
/// # Errors
/// The error of the file system.
pub fn directory(path: &Path, mode: u32) -> io::Result<()> {
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(DIRECTORY).create(above)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

/// Makes `base` and the directories of the path `below` in it, each with [`PRIVATE_DIRECTORY`], and returns the last.
///
/// # Errors
/// The error of the file system.
pub fn private(base: &Path, below: impl AsRef<Path>) -> io::Result<PathBuf> {
    let mut path = base.to_owned();
    directory(&path, PRIVATE_DIRECTORY)?;
    for name in below.as_ref() {
        path.push(name);
        directory(&path, PRIVATE_DIRECTORY)?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

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
}
