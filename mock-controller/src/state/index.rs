//! A one-to-many index: which ids stand under a key. Empty keys leave no trace.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

/// Ids by key, sorted.
#[derive(Clone, Debug)]
pub(crate) struct Index<K>(BTreeMap<K, BTreeSet<Uuid>>);

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Index<K> {
    pub(crate) fn add(&mut self, key: K, id: Uuid) {
        self.0.entry(key).or_default().insert(id);
    }

    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q, id: Uuid)
    where
        K: Borrow<Q>,
    {
        if let Some(ids) = self.0.get_mut(key) {
            ids.remove(&id);
            if ids.is_empty() {
                self.0.remove(key);
            }
        }
    }

    /// The ids under `key`, sorted.
    pub(crate) fn of<Q: Ord + ?Sized>(&self, key: &Q) -> impl Iterator<Item = Uuid> + '_
    where
        K: Borrow<Q>,
    {
        self.0.get(key).into_iter().flatten().copied()
    }

    /// As [`Index::of`], as a list of its own: for those who change what they walk over.
    pub(crate) fn list<Q: Ord + ?Sized>(&self, key: &Q) -> Vec<Uuid>
    where
        K: Borrow<Q>,
    {
        self.of(key).collect()
    }

    /// Every key that has ids.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.keys()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
