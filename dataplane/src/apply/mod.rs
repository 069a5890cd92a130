//! Makes the kernel match a plan: one namespace or one port at a time.
//!
//! | module | what |
//! |---|---|
//! | `kernel_namespace` | one namespace: read, compare, change only what differs |
//! | `change` | from one structure to the next, where the kernel is known to hold the first |
//! | `pods` | ports of pods |
//! | `drift` | what others have changed or removed |
//! | `flows` | tracked flows that outlive what they belong to |
//! | `host` | the machine's own namespace |
//! | `external` | what is behind an uplink |
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
