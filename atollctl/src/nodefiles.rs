//! The plugin's files on this node, for a reader: attachment states in `<runDir>/attachments/` and local tombstones in
//! `<stateDir>/tombstones/`. Their formats are in `atoll_node`; see `docs/design/attachment.md`.
//!
//! # Guarantees
//! Only [`ObservedAttachment::remove`] changes a file. A lock is only tried: it is neither waited for nor kept. An
//! unreadable file is reported and does not hide another one.

use std::io;
use std::path::{Path, PathBuf};

use atoll_model::attachment::Attachment;
use atoll_node::attachments::{self, inspect};
use atoll_node::files::read;
use atoll_node::files::trouble::named;
use atoll_node::tombstones;
use atoll_records::{ClaimRecord, TombstoneRecord, Versioned};

/// Whether a process works on an attachment now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    Held,
    Free,
}

/// The file of an attachment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ObservedAttachment {
    pub(crate) path: PathBuf,
    /// The attachment's hash: the file's name.
    pub(crate) hash: String,
    pub(crate) lock: Lock,
    pub(crate) phase: AddState,
    /// When it was last written, seconds since 1970.
    pub(crate) written: u64,
}

/// The phase of an ADD.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AddState {
    /// An ADD has begun. With a free lock: it died.
    Adding(Option<Box<ClaimRecord>>),
    /// An ADD was finished.
    Done(Option<Box<ClaimRecord>>),
    /// The file is empty or cannot be read: an ADD has just begun, or died while it wrote.
    Unreadable,
}

impl AddState {
    pub(crate) fn claim(&self) -> Option<&ClaimRecord> {
        match self {
            Self::Adding(claim) | Self::Done(claim) => claim.as_deref(),
            Self::Unreadable => None,
        }
    }
}

/// The files of all attachments of this node.
pub(crate) fn attachments(run_dir: &Path) -> io::Result<Vec<ObservedAttachment>> {
    Ok(inspect::all(run_dir)?.into_iter().map(ObservedAttachment::from).collect())
}

/// The file of one attachment.
pub(crate) fn attachment(run_dir: &Path, attachment: &Attachment) -> io::Result<Option<ObservedAttachment>> {
    Ok(inspect::of(run_dir, attachment)?.map(ObservedAttachment::from))
}

impl From<inspect::AttachmentFile> for ObservedAttachment {
    fn from(file: inspect::AttachmentFile) -> Self {
        let inspect::AttachmentFile { path, hash, is_locked, state, written } = file;
        let claim = |claim: Option<Versioned<ClaimRecord>>| claim.map(|claim| Box::new(claim.record));
        let phase = match state {
            None => AddState::Unreadable,
            Some(state) => match state.phase {
                attachments::AddPhase::Adding => AddState::Adding(claim(state.claim)),
                attachments::AddPhase::Done => AddState::Done(claim(state.claim)),
            },
        };
        Self { path, hash, lock: if is_locked { Lock::Held } else { Lock::Free }, phase, written }
    }
}

impl ObservedAttachment {
    /// Removes the file if it is still the one that was read and no process works on the attachment. False: it stays.
    pub(crate) fn remove(&self) -> io::Result<bool> {
        inspect::remove(&self.path, self.written)
    }
}

/// A local tombstone with its file; none: the file cannot be read.
pub(crate) type LocalTombstone = (PathBuf, Option<TombstoneRecord>);

/// All local tombstones of this node.
pub(crate) fn local_tombstones(state_dir: &Path) -> io::Result<Vec<LocalTombstone>> {
    tombstones::all(state_dir)
}

/// The entries of a directory, by name; a directory that does not exist is empty.
pub(crate) fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let names = read::names(directory, |_| true).map_err(named(directory))?;
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}
