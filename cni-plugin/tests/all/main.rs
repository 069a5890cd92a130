//! The verbs against fakes: etcd in memory, the controller in process, a kernel in memory. Every seam can fail on demand,
//! time is tokio's paused clock, and every call is a process of its own: it shares nothing with the one before but what
//! a node keeps in files.
//!
//! `binary` and `streams` start the real program; `wire` holds the kernel in memory against the real one.

mod address_requests;
mod binary;
mod budget;
mod check;
mod clocks;
mod engine;
mod files;
mod full;
mod gc;
mod ground;
mod host_to_pod;
mod kernel;
mod lab;
mod locks;
mod mtu;
mod names;
mod outage;
mod ownership;
mod recorded;
mod refusal;
mod restore;
mod results;
mod retry;
mod status;
mod streams;
mod sweep;
