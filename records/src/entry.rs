//! The value under one key of the store, and its revisions.

use crate::key::Key;

/// A revision of the whole store. It only grows, but can repeat after a restore from a backup: caches are keyed by
/// the epoch in `cluster` as well.
pub type Revision = i64;

/// One key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key, without the prefix of the installation.
    pub key: Key,
    /// The value; empty when only keys were asked for.
    pub value: Vec<u8>,
    /// When this key was created: it distinguishes a value from that of an earlier key of the same name.
    pub create_revision: Revision,
    /// When it was last written.
    pub mod_revision: Revision,
    /// The lease it expires with.
    pub lease: Option<Lease>,
}

/// A lease: keys attached to it vanish when it is revoked or not kept alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Lease(pub i64);
