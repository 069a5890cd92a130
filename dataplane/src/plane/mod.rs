//! The thread that owns the kernel side.
//!
//! Changes arrive in order and are taken as many at a time as there are. What touches one pod's port only costs that
//! port; everything else compiles anew and realises the namespaces that came out different. What failed is tried again.
//!
//! | module | what |
//! |---|---|
//! | `state` | what the thread knows, and how it begins |
//! | `run` | the loop |
//! | `structure` | namespaces |
//! | `ports`, `bound` | ports of pods, and which interface each has |
//! | `events` | events, retries and rounds |
//! | `garbage`, `preserved` | namespaces that nothing stands for |
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
