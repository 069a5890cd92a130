//! The data plane's handles of network namespaces: what `atoll_node::netns` does, with announced changes (`steps`).

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use atoll_node::netns::{self, pin};

use super::steps;
use crate::error::PlaneError;

/// An open namespace; it exists at least as long as this handle.
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

    /// Opens the namespace pinned at `path`; `None` if there is none.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, PlaneError> {
        if netns::is_pinned(path) { Self::open_file(path).map(Some) } else { Ok(None) }
    }

    /// Opens the namespace pinned at `path`. If there is none, it is created, and the second value is true.
    pub(crate) fn ensure(path: &Path) -> Result<(Self, bool), PlaneError> {
        if let Some(netns) = Self::open(path)? {
            return Ok((netns, false));
        }
        pin::create(path, &steps::announcer()).map_err(|source| fail("create", path, source))?;
        Self::open_file(path).map(|netns| (netns, true))
    }

    /// A namespace that is pinned nowhere and is destroyed with this handle.
    pub(crate) fn fresh() -> Result<Self, PlaneError> {
        let path = PathBuf::from(netns::OF_THREAD);
        match pin::create_unpinned(&steps::announcer()) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(fail("create", &path, source)),
        }
    }

    /// Checks whether namespaces can be pinned.
    pub(crate) fn try_to_pin() -> Result<(), PlaneError> {
        let path = Path::new("/proc/version");
        pin::check(path, &steps::announcer()).map_err(|source| fail("pin", path, source))
    }

    /// Pins it again if it was unpinned or another mount covers it; `false` if neither is the case.
    pub(crate) fn repin(&self) -> Result<bool, PlaneError> {
        let repinned = pin::repin(&self.file, &self.path, &steps::announcer());
        repinned.map_err(|source| fail("pin again", &self.path, source))
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
        let listener = steps::current();
        let work = || {
            steps::follow(listener);
            work()
        };
        netns::run_inside(&self.file, work).map_err(|source| fail("work in", &self.path, source))
    }

    fn open_file(path: &Path) -> Result<Self, PlaneError> {
        let file = File::open(path).map_err(|source| fail("open", path, source))?;
        Ok(Self { path: path.to_owned(), file })
    }
}

/// Unpins the namespace at `path`. The kernel destroys it with its last handle. Absent is fine.
pub(crate) fn unpin(path: &Path) -> Result<(), PlaneError> {
    pin::unpin(path, &steps::announcer()).map_err(|source| fail("remove", path, source))
}

fn fail(what: &'static str, path: &Path, source: io::Error) -> PlaneError {
    PlaneError::Namespace { what, path: path.to_owned(), source }
}
