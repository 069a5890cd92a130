//! A MAC address that was chosen. Derived ones have no record.

use atoll_model::attachment::{Attachment, Mac};
use atoll_model::ids::{ClaimId, Namespace, PodName, TenantName};
use serde::{Deserialize, Serialize};

use crate::codec::Unknown;
use crate::key::{Prefix, RecordKey};

/// `macs/<tenant>/<ordinal>/<mac>`: a MAC that was chosen. Derived ones have no record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MacRecord {
    /// Schema.
    pub v: u32,
    /// Its owner.
    #[serde(flatten)]
    pub owner: MacOwner,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl MacRecord {
    /// The key of a MAC in a subnet.
    pub fn at(tenant: &TenantName, ordinal: u32, mac: Mac) -> RecordKey<Self> {
        RecordKey::new(format!("v2/macs/{tenant}/{ordinal:08x}/{}", mac.to_string().replace(':', "")))
    }

    /// All chosen MACs of a tenant.
    pub fn of_tenant(tenant: &TenantName) -> Prefix<Self> {
        Prefix::new(format!("v2/macs/{tenant}/"))
    }

    /// All chosen MACs.
    pub fn all() -> Prefix<Self> {
        Prefix::new("v2/macs/".to_owned())
    }
}

/// The owner of a MAC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum MacOwner {
    /// An attachment asked for it.
    Claimed {
        /// The claim.
        claim: ClaimId,
        /// The attachment.
        attachment: Attachment,
    },
    /// It is kept for a pod, together with an address.
    Reserved {
        /// The pod's namespace.
        namespace: Namespace,
        /// The pod's name.
        pod: PodName,
    },
}
