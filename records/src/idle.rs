//! A tenant without claims, and since when.

use atoll_model::ids::{Incarnation, TenantName};
use serde::{Deserialize, Serialize};

use crate::codec::Unknown;
use crate::key::{Prefix, RecordKey};

/// `idle/<tenant>`: no address of the tenant was claimed since this was written; every claim deletes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleRecord {
    /// Schema.
    pub v: u32,
    /// The tenant's incarnation that was observed without claims.
    pub incarnation: Incarnation,
    /// When, seconds since 1970.
    pub since: u64,
    /// False: it is being found out, and the key is on a lease.
    pub lasting: bool,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl IdleRecord {
    /// The key of a tenant.
    pub fn at(tenant: &TenantName) -> RecordKey<Self> {
        RecordKey::new(format!("v2/idle/{tenant}"))
    }

    /// All idle tenants.
    pub fn all() -> Prefix<Self> {
        Prefix::new("v2/idle/".to_owned())
    }
}
