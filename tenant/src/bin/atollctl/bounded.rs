//! Reading files that others wrote, up to a size that such a file can have. Pipes and devices are not read: they would
//! keep a command waiting for ever.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::OFlag;

/// Configurations of runtimes and networks are a few kilobytes.
const CONFIGURATION: u64 = 1 << 20;

/// A configuration: a regular file, or a link to one, as configuration management likes to make them.
pub(crate) fn configuration(path: &Path) -> io::Result<Vec<u8>> {
    read(path, CONFIGURATION)
}

/// A regular file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // Without a wait: opening a pipe would wait for its other end.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut text = Vec::new();
    file.take(limit + 1).read_to_end(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|length| length > limit) {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn only_regular_files_of_a_fair_size_are_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("file"), "12345").expect("written");
        std::os::unix::fs::symlink("file", path("link")).expect("made");
        mkfifo(&path("pipe"), Mode::from_bits_truncate(0o600)).expect("made");
        assert_eq!(read(&path("link"), 5).expect("works"), b"12345");
        assert_eq!(read(&path("file"), 4).expect_err("too large").kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read(&path("nothing"), 4).expect_err("absent").kind(), io::ErrorKind::NotFound);
        for odd in [path("pipe"), path(""), "/dev/zero".into()] {
            assert!(read(&odd, 4).is_err(), "{}", odd.display());
        }
    }
}
