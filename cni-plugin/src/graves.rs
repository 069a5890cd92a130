//! Tombstones in local files, `<stateDir>/tombstones/<hash>`: what a DEL owes and could not even tell etcd.
//!
//! Promises: a file that is there is whole and survives a power failure (written aside, synced, renamed, directory
//! synced); burying again merges, so that nothing owed is forgotten. The files are few and short-lived: the next call
//! that reaches etcd moves them there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use atoll_model::attachment::Attachment;
use atoll_model::record::{Tombstone, TombstoneRecord, decode, encode};

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
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
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
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(&encode(&record))?;
        file.sync_all()?;
        fs::rename(&aside, &path)?;
        File::open(&self.directory)?.sync_all()
    }

    /// Nothing is owed any more, or it is written down elsewhere.
    pub fn remove(&self, attachment: &Attachment) -> io::Result<()> {
        match fs::remove_file(self.directory.join(attachment.hash())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
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
}
