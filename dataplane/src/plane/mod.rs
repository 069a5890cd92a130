//! The thread that makes all changes of the kernel.
//!
//! Changes arrive in order, and all pending ones are handled together. A change of one pod's port compiles and programs that port
//! only; any other change compiles the topology and realises the namespaces whose plan differs. Failures are retried.
//!
//! | module | what |
//! |---|---|
//! | `state` | the state of the thread, and its start |
//! | `run` | the loop |
//! | `structure` | namespaces |
//! | `ports`, `bound` | ports of pods, and which interface each has |
//! | `events` | events, retries and rounds |
//! | `garbage`, `preserved` | namespaces that the topology does not have |
//! | `host`, `addresses` | how the machine reaches pods |
//! | `flows`, `counts`, `counting`, `unsupported` | tracked flows, counters, what cannot be expressed |

mod addresses;
mod bound;
mod counting;
mod counts;
mod events;
mod flows;
mod garbage;
mod host;
mod ports;
mod preserved;
mod run;
mod state;
mod structure;
mod unsupported;

pub(crate) use state::Plane;
