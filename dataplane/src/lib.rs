//! Makes packets flow on one Linux machine: takes a virtual topology and makes the kernel match it.
//!
//! | module | what |
//! |---|---|
//! | [`compile`] | topology to kernel objects and what cannot be expressed; pure |
//! | `kernel` | the effects: namespaces, rtnetlink, nftables |
//! | `apply` | read, compare, change only what differs; one namespace or one port at a time |
//! | `plane` | the thread that owns it all |
//! | `probe` | what the machine must have |
//! | `handle` | what others hold of it |
//!
//! Promises: nothing is forwarded before its filters stand; a port is reported active only when its packets flow;
//! a second run changes nothing; only what carries our mark is ever deleted. Must not: touch an interface of the
//! machine's own namespace that somebody uses.

mod apply;
mod command;
pub mod compile;
mod counters;
mod error;
mod handle;
mod kernel;
mod missing;
mod mutex;
mod pins;
mod plane;
mod probe;
mod report;
mod settings;

pub use compile::{HostToPod, HostToPodPool, Unsupported};
pub use counters::{Count, Counters, PortCount};
pub use error::PlaneError;
pub use handle::{Handle, purge};
pub use kernel::steps::BeforeChange;
pub use missing::Missing;
pub use probe::{probe, probe_with};
pub use report::Report;
pub use settings::PlaneSettings;
