//! A client of the MidoNet REST API, dialects 1.9 and 5.x.
//!
//! | module | what |
//! |---|---|
//! | [`transport`] | the seam: one request, one answer; [`http`](mod@http) is the real one |
//! | [`wire`] | the resources as they travel, both dialects |
//! | [`convert`] | between the wire and `atoll_model::topology` |
//! | [`dialect`] | all that the dialects disagree about |
//! | [`request`], [`answer`], [`compare`], [`retry`] | pure: what to send, what was said, is it the same, ask again? |
//! | [`client`], [`ensure`] | the operations, with login, retries and deadline |
//! | [`settle`] | the second look at what seems not to be there |
//! | [`session`], [`credentials`], [`keystone`] | the token's file, the password's file, another source of tokens |
//! | [`error`] | what can go wrong, as far as a caller can act on it |
//!
//! Promises: secrets are never printed; a request is retried only where that is safe; every error says which object,
//! what the server said and of which class it is. This crate must not know what a tenant is.

pub mod answer;
pub mod client;
pub mod compare;
pub mod configured;
pub mod convert;
pub mod credentials;
pub mod dialect;
mod endpoints;
pub mod ensure;
pub mod error;
mod exchange;
pub mod http;
pub mod keystone;
mod login;
pub mod request;
pub mod retry;
pub mod session;
pub mod settle;
mod stranger;
pub mod transport;
pub mod wire;

pub use crate::http::{Http, HttpSettings};
pub use client::{Client, Settings};
pub use ensure::Ensured;
pub use error::{ClientError, ErrorClass};
