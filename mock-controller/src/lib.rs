//! A controller that speaks the MidoNet REST API, in memory, for laptops, tests and single nodes.
//!
//! | module | what |
//! |---|---|
//! | [`access`], [`socket`] | who may ask for what is below `/mock/` |
//! | [`check`] | what a topology would become on this machine |
//! | [`controller`] | the whole controller without I/O: one request in, one answer out |
//! | [`faults`] | failing on demand |
//! | [`inprocess`] | the controller as a transport, for tests of clients |
//! | [`server`] | the controller over HTTP |
//! | [`plane`] | the glue to the data plane of this machine |
//! | [`settings`] | what an instance is to be like |
//! | [`state`] | the objects, comparable and serialisable |
//!
//! A client's test without a network: [`InProcess`] is a transport. Here the answer to a request that took effect is
//! lost, and the client has to find out.
//!
//! ```
//! use atoll_mock_controller::faults::{Fault, Harm};
//! use atoll_mock_controller::{Dialect, InProcess, Settings};
//! use atoll_sdn_client::transport::{Request, Transport};
//! use http::{HeaderMap, Method, header::CONTENT_TYPE};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let controller = InProcess::new(Settings { dialect: Dialect::V5, ..Settings::default() });
//! assert_eq!(controller.dump().routers.len(), 1, "the provider router is there from the start");
//!
//! let fault = Fault { times: 1, ..Fault::always("/routers", Harm::Cut { after: true }) };
//! controller.controller_mut().inject(fault).expect("it may wait");
//! let mut headers = HeaderMap::new();
//! headers.insert(CONTENT_TYPE, "application/vnd.org.midonet.Router-v3+json".parse().expect("a value"));
//! let id = "aaaa0000-0000-4000-8000-000000000001";
//! let body = format!(r#"{{"id": "{id}", "tenantId": "t"}}"#).into();
//! let create = Request { method: Method::POST, path: "/routers".to_owned(), headers, body };
//!
//! assert!(controller.send(create.clone()).await.is_err(), "no answer");
//! assert_eq!(controller.dump().routers.len(), 2, "but a router");
//! assert_eq!(controller.send(create).await.expect("an answer").status, 409, "which is there already");
//! # }
//! ```
//!
//! The same over HTTP, for clients of any kind:
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
//! Promises: what a real controller refuses is refused, with its status and its words; what is not built answers 501;
//! hostile requests neither panic nor hang nor grow the process without bound. This crate must not know what the
//! client does, nor what a tenant of ours looks like: it is written against the API's reference.

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
pub mod inprocess;
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
pub use inprocess::InProcess;
pub use record::Entry;
pub use seed::PROVIDER_ROUTER_NAME;
pub use settings::{Activation, Settings, User, provider_router, tunnel_zone, uplink_port};
pub use state::Tables;
pub use state_file::{StateFile, StateFileError};
