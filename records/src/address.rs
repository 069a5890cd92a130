//! One address of a tenant's subnet that is claimed or in cool-down.

use std::net::IpAddr;

use atoll_model::attachment::Attachment;
use atoll_model::ids::{ClaimId, Namespace, TenantName};
use serde::{Deserialize, Serialize};

use crate::codec::Unknown;
use crate::key::{Prefix, RecordKey, address_path};

/// `addresses/<tenant>/<ordinal>/<4 or 6>/<hex>`: one taken address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRecord {
    /// Schema.
    pub v: u32,
    /// Why it is taken.
    #[serde(flatten)]
    pub state: AddressState,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl AddressRecord {
    /// The key of an address.
    pub fn at(tenant: &TenantName, ordinal: u32, address: IpAddr) -> RecordKey<Self> {
        RecordKey::new(format!("v2/addresses/{tenant}/{ordinal:08x}/{}", address_path(address)))
    }

    /// All addresses of a subnet that are taken.
    pub fn of_subnet(tenant: &TenantName, ordinal: u32) -> Prefix<Self> {
        Prefix::new(format!("v2/addresses/{tenant}/{ordinal:08x}/"))
    }

    /// All addresses of a tenant that are taken.
    pub fn of_tenant(tenant: &TenantName) -> Prefix<Self> {
        Prefix::new(format!("v2/addresses/{tenant}/"))
    }

    /// All addresses that are taken.
    pub fn all() -> Prefix<Self> {
        Prefix::new("v2/addresses/".to_owned())
    }
}

/// Why an address is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum AddressState {
    /// An attachment has it.
    Claimed {
        /// The claim.
        claim: ClaimId,
        /// The attachment.
        attachment: Attachment,
    },
    /// It was released a short while ago; the key is on a lease.
    CoolDown {
        /// When it was released, seconds since 1970.
        since: u64,
        /// Of which namespace the pod was, where that was known: it may ask for the address by name at once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<Namespace>,
    },
}

/// `cool-down/<tenant>/<ordinal>/<4 or 6>/<hex>`: the marker of an address in cool-down, on the same lease. It has no value: a
/// list of keys finds the addresses of a subnet that are in cool-down without reading those that are claimed.
#[derive(Clone, Copy, Debug)]
pub struct CoolDown;

impl CoolDown {
    /// The key of an address.
    pub fn at(tenant: &TenantName, ordinal: u32, address: IpAddr) -> RecordKey<Self> {
        RecordKey::new(format!("v2/cool-down/{tenant}/{ordinal:08x}/{}", address_path(address)))
    }

    /// All addresses of a subnet that are in cool-down.
    pub fn of_subnet(tenant: &TenantName, ordinal: u32) -> Prefix<Self> {
        Prefix::new(format!("v2/cool-down/{tenant}/{ordinal:08x}/"))
    }

    /// All addresses in cool-down.
    pub fn all() -> Prefix<Self> {
        Prefix::new("v2/cool-down/".to_owned())
    }
}
