//! The verbs against fakes: etcd in memory, the controller in process, a kernel in memory. Every seam can fail on demand,
//! time is tokio's paused clock, and every call is a process of its own: it shares nothing with the one before but what
//! a node keeps in files.

#![expect(clippy::large_futures, reason = "a test has all the stack it wants")]

mod budget;
mod lab;
mod outage;
mod ownership;
mod sweep;
