//! Chains, and what rules do.

use std::net::Ipv4Addr;

use atoll_model::topology::{self, FlowAction, RuleAction};
use atoll_sdn_client::api::{Chain, NatTarget, Rule};
use atoll_sdn_client::{Dialect, Resource};
use uuid::Uuid;

use super::condition::condition;
use super::{ConvertError, Reader};

/// As an object of the topology model, with these rules, which must be in the order of evaluation.
pub(crate) fn chain_to_topology(
    chain: &Chain,
    rules: &[Rule],
    dialect: Dialect,
) -> Result<(Uuid, topology::Chain), ConvertError> {
    let meaning = topology::Chain {
        tenant: chain.tenant_id.clone().unwrap_or_default(),
        name: chain.name.clone().unwrap_or_default(),
        rules: rules.iter().map(|rule| rule_to_topology(rule, dialect)).collect::<Result<_, _>>()?,
    };
    Ok((Reader(Resource::Chain).id("id", chain.id)?, meaning))
}

/// As an object of the topology model. `trace`, `l2_transform` and unknown kinds become [`RuleAction::Other`].
pub(crate) fn rule_to_topology(rule: &Rule, dialect: Dialect) -> Result<topology::Rule, ConvertError> {
    let reader = Reader(Resource::Rule);
    let action = match rule.kind.as_deref() {
        Some("accept") => RuleAction::Accept,
        Some("drop") => RuleAction::Drop,
        Some("reject") => RuleAction::Reject,
        Some("return") => RuleAction::Return,
        Some("jump") => RuleAction::Jump { chain: reader.id("jumpChainId", rule.jump_chain_id)? },
        Some("snat") => RuleAction::Snat { targets: targets(rule)?, then: flow(rule)? },
        Some("dnat") => RuleAction::Dnat { targets: targets(rule)?, then: flow(rule)? },
        Some("rev_snat") => RuleAction::ReverseSnat { then: flow(rule)? },
        Some("rev_dnat") => RuleAction::ReverseDnat { then: flow(rule)? },
        Some(kind) => RuleAction::Other { kind: super::shorten(kind) },
        None => return Err(reader.wrong("type", None, "a kind of rule")),
    };
    let id = reader.id("id", rule.id)?;
    Ok(topology::Rule { id, condition: condition(rule, dialect)?, action })
}

fn targets(rule: &Rule) -> Result<Vec<topology::NatTarget>, ConvertError> {
    let list = rule.nat_targets.as_deref().filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| Reader(Resource::Rule).wrong("natTargets", None, "one target or more"))?;
    list.iter().map(target_to_topology).collect()
}

fn target_to_topology(target: &NatTarget) -> Result<topology::NatTarget, ConvertError> {
    let reader = Reader(Resource::Rule);
    let address = |text: Option<&str>| -> Result<Ipv4Addr, _> { reader.address("natTargets", text) };
    let port = |n: i32| {
        u16::try_from(n).map_err(|_| reader.wrong("natTargets", Some(&n.to_string()), "ports from 0 to 65535"))
    };
    Ok(topology::NatTarget {
        from: address(target.address_from.as_deref())?,
        to: address(target.address_to.as_deref())?,
        port_from: port(target.port_from)?,
        port_to: port(target.port_to)?,
    })
}

fn flow(rule: &Rule) -> Result<FlowAction, ConvertError> {
    match rule.flow_action.as_deref() {
        Some("accept") => Ok(FlowAction::Accept),
        Some("continue") => Ok(FlowAction::Continue),
        Some("return") => Ok(FlowAction::Return),
        other => Err(Reader(Resource::Rule).wrong("flowAction", other, "accept, continue or return")),
    }
}
