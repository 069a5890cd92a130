//! A client of the MidoNet REST API, dialects 1.9 and 5.x.
//!
//! | module | what |
//! |---|---|
//! | [`transport`] | the seam: one request, one answer |
//! | [`wire`] | the resources as they travel, both dialects |
//! | [`convert`] | between the wire and `atoll_model::topology` |
//! | [`dialect`] | all that the dialects disagree about |
//!
//! Promises: secrets are never printed; a request is retried only where that is safe; every error says which object,
//! what the server said and of which class it is. This crate must not know what a tenant is.

pub mod convert;
pub mod dialect;
pub mod transport;
pub mod wire;
