//! Makes packets flow on one Linux machine: takes a virtual topology and makes the kernel match it.
//!
//! | module | what |
//! |---|---|
//! | [`compile`] | topology to kernel objects and what cannot be expressed; pure |
//! | `kernel` | the effects: namespaces, rtnetlink, nftables |
//! | `apply` | read, compare, change only what differs; one namespace or one port at a time |
//! | `plane` | the thread that makes all changes |
//! | `probe` | checks of what the machine must have |
//! | `handle` | its interface for other crates |
//!
//! # Guarantees
//! * Nothing is forwarded before its ruleset is loaded.
//! * A port is reported active only while its packets flow.
//! * A second run changes nothing.
//! * Only objects that carry our mark are deleted.
//! * An interface of the machine's own namespace that is in use is left alone.

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

pub use atoll_model::host_to_pod::HostToPodPool;
pub use compile::{HostToPod, Unsupported};
pub use counters::{Count, Counters, PortCount};
pub use error::PlaneError;
pub use handle::{Handle, purge};
pub use kernel::steps::BeforeChange;
pub use missing::Missing;
pub use probe::{probe, probe_with};
pub use report::PlaneReport;
pub use settings::PlaneSettings;
