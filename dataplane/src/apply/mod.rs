//! Makes the kernel match a plan: one namespace or one port at a time.
//!
//! | module | what |
//! |---|---|
//! | `kernel_namespace` | one namespace: read, compare, change only what differs |
//! | `change` | from one structure to the next, without reading what both have |
//! | `pods` | ports of pods |
//! | `drift` | options and bridge entries that other programs changed or removed |
//! | `flows` | tracked flows whose port or rule is gone |
//! | `host` | the machine's own namespace |
//! | `external` | the external network behind an uplink |
//! | `surroundings`, `lookup` | what these share |

mod change;
mod drift;
mod external;
mod flows;
mod host;
mod kernel_namespace;
mod lookup;
mod pods;
mod surroundings;

pub(crate) use external::{Contents, close, external, give_back, host_ends};
pub(crate) use flows::{Way, ways};
pub(crate) use host::HostNamespace;
pub(crate) use kernel_namespace::KernelNamespace;
pub(crate) use surroundings::Surroundings;
