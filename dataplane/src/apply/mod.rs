//! Makes the kernel match a plan: one namespace or one port at a time.
//!
//! | module | what |
//! |---|---|
//! | `realm` | one namespace: read, compare, change only what differs |
//! | `change` | from one structure to the next, where the kernel is known to hold the first |
//! | `pods` | ports of pods |
//! | `drift` | what others have changed or removed |
//! | `flows` | tracked flows that outlive what they belong to |
//! | `node` | the machine's own namespace |
//! | `outside` | what is behind an uplink |
//! | `surroundings`, `lookup` | what these share |

mod change;
mod drift;
mod flows;
mod lookup;
mod node;
mod outside;
mod pods;
mod realm;
mod surroundings;

pub(crate) use flows::{Way, ways};
pub(crate) use node::Node;
pub(crate) use outside::{Insides, close, give_back, node_ends, outside};
pub(crate) use realm::Realm;
pub(crate) use surroundings::Surroundings;
