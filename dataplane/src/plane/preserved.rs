//! Namespaces that are left alone.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

/// Namespaces that are left alone, with the links at the other ends of theirs.
#[derive(Default)]
pub(super) struct Preserved(pub(super) BTreeMap<Uuid, BTreeSet<(u32, u32)>>);

impl Preserved {
    /// Links of other namespaces that must stay: their index and that of their other end.
    pub(super) fn links(&self) -> BTreeSet<(u32, u32)> {
        self.0.values().flatten().copied().collect()
    }
}
