//! Addresses: who has which, decided by pure functions and made true by one transaction.
//!
//! | module | what |
//! |---|---|
//! | [`pool`] | arithmetic: blocks, host ranges, gateways, transit links, candidates. No I/O, IPv4 and IPv6 |
//! | [`claim`](claim()) | an attachment gets an address |
//! | [`release`](release()) | returns it to the pool, through its cool-down |
//! | [`renew`](renew()) | a claim that stays gets a port of another id |
//! | [`restore`] | a claim records that another machine may be making its port |
//! | [`reserve`](reserve()) | an address is kept for a pod |
//! | [`tombstone`] | pending cleanup of an attachment |
//! | [`audit`](audit()) | inconsistent records, and their repair |
//! | [`find`](find()) | what is known of an attachment, and lists for a node |
//! | [`holder`] | who has an address, as people know it |
//! | [`error`] | what can go wrong |
//!
//! # Guarantees
//! - Two live claims never share an address, even if processes crash, answers are lost or requests arrive late.
//! - A repeated claim of the same attachment gives the same answer.
//! - A release compares the claim as it was read.
//!
//! A warm claim is one transaction. There is no lock, no counter and no lease per claim. See
//! `docs/design/addresses.md`.
//!
//! This crate must not send requests to a controller or to the kernel, and must wait for the store only.

pub mod audit;
mod candidate;
pub mod claim;
pub mod error;
pub mod find;
pub mod holder;
pub mod pool;
pub mod release;
pub mod renew;
pub mod reserve;
pub mod restore;
mod search;
pub mod tombstone;

pub use audit::{audit, observe, repair};
pub use claim::{ClaimRequest, Claimed, Current, Guards, claim};
pub use error::{Fill, IpamError};
pub use find::{Found, NodeRecords, claims_of, find, records_of, tombstones_of};
pub use holder::Holder;
pub use release::{LateDeletions, Released, release, release_beside};
pub use renew::renew;
pub use reserve::{Lifted, ReserveRequest, Reserved, lift, reservations, reserve, reserved_for};
pub use restore::{creations_answered, expect_creation};
pub use tombstone::{put_tombstone, remove_tombstone};
