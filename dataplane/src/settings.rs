//! The settings of a data plane.

use std::path::PathBuf;
use std::sync::Arc;

use ipnetwork::Ipv4Network;
use uuid::Uuid;

use crate::kernel::steps::BeforeChange;
use atoll_model::host_to_pod::HostToPodPool;

/// Where and for whom.
#[derive(Clone, Debug)]
pub struct PlaneSettings {
    /// Namespaces are pinned here, by the id of their router; the external network's file is `outside`.
    pub directory: PathBuf,
    /// Only bindings of this host are realised.
    pub host: Uuid,
    /// The pool of host-to-pod addressing; `None` turns it off.
    pub host_to_pod: Option<HostToPodPool>,
    /// Addresses of services, the cluster's `serviceCidr`: nothing for them leaves by an uplink, and nothing for them is
    /// forwarded to a pod.
    pub services: Option<Ipv4Network>,
    /// Receives each change of the kernel before it is made; `None` in production.
    pub before_change: Option<Arc<dyn BeforeChange>>,
}
