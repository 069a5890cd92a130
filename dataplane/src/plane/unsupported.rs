//! Unsupported parts of the topology, by the namespace or port that reported them, because each is compiled separately.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::compile::Unsupported;

/// The unsupported parts, with those that were logged.
#[derive(Default)]
pub(super) struct UnsupportedParts {
    by_finder: BTreeMap<Uuid, BTreeSet<Unsupported>>,
    changed: bool,
    logged: BTreeSet<Unsupported>,
}

impl UnsupportedParts {
    /// Compiling `finder` found this, and nothing else.
    pub(super) fn replace(&mut self, finder: Uuid, found: BTreeSet<Unsupported>) {
        let before =
            if found.is_empty() { self.by_finder.remove(&finder) } else { self.by_finder.insert(finder, found) };
        self.changed |= before.as_ref() != self.by_finder.get(&finder);
    }

    /// Compiling `finder` found this, too.
    pub(super) fn add(&mut self, finder: Uuid, found: Unsupported) {
        self.changed |= self.by_finder.entry(finder).or_default().insert(found);
    }

    /// Everything, if it is not what it was at the last call. What is new is logged.
    pub(super) fn take_changed(&mut self) -> Option<BTreeSet<Unsupported>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let all: BTreeSet<_> = self.by_finder.values().flatten().cloned().collect();
        for Unsupported { object, field, why, effect, closes: _ } in all.difference(&self.logged) {
            tracing::warn!(%object, field, why, effect, "the data plane cannot express this");
        }
        self.logged.clone_from(&all);
        Some(all)
    }
}
