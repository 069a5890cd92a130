//! Tenants: their records, and the networks that an engine makes of them.
//!
//! | module | what |
//! |---|---|
//! | [`admission`] | from a pod to its claim: resolve, claim, grow |
//! | `binding` | the records of a pod's tenant binding |
//! | [`cache`] | what a node remembers between two calls |
//! | `attempts` | one change of records, decided on again until it is made |
//! | `registry` | the records of cluster, nodes, namespaces and tenants |
//! | [`network`](mod@network) | the pure function from the records of cluster and tenant to the tenant's network |
//! | [`pod_port`] | the pure function from a claim to its port |
//! | [`machine`], [`identity`] | this machine: names and ids; the name that is remembered |
//! | [`inventory`] | all records, for operators and their tools |
//! | [`admin`] | what operators do |
//! | [`error`] | what can go wrong |

pub mod admin;
pub mod admission;
mod attempts;
mod binding;
pub mod cache;
pub mod error;
mod fence;
pub mod identity;
pub mod inventory;
pub mod machine;
pub mod network;
pub mod pod_port;
mod registry;

pub use admission::resolve::Resolver;
pub use admission::{Admission, Admitted, Applicant};
pub use binding::{Node, TenantBinding, Who};
pub use cache::Cache;
pub use error::TenantError;
pub use fence::raise_writer_epoch;
