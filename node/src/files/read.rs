//! Reading: a file or a directory as a whole, up to a size that it can have.
//!
//! # Guarantees
//! * Only a regular file is opened: a pipe, device or socket in its place does not keep a program waiting.
//! * No more than the limit is held in memory. A larger file is an error, never a part of its content.
//! * In a directory of ours a symbolic link is refused ([`own`]), because no program of this project makes one there. A file
//!   that an operator names may be a link ([`given`]): the mounted secrets of Kubernetes are links.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::{ENTRIES, SECRET};

/// Reads a file below one of our directories, of at most `limit` bytes.
///
/// # Errors
/// It is no regular file (`InvalidInput`), it is larger (`FileTooLarge`), or the file system's error.
pub fn own(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    contents(&open_own(path, OpenOptions::new().read(true))?, limit)
}

/// Reads a file that an operator or the machine names, of at most `limit` bytes.
///
/// # Errors
/// As [`own`], but a link is followed.
pub fn given(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    contents(&open_given(path)?, limit)
}

/// [`given`], as text.
///
/// # Errors
/// As [`given`], and `InvalidData` if it is not UTF-8.
pub fn text(path: &Path, limit: u64) -> io::Result<String> {
    String::from_utf8(given(path, limit)?).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// Reads a small file of an operator that only its owner may read.
///
/// # Errors
/// Why it cannot be used, for people: others may read it, it is not UTF-8, or the errors of [`given`].
pub fn private(path: &Path) -> Result<String, String> {
    let file = open_given(path).map_err(|error| error.to_string())?;
    let mode = file.metadata().map_err(|error| error.to_string())?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!("mode {mode:04o} lets others read it; chmod 0600"));
    }
    let bytes = contents(&file, SECRET).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

/// Opens a regular file below one of our directories; no link is followed. `options` may create it.
///
/// # Errors
/// It is no regular file (`InvalidInput`), or the file system's error.
pub fn open_own(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // Before opening: opening a device can have effects.
    match fs::symlink_metadata(path) {
        Ok(there) => regular(&there)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = options.custom_flags(flags.bits()).open(path).map_err(|error| match error.raw_os_error() {
        Some(code) if code == Errno::ELOOP as i32 => refused("a symbolic link"),
        _ => error,
    })?;
    regular(&file.metadata()?)?;
    Ok(file)
}

/// Opens a regular file for reading; links are followed.
///
/// # Errors
/// It is no regular file (`InvalidInput`), or the file system's error.
pub fn open_given(path: &Path) -> io::Result<File> {
    regular(&fs::metadata(path)?)?;
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    regular(&file.metadata()?)?;
    Ok(file)
}

/// The rest of an open file, of at most `limit` bytes.
///
/// # Errors
/// It is larger (`FileTooLarge`), or the file system's error.
pub fn contents(file: &File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// The names in a directory of ours that `is_ours` accepts, in order. A directory that does not exist has none.
///
/// # Errors
/// More than [`ENTRIES`] entries, because a part of them would be misleading; or the file system's error.
pub fn names(directory: &Path, is_ours: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    for (number, entry) in entries.enumerate() {
        if number >= ENTRIES {
            let words = format!("it has more than {ENTRIES} entries, which are not ours: remove them");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, words));
        }
        // A name that is not UTF-8 is not ours.
        names.extend(entry?.file_name().into_string().ok().filter(|name| is_ours(name)));
    }
    names.sort();
    Ok(names)
}

fn regular(metadata: &fs::Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_symlink() => "a symbolic link",
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(refused(what))
}

fn refused(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, and no regular file"))
}

#[cfg(test)]
mod tests {
    use std::io::Seek as _;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    /// The error of `read`, which must not wait for anything.
    fn error(read: impl FnOnce() -> io::Result<Vec<u8>> + Send + 'static) -> String {
        let (sender, receiver) = channel();
        std::thread::spawn(move || sender.send(read().map(|bytes| bytes.len()).map_err(|error| error.to_string())));
        receiver.recv_timeout(Duration::from_secs(20)).expect("it does not wait").expect_err("it is refused")
    }

    #[test]
    fn only_a_regular_file_is_read_and_no_read_waits() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        fs::write(at("file"), "text").expect("written");
        symlink(at("file"), at("link")).expect("linked");
        symlink("/dev/zero", at("zero")).expect("linked");
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        symlink(at("pipe"), at("to-pipe")).expect("linked");
        let _socket = UnixListener::bind(at("socket")).expect("bound");
        assert_eq!(own(&at("file"), 4).expect("a file"), b"text");
        assert_eq!(given(&at("link"), 4).expect("links of operators are followed"), b"text");
        for (name, what) in
            [("link", "link"), ("zero", "link"), ("pipe", "pipe"), ("socket", "socket"), ("", "directory")]
        {
            let path = at(name);
            let message = error(move || own(&path, 1 << 30));
            assert!(message.contains(what), "{name}: {message}");
        }
        for (name, what) in [("zero", "device"), ("pipe", "pipe"), ("to-pipe", "pipe"), ("", "directory")] {
            let path = at(name);
            let message = error(move || given(&path, 1 << 30));
            assert!(message.contains(what), "{name}: {message}");
        }
        assert_eq!(own(&at("none"), 4).expect_err("not there").kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_file_that_is_too_large_is_no_half_content() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        // Sparse: a terabyte that takes no room.
        File::create(&path).and_then(|file| file.set_len(1 << 40)).expect("made");
        for read in [own, given] {
            assert_eq!(read(&path, 1 << 16).expect_err("too large").kind(), io::ErrorKind::FileTooLarge);
        }
        let mut file = File::open(&path).expect("there");
        contents(&file, 16).expect_err("too large");
        assert_eq!(file.stream_position().expect("a place"), 17, "no more is read than shows that it is too large");
        fs::write(&path, "1234").expect("written");
        assert_eq!(own(&path, 4).expect("just fits"), b"1234");
        assert!(own(&path, 3).is_err());
        assert_eq!(text(&path, 4).expect("a text"), "1234");
        fs::write(&path, [0xff]).expect("written");
        assert_eq!(text(&path, 4).expect_err("no text").kind(), io::ErrorKind::InvalidData);
        // Files of the kernel have no size.
        assert!(!given(Path::new("/proc/self/status"), crate::files::TEXT).expect("readable").is_empty());
    }

    #[test]
    fn a_directory_is_listed_as_a_whole_or_not_at_all() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["b", "a", ".hidden"] {
            fs::write(directory.path().join(name), "").expect("written");
        }
        let visible = |name: &str| !name.starts_with('.');
        assert_eq!(names(directory.path(), visible).expect("listed"), ["a", "b"]);
        assert_eq!(names(&directory.path().join("none"), visible).expect("not there"), [""; 0]);
        assert!(names(&directory.path().join("a"), visible).is_err(), "no directory");
        for number in 0..ENTRIES {
            fs::hard_link(directory.path().join("a"), directory.path().join(format!(".{number}")))
                .or_else(|_| File::create(directory.path().join(format!(".{number}"))).map(drop))
                .expect("made");
        }
        assert_eq!(names(directory.path(), visible).expect_err("too many").kind(), io::ErrorKind::FileTooLarge);
    }
}
