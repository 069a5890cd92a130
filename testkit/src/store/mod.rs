//! Stores for tests.
//!
//! | module | what |
//! |---|---|
//! | [`memory`] | an etcd in memory |
//! | [`faulty`] | a store that fails by a fault plan |
//! | [`intercepted`] | a store with a closure before every call |

pub mod faulty;
pub mod intercepted;
pub mod memory;

pub use faulty::FaultyStore;
pub use intercepted::{Deciding, InterceptedStore, Interception, StoreCall, at_once, unknown_commits};
pub use memory::{MemoryStore, MemoryWatch};
