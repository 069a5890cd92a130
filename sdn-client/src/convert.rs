//! Makes the API's objects ([`crate::api`]) from the topology model ([`atoll_model::topology`]).
//!
//! Only tests read in the other direction (`tests/all/reading/`).

use atoll_model::topology;
use uuid::Uuid;

use crate::api::lenient::Up;
use crate::api::{Bridge, Router};

mod condition;
mod port;
mod route;
mod rule;

impl Router {
    /// As a request.
    pub fn from_topology(id: Uuid, router: &topology::Router) -> Self {
        Self {
            id: Some(id),
            tenant_id: Some(router.tenant.clone()),
            name: Some(router.name.clone()),
            admin_state_up: Up(router.up),
            inbound_filter_id: router.inbound,
            outbound_filter_id: router.outbound,
            ..Self::default()
        }
    }
}

impl Bridge {
    /// As a request. The static entries of its tables are requests of their own.
    pub fn from_topology(id: Uuid, bridge: &topology::Bridge) -> Self {
        Self {
            id: Some(id),
            tenant_id: Some(bridge.tenant.clone()),
            name: Some(bridge.name.clone()),
            admin_state_up: Up(bridge.up),
            inbound_filter_id: bridge.inbound,
            outbound_filter_id: bridge.outbound,
            ..Self::default()
        }
    }
}
