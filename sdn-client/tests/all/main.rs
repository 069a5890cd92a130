//! Tests of the client as its users see it. What servers say is written down by hand from the API's reference, never
//! taken from the mock controller, so that the two cannot be wrong together.

mod absence;
mod answers;
mod client;
mod conversions;
mod ensuring;
mod everything;
mod fake;
mod fixtures;
mod http;
mod keystone;
mod reading;
mod requests;
mod session;
mod tls;
