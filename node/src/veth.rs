//! The veth pair of an attachment: what marks it as ours.

use atoll_model::attachment::Attachment;
use atoll_model::ids::IfName;

use crate::netlink::link::{Link, LinkKind};

/// The link group (`IFLA_GROUP`) of both ends of every pair: listing and deleting all of them is one request each.
pub const GROUP: u32 = 0xa701;

/// The link group of what stands behind host-to-pod ports. It belongs to no attachment. (0xa702 is the local data plane's.)
pub const HOST_TO_POD_GROUP: u32 = 0xa703;

/// The link group of host ends that are about to be deleted together. They are ours like the others, but a pair of this
/// group cannot stay: its process may have died before it deleted it.
pub const DOOMED: u32 = 0xa7ff;

impl Link {
    /// It is in one of our link groups.
    pub fn is_in_our_group(&self) -> bool {
        self.group == GROUP || self.group == DOOMED
    }

    /// It is a veth of ours, of whatever attachment.
    pub fn is_ours(&self) -> bool {
        self.kind == LinkKind::Veth && self.is_in_our_group()
    }

    /// It is the pod's end of this attachment.
    pub fn is_pod_end(&self, attachment: &Attachment) -> bool {
        let host_index = host_index(&attachment.host_interface());
        self.is_ours() && (self.mac == Some(attachment.mac()) || self.peer == Some(host_index))
    }
}

/// The index of a host end. If both ends of a pair have the same index, which is likely in young namespaces, the kernel mistakes
/// them for plain devices and delays their carrier for up to a second (`net/core/link_watch.c`, `linkwatch_urgent_event`). So
/// the host end gets a large index, from the digits of its name; the kernel counts from one. The index also identifies the
/// attachment of the pod's end. 0 leaves the choice to the kernel.
pub fn host_index(host_interface: &IfName) -> u32 {
    let digits = host_interface.as_str().trim_start_matches("at");
    let bits = u64::from_str_radix(digits, 16).map(|bits| bits & 0x0fff_ffff);
    bits.ok().and_then(|bits| u32::try_from(bits).ok()).map_or(0, |bits| bits | 0x1000_0000)
}
