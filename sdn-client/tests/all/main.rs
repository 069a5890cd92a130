//! Tests of the client as its users see it. Answers of servers are written by hand from the API's reference, never
//! taken from the mock controller, so that client and mock cannot share an error.

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
