//! The controller as its clients see it. Everything here goes through requests; what is expected comes from the
//! reference of the API, not from the code.

mod access;
mod cascade;
mod check;
mod conflicts;
mod conformance;
mod ending;
mod everything;
mod exclusive;
mod faults;
mod fixture;
mod follower;
mod hostile;
mod http_life;
mod login;
mod long;
mod negotiation;
mod plane;
mod probe;
mod resources;
mod rules;
mod scale;
mod slow;
mod state_file;
