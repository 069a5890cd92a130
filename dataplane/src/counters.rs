//! What was counted: packets and bytes of ports and rules.
//!
//! Nothing is added to the way of a packet for it but a counter at the rule that it meets: what goes through a port its
//! interface counts anyway, and refused frames are counted where they end. Rules keep their counts when a filter is
//! replaced, as long as the process lives.

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

/// What one rule, or a run of like rules, has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RuleCount {
    /// What met it.
    #[serde(flatten)]
    pub met: Count,
    /// So many rules of a chain, from this one on, that differ in addresses and ports only, are counted together.
    pub rules: usize,
}

/// Everything that was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// By port.
    pub ports: BTreeMap<Uuid, PortCount>,
    /// By rule.
    pub rules: BTreeMap<Uuid, RuleCount>,
}

/// What one filter has counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counted {
    /// By rule: how many are counted together, and what.
    pub(crate) rules: BTreeMap<Uuid, (usize, Count)>,
    /// By interface.
    pub(crate) refused: BTreeMap<String, Count>,
}

impl Counted {
    pub(crate) fn add(&mut self, other: &Self) {
        for (id, (rules, count)) in &other.rules {
            let sum = self.rules.entry(*id).or_default();
            sum.0 = *rules;
            sum.1 += *count;
        }
        for (interface, count) in &other.refused {
            *self.refused.entry(interface.clone()).or_default() += *count;
        }
    }
}
