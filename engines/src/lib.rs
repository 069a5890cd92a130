//! The engine that the configuration names, for every program that needs one.
//!
//! | module | what |
//! |---|---|
//! | `any` | one type for all engines: the trait of `atoll-network`, passed on |
//! | `ovn` | the databases of OVN, as configured |
//!
//! A further engine is named here once, and nowhere else outside its own crate.

mod any;
mod ovn;

pub use any::AnyEngine;
pub use ovn::{ovn, ovn_members};
