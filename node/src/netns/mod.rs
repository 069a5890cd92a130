//! Network namespaces: naming, opening, identifying, entering and pinning them.
//!
//! # Guarantees
//! * The calling thread never changes its namespace: what has to run inside another one runs on a thread that is started for
//!   it and ends there.
//! * Nothing but a regular file is opened as a namespace: opening a pipe waits, and opening a device can have effects.

pub mod pin;

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs, statfs};
use serde::{Deserialize, Serialize};

/// The namespace of the calling thread. `/proc/self` names that of the first thread instead.
pub const OF_THREAD: &str = "/proc/thread-self/ns/net";

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Netns {
    /// The one this process runs in.
    Own,
    /// The namespace at this path: pinned there, or `/proc/<pid>/ns/net`.
    At(PathBuf),
}

impl fmt::Display for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("the node's own network namespace"),
            Self::At(path) => write!(f, "network namespace {}", path.display()),
        }
    }
}

/// Device and inode of a namespace. They are its own as long as something keeps it alive: an open file, or a socket inside.
pub type Identity = (u64, u64);

/// Opens what may be a namespace. None: there is no file. Anything but a regular file is opened as `/dev/null`, which no
/// check takes for a namespace.
///
/// # Errors
/// The error of the file system.
pub fn open(path: &Path) -> io::Result<Option<File>> {
    let is_absent = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    match fs::metadata(path) {
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.is_file() => File::open("/dev/null").map(Some),
        Ok(_) => match File::open(path) {
            Err(error) if is_absent(&error) => Ok(None),
            other => other.map(Some),
        },
    }
}

/// True if an open file is a namespace of some kind.
///
/// # Errors
/// The error of `fstatfs`.
pub fn is_namespace(file: &File) -> io::Result<bool> {
    Ok(fstatfs(file)?.filesystem_type() == NSFS_MAGIC)
}

/// True where a namespace is mounted; false for an ordinary file, a symbolic link or nothing.
pub fn is_pinned(path: &Path) -> bool {
    let is_link = fs::symlink_metadata(path).is_ok_and(|it| it.is_symlink());
    !is_link && statfs(path).is_ok_and(|it| it.filesystem_type() == NSFS_MAGIC)
}

/// The identity of an open namespace.
///
/// # Errors
/// The error of the file system.
pub fn identity(file: &File) -> io::Result<Identity> {
    file.metadata().map(|it| (it.dev(), it.ino()))
}

/// True if an open namespace is that of the calling thread.
///
/// # Errors
/// The error of the file system.
pub fn is_own(file: &File) -> io::Result<bool> {
    let own = fs::metadata(OF_THREAD)?;
    Ok(identity(file)? == (own.dev(), own.ino()))
}

/// True for the answer of `setns` to a file that is no network namespace.
pub fn is_no_netns(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EINVAL as i32)
}

/// The stack of a thread that only opens a socket in a namespace, bytes: it is mapped and unmapped for each.
const SMALL_STACK: usize = 64 * 1024;

/// Runs `work`, which needs little stack, inside a namespace. A socket that is opened there stays there.
///
/// # Errors
/// `EINVAL` if `netns` is no network namespace; otherwise the error of starting a thread, `setns` or `work`.
pub fn open_inside<T: Send>(netns: &File, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let enter = || {
        setns(netns, CloneFlags::CLONE_NEWNET)?;
        work()
    };
    on(std::thread::Builder::new().stack_size(SMALL_STACK), enter)
}

/// Runs `work` inside a namespace.
///
/// # Errors
/// `EINVAL` if `netns` is no network namespace; otherwise the error of starting a thread, `setns` or `work`.
pub fn run_inside<T: Send>(netns: &File, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    on_thread(|| {
        setns(netns, CloneFlags::CLONE_NEWNET)?;
        work()
    })
}

/// Runs `work` on a thread of its own: the namespace that it enters ends with the thread.
///
/// # Errors
/// The thread cannot be started or panics, or the error of `work`.
pub fn on_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    on(std::thread::Builder::new().name("atoll-netns".to_owned()), work)
}

fn on<T: Send>(thread: std::thread::Builder, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = thread.spawn_scoped(scope, work);
        let thread = thread.map_err(|error| cannot_start(&error))?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
    })
}

/// Names what could not be started: the kernel's own error is "try again", whatever it refuses.
pub fn cannot_start(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("start a thread: {error}"))
}
