//! A tenant as a desired graph.

use atoll_model::ids::{Incarnation, TenantName};
use atoll_model::topology::Topology;

/// Everything a tenant needs in the controller, as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    /// The tenant.
    pub tenant: TenantName,
    /// This life of it.
    pub incarnation: Incarnation,
    /// Its objects. Ports and routes of the provider router are in it; the provider router itself is not.
    pub objects: Topology,
}
