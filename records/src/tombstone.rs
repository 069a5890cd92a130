//! Cleanup of an attachment that is still pending.

use atoll_model::attachment::Attachment;
use atoll_model::ids::NodeName;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::codec::Unknown;
use crate::engine;
use crate::key::{Prefix, RecordKey, attachment_path};

/// `tombstones/<node>/<network>/<container>/<ifname>`: the pending cleanup of an attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TombstoneRecord {
    /// Schema.
    pub v: u32,
    /// Its kind.
    pub kind: TombstoneKind,
    /// The attachment that it belongs to.
    pub attachment: Attachment,
    /// The port to delete; none if the cluster's id was unknown when this was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Uuid>,
    /// The name of the engine that has its port, which no other engine can delete.
    #[serde(default = "engine::first", skip_serializing_if = "engine::is_first")]
    pub engine: String,
    /// The earliest time, seconds since 1970, at which the port may be deleted for the last time and the address released.
    pub not_before: u64,
    /// When it was written, seconds since 1970.
    pub since: u64,
    /// What failed, for messages.
    #[serde(default)]
    pub note: String,
    /// A deletion of the port may be on its way. See [`TombstoneRecord::may_have_deletion`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deletion_sent: bool,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl TombstoneRecord {
    /// The key of an attachment's tombstone.
    pub fn at(attachment: &Attachment) -> RecordKey<Self> {
        RecordKey::new(format!("v2/tombstones/{}", attachment_path(attachment)))
    }

    /// All tombstones of a node.
    pub fn of_node(node: &NodeName) -> Prefix<Self> {
        Prefix::new(format!("v2/tombstones/{node}/"))
    }

    /// All tombstones.
    pub fn all() -> Prefix<Self> {
        Prefix::new("v2/tombstones/".to_owned())
    }
}

impl TombstoneRecord {
    /// A deletion of the port may be on its way. A tombstone of kind `delete` may be resolved at any time.
    pub fn may_have_deletion(&self) -> bool {
        self.deletion_sent || self.kind == TombstoneKind::Delete
    }
}

/// Why a tombstone was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TombstoneKind {
    /// A DEL could not finish.
    Delete,
    /// An ADD died half way: a late request of it must lose.
    Fence,
}
