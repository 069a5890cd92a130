//! Finds drift: objects tagged as ours that the plan does not contain, and kernel defaults that were removed.
//!
//! Only what a namespace of ours holds is looked at here. Whatever was found is handed back as it was shown.

use std::net::{IpAddr, Ipv4Addr};

use atoll_model::attachment::Mac;
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use rtnetlink::packet_route::tc::TcMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::nl::{Netlink, PROTOCOL, is, mac_of, route_of, source_message, source_of, steer_message, steer_of};
use crate::compile::MAIN;
use crate::error::PlaneError;

type Result<T> = std::result::Result<T, PlaneError>;

/// The kernel's table of its own addresses (`RT_TABLE_LOCAL`).
const LOCAL: u32 = 255;

/// The kernel's rules: priority and table.
const RULES: [(u32, u32); 3] = [(0, LOCAL), (32_766, MAIN), (32_767, 253)];

/// An entry of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Station {
    /// The index of the port, or of the bridge itself.
    pub(crate) port: u32,
    pub(crate) mac: Mac,
    pub(crate) kind: Known,
}

/// How a bridge came to know a station.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Known {
    /// By hand, for good, and learning leaves it alone.
    Fixed,
    /// By hand.
    ByHand,
    /// It is the bridge's own, or its port's.
    Own,
    /// From its packets.
    Learned,
}

impl Netlink {
    /// Removes routes of ours of a shape that we never make; answers how many.
    pub(crate) fn remove_odd_routes(&mut self) -> Result<usize> {
        let routes = self.all_routes()?;
        let odd: Vec<_> =
            routes.into_iter().filter(|route| route.header.protocol == PROTOCOL && is_odd(route)).collect();
        for route in &odd {
            self.remove("delete a route that is none of ours".to_owned(), Message::DelRoute(route.clone()))?;
        }
        Ok(odd.len())
    }

    /// Addresses that packets are taken in for, with the index of their link.
    pub(crate) fn local_addresses(&mut self) -> Result<Vec<(u32, Ipv4Addr)>> {
        let local = |route: &RouteMessage| {
            let (mut address, mut device, mut table) = (None, None, u32::from(route.header.table));
            for attribute in &route.attributes {
                match attribute {
                    RouteAttribute::Destination(RouteAddress::Inet(ip)) => address = Some(*ip),
                    RouteAttribute::Oif(index) => device = Some(*index),
                    RouteAttribute::Table(value) => table = *value,
                    _ => {}
                }
            }
            let kernels = route.header.protocol == RouteProtocol::Kernel && route.header.kind == RouteType::Local;
            (kernels && table == LOCAL).then_some((device?, address?))
        };
        Ok(self.all_routes()?.iter().filter_map(local).collect())
    }

