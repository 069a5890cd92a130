//! A client of the MidoNet REST API, dialects 1.9 and 5.x.
//!
//! | module | what |
//! |---|---|
//! | [`transport`] | sends one request; [`http`](mod@http) is the production transport |
//! | [`api`] | the JSON types of the API, both dialects |
//! | [`dialect`], [`resource`] | the dialects and their differences; the resources and their media types |
//! | [`convert`] | between [`api`] and `atoll_model::topology` |
//! | [`request`], [`answer`], [`compare`], [`retry`] | pure: builds requests, reads answers, compares objects, decides on retries |
//! | [`client`], [`operations`], [`ensure`] | the client and its operations, with login, retries and deadline |
//! | [`absence`] | whether an object is really absent |
//! | [`data_plane`] | whether the server forwards packets itself |
//! | [`session`], [`credentials`], [`keystone`] | the file of the session, files with secrets, tokens of Keystone |
//! | [`configured`] | a client from the configuration |
//! | [`error`] | errors, by what a caller can do about them |
//!
//! # Guarantees
//!
//! - Secrets are never printed.
//! - A request is repeated only where that is safe.
//! - Every error names the object, the message of the server, and its class.
//!
//! This crate does not know what a tenant of Atoll is.

pub mod absence;
pub mod answer;
pub mod api;
pub mod client;
pub mod compare;
pub mod configured;
pub mod convert;
pub mod credentials;
pub mod data_plane;
pub mod dialect;
pub mod ensure;
pub mod error;
mod exchange;
pub mod http;
pub mod keystone;
mod login;
mod not_api;
pub mod operations;
mod redact;
pub mod request;
pub mod resource;
pub mod retry;
pub mod session;
mod token_source;
pub mod transport;

pub use crate::http::{Http, HttpSettings};
pub use client::{Client, ClientSettings};
pub use dialect::Dialect;
pub use ensure::Ensured;
pub use error::{ClientError, ErrorClass};
pub use resource::Resource;
