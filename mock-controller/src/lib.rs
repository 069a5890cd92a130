//! A controller that speaks the MidoNet REST API, in memory, for laptops, tests and single nodes.
//!
//! | module | what |
//! |---|---|
//! | [`controller`] | the whole controller without I/O: one request in, one answer out |
//! | [`faults`] | failing on demand |
//! | [`inprocess`] | the controller as a transport, for tests of clients |
//! | [`server`] | the controller over HTTP |
//! | [`plane`] | the glue to the data plane of this machine |
//! | [`settings`] | what an instance is to be like |
//! | [`state`] | the objects, comparable and serialisable |
//!
//! ```
//! use atoll_mock_controller::{InProcess, Settings};
//!
//! let controller = InProcess::new(Settings::default());
//! assert_eq!(controller.dump().routers.len(), 1, "the provider router is there from the start");
//! ```
//!
//! Promises: what a real controller refuses is refused, with its status and its words; what is not built answers 501;
//! hostile requests neither panic nor hang nor grow the process without bound. This crate must not know what the
//! client does, nor what a tenant of ours looks like: it is written against the API's reference.

mod body;
mod call;
pub mod controller;
mod dialect;
mod failure;
pub mod faults;
pub mod inprocess;
mod media;
mod mock;
pub mod plane;
mod record;
mod resources;
mod routing;
mod seed;
pub mod server;
pub mod settings;
pub mod state;
mod state_file;
mod tokens;
mod torn;

pub use controller::{BASE_PATH, Controller};
pub use dialect::{Dialect, UnknownDialect};
pub use inprocess::InProcess;
pub use record::Entry;
pub use seed::PROVIDER_ROUTER_NAME;
pub use settings::{Activation, Settings, User, provider_router, tunnel_zone, uplink_port};
pub use state::Tables;
pub use state_file::{StateFile, StateFileError};
