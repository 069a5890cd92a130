//! Network namespaces that outlive the process that created them: each is pinned by a bind mount on an empty file.
//!
//! # Guarantees
//! * The calling thread never changes its namespace.
//! * A crash may leave an empty file where a namespace was to be pinned: the next [`create`] pins over it.
//! * Each change is announced first. If the announcement fails, the change is not made.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::{OF_THREAD, identity, is_pinned, on_thread};
use crate::files::make;

/// Announces a change, on any thread.
pub type Announce<'a> = &'a (dyn Fn(&str) -> io::Result<()> + Sync);

/// Creates a namespace and pins it at `path`.
///
/// # Errors
/// The error of the announcement or of the kernel.
pub fn create(path: &Path, announce: Announce<'_>) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        directory(parent)?;
    }
    create_mount_point(path, announce)?;
    on_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        announce("pin the namespace")?;
        bind(OF_THREAD, path)
    })
}

/// Creates a namespace that is pinned nowhere: it exists as long as the file is open.
///
/// # Errors
/// The error of the announcement or of the kernel.
pub fn create_unpinned(announce: Announce<'_>) -> io::Result<File> {
    on_thread(|| {
        announce("make a namespace")?;
        unshare(CloneFlags::CLONE_NEWNET)?;
        File::open(OF_THREAD)
    })
}

/// Checks whether a namespace can be pinned at `path`, in a mount namespace that no other thread sees.
///
/// # Errors
/// The error of the announcement or of the kernel.
pub fn check(path: &Path, announce: Announce<'_>) -> io::Result<()> {
    on_thread(|| {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
        match mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>) {
            Ok(()) => {}
            // The root of a `chroot` is no mount: any mount would be visible to others.
            Err(Errno::EINVAL) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        announce("pin the namespace")?;
        bind(OF_THREAD, path)?;
        if is_pinned(path) { Ok(()) } else { Err(io::Error::other("it is mounted and not there")) }
    })
}

/// Pins an open namespace at `path` again if it was unpinned or another mount covers it; `false` if neither is the case.
///
/// # Errors
/// The error of the announcement or of the kernel.
pub fn repin(netns: &File, path: &Path, announce: Announce<'_>) -> io::Result<bool> {
    let own = identity(netns)?;
    let pinned = is_pinned(path);
    if pinned && fs::metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == own) {
        return Ok(false);
    }
    if !pinned {
        path.parent().map_or(Ok(()), directory)?;
        create_mount_point(path, announce)?;
    }
    announce("pin the namespace")?;
    bind(&format!("/proc/self/fd/{}", netns.as_raw_fd()), path)?;
    Ok(true)
}

/// Unpins the namespace at `path`. The kernel destroys it with its last handle. Absent is fine.
///
/// # Errors
/// The error of the announcement or of the kernel.
pub fn unpin(path: &Path, announce: Announce<'_>) -> io::Result<()> {
    while is_pinned(path) {
        announce("unpin the namespace")?;
        umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    if !is_mount_point(path) {
        return Ok(());
    }
    match announce("remove the namespace's file").and_then(|()| fs::remove_file(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn bind(netns: &str, path: &Path) -> io::Result<()> {
    Ok(mount(Some(netns), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

/// True for the empty file that a namespace is mounted on. Anything else belongs to others.
fn is_mount_point(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|it| it.is_file() && it.len() == 0)
}

/// Creates that file; an existing one was left by a crash.
fn create_mount_point(path: &Path, announce: Announce<'_>) -> io::Result<()> {
    announce("create the namespace's file")?;
    match OpenOptions::new().write(true).create_new(true).mode(make::PRIVATE).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_mount_point(path) => Ok(()),
        other => other.map(drop),
    }
}

/// Creates the directory of pinned namespaces.
fn directory(path: &Path) -> io::Result<()> {
    make::directory(path, make::PRIVATE_DIRECTORY)
}
