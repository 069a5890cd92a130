//! Policy rules (`ip rule`): which packets use which table of routes.

use std::net::IpAddr;

use ipnetwork::Ipv4Network;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::netlink::{Netlink, PROTOCOL};
use super::route::LOCAL;
use crate::compile::{MAIN, SourceRule};
use crate::error::PlaneError;

type Result<T> = std::result::Result<T, PlaneError>;

/// The kernel's rules: priority and table.
const RULES: [(u32, u32); 3] = [(0, LOCAL), (32_766, MAIN), (32_767, 253)];

/// A rule that leads packets to a table of host-to-pod addressing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HostRule {
    /// What comes in through this link.
    From {
        /// Its name.
        link: String,
        /// The table.
        table: u32,
    },
    /// What carries this bit in its mark.
    Marked {
        /// The bit.
        mark: u32,
        /// The table.
        table: u32,
    },
}

impl Netlink {
    /// Our rules that lead sources to tables of their own.
    pub(crate) fn sources(&mut self) -> Result<Vec<SourceRule>> {
        let mut message = RuleMessage::default();
        message.header.family = AddressFamily::Inet;
        let answers = self.list("list rules", Message::GetRule(message))?;
        Ok(answers.iter().filter_map(source_rule_of).collect())
    }

    /// Leads a source to its table.
    pub(crate) fn add_source_rule(&mut self, source: SourceRule) -> Result<()> {
        let what = format!("add rule from {}", source.network);
        self.change(what, Message::NewRule(source_rule_message(source)), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Stops leading a source to its table.
    pub(crate) fn delete_source_rule(&mut self, source: SourceRule) -> Result<()> {
        self.remove(format!("delete rule from {}", source.network), Message::DelRule(source_rule_message(source)))
    }

    /// Our rules that lead to tables of host-to-pod addressing.
    pub(crate) fn host_rules(&mut self) -> Result<Vec<HostRule>> {
        let mut message = RuleMessage::default();
        message.header.family = AddressFamily::Inet;
        let answers = self.list("list rules", Message::GetRule(message))?;
        Ok(answers.iter().filter_map(host_rule_of).collect())
    }

    /// Leads packets to a table.
    pub(crate) fn add_host_rule(&mut self, rule: &HostRule) -> Result<()> {
        self.change(format!("add rule {rule:?}"), Message::NewRule(host_rule_message(rule)), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Stops leading packets to a table.
    pub(crate) fn delete_host_rule(&mut self, rule: &HostRule) -> Result<()> {
        self.remove(format!("delete rule {rule:?}"), Message::DelRule(host_rule_message(rule)))
    }

    /// Removes rules of ours of a shape that we never make, and makes the kernel's own again where they are gone; answers
    /// how many.
    pub(crate) fn repair_rules(&mut self) -> Result<usize> {
        let mut message = RuleMessage::default();
        message.header.family = AddressFamily::Inet;
        let mut changes = 0;
        let mut missing = Vec::from(RULES);
        for answer in self.list("list rules", Message::GetRule(message))? {
            missing.retain(|rule| !leads_all(&answer, *rule));
            let Message::NewRule(rule) = &answer else { continue };
            let ours = rule.attributes.iter().any(|it| matches!(it, RuleAttribute::Protocol(p) if *p == PROTOCOL));
            let right = source_rule_of(&answer)
                .map(source_rule_message)
                .or(host_rule_of(&answer).as_ref().map(host_rule_message));
            let placed = right.is_some_and(|right| priority(&right) == priority(rule));
            if ours && (has_more(rule) || !placed) {
                self.remove("delete a policy rule of a foreign shape".to_owned(), Message::DelRule(rule.clone()))?;
                changes += 1;
            }
        }
        for (priority, table) in missing {
            let mut message = RuleMessage::default();
            message.header.family = AddressFamily::Inet;
            message.header.action = RuleAction::ToTable;
            let protocol = RuleAttribute::Protocol(RouteProtocol::Kernel);
            message.attributes = vec![RuleAttribute::Priority(priority), RuleAttribute::Table(table), protocol];
            let what = format!("add the kernel's rule to table {table}");
            self.change(what, Message::NewRule(message), NLM_F_CREATE | NLM_F_EXCL)?;
            changes += 1;
        }
        Ok(changes)
    }
}

pub(super) fn source_rule_message(source: SourceRule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.src_len = source.network.prefix();
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Source(source.network.network().into()),
        // The longest prefix first, and all of them before the main table.
        RuleAttribute::Priority(1000 + u32::from(32 - source.network.prefix().min(32))),
        RuleAttribute::Table(source.table),
        RuleAttribute::Protocol(PROTOCOL),
    ];
    message
}

pub(super) fn source_rule_of(message: &Message) -> Option<SourceRule> {
    let Message::NewRule(message) = message else { return None };
    let (mut network, mut table, mut ours) = (None, None, false);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Source(IpAddr::V4(ip)) => network = Ipv4Network::new(*ip, message.header.src_len).ok(),
            RuleAttribute::Table(value) => table = Some(*value),
            RuleAttribute::Protocol(protocol) => ours = *protocol == PROTOCOL,
            _ => {}
        }
    }
    Some(SourceRule { network: network.filter(|_| ours)?, table: table? })
}

pub(super) fn host_rule_message(rule: &HostRule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.action = RuleAction::ToTable;
    // Before the rules for sources: what comes from the node never reaches the next one.
    let (priority, table) = match rule {
        HostRule::From { link, table } => {
            message.attributes.push(RuleAttribute::Iifname(link.clone()));
            (100, *table)
        }
        HostRule::Marked { mark, table } => {
            message.attributes.extend([RuleAttribute::FwMark(*mark), RuleAttribute::FwMask(*mark)]);
            (101, *table)
        }
    };
    message.attributes.extend([
        RuleAttribute::Priority(priority),
        RuleAttribute::Table(table),
        RuleAttribute::Protocol(PROTOCOL),
    ]);
    message
}

pub(super) fn host_rule_of(message: &Message) -> Option<HostRule> {
    let Message::NewRule(message) = message else { return None };
    let (mut from, mut marked, mut table, mut ours) = (None, None, None, false);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Iifname(link) => from = Some(link.clone()),
            RuleAttribute::FwMark(mark) => marked = Some(*mark),
            RuleAttribute::Table(value) => table = Some(*value),
            RuleAttribute::Protocol(protocol) => ours = *protocol == PROTOCOL,
            _ => {}
        }
    }
    let table = table.filter(|_| ours)?;
    from.map(|link| HostRule::From { link, table }).or(marked.map(|mark| HostRule::Marked { mark, table }))
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

/// True for a rule that leads everything to a table, with this priority.
fn leads_all(message: &Message, (first, table): (u32, u32)) -> bool {
    use RuleAttribute as A;
    let Message::NewRule(rule) = message else { return false };
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
