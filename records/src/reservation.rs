//! An address that is reserved for a pod.

use std::net::IpAddr;

use atoll_model::attachment::Mac;
use atoll_model::ids::{Incarnation, Namespace, PodName, TenantName};
use serde::{Deserialize, Serialize};

use crate::codec::Unknown;
use crate::key::{Key, Prefix, RecordKey, address_path};

/// `reservations/<tenant>/<ordinal>/<4 or 6>/<hex>` and `reserved-for/<namespace>/<pod>`: an address that is kept for a pod.
/// The same record under both keys, written and deleted in one transaction, so that either leads to the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationRecord {
    /// Schema.
    pub v: u32,
    /// The tenant.
    pub tenant: TenantName,
    /// The tenant's incarnation.
    pub incarnation: Incarnation,
    /// The subnet's ordinal.
    pub ordinal: u32,
    /// The address.
    pub address: IpAddr,
    /// The pod's namespace.
    pub namespace: Namespace,
    /// The pod's name.
    pub pod: PodName,
    /// The MAC that the pod gets with it; none: the derived one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// When it was written, seconds since 1970.
    pub since: u64,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl ReservationRecord {
    /// The key of a reserved address.
    pub fn at(tenant: &TenantName, ordinal: u32, address: IpAddr) -> RecordKey<Self> {
        RecordKey::new(format!("v2/reservations/{tenant}/{ordinal:08x}/{}", address_path(address)))
    }

    /// The key of a pod that has a reservation.
    pub fn for_pod(namespace: &Namespace, pod: &PodName) -> RecordKey<Self> {
        RecordKey::new(format!("v2/reserved-for/{namespace}/{pod}"))
    }

    /// Both keys of this record: by address, and by pod.
    pub fn keys(&self) -> [RecordKey<Self>; 2] {
        [Self::at(&self.tenant, self.ordinal, self.address), Self::for_pod(&self.namespace, &self.pod)]
    }

    /// All reservations of a subnet.
    pub fn of_subnet(tenant: &TenantName, ordinal: u32) -> Prefix<Self> {
        Prefix::new(format!("v2/reservations/{tenant}/{ordinal:08x}/"))
    }

    /// All reservations of a tenant.
    pub fn of_tenant(tenant: &TenantName) -> Prefix<Self> {
        Prefix::new(format!("v2/reservations/{tenant}/"))
    }

    /// All reservations, by address.
    pub fn all() -> Prefix<Self> {
        Prefix::new("v2/reservations/".to_owned())
    }

    /// All reservations, by pod.
    pub fn all_for_pods() -> Prefix<Self> {
        Prefix::new("v2/reserved-for/".to_owned())
    }

    /// The tenant of a reservation by address, without reading it.
    pub fn tenant_in(key: &Key) -> Option<&str> {
        key.as_str().strip_prefix("v2/reservations/")?.split('/').next()
    }
}
