//! Chains, and what rules do.

use atoll_model::topology::{self, FlowAction, RuleAction};
use uuid::Uuid;

use crate::api::{Chain, NatTarget, Rule};

impl Chain {
    /// As a request. Its rules are requests of their own.
    pub fn from_topology(id: Uuid, chain: &topology::Chain) -> Self {
        Self { id: Some(id), tenant_id: Some(chain.tenant.clone()), name: Some(chain.name.clone()), ..Self::default() }
    }
}

impl NatTarget {
    fn from_topology(target: &topology::NatTarget) -> Self {
        Self {
            address_from: Some(target.from.to_string()),
            address_to: Some(target.to.to_string()),
            port_from: target.port_from.into(),
            port_to: target.port_to.into(),
        }
    }
}

impl Rule {
    /// As a request to put it at `position` (from 1) of `chain`. The fragment policy is always sent, because the
    /// server's default depends on the rest of the rule.
    pub fn from_topology(chain: Uuid, position: usize, rule: &topology::Rule) -> Self {
        let mut object = Self {
            id: Some(rule.id),
            chain_id: Some(chain),
            position: Some(i32::try_from(position).unwrap_or(i32::MAX)),
            ..Self::default()
        };
        let targets = |list: &[topology::NatTarget]| Some(list.iter().map(NatTarget::from_topology).collect());
        let kind = match &rule.action {
            RuleAction::Accept => "accept",
            RuleAction::Drop => "drop",
            RuleAction::Reject => "reject",
            RuleAction::Return => "return",
            RuleAction::Jump { chain } => {
                object.jump_chain_id = Some(*chain);
                "jump"
            }
            RuleAction::Snat { targets: list, .. } => {
                object.nat_targets = targets(list);
                "snat"
            }
            RuleAction::Dnat { targets: list, .. } => {
                object.nat_targets = targets(list);
                "dnat"
            }
            RuleAction::ReverseSnat { .. } => "rev_snat",
            RuleAction::ReverseDnat { .. } => "rev_dnat",
            RuleAction::Other { kind } => kind,
        };
        object.kind = Some(kind.to_owned());
        object.flow_action = match &rule.action {
            RuleAction::Snat { then, .. }
            | RuleAction::Dnat { then, .. }
            | RuleAction::ReverseSnat { then }
            | RuleAction::ReverseDnat { then } => Some(flow_name(*then).to_owned()),
            _ => None,
        };
        object.set_condition(&rule.condition);
        object
    }
}

const fn flow_name(flow: FlowAction) -> &'static str {
    match flow {
        FlowAction::Accept => "accept",
        FlowAction::Continue => "continue",
        FlowAction::Return => "return",
    }
}
