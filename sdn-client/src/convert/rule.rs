//! Chains, and what rules do.

use std::net::Ipv4Addr;

use atoll_model::topology::{self, Action, Flow};
use uuid::Uuid;

use super::{ConvertError, Reader};
use crate::api::{Chain, NatTarget, Rule};
use crate::dialect::Dialect;
use crate::resource::Resource;

impl Chain {
    /// As a request. Its rules are requests of their own.
    pub fn from_topology(id: Uuid, chain: &topology::Chain) -> Self {
        Self { id: Some(id), tenant_id: Some(chain.tenant.clone()), name: Some(chain.name.clone()), ..Self::default() }
    }

    /// As an object of the topology model, with these rules, which must be in the order of evaluation.
    pub fn to_topology(&self, rules: &[Rule], dialect: Dialect) -> Result<(Uuid, topology::Chain), ConvertError> {
        let chain = topology::Chain {
            tenant: self.tenant_id.clone().unwrap_or_default(),
            name: self.name.clone().unwrap_or_default(),
            rules: rules.iter().map(|rule| rule.to_topology(dialect)).collect::<Result<_, _>>()?,
        };
        Ok((Reader(Resource::Chain).id("id", self.id)?, chain))
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

    fn to_topology(&self) -> Result<topology::NatTarget, ConvertError> {
        let reader = Reader(Resource::Rule);
        let address = |text: Option<&str>| -> Result<Ipv4Addr, _> { reader.address("natTargets", text) };
        let port = |n: i32| {
            u16::try_from(n).map_err(|_| reader.wrong("natTargets", Some(&n.to_string()), "ports from 0 to 65535"))
        };
        Ok(topology::NatTarget {
            from: address(self.address_from.as_deref())?,
            to: address(self.address_to.as_deref())?,
            port_from: port(self.port_from)?,
            port_to: port(self.port_to)?,
        })
    }
}

impl Rule {
    /// As a request to put it at `position` (from 1) of `chain`. The fragment policy is always said, because the
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
            Action::Accept => "accept",
            Action::Drop => "drop",
            Action::Reject => "reject",
            Action::Return => "return",
            Action::Jump { chain } => {
                object.jump_chain_id = Some(*chain);
                "jump"
            }
            Action::Snat { targets: list, .. } => {
                object.nat_targets = targets(list);
                "snat"
            }
            Action::Dnat { targets: list, .. } => {
                object.nat_targets = targets(list);
                "dnat"
            }
            Action::ReverseSnat { .. } => "rev_snat",
            Action::ReverseDnat { .. } => "rev_dnat",
            Action::Other { kind } => kind,
        };
        object.kind = Some(kind.to_owned());
        object.flow_action = match &rule.action {
            Action::Snat { then, .. }
            | Action::Dnat { then, .. }
            | Action::ReverseSnat { then }
            | Action::ReverseDnat { then } => Some(flow_name(*then).to_owned()),
            _ => None,
        };
        object.set_condition(&rule.condition);
        object
    }

    /// As an object of the topology model. `trace`, `l2_transform` and kinds that nobody knows become [`Action::Other`].
    pub fn to_topology(&self, dialect: Dialect) -> Result<topology::Rule, ConvertError> {
        let reader = Reader(Resource::Rule);
        let action = match self.kind.as_deref() {
            Some("accept") => Action::Accept,
            Some("drop") => Action::Drop,
            Some("reject") => Action::Reject,
            Some("return") => Action::Return,
            Some("jump") => Action::Jump { chain: reader.id("jumpChainId", self.jump_chain_id)? },
            Some("snat") => Action::Snat { targets: self.targets()?, then: self.flow()? },
            Some("dnat") => Action::Dnat { targets: self.targets()?, then: self.flow()? },
            Some("rev_snat") => Action::ReverseSnat { then: self.flow()? },
            Some("rev_dnat") => Action::ReverseDnat { then: self.flow()? },
            Some(kind) => Action::Other { kind: super::shorten(kind) },
            None => return Err(reader.wrong("type", None, "a kind of rule")),
        };
        let id = reader.id("id", self.id)?;
        Ok(topology::Rule { id, condition: self.condition(dialect)?, action })
    }

    fn targets(&self) -> Result<Vec<topology::NatTarget>, ConvertError> {
        let list = self.nat_targets.as_deref().filter(|list| !list.is_empty());
        let list = list.ok_or_else(|| Reader(Resource::Rule).wrong("natTargets", None, "one target or more"))?;
        list.iter().map(NatTarget::to_topology).collect()
    }

    fn flow(&self) -> Result<Flow, ConvertError> {
        match self.flow_action.as_deref() {
            Some("accept") => Ok(Flow::Accept),
            Some("continue") => Ok(Flow::Continue),
            Some("return") => Ok(Flow::Return),
            other => Err(Reader(Resource::Rule).wrong("flowAction", other, "accept, continue or return")),
        }
    }
}

const fn flow_name(flow: Flow) -> &'static str {
    match flow {
        Flow::Accept => "accept",
        Flow::Continue => "continue",
        Flow::Return => "return",
    }
}
