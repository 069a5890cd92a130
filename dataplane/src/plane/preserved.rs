//! Preserved namespaces: the topology does not have them, and they are not removed.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

/// Preserved namespaces, each with the other ends of its links.
#[derive(Default)]
pub(super) struct Preserved(pub(super) BTreeMap<Uuid, BTreeSet<(u32, u32)>>);

impl Preserved {
    /// Links of other namespaces to preserved ones: their index and that of their other end.
    pub(super) fn links(&self) -> BTreeSet<(u32, u32)> {
        self.0.values().flatten().copied().collect()
    }
}
