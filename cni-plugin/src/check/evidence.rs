//! The objects that a CHECK compares: the call, the records in etcd, and the kernel's objects.

use atoll_model::attachment::Attachment;
use atoll_model::cni::previous::Previous;
use atoll_model::cni::request::Pod;
use atoll_model::ids::HostId;
use atoll_records::{AddressRecord, ClaimRecord, ClusterRecord, TenantRecord};

use crate::kernel::{FoundRoute, Link, Netns, PolicyRule};

/// The input of a CHECK.
#[derive(Clone, Debug)]
pub struct CheckCall {
    /// The attachment.
    pub attachment: Attachment,
    /// The pod, as far as the runtime names it.
    pub pod: Pod,
    /// `CNI_NETNS`, verbatim.
    pub sandbox: String,
    /// The result of the chain.
    pub previous: Previous,
    /// The caller insists on its own namespace.
    pub own_netns: bool,
    /// The id of this node's host in the engine.
    pub host_id: HostId,
}

/// The records in etcd.
#[derive(Debug, Default)]
pub(super) struct AttachmentRecords {
    pub(super) claim: Option<ClaimRecord>,
    /// The attachment has a tombstone.
    pub(super) has_tombstone: bool,
    /// The records of the claim's addresses, in their order.
    pub(super) owners: Vec<Option<AddressRecord>>,
    pub(super) tenant: Option<TenantRecord>,
    pub(super) cluster: Option<ClusterRecord>,
}

/// The kernel's objects of an attachment.
#[derive(Debug, Default)]
pub(super) struct KernelView {
    pub(super) pod_end: Option<Link>,
    /// The name of the pod's end, if it was renamed.
    pub(super) renamed: Option<String>,
    pub(super) routes: Vec<FoundRoute>,
    /// Rules by source; read only if the interface has some.
    pub(super) rules: Vec<PolicyRule>,
    pub(super) host_end: Option<(Netns, Link)>,
    /// `prevResult` names the same namespace as the call, perhaps by another path.
    pub(super) is_sandbox: bool,
}
