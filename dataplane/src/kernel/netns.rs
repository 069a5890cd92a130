//! Network namespaces pinned by bind mounts.
//!
//! # Guarantees
//! The calling thread never changes its own namespace; what has to run inside another one runs on a thread
//! that was started for it and ends there. A crash may leave an empty file where a namespace was to be pinned: the
//! next `ensure` pins over it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use atoll_node::files::make;
use atoll_node::netns;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::steps::{self, step};
use crate::error::PlaneError;

/// An open namespace; it lives at least as long as this handle.
#[derive(Debug)]
pub(crate) struct OpenNetns {
    path: PathBuf,
    file: File,
}

impl OpenNetns {
    /// The namespace of the calling thread.
    pub(crate) fn own() -> Result<Self, PlaneError> {
        Self::open_file(Path::new(netns::OF_THREAD))
    }

    /// Opens the namespace pinned at `path`; none when there is none.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, PlaneError> {
        if netns::is_pinned(path) { Self::open_file(path).map(Some) } else { Ok(None) }
    }

    /// Opens the namespace pinned at `path`, and makes it first when there is none. True: it is new.
    pub(crate) fn ensure(path: &Path) -> Result<(Self, bool), PlaneError> {
        if let Some(netns) = Self::open(path)? {
            return Ok((netns, false));
        }
        let fail = |source| PlaneError::Namespace { what: "create", path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            directory(parent).map_err(fail)?;
        }
        step("create the namespace's file").and_then(|()| create(path)).map_err(fail)?;
        on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            step("pin the namespace")?;
            mount(Some(netns::OF_THREAD), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            Ok(())
        })
        .map_err(fail)?;
        Self::open_file(path).map(|netns| (netns, true))
    }

    /// A namespace that is pinned nowhere and goes with this handle.
    pub(crate) fn fresh() -> Result<Self, PlaneError> {
        let path = PathBuf::from(netns::OF_THREAD);
        let file = on_thread(|| {
            step("make a namespace")?;
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open(&path)
        });
        match file {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(PlaneError::Namespace { what: "create", path, source }),
        }
    }

    /// Tries whether namespaces can be pinned. It is pinned in a mount namespace that only this thread sees.
    pub(crate) fn try_to_pin() -> Result<(), PlaneError> {
        let path = Path::new("/proc/version");
        on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
            match mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>) {
                Ok(()) => {}
                // The root of a `chroot` is no mount: nothing can be tried without others seeing it.
                Err(Errno::EINVAL) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            step("pin the namespace")?;
            mount(Some(netns::OF_THREAD), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            if netns::is_pinned(path) { Ok(()) } else { Err(io::Error::other("it is mounted and not there")) }
        })
        .map_err(|source| PlaneError::Namespace { what: "pin", path: path.to_owned(), source })
    }

    /// Pins it again if it was unpinned or covered by another mount; false: it was there.
    pub(crate) fn repin(&self) -> Result<bool, PlaneError> {
        let fail = |source| PlaneError::Namespace { what: "pin again", path: self.path.clone(), source };
        let own = self.file.metadata().map_err(fail)?;
        let pinned = netns::is_pinned(&self.path);
        if pinned && fs::metadata(&self.path).is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())) {
            return Ok(false);
        }
        if !pinned {
            self.path.parent().map_or(Ok(()), directory).map_err(fail)?;
            step("create the namespace's file").and_then(|()| create(&self.path)).map_err(fail)?;
        }
        step("pin the namespace").map_err(fail)?;
        let handle = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        mount(Some(handle.as_str()), &self.path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|error| fail(error.into()))?;
        Ok(true)
    }

    /// Where it is pinned.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The handle, for requests that name a namespace.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Runs `work` inside. Sockets opened there stay there; the calling thread does not move.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> Result<T, PlaneError> {
        on_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET)?;
            work()
        })
        .map_err(|source| PlaneError::Namespace { what: "work in", path: self.path.clone(), source })
    }

    fn open_file(path: &Path) -> Result<Self, PlaneError> {
        let file =
            File::open(path).map_err(|source| PlaneError::Namespace { what: "open", path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file })
    }
}

/// Unpins the namespace at `path`. The kernel destroys it with its last handle. Absent is fine.
pub(crate) fn unpin(path: &Path) -> Result<(), PlaneError> {
    let fail = |source| PlaneError::Namespace { what: "remove", path: path.to_owned(), source };
    while netns::is_pinned(path) {
        step("unpin the namespace").map_err(&fail)?;
        let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
        umount2(path, flags).map_err(|e| fail(e.into()))?;
    }
    if !is_place(path) {
        return Ok(());
    }
    match step("remove the namespace's file").and_then(|()| fs::remove_file(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fail(error)),
        _ => Ok(()),
    }
}

/// True for the empty file that a namespace is mounted on. Anything else belongs to others.
fn is_place(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|it| it.is_file() && it.len() == 0)
}

/// Makes the directory of pinned namespaces.
fn directory(path: &Path) -> io::Result<()> {
    make::directory(path, make::PRIVATE_DIRECTORY)
}

/// Makes that file; one that is there already is left of a crash.
fn create(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(make::PRIVATE).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_place(path) => Ok(()),
        other => other.map(drop),
    }
}

/// A thread of its own for `work`: whatever namespace it enters ends with it.
pub(crate) fn on_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let steps = steps::current();
    netns::on_thread(|| {
        steps::follow(steps);
        work()
    })
}
