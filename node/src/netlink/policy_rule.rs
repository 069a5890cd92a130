//! Policy rules (`ip rule`; `RTM_NEWRULE` and its like, rtnetlink(7)): which packets are routed by which table.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nix::libc::{RTM_DELRULE, RTM_GETRULE, RTM_NEWRULE};
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::message::RawMessage;
use super::{Refused, Socket, family};

/// A policy rule: packets that match the selector are routed by the table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyRule {
    /// Which packets.
    pub selector: RuleSelector,
    /// The table.
    pub table: u32,
}

/// What a [`PolicyRule`] selects packets by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleSelector {
    /// The source address.
    Source(IpNetwork),
    /// The interface by which they came in.
    Interface(String),
    /// This bit of their mark.
    Mark(u32),
}

impl fmt::Display for PolicyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.selector {
            RuleSelector::Source(source) if is_one(source) => write!(f, "from {}", source.ip())?,
            RuleSelector::Source(source) => write!(f, "from {source}")?,
            RuleSelector::Interface(name) => write!(f, "iif {name}")?,
            RuleSelector::Mark(bit) => write!(f, "fwmark {bit:#x}")?,
        }
        write!(f, " to table {}", self.table)
    }
}

impl PolicyRule {
    /// Packets from one address.
    pub fn from_address(source: IpAddr, table: u32) -> Self {
        Self { selector: RuleSelector::Source(source.into()), table }
    }

    /// The only address that it selects by.
    pub fn address(&self) -> Option<IpAddr> {
        match &self.selector {
            RuleSelector::Source(source) if is_one(source) => Some(source.ip()),
            _ => None,
        }
    }

    /// Reads a rule of an answer; `None` if it selects by none of these. What else it selects by is not shown.
    pub fn read(message: &RuleMessage) -> Option<Self> {
        let mut table = u32::from(message.header.table);
        let (mut source, mut interface, mut mark) = (None, None, None);
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Source(ip) => source = IpNetwork::new(*ip, message.header.src_len).ok(),
                RuleAttribute::Iifname(name) => interface = Some(name),
                RuleAttribute::FwMark(bit) => mark = Some(*bit),
                RuleAttribute::Table(number) => table = *number,
                _ => {}
            }
        }
        let selector = source.map(RuleSelector::Source);
        let selector = selector.or_else(|| interface.map(|name| RuleSelector::Interface(name.clone())));
        Some(Self { selector: selector.or_else(|| mark.map(RuleSelector::Mark))?, table })
    }

    /// The message of this rule. `protocol` notes whose it is.
    pub fn message(&self, priority: u32, protocol: Option<RouteProtocol>) -> RuleMessage {
        let mut message = leading_to(self.table, priority, protocol);
        match &self.selector {
            RuleSelector::Source(source) => {
                message.header.family = family(source.is_ipv4());
                message.header.src_len = source.prefix();
                message.attributes.push(RuleAttribute::Source(source.network()));
            }
            RuleSelector::Interface(name) => message.attributes.push(RuleAttribute::Iifname(name.clone())),
            RuleSelector::Mark(bit) => {
                message.attributes.extend([RuleAttribute::FwMark(*bit), RuleAttribute::FwMask(*bit)]);
            }
        }
        message
    }
}

fn is_one(source: &IpNetwork) -> bool {
    source.prefix() == if source.is_ipv4() { 32 } else { 128 }
}

/// The message of a rule that selects all packets of IPv4.
pub fn leading_to(table: u32, priority: u32, protocol: Option<RouteProtocol>) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![RuleAttribute::Table(table), RuleAttribute::Priority(priority)];
    message.attributes.extend(protocol.map(RuleAttribute::Protocol));
    message
}

/// The same rule for packets of IPv6. One that selects by a source has none.
pub fn of_ipv6(mut message: RuleMessage) -> RuleMessage {
    message.header.family = AddressFamily::Inet6;
    message
}

/// All IPv4 rules of the namespace.
///
/// # Errors
/// The kernel's error.
pub fn list(socket: &Socket) -> Result<Vec<RuleMessage>, Refused> {
    list_family(socket, AddressFamily::Inet)
}

fn list_family(socket: &Socket, family: AddressFamily) -> Result<Vec<RuleMessage>, Refused> {
    let mut message = RuleMessage::default();
    message.header.family = family;
    let answers = socket.list(RTM_GETRULE, &message)?;
    RawMessage::read_all(&answers, RTM_NEWRULE)
}

/// All rules for packets from one address, of both families.
///
/// # Errors
/// The kernel's error.
pub fn list_by_address(socket: &Socket) -> Result<Vec<PolicyRule>, Refused> {
    let mut rules = list(socket)?;
    rules.extend(list_family(socket, AddressFamily::Inet6)?);
    Ok(rules.iter().filter_map(PolicyRule::read).filter(|rule| rule.address().is_some()).collect())
}

/// Adds a rule.
///
/// # Errors
/// `EEXIST`: there is such a rule. Otherwise the kernel's error.
pub fn add(socket: &Socket, message: &RuleMessage) -> Result<(), Refused> {
    socket.change(RTM_NEWRULE, message, NLM_F_CREATE | NLM_F_EXCL)
}

/// Deletes a rule.
///
/// # Errors
/// `ENOENT`: there is no such rule. Otherwise the kernel's error.
pub fn delete(socket: &Socket, message: &RuleMessage) -> Result<(), Refused> {
    socket.change(RTM_DELRULE, message, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_as_it_was_built() {
        let network = "10.8.0.0/13".parse().expect("a network");
        let cases = [
            (RuleSelector::Source(network), "from 10.8.0.0/13 to table 1000"),
            (RuleSelector::Source(IpAddr::from([10, 8, 0, 2]).into()), "from 10.8.0.2 to table 1000"),
            (RuleSelector::Interface("eth1".to_owned()), "iif eth1 to table 1000"),
            (RuleSelector::Mark(0x10), "fwmark 0x10 to table 1000"),
        ];
        for (selector, text) in cases {
            let rule = PolicyRule { selector, table: 1000 };
            assert_eq!(rule.to_string(), text);
            let message = rule.message(100, Some(RouteProtocol::Static));
            assert_eq!(PolicyRule::read(&message).as_ref(), Some(&rule), "{text}");
            assert!(message.attributes.contains(&RuleAttribute::Priority(100)), "{text}");
            assert!(message.attributes.contains(&RuleAttribute::Protocol(RouteProtocol::Static)), "{text}");
        }
    }

    #[test]
    fn only_a_rule_for_one_address_has_an_address() {
        let address = IpAddr::from([10, 8, 0, 2]);
        assert_eq!(PolicyRule::from_address(address, 7).address(), Some(address));
        let network = RuleSelector::Source("10.8.0.0/31".parse().expect("a network"));
        assert_eq!(PolicyRule { selector: network, table: 7 }.address(), None);
        assert_eq!(PolicyRule { selector: RuleSelector::Mark(1), table: 7 }.address(), None);
        assert_eq!(PolicyRule::read(&leading_to(254, 32_766, None)), None, "it selects all packets");
    }
}
