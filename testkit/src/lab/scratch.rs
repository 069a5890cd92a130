//! A directory that is deleted if the test reports success; otherwise it is kept, and its path is printed.

use std::cell::Cell;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use atoll_node::files::make;

/// A name that is unique on this machine: the process id and a number. `run-tests` finds by it what a killed test left
/// behind.
pub fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("at-t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A directory that is deleted if the test passes.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    passed: Cell<bool>,
}

impl Scratch {
    /// Makes the directory, in memory: nothing here has to survive, and etcd syncs often.
    pub fn new(name: &str) -> Result<Self> {
        let path = Path::new("/dev/shm").join(name);
        // An existing directory belongs to another test and is an error.
        DirBuilder::new()
            .mode(make::PRIVATE_DIRECTORY)
            .create(&path)
            .with_context(|| format!("create {}", path.display()))?;
        Ok(Self { path, passed: Cell::new(false) })
    }

    /// The test passed: the directory is deleted.
    pub fn passed(&self) {
        self.passed.set(true);
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates a directory inside and returns its path.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        unmount_below(&self.path);
        if !self.passed.get() {
            report(&format!("kept for inspection: ls {}", self.path.display()));
        } else if let Err(error) = fs::remove_dir_all(&self.path) {
            report(&format!("{} could not be deleted: {error}", self.path.display()));
        }
    }
}

/// Unmounts everything mounted below a directory, the innermost first.
pub fn unmount_below(path: &Path) {
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return };
    let mut below: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|mount| Path::new(mount).starts_with(path))
        .collect();
    below.sort_unstable();
    for mount in below.into_iter().rev() {
        if let Err(error) = nix::mount::umount2(mount, nix::mount::MntFlags::MNT_DETACH) {
            report(&format!("umount {mount}: {error}"));
        }
    }
}

/// An error in `drop` has no caller: it is printed to standard error.
#[expect(clippy::print_stderr, reason = "there is no caller to return it to, and it must not be lost")]
pub(crate) fn report(what: &str) {
    eprintln!("{what}");
}
