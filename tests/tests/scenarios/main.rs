//! Scenarios: real programs, a real etcd, real namespaces and packets, and in `runtimes` real container runtimes. All need
//! root. Each has machines of its own (`testkit/src/lab/`), so that all of them run at once.

mod address_requests;
mod bad_input;
mod chain;
mod concurrency;
mod conformance;
mod evict;
mod growth;
mod harness;
mod host_to_pod;
mod kill;
mod life_cycle;
mod log;
mod many;
mod operate;
mod outages;
mod ovn;
mod replay;
mod reservations;
mod runtimes;
mod single_node;
mod tenants;
