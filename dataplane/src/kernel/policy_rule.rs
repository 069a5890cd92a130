//! Policy rules (`ip rule`) of a router namespace: ours, the kernel's own, and drift of both.

use std::net::IpAddr;

use atoll_node::netlink::policy_rule::{self, PolicyRule, RuleSelector};
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};

use super::netlink::{Netlink, PROTOCOL};
use crate::compile::MAIN;
use crate::error::PlaneError;
use atoll_model::route::LOCAL_TABLE;

type Result<T> = std::result::Result<T, PlaneError>;

/// The kernel's rules: priority and table.
const RULES: [(u32, u32); 3] = [(0, LOCAL_TABLE), (32_766, MAIN), (32_767, 253)];

impl Netlink {
    /// Our rules.
    pub(crate) fn policy_rules(&mut self) -> Result<Vec<PolicyRule>> {
        let all = self.read("list rules", policy_rule::list)?;
        Ok(all.iter().filter(|rule| is_ours(rule)).filter_map(PolicyRule::read).collect())
    }

    /// Adds a rule.
    pub(crate) fn add_policy_rule(&mut self, rule: &PolicyRule) -> Result<()> {
        self.change(format!("add rule {rule}"), |socket| policy_rule::add(socket, &message(rule)))
    }

    /// Deletes a rule.
    pub(crate) fn delete_policy_rule(&mut self, rule: &PolicyRule) -> Result<()> {
        self.remove(format!("delete rule {rule}"), |socket| policy_rule::delete(socket, &message(rule)))
    }

    /// Deletes rules of ours of a shape that we never add, and adds the kernel's own again where they are gone; returns
    /// the number of both.
    pub(crate) fn repair_rules(&mut self) -> Result<usize> {
        let mut changes = 0;
        let mut missing = Vec::from(RULES);
        for rule in self.read("list rules", policy_rule::list)? {
            missing.retain(|kernels| !leads_all(&rule, *kernels));
            let right = PolicyRule::read(&rule).map(|known| place(&known.selector));
            if is_ours(&rule) && (has_more(&rule) || right != Some(priority(&rule))) {
                let what = "delete a policy rule of a foreign shape".to_owned();
                self.remove(what, |socket| policy_rule::delete(socket, &rule))?;
                changes += 1;
            }
        }
        for (priority, table) in missing {
            let message = policy_rule::leading_to(table, priority, Some(RouteProtocol::Kernel));
            let what = format!("add the kernel's rule to table {table}");
            self.change(what, |socket| policy_rule::add(socket, &message))?;
            changes += 1;
        }
        Ok(changes)
    }
}

fn message(rule: &PolicyRule) -> RuleMessage {
    rule.message(place(&rule.selector), Some(PROTOCOL))
}

/// The priority of a rule of ours.
fn place(selector: &RuleSelector) -> u32 {
    match selector {
        // Before the rules by source: what comes from the node never reaches the next one.
        RuleSelector::Interface(_) => 100,
        RuleSelector::Mark(_) => 101,
        // The longest prefix first, and all of them before the main table.
        RuleSelector::Source(source) => 1000 + u32::from(32 - source.prefix().min(32)),
    }
}

fn is_ours(rule: &RuleMessage) -> bool {
    rule.attributes.contains(&RuleAttribute::Protocol(PROTOCOL))
}

fn priority(rule: &RuleMessage) -> u32 {
    let priority =
        |attribute: &RuleAttribute| if let RuleAttribute::Priority(it) = attribute { Some(*it) } else { None };
    // The first is not shown.
    rule.attributes.iter().find_map(priority).unwrap_or_default()
}

/// True for a rule that selects by something that no rule of ours selects by.
fn has_more(rule: &RuleMessage) -> bool {
    use RuleAttribute as A;
    let known = |attribute: &A| {
        let plain = matches!(attribute, A::Priority(_) | A::Table(_) | A::Protocol(_) | A::SuppressPrefixLen(u32::MAX));
        let selects = matches!(attribute, A::Source(IpAddr::V4(_)) | A::Iifname(_) | A::FwMark(_) | A::FwMask(_));
        plain || selects
    };
    rule.header.dst_len != 0
        || rule.header.tos != 0
        || rule.header.action != RuleAction::ToTable
        || rule.header.flags.contains(RuleFlags::Invert)
        || !rule.attributes.iter().all(known)
}

/// True for a rule that leads all packets to a table, with this priority.
fn leads_all(rule: &RuleMessage, (first, table): (u32, u32)) -> bool {
    use RuleAttribute as A;
    let selects = |attribute: &A| {
        !matches!(attribute, A::Priority(_) | A::Table(_) | A::Protocol(_) | A::SuppressPrefixLen(u32::MAX))
    };
    priority(rule) == first
        && rule.attributes.contains(&A::Table(table))
        && rule.header.src_len == 0
        && rule.header.dst_len == 0
        && rule.header.action == RuleAction::ToTable
        && !rule.header.flags.contains(RuleFlags::Invert)
        && !rule.attributes.iter().any(selects)
}
