//! The tenant that a namespace belongs to.

use atoll_model::ids::{Incarnation, Namespace, TenantName};
use serde::{Deserialize, Serialize};

use crate::codec::Unknown;
use crate::key::{Prefix, RecordKey};

/// `namespaces/<namespace>`: the tenant a namespace belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceRecord {
    /// Schema.
    pub v: u32,
    /// Its tenant.
    pub tenant: TenantName,
    /// The tenant's incarnation.
    pub incarnation: Incarnation,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl NamespaceRecord {
    /// The key of a namespace.
    pub fn at(namespace: &Namespace) -> RecordKey<Self> {
        RecordKey::new(format!("v2/namespaces/{namespace}"))
    }

    /// All namespaces.
    pub fn all() -> Prefix<Self> {
        Prefix::new("v2/namespaces/".to_owned())
    }
}
