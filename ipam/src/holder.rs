//! Who has an address, as people know it: the record of an address names the attachment, its claim names the pod.

use std::fmt;

use atoll_model::attachment::Attachment;
use atoll_model::ids::Namespace;
use atoll_model::record::ClaimRecord;
use atoll_store::Store;

use crate::find::find;

/// Who has an address or a MAC.
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
    /// What a claim says of its holder.
    pub(crate) fn of(claim: &ClaimRecord) -> Self {
        let ClaimRecord { attachment, namespace, pod, .. } = claim;
        Self { attachment: attachment.clone(), namespace: namespace.clone(), pod: pod.clone() }
    }

    /// Asks the claim for the pod's name; whatever keeps it from being read must not hide who has the address.
    pub(crate) async fn find<S: Store>(store: &S, attachment: Attachment) -> Self {
        match find(store, &attachment).await {
            Ok(found) if found.claim.is_some() => found.claim.map(|claim| Self::of(&claim.record)),
            _ => None,
        }
        .unwrap_or(Self { attachment, namespace: None, pod: None })
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
