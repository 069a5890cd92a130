//! One table: objects by id, in a persistent map, with a count of the rows that are read.
//!
//! The count makes guarantee 2 of the controller testable without a clock: no request visits more objects than it answers
//! with or changes. A walk over a table counts every row of it.

use std::cell::Cell;
use std::ops::Index;

use imbl::OrdMap;
use imbl::ordmap::{ConsumingIter, Iter};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

thread_local! {
    /// The rows and index entries that this thread has read.
    static VISITED: Cell<u64> = const { Cell::new(0) };
}

/// The number of rows and index entries that this thread has read so far.
pub fn visited() -> u64 {
    VISITED.get()
}

/// Counts one row or index entry.
pub(super) fn visit() {
    VISITED.set(VISITED.get().wrapping_add(1));
}

/// An iterator that counts what it yields.
#[derive(Clone, Debug)]
pub struct Visits<I>(I);

impl<I: Iterator> Iterator for Visits<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        let next = self.0.next();
        if next.is_some() {
            visit();
        }
        next
    }
}

/// The rows of a table, by id. A copy costs the same whatever it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent, bound(serialize = "V: Serialize", deserialize = "V: Deserialize<'de> + Clone"))]
pub struct ObjectMap<V>(OrdMap<Uuid, V>);

impl<V> Default for ObjectMap<V> {
    fn default() -> Self {
        Self(OrdMap::new())
    }
}

impl<V> ObjectMap<V> {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is a row of this id.
    pub fn contains_key(&self, id: &Uuid) -> bool {
        visit();
        self.0.contains_key(id)
    }

    /// The row of this id.
    pub fn get(&self, id: &Uuid) -> Option<&V> {
        visit();
        self.0.get(id)
    }

    /// Every row, in the order of the ids.
    pub fn iter(&self) -> Visits<Iter<'_, Uuid, V, imbl::shared_ptr::DefaultSharedPtr>> {
        Visits(self.0.iter())
    }

    /// Every id, in order.
    pub fn keys(&self) -> impl Iterator<Item = &Uuid> {
        self.iter().map(|(id, _)| id)
    }

    /// Every object, in the order of the ids.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, row)| row)
    }
}

impl<V: Clone> ObjectMap<V> {
    /// The row of this id, to change it.
    pub fn get_mut(&mut self, id: &Uuid) -> Option<&mut V> {
        visit();
        self.0.get_mut(id)
    }

    /// Adds or replaces a row; returns the replaced one.
    pub fn insert(&mut self, id: Uuid, row: V) -> Option<V> {
        visit();
        self.0.insert(id, row)
    }

    /// Removes a row.
    pub fn remove(&mut self, id: &Uuid) -> Option<V> {
        visit();
        self.0.remove(id)
    }
}

impl<V> Index<&Uuid> for ObjectMap<V> {
    type Output = V;

    fn index(&self, id: &Uuid) -> &V {
        visit();
        &self.0[id]
    }
}

impl<V: Clone> FromIterator<(Uuid, V)> for ObjectMap<V> {
    fn from_iter<I: IntoIterator<Item = (Uuid, V)>>(rows: I) -> Self {
        Self(rows.into_iter().collect())
    }
}

impl<V: Clone> Extend<(Uuid, V)> for ObjectMap<V> {
    fn extend<I: IntoIterator<Item = (Uuid, V)>>(&mut self, rows: I) {
        self.0.extend(rows);
    }
}

impl<V: Clone> IntoIterator for ObjectMap<V> {
    type Item = (Uuid, V);
    type IntoIter = Visits<ConsumingIter<Uuid, V, imbl::shared_ptr::DefaultSharedPtr>>;

    fn into_iter(self) -> Self::IntoIter {
        Visits(self.0.into_iter())
    }
}

impl<'a, V> IntoIterator for &'a ObjectMap<V> {
    type Item = (&'a Uuid, &'a V);
    type IntoIter = Visits<Iter<'a, Uuid, V, imbl::shared_ptr::DefaultSharedPtr>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
