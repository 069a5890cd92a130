//! Counters: packets and bytes of ports and rules.
//!
//! The path of a packet has one counter more, at the rule that it matches. Interfaces count the packets of ports anyway, and
//! refused frames are counted where they are dropped. The kernel alone has the counts: a filter that replaces another starts with
//! the counts of the other.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::Serialize;
use uuid::Uuid;

/// Packets and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// What one port has counted since its interface was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortCount {
    /// What the pod has sent.
    pub sent: Count,
    /// What the pod was sent.
    pub received: Count,
    /// What of `sent` was refused because it was not the pod's own MAC, address or kind of frame.
    pub refused: Count,
}

/// Everything that was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// By port.
    pub ports: BTreeMap<Uuid, PortCount>,
    /// By rule: what met it. Every rule of the topology is there.
    pub rules: BTreeMap<Uuid, Count>,
}

/// What one filter has counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counted {
    /// By rule.
    pub(crate) rules: BTreeMap<Uuid, Count>,
    /// By interface.
    pub(crate) refused: BTreeMap<String, Count>,
}

impl Counted {
    /// So much met this rule.
    pub(crate) fn met(&mut self, rule: Option<Uuid>, count: Option<Count>) {
        if let (Some(rule), Some(count)) = (rule, count) {
            *self.rules.entry(rule).or_default() += count;
        }
    }
}
