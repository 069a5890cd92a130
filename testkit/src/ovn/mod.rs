//! Real parts of OVN for tests: Debian's programs, unpacked and not installed.
//!
//! | module | what |
//! |---|---|
//! | `packages` | where the programs are, and how they are started |
//! | `server` | `ovsdb-server` with one database: alone, or a cluster of members |

mod packages;
mod server;

pub use packages::Packages;
pub use server::{OvsdbServer, Schema};