    fn all_routes(&mut self) -> Result<Vec<RouteMessage>> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let answers = self.list("list routes", Message::GetRoute(message))?;
        let route = |answer| if let Message::NewRoute(route) = answer { Some(route) } else { None };
        Ok(answers.into_iter().filter_map(route).collect())
    }

    /// Removes rules of ours of a shape that we never make, and makes the kernel's own again where they are gone; answers
    /// how many.
    pub(crate) fn mend_rules(&mut self) -> Result<usize> {
        let mut message = RuleMessage::default();
        message.header.family = AddressFamily::Inet;
        let mut changes = 0;
        let mut missing = Vec::from(RULES);
        for answer in self.list("list rules", Message::GetRule(message))? {
            missing.retain(|rule| !leads_all(&answer, *rule));
            let Message::NewRule(rule) = &answer else { continue };
            let ours = rule.attributes.iter().any(|it| matches!(it, RuleAttribute::Protocol(p) if *p == PROTOCOL));
            let right = source_of(&answer).map(source_message).or(steer_of(&answer).as_ref().map(steer_message));
            let placed = right.is_some_and(|right| priority(&right) == priority(rule));
            if ours && (has_more(rule) || !placed) {
                self.remove("delete a rule that is none of ours".to_owned(), Message::DelRule(rule.clone()))?;
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

    /// Removes what would be answered for by proxy through these links; answers how many.
    pub(crate) fn remove_proxies(&mut self, links: impl Fn(u32) -> bool) -> Result<usize> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.flags = NeighbourFlags::Proxy;
        let answers = self.list("list proxies", Message::GetNeighbour(message))?;
        let mut changes = 0;
        for answer in answers {
            let Message::NewNeighbour(proxy) = answer else { continue };
            let address = proxy.attributes.iter().find_map(|attribute| match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(*ip),
                _ => None,
            });
            let Some(address) = address.filter(|_| proxy.header.flags.contains(NeighbourFlags::Proxy)) else {
                continue;
            };
            if !links(proxy.header.ifindex) {
                continue;
            }
            let mut message = NeighbourMessage::default();
            message.header.family = AddressFamily::Inet;
            message.header.ifindex = proxy.header.ifindex;
            message.header.flags = NeighbourFlags::Proxy;
            message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(address)));
            self.remove(format!("delete proxy {address}"), Message::DelNeighbour(message))?;
            changes += 1;
        }
        Ok(changes)
    }

    /// Removes foreign queueing disciplines, with their filters, from these links; returns their number.
    pub(crate) fn remove_queues(&mut self, links: impl Fn(u32) -> bool) -> Result<usize> {
        let request = Message::GetQueueDiscipline(TcMessage::default());
        let queues = match self.list("list queues", request) {
            // A kernel without queues to choose from has none.
            Err(PlaneError::Netlink { source, .. }) if is(&source, Errno::EOPNOTSUPP) => Vec::new(),
            other => other?,
        };
        let mut changes = 0;
        for answer in queues {
            let Message::NewQueueDiscipline(queue) = answer else { continue };
            // The kernel's own have no number. What hangs below another goes with it.
            let by_hand = queue.header.handle.major != 0 && queue.header.parent.major == 0xffff;
            if !by_hand || !links(queue.header.index.cast_unsigned()) {
                continue;
            }
            let mut message = TcMessage::default();
            message.header = queue.header;
            message.header.info = 0;
            self.remove("delete a queue of a link".to_owned(), Message::DelQueueDiscipline(message))?;
            changes += 1;
        }
        Ok(changes)
    }

    /// All that bridges know.
    pub(crate) fn stations(&mut self) -> Result<Vec<Station>> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        let answers = self.list("list stations", Message::GetNeighbour(message))?;
        let station = |answer: &Message| {
            let Message::NewNeighbour(entry) = answer else { return None };
            let of_bridge = entry.attributes.iter().any(|a| matches!(a, NeighbourAttribute::Controller(_)));
            let kind = match entry.header.state {
                NeighbourState::Noarp if entry.header.flags.contains(NeighbourFlags::Sticky) => Known::Fixed,
                NeighbourState::Noarp => Known::ByHand,
                NeighbourState::Permanent => Known::Own,
                _ => Known::Learned,
            };
            let mac = mac_of(&entry.attributes).filter(|_| of_bridge)?;
            Some(Station { port: entry.header.ifindex, mac, kind })
        };
        Ok(answers.iter().filter_map(station).collect())
    }

    /// Tells a bridge that `mac` is its own.
    pub(crate) fn add_own_station(&mut self, bridge: u32, mac: Mac) -> Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = bridge;
        message.header.state = NeighbourState::Permanent;
        message.header.flags = NeighbourFlags::Own;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        self.change(format!("add the bridge's own station {mac}"), Message::NewNeighbour(message), NLM_F_CREATE)
    }

    /// Makes a bridge forget what is behind itself.
    pub(crate) fn delete_own_station(&mut self, bridge: u32, mac: Mac) -> Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = bridge;
        message.header.flags = NeighbourFlags::Own;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        self.remove(format!("delete the bridge's station {mac}"), Message::DelNeighbour(message))
    }
}

/// True for a route that has something which none of ours has.
fn is_odd(route: &RouteMessage) -> bool {
    use RouteAttribute as A;
    let known = |attribute: &A| {
        matches!(
            attribute,
            A::Destination(_) | A::Priority(_) | A::Table(_) | A::Oif(_) | A::Gateway(_) | A::CacheInfo(_)
        )
    };
    let kinds = [RouteType::Unicast, RouteType::BlackHole, RouteType::Prohibit];
    let scopes = [RouteScope::Universe, RouteScope::Link];
    route.header.tos != 0
        || !kinds.contains(&route.header.kind)
        || !scopes.contains(&route.header.scope)
        || !route.attributes.iter().all(known)
        || route_of(&Message::NewRoute(route.clone())).is_none()
}

fn priority(rule: &RuleMessage) -> u32 {
    let priority =
        |attribute: &RuleAttribute| if let RuleAttribute::Priority(it) = attribute { Some(*it) } else { None };
    // The first is not shown.
    rule.attributes.iter().find_map(priority).unwrap_or_default()
}

/// True for a rule that asks for something which none of ours asks for.
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
