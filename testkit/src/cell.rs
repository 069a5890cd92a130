//! Cells that test doubles share between threads: the methods of `std::cell`, behind locks.
//!
//! The futures of the seams are `Send`, so a test double that counts or remembers needs a cell that is `Sync`. The tests
//! themselves run on one thread. By hand, because the standard library has only atomics, which are numbers, and locks, whose
//! poisoning each use would have to handle.

use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use atoll_model::sync::locked;

/// A [`std::cell::Cell`] that is `Sync`.
#[derive(Debug, Default)]
pub struct SyncCell<T>(Mutex<T>);

impl<T> SyncCell<T> {
    /// A cell with this value.
    pub const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Replaces the value.
    pub fn set(&self, value: T) {
        *locked(&self.0) = value;
    }

    /// Replaces the value and returns the one before.
    pub fn replace(&self, value: T) -> T {
        std::mem::replace(&mut *locked(&self.0), value)
    }
}

impl<T: Copy> SyncCell<T> {
    /// A copy of the value.
    pub fn get(&self) -> T {
        *locked(&self.0)
    }
}

impl<T: Default> SyncCell<T> {
    /// The value; the default takes its place.
    pub fn take(&self) -> T {
        std::mem::take(&mut *locked(&self.0))
    }
}

/// A [`std::cell::RefCell`] that is `Sync`.
#[derive(Debug, Default)]
pub struct SyncRefCell<T>(RwLock<T>);

impl<T> SyncRefCell<T> {
    /// A cell with this value.
    pub const fn new(value: T) -> Self {
        Self(RwLock::new(value))
    }

    /// The value, to read.
    pub fn borrow(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the value and returns the one before.
    pub fn replace(&self, value: T) -> T {
        std::mem::replace(&mut *self.borrow_mut(), value)
    }

    /// The value, to change. It waits forever while the same thread holds a borrow.
    pub fn borrow_mut(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Default> SyncRefCell<T> {
    /// The value; the default takes its place.
    pub fn take(&self) -> T {
        std::mem::take(&mut *self.borrow_mut())
    }
}
