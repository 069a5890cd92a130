//! The holder of the right to build a tenant's network.

use atoll_model::ids::TenantName;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::codec::Unknown;
use crate::key::RecordKey;

/// `build-leases/<tenant>`: the lease to build a tenant. One process at a time holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildLeaseRecord {
    /// Schema.
    pub v: u32,
    /// The holder, for messages.
    pub holder: String,
    /// This holding of it: a holder whose answer was lost recognises its own.
    pub id: Uuid,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl BuildLeaseRecord {
    /// The key of a tenant.
    pub fn at(tenant: &TenantName) -> RecordKey<Self> {
        RecordKey::new(format!("v2/build-leases/{tenant}"))
    }
}
