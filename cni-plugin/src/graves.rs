//! Tombstones in local files, `<stateDir>/tombstones/<hash>`: what a DEL owes and could not even tell etcd.
//!
//! Promises: a file that is there is whole and survives a power failure (written aside, synced, renamed, directory
//! synced, and those above it that are new); where there is no room the old file stays; burying again merges, so that
//! nothing owed is forgotten. The files are few and short-lived: the next call that reaches etcd moves them there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use atoll_model::attachment::Attachment;
use atoll_model::record::{Tombstone, TombstoneRecord, decode, encode};

use crate::journal::named;

/// The local tombstones of this node.
#[derive(Clone, Debug)]
pub struct Graves {
    directory: PathBuf,
}

impl Graves {
    /// Touches nothing yet.
    pub fn new(state_dir: &Path) -> Self {
        Self { directory: state_dir.join("tombstones") }
    }

    /// What is owed for an attachment.
    pub fn get(&self, attachment: &Attachment) -> Option<TombstoneRecord> {
        read(&self.directory.join(attachment.hash()))
    }

    /// Makes a tombstone durable.
    pub fn put(&self, tombstone: &TombstoneRecord) -> io::Result<()> {
        self.make_directory().map_err(named(&self.directory))?;
        let name = tombstone.attachment.hash();
        let path = self.directory.join(&name);
        let mut record = tombstone.clone();
        if let Some(there) = read(&path) {
            record.not_before = record.not_before.max(there.not_before);
            record.port = record.port.or(there.port);
            if there.why == Tombstone::Fence {
                record.why = Tombstone::Fence;
            }
        }
        // Only the holder of the attachment's lock writes here: no two use the same name.
        let aside = self.directory.join(format!(".{name}"));
        let written = write(&aside, &encode(&record)).and_then(|()| fs::rename(&aside, &path));
        if written.is_err() {
            // It may be all that fills the disk.
            drop(fs::remove_file(&aside));
        }
        written.and_then(|()| File::open(&self.directory)?.sync_all()).map_err(named(&path))
    }

    /// A new directory is an entry of the one above it, and is lost with that.
    fn make_directory(&self) -> io::Result<()> {
        let new = self.directory.ancestors().take_while(|directory| !directory.exists()).count();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        self.directory.ancestors().skip(1).take(new).try_for_each(|above| File::open(above)?.sync_all())
    }

    /// Nothing is owed any more, or it is written down elsewhere.
    pub fn remove(&self, attachment: &Attachment) -> io::Result<()> {
        let path = self.directory.join(attachment.hash());
        match fs::remove_file(&path) {
            // What is not there need not be removed, also where nothing can be: a file system that went read-only
            // refuses before it looks.
            Err(error) if fs::symlink_metadata(&path).is_ok() => Err(named(&path)(error)),
            // Not synced: if the file comes back after a power failure, it is only done again.
            _ => Ok(()),
        }
    }

    /// At most `limit` tombstones.
    pub fn list(&self, limit: usize) -> Vec<TombstoneRecord> {
        let Ok(entries) = fs::read_dir(&self.directory) else { return vec![] };
        let visible = entries.flatten().filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
        visible.filter_map(|entry| read(&entry.path())).take(limit).collect()
    }
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

/// A damaged one is left alone and reported: nothing can be done with it.
fn read(path: &Path) -> Option<TombstoneRecord> {
    let bytes = fs::read(path).ok()?;
    let damaged = |error| tracing::error!(error = &error as &dyn std::error::Error, path = %path.display(), "damaged");
    decode(&bytes).map_err(damaged).ok()
}

#[cfg(test)]
mod tests {
    use atoll_model::ids::{ContainerId, IfName, NetworkName, NodeName};
    use atoll_model::record::{SCHEMA, Unknown};
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    use uuid::Uuid;

    use super::*;

    fn owed(why: Tombstone, port: Option<Uuid>, not_before: u64) -> TombstoneRecord {
        let attachment = Attachment {
            node: NodeName::new("n").expect("valid"),
            network: NetworkName::new("net").expect("valid"),
            container: ContainerId::new("c").expect("valid"),
            interface: IfName::new("eth0").expect("valid"),
        };
        let note = String::new();
        TombstoneRecord { v: SCHEMA, why, attachment, port, not_before, since: 1, note, unknown: Unknown::new() }
    }

    #[test]
    fn burying_again_forgets_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let graves = Graves::new(directory.path());
        let port = Some(Uuid::from_u128(7));
        let first = owed(Tombstone::Fence, port, 9);
        assert_eq!((graves.get(&first.attachment), graves.list(5)), (None, vec![]));
        graves.put(&first).expect("works");
        graves.put(&owed(Tombstone::Delete, None, 5)).expect("works");
        assert_eq!(graves.get(&first.attachment), Some(first.clone()));
        assert_eq!(graves.list(5).first(), Some(&first));
        assert_eq!(graves.list(0), []);
        for _ in 0..2 {
            graves.remove(&first.attachment).expect("works");
        }
        assert_eq!(graves.list(5), []);
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
            let graves = Graves::new(path);
            let first = owed(Tombstone::Delete, Some(Uuid::from_u128(7)), 1);
            graves.put(&first).expect("there is room");
            let filler = path.join("filler");
            fs::write(&filler, vec![0; 1 << 20]).expect_err("the disk is full");
            let error = graves.put(&owed(Tombstone::Fence, None, 9)).expect_err("no room");
            assert!(error.to_string().contains(&first.attachment.hash()), "{error}");
            assert_eq!(graves.list(5), [first]);
            assert_eq!(fs::read_dir(path.join("tombstones")).expect("there").count(), 1, "nothing is left aside");
            fs::remove_file(filler).expect("works");
            graves.put(&owed(Tombstone::Fence, None, 9)).expect("there is room again");
            assert_eq!(graves.list(5).first().map(|grave| grave.not_before), Some(9));
        });
    }

    #[test]
    fn on_a_read_only_file_system_only_what_is_there_cannot_be_removed() {
        on_a_small_file_system(|path| {
            let graves = Graves::new(path);
            let there = owed(Tombstone::Delete, None, 1);
            graves.put(&there).expect("works");
            let other = Attachment { container: ContainerId::new("other").expect("valid"), ..there.attachment.clone() };
            let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            mount(None::<&str>, path, None::<&str>, read_only, None::<&str>).expect("root may");
            graves.remove(&other).expect("nothing is owed for it");
            graves.remove(&there.attachment).expect_err("it stays");
            graves.put(&there).expect_err("read-only");
        });
    }
}
