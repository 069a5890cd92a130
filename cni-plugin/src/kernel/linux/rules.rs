//! Rules by source as netlink has them: rtnetlink(7), `RTM_NEWRULE`.

use atoll_node::netlink::{Refused, Socket};
use std::net::IpAddr;

use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::kernel::PolicyRule;

/// Before `main` (32766) and what is counted down from it, behind what has a number of its own.
const PRIORITY: u32 = 30_000;

/// The request that adds or deletes a rule.
pub(super) fn message(rule: PolicyRule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.src_len = 32;
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Source(IpAddr::V4(rule.source)),
        RuleAttribute::Table(rule.table),
        RuleAttribute::Priority(PRIORITY),
    ];
    message
}

/// All policy rules that match a single source address.
pub(super) fn all(socket: &Socket) -> Result<Vec<PolicyRule>, Refused> {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    let answers = socket.list(RouteNetlinkMessage::GetRule(message))?;
    let rules = answers.iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewRule(message) => read(message),
        _ => None,
    });
    Ok(rules.collect())
}

fn read(message: &RuleMessage) -> Option<PolicyRule> {
    let mut table = u32::from(message.header.table);
    let mut source = None;
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Source(IpAddr::V4(address)) if message.header.src_len == 32 => source = Some(*address),
            RuleAttribute::Table(number) => table = *number,
            _ => {}
        }
    }
    Some(PolicyRule { source: source?, table })
}
