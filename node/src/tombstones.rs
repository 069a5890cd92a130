//! Local tombstones, `<stateDir>/tombstones/<hash>-<installation>`: cleanup that a DEL could not finish and could not record
//! in etcd. Each is of one installation (`etcd.prefix`), which it names: a tombstone is never moved below another prefix.
//!
//! # Guarantees
//! * An existing file is whole and survives a power failure: it is replaced atomically, and its directory and new directories
//!   above it are synced. If there is no space, the old file stays.
//! * Putting a tombstone over another one merges them: no pending cleanup is lost.
//!
//! The files are few and short-lived: the next call that reaches etcd moves them there.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use atoll_model::attachment::Attachment;
use atoll_records::{TombstoneKind, TombstoneRecord, decode, encode};

use crate::files::trouble::named;
use crate::files::{RECORD, atomic, make, read};
use crate::paths;

/// What a local tombstone has besides the record: the prefix of etcd that it belongs below.
const PREFIX: &str = "etcdPrefix";

/// The local tombstones of this node, of one installation.
#[derive(Clone, Debug)]
pub struct LocalTombstones {
    state_dir: PathBuf,
    directory: PathBuf,
    prefix: String,
    /// The end of the names of its files.
    ending: String,
}

impl LocalTombstones {
    /// Touches nothing yet.
    pub fn new(state_dir: &Path, etcd_prefix: &str) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            directory: paths::tombstones(state_dir),
            prefix: etcd_prefix.to_owned(),
            ending: format!("-{}", paths::installation(etcd_prefix)),
        }
    }

    /// The file of an attachment's tombstone.
    pub fn path(&self, attachment: &Attachment) -> PathBuf {
        self.directory.join(format!("{}{}", attachment.hash(), self.ending))
    }

    /// The local tombstone of an attachment. One that cannot be read is logged and counts as none.
    pub fn get(&self, attachment: &Attachment) -> Option<TombstoneRecord> {
        let path = self.path(attachment);
        look(&path).unwrap_or_else(|error| {
            tracing::error!(%error, path = %path.display(), "a local tombstone cannot be read");
            None
        })
    }

    /// Writes a tombstone durably, merged with the one that is there.
    ///
    /// # Errors
    /// The error of the file system; the old tombstone stays.
    pub fn put(&self, tombstone: &TombstoneRecord) -> io::Result<()> {
        self.make_directory().map_err(named(&self.directory))?;
        let path = self.path(&tombstone.attachment);
        let mut record = tombstone.clone();
        record.unknown.insert(PREFIX.to_owned(), self.prefix.clone().into());
        if let Some(there) = look(&path).map_err(named(&path))? {
            // One that was written by a clock that was ahead waits from now on, for as long as it was to wait from then on.
            let ahead = there.since.saturating_sub(record.since);
            record.not_before = record.not_before.max(there.not_before.saturating_sub(ahead));
            record.port = record.port.or(there.port);
            record.deletion_sent |= there.may_have_deletion();
            if there.kind == TombstoneKind::Fence {
                record.kind = TombstoneKind::Fence;
            }
        }
        atomic::replace(&path, &encode(&record), atomic::Durability::Durable).map_err(named(&path))
    }

    /// A new directory is an entry of the one above it, and is lost with that.
    fn make_directory(&self) -> io::Result<()> {
        let new = self.directory.ancestors().take_while(|directory| !directory.exists()).count();
        make::private(&self.state_dir, paths::TOMBSTONES)?;
        self.directory.ancestors().skip(1).take(new).try_for_each(|above| File::open(above)?.sync_all())
    }

    /// Removes the tombstone of an attachment, if there is one: the cleanup is done, or recorded in etcd.
    ///
    /// # Errors
    /// The file exists and cannot be removed.
    pub fn remove(&self, attachment: &Attachment) -> io::Result<()> {
        let path = self.path(attachment);
        match fs::remove_file(&path) {
            // A read-only file system refuses also if there is no file.
            Err(error) if fs::symlink_metadata(&path).is_ok() => Err(named(&path)(error)),
            // Not synced: if the file comes back after a power failure, it is only done again.
            _ => Ok(()),
        }
    }

    /// At most `limit` tombstones of this installation.
    ///
    /// # Errors
    /// The directory cannot be listed, or a file cannot be read: there may be more.
    pub fn list(&self, limit: usize) -> io::Result<Vec<TombstoneRecord>> {
        // A name with a dot is one that is being written.
        let names = read::names(&self.directory, |name| !name.starts_with('.') && name.ends_with(&self.ending));
        let names = names.map_err(named(&self.directory))?;
        let mut found = Vec::new();
        for path in names.into_iter().map(|name| self.directory.join(name)) {
            if found.len() == limit {
                break;
            }
            found.extend(look(&path).map_err(named(&path))?);
        }
        Ok(found)
    }

    /// Removes the temporary files that killed calls left, if they were last written before `before`, seconds since 1970.
    ///
    /// No lock is needed: if the writer of a removed file still lives, its [`LocalTombstones::put`] fails and changes nothing.
    ///
    /// # Errors
    /// The directory cannot be listed, or a file cannot be removed.
    pub fn remove_leftovers(&self, before: u64) -> io::Result<()> {
        let is_ours = |name: &str| atomic::target_of(name).is_some_and(|target| target.ends_with(&self.ending));
        let names = read::names(&self.directory, is_ours).map_err(named(&self.directory))?;
        for path in names.into_iter().map(|name| self.directory.join(name)) {
            let is_old = |metadata: fs::Metadata| u64::try_from(metadata.mtime()).is_ok_and(|written| written < before);
            match fs::symlink_metadata(&path)
                .map(is_old)
                .and_then(|old| if old { fs::remove_file(&path) } else { Ok(()) })
            {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(&path)(error)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// All local tombstones of this node, of every installation, with their files. None: the file cannot be read.
///
/// # Errors
/// The directory cannot be listed.
pub fn all(state_dir: &Path) -> io::Result<Vec<(PathBuf, Option<TombstoneRecord>)>> {
    let directory = paths::tombstones(state_dir);
    // A name with a dot is a temporary file.
    let names = read::names(&directory, |name| !name.starts_with('.')).map_err(named(&directory))?;
    let paths = names.into_iter().map(|name| directory.join(name));
    let read = |path: &PathBuf| read::own(path, RECORD).ok().and_then(|text| decode(&text).ok());
    Ok(paths.map(|path| (path.clone(), read(&path))).collect())
}

/// The tombstone in a file. None: there is no file, or it is damaged, which is logged, and it stays.
fn look(path: &Path) -> io::Result<Option<TombstoneRecord>> {
    let damaged = |error: &(dyn std::error::Error + 'static)| {
        tracing::error!(error, path = %path.display(), "a local tombstone is damaged");
    };
    match read::own(path, RECORD) {
        Ok(bytes) => {
            let record = decode::<TombstoneRecord>(&bytes).map_err(|error| damaged(&error)).ok();
            Ok(record.map(|mut record| {
                record.unknown.remove(PREFIX);
                record
            }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::FileTooLarge) => {
            damaged(&error);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::ids::{ContainerId, IfName, NetworkName, NodeName};
    use atoll_records::{FIRST_ENGINE, SCHEMA, Unknown};
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    use uuid::Uuid;

    use super::*;

    fn tombstone(kind: TombstoneKind, port: Option<Uuid>, not_before: u64) -> TombstoneRecord {
        let attachment = Attachment {
            node: NodeName::new("n").expect("valid"),
            network: NetworkName::new("net").expect("valid"),
            container: ContainerId::new("c").expect("valid"),
            interface: IfName::new("eth0").expect("valid"),
        };
        let note = String::new();
        TombstoneRecord {
            v: SCHEMA,
            engine: FIRST_ENGINE.to_owned(),
            kind,
            attachment,
            port,
            not_before,
            since: 1,
            note,
            deletion_sent: false,
            unknown: Unknown::new(),
        }
    }

    #[test]
    fn only_old_temporary_files_of_this_installation_are_leftovers() {
        let directory = tempfile::tempdir().expect("a directory");
        let local_tombstones = LocalTombstones::new(directory.path(), "/atoll/a");
        local_tombstones.remove_leftovers(100).expect("no directory, no leftovers");
        let first = tombstone(TombstoneKind::Delete, None, 9);
        local_tombstones.put(&first).expect("works");
        let path = local_tombstones.path(&first.attachment);
        let other = LocalTombstones::new(directory.path(), "/atoll/b").path(&first.attachment);
        let files = [
            (atomic::temporary(&path), 99),
            (atomic::temporary(&path), 100),
            (atomic::temporary(&other), 99),
            (path, 99),
        ];
        for (path, written) in &files {
            let file = File::options().create(true).append(true).open(path).expect("opened");
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(*written)).expect("set");
        }
        local_tombstones.remove_leftovers(100).expect("works");
        assert_eq!(files.map(|(path, _)| path.exists()), [false, true, true, true]);
        assert_eq!(local_tombstones.get(&first.attachment), Some(first), "the tombstone is unchanged");
    }

    #[test]
    fn putting_again_forgets_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let local_tombstones = LocalTombstones::new(directory.path(), "/atoll/a");
        let port = Some(Uuid::from_u128(7));
        let first = tombstone(TombstoneKind::Fence, port, 9);
        assert_eq!(
            (local_tombstones.get(&first.attachment), local_tombstones.list(5).expect("readable")),
            (None, vec![])
        );
        local_tombstones.put(&first).expect("works");
        local_tombstones.put(&tombstone(TombstoneKind::Delete, None, 5)).expect("works");
        assert_eq!(local_tombstones.get(&first.attachment), Some(first.clone()));
        assert_eq!(local_tombstones.list(5).expect("readable").first(), Some(&first));
        assert_eq!(local_tombstones.list(0).expect("readable"), []);
        let other = LocalTombstones::new(directory.path(), "/atoll/b");
        assert_eq!((other.get(&first.attachment), other.list(5).expect("readable")), (None, vec![]));
        other.put(&tombstone(TombstoneKind::Delete, None, 5)).expect("works");
        assert_eq!(
            local_tombstones.list(5).expect("readable"),
            std::slice::from_ref(&first),
            "of another installation"
        );
        other.remove(&first.attachment).expect("works");
        for _ in 0..2 {
            local_tombstones.remove(&first.attachment).expect("works");
        }
        assert_eq!(local_tombstones.list(5).expect("readable"), []);
    }

    /// The first was written by a clock that was ahead: it waits from the second on as long as it was to wait.
    #[test]
    fn putting_again_waits_for_no_clock_that_was_ahead() {
        let directory = tempfile::tempdir().expect("a directory");
        let local_tombstones = LocalTombstones::new(directory.path(), "/atoll/a");
        let ahead = TombstoneRecord { since: 1000, ..tombstone(TombstoneKind::Fence, None, 1060) };
        local_tombstones.put(&ahead).expect("works");
        let now = TombstoneRecord { since: 100, ..tombstone(TombstoneKind::Delete, None, 100) };
        local_tombstones.put(&now).expect("works");
        let merged = local_tombstones.get(&now.attachment).expect("there");
        assert_eq!((merged.not_before, merged.kind), (160, TombstoneKind::Fence));
    }

    #[test]
    fn a_file_that_is_being_written_is_none_and_a_directory_that_cannot_be_listed_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let local_tombstones = LocalTombstones::new(directory.path(), "/atoll/a");
        let tombstone = tombstone(TombstoneKind::Delete, None, 1);
        local_tombstones.put(&tombstone).expect("works");
        let whole = local_tombstones.path(&tombstone.attachment);
        let name = whole.file_name().expect("it has one").to_string_lossy().into_owned();
        fs::copy(&whole, whole.with_file_name(format!(".{name}"))).expect("works");
        assert_eq!(local_tombstones.list(5).expect("readable"), [tombstone]);
        let tombstones = directory.path().join("tombstones");
        fs::rename(&tombstones, directory.path().join("away")).expect("works");
        fs::write(&tombstones, "").expect("works");
        local_tombstones.list(5).expect_err("there may be some");
    }

    /// Runs `test` with a small file system of its own, in a mount namespace that goes with the thread.
    fn on_a_small_file_system(test: impl FnOnce(&Path) + Send) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let mounted = || {
            unshare(CloneFlags::CLONE_NEWNS).expect("root may");
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("root may");
            mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some("size=32k")).expect("root may");
            test(path);
        };
        std::thread::scope(|scope| scope.spawn(mounted).join().expect("the test itself"));
    }

    #[test]
    fn on_a_full_disk_the_old_file_stays() {
        on_a_small_file_system(|path| {
            let local_tombstones = LocalTombstones::new(path, "/atoll/a");
            let first = tombstone(TombstoneKind::Delete, Some(Uuid::from_u128(7)), 1);
            local_tombstones.put(&first).expect("there is room");
            let filler = path.join("filler");
            fs::write(&filler, vec![0; 1 << 20]).expect_err("the disk is full");
            let error = local_tombstones.put(&tombstone(TombstoneKind::Fence, None, 9)).expect_err("no room");
            assert!(error.to_string().contains(&first.attachment.hash()), "{error}");
            assert_eq!(local_tombstones.list(5).expect("readable"), [first]);
            assert_eq!(fs::read_dir(path.join("tombstones")).expect("there").count(), 1, "nothing is left aside");
            fs::remove_file(filler).expect("works");
            local_tombstones.put(&tombstone(TombstoneKind::Fence, None, 9)).expect("there is room again");
            assert_eq!(
                local_tombstones.list(5).expect("readable").first().map(|tombstone| tombstone.not_before),
                Some(9)
            );
        });
    }

    #[test]
    fn on_a_read_only_file_system_only_what_is_there_cannot_be_removed() {
        on_a_small_file_system(|path| {
            let local_tombstones = LocalTombstones::new(path, "/atoll/a");
            let there = tombstone(TombstoneKind::Delete, None, 1);
            local_tombstones.put(&there).expect("works");
            let other = Attachment { container: ContainerId::new("other").expect("valid"), ..there.attachment.clone() };
            let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            mount(None::<&str>, path, None::<&str>, read_only, None::<&str>).expect("root may");
            local_tombstones.remove(&other).expect("there is none for it");
            local_tombstones.remove(&there.attachment).expect_err("it stays");
            local_tombstones.put(&there).expect_err("read-only");
        });
    }
}
