//! A controller that speaks the MidoNet REST API, in memory, for laptops, tests and single nodes.
//!
//! | module | what |
//! |---|---|
//! | [`access`], [`socket`] | who may ask for what is below `/mock/` |
//! | [`check`] | what a topology would become on this machine |
//! | [`controller`] | the whole controller without I/O: one request in, one answer out |
//! | [`faults`] | failing on demand |
//! | [`server`] | the controller over HTTP |
//! | [`plane`] | the glue to the data plane of this machine |
//! | [`settings`] | what an instance is to be like |
//! | [`state`] | the objects, comparable and serialisable |
//!
//! Over HTTP, for clients of any kind:
//!
//! ```
//! use atoll_mock_controller::{BASE_PATH, Controller, Settings, server::Server};
//! use tokio::net::TcpListener;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let url = format!("http://{}{BASE_PATH}", listener.local_addr()?);
//! let server = Server::new(Controller::new(Settings::default()));
//! let test = async { /* drive a client against `url` */ drop(url) };
//! tokio::task::LocalSet::new().run_until(server.serve(listener, test)).await;
//! # Ok(())
//! # }
//! ```
//!
//! As a program: `docs/mock-controller.md` in the repository, and `mock-controller --help`.
//!
//! # Guarantees
//! - A request that a real controller refuses is refused with the same status and message.
//! - What is not implemented answers 501.
//! - Hostile requests neither panic nor hang nor grow the process without bound.
//!
//! This crate does not depend on the client or on the objects of Atoll's tenants: it is written against the API's
//! reference.

pub mod access;
mod answer;
mod body;
mod call;
pub mod check;
pub mod controller;
mod crowd;
mod dialect;
mod failure;
pub mod faults;
mod media;
mod mock;
mod patient;
pub mod plane;
mod record;
mod resources;
mod routing;
mod seed;
pub mod server;
pub mod settings;
pub mod socket;
pub mod state;
mod state_file;
mod tokens;
mod torn;

pub use answer::Answer;
pub use controller::{BASE_PATH, Controller, Keeper};
pub use dialect::{Dialect, UnknownDialect};
pub use record::Entry;
pub use seed::PROVIDER_ROUTER_NAME;
pub use settings::{Activation, Settings, User, provider_router, tunnel_zone, uplink_port};
pub use state::Tables;
pub use state_file::{StateFile, StateFileError};
