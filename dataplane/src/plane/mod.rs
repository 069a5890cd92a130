//! The thread that owns the kernel side.
//!
//! Changes arrive in order and are taken as many at a time as there are. What touches one pod's port only costs that
//! port; everything else compiles anew and realises the domains that came out different. What failed is tried again.
//!
//! | module | what |
//! |---|---|
//! | `state` | what the thread knows, and how it begins |
//! | `run` | the loop |
//! | `structure` | domains |
//! | `ports`, `bound` | ports of pods, and which interface each has |
//! | `notice` | events, retries and rounds |
//! | `garbage`, `kept` | namespaces that nothing stands for |
//! | `node`, `addresses` | how the machine reaches pods |
//! | `flows`, `counts`, `counting`, `left_out` | tracked flows, counters, what cannot be expressed |

mod addresses;
mod bound;
mod counting;
mod counts;
mod flows;
mod garbage;
mod kept;
mod left_out;
mod node;
mod notice;
mod ports;
mod run;
mod state;
mod structure;

pub(crate) use state::Plane;
