//! The holder of an address, for messages: the record of an address names the attachment, its claim names the pod.

use std::fmt;

use atoll_model::attachment::Attachment;
use atoll_model::ids::Namespace;
use atoll_records::ClaimRecord;

/// The holder of an address or a MAC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The attachment.
    pub attachment: Attachment,
    /// The pod's namespace, where the runtime named one.
    pub namespace: Option<Namespace>,
    /// The pod's name, where the runtime named one.
    pub pod: Option<String>,
}

impl Holder {
    /// The holder of a claim.
    pub(crate) fn of(claim: &ClaimRecord) -> Self {
        let ClaimRecord { attachment, namespace, pod, .. } = claim;
        Self { attachment: attachment.clone(), namespace: namespace.clone(), pod: pod.clone() }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(pod) = &self.pod {
            f.write_str("pod ")?;
            if let Some(namespace) = &self.namespace {
                write!(f, "{namespace}/")?;
            }
            write!(f, "{pod}, ")?;
        }
        write!(f, "attachment {} on node {}", self.attachment, self.attachment.node)
    }
}
