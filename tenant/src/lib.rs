//! Tenants: from a record to a desired graph, and the engine that makes a controller match it.
//!
//! | module | what |
//! |---|---|
//! | [`admission`] | from a pod to its claim: resolve, claim, grow |
//! | `binding` | the records of a pod's tenant binding |
//! | [`cache`] | what a node remembers between two calls |
//! | `attempts` | one change of records, decided on again until it is made |
//! | `registry` | the records of cluster, nodes, namespaces and tenants |
//! | [`graph`](mod@graph) | the pure function from (cluster, tenant record) to the desired graph |
//! | [`levels`] | the dependency levels of the graph |
//! | [`machine`], [`identity`] | this machine: names and ids; the name that is remembered |
//! | [`inventory`] | all records, for operators and their tools |
//! | [`controller`] | the seam above REST |
//! | [`midonet`] | the engine for MidoNet's REST API |
//! | [`admin`] | what operators do |
//! | [`error`] | what can go wrong |

pub mod admin;
pub mod admission;
mod attempts;
mod binding;
pub mod cache;
pub mod controller;
pub mod error;
pub mod graph;
pub mod identity;
pub mod inventory;
pub mod levels;
pub mod machine;
pub mod midonet;
mod registry;

pub use admission::resolve::Resolver;
pub use admission::{Admission, Admitted, Applicant};
pub use binding::{Node, TenantBinding, Who};
pub use cache::Cache;
pub use error::TenantError;
pub use midonet::MidoNet;
