//! The machine that a topology is compiled for.

use atoll_model::host_to_pod::HostToPodPool;
use ipnetwork::Ipv4Network;
use uuid::Uuid;

/// Which machine it is, and what it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostSite {
    /// Only bindings of this host are realised.
    pub host: Uuid,
    /// The pool of host-to-pod addressing; `None` turns it off.
    pub host_to_pod: Option<HostToPodPool>,
    /// Addresses of services (`cluster.serviceCidr`): packets to them do not leave by an uplink.
    pub services: Option<Ipv4Network>,
}

impl From<Uuid> for HostSite {
    fn from(host: Uuid) -> Self {
        Self { host, host_to_pod: Some(HostToPodPool::DEFAULT), services: None }
    }
}
