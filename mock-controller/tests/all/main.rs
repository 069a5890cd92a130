//! The controller as its clients see it. Everything here goes through requests; what is expected comes from the
//! reference of the API, not from the code.

mod alone;
mod cascade;
mod check;
mod conflicts;
mod everything;
mod faults;
mod follower;
mod hostile;
mod http_life;
mod login;
mod negotiation;
mod plane;
mod probe;
mod resources;
mod rules;
mod scale;
mod slow;
mod state_file;
mod world;
