//! Real parts of OVN for tests: Debian's programs, unpacked and not installed. And doubles of its databases.
//!
//! | module | what |
//! |---|---|
//! | `chassis` | what ovn-controller does for pods, over databases in memory |
//! | `packages` | where the programs are, and how they are started |
//! | [`agents`] | what northd and chassis do with a configuration number |
//! | `memory` | a database in memory, with the packages' schema |
//! | `faulty` | a database with injected faults |
//! | `server` | `ovsdb-server` with one database: alone, or a cluster of members |

pub mod agents;
mod chassis;
mod faulty;
mod memory;
mod packages;
mod server;

pub use chassis::Chassis;
pub use faulty::FaultyDatabase;
pub use memory::{MemoryDatabase, MemoryRowWatch};
pub use packages::Packages;
pub use server::{OvsdbServer, Schema};
