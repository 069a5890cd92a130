//! A controller that speaks the MidoNet REST API, in memory, for laptops, tests and single nodes.
//!
//! | module | what |
//! |---|---|
//! | [`access`], [`socket`] | who may use `/mock/` |
//! | [`check`] | what a topology would become on this machine |
//! | [`controller`] | the whole controller without I/O: one request in, one answer out |
//! | [`faults`] | fault injection |
//! | [`server`] | the controller over HTTP |
//! | [`plane`] | the data plane of this machine |
//! | [`settings`] | the settings of an instance |
//! | [`state`] | the objects, comparable and serialisable |
//!
//! Over HTTP, for clients of any kind:
//!
//! ```
//! use atoll_mock_controller::{BASE_PATH, MockController, MockSettings, server::MockServer};
//! use tokio::net::TcpListener;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let url = format!("http://{}{BASE_PATH}", listener.local_addr()?);
//! let server = MockServer::new(MockController::new(MockSettings::default()));
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
mod answer_body;
mod body;
mod call;
pub mod check;
mod connections;
pub mod controller;
pub mod delivery;
pub mod faults;
mod initial;
mod media;
mod mock;
pub mod plane;
mod refusal;
mod request_log;
mod resources;
mod routing;
pub mod server;
pub mod settings;
pub mod socket;
pub mod state;
mod state_file;
mod tokens;
mod wording;
mod write_timeout;

pub use answer::HttpAnswer;
pub use atoll_sdn_client::Dialect;
pub use controller::{BASE_PATH, MockController, Persistence};
pub use initial::PROVIDER_ROUTER_NAME;
pub use request_log::LoggedRequest;
pub use settings::{Activation, MockSettings, User, provider_router, tunnel_zone, uplink_port};
pub use state::Tables;
pub use state_file::{StateFile, StateFileError};
