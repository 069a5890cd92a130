//! One machine of the cluster.

use atoll_model::ids::{HostId, NodeName};
use serde::{Deserialize, Serialize};

use crate::codec::Unknown;
use crate::key::{Key, Prefix, RecordKey};

/// `nodes/<node>`: one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Schema.
    pub v: u32,
    /// The id of this machine's host in the engine.
    pub host_id: HostId,
    /// `/etc/machine-id`: distinguishes two machines that were given one name; empty where there is none.
    pub machine_id: String,
    /// Raised by `evict-node`: a later write of an evicted node compares an old revision and loses.
    pub epoch: u64,
    /// The writer epoch: raised when a request that makes a port may still be on its way and must fail, and by `evict-node`. An
    /// engine that compares it refuses requests with an older one; one that does not leaves it 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub writer: u64,
    /// It is being evicted, since then (seconds since 1970): nothing is claimed for it until that is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evicting: Option<u64>,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl NodeRecord {
    /// The key of a node.
    pub fn at(node: &NodeName) -> RecordKey<Self> {
        RecordKey::new(format!("v2/nodes/{node}"))
    }

    /// All nodes.
    pub fn all() -> Prefix<Self> {
        Prefix::new("v2/nodes/".to_owned())
    }

    /// The node whose key this is.
    pub fn name_in(key: &Key) -> Option<NodeName> {
        NodeName::new(key.as_str().strip_prefix("v2/nodes/")?).ok()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
