//! IPv4 routes: ours, those of others, and the kernel's own for local addresses.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::netlink::{Netlink, PROTOCOL, fail, is};
use super::steps::step;
use crate::compile::{KernelRoute, MAIN, NextHop};
use crate::error::PlaneError;

type Result<T> = std::result::Result<T, PlaneError>;

/// The kernel's table of its own addresses (`RT_TABLE_LOCAL`).
pub(super) const LOCAL: u32 = 255;

impl Netlink {
    /// Our routes, links by index.
    pub(crate) fn routes(&mut self) -> Result<Vec<KernelRoute<u32>>> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let answers = self.list("list routes", Message::GetRoute(message))?;
        Ok(answers.iter().filter_map(route_of).collect())
    }

    /// Adds a route, before others with the same destination and metric: in a namespace of ours, ours count.
    pub(crate) fn add_route(&mut self, route: &KernelRoute<u32>) -> Result<()> {
        self.insert_route(route.destination, route_message(route), NLM_F_CREATE)
    }

    fn insert_route(&mut self, to: Ipv4Network, message: RouteMessage, flags: u16) -> Result<()> {
        let what = format!("add route to {to}");
        match step(&what).and_then(|()| Ok(self.socket.change(Message::NewRoute(message), flags)?)) {
            Err(error) if is(&error, Errno::EEXIST) => Ok(()),
            other => other.map_err(|source| fail(what, source)),
        }
    }

    /// Deletes a route.
    pub(crate) fn delete_route(&mut self, route: &KernelRoute<u32>) -> Result<()> {
        self.remove(format!("delete route to {}", route.destination), Message::DelRoute(route_message(route)))
    }

    /// Our routes with the source that packets are sent from, links by index.
    pub(crate) fn sourced_routes(&mut self) -> Result<Vec<(KernelRoute<u32>, Option<Ipv4Addr>)>> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let answers = self.list("list routes", Message::GetRoute(message))?;
        Ok(answers.iter().filter_map(|answer| Some((route_of(answer)?, source_of_route(answer)))).collect())
    }

    /// Networks that this namespace reaches by other routes than ours, with the index of the link.
    pub(crate) fn foreign_routes(&mut self) -> Result<Vec<(Ipv4Network, Option<u32>)>> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let answers = self.list("list routes", Message::GetRoute(message))?;
        Ok(answers.iter().filter_map(foreign_route_of).collect())
    }

    /// Adds a route by which packets are sent from `source`, behind others with the same destination and metric: in a
    /// namespace that is not ours, those of others count.
    pub(crate) fn add_sourced_route(&mut self, route: &KernelRoute<u32>, source: Option<Ipv4Addr>) -> Result<()> {
        let mut message = route_message(route);
        message.attributes.extend(source.map(|ip| RouteAttribute::PrefSource(RouteAddress::Inet(ip))));
        self.insert_route(route.destination, message, NLM_F_CREATE | NLM_F_APPEND)
    }

    /// Removes routes of ours of a shape that we never make; answers how many.
    pub(crate) fn remove_odd_routes(&mut self) -> Result<usize> {
        let routes = self.all_routes()?;
        let odd: Vec<_> =
            routes.into_iter().filter(|route| route.header.protocol == PROTOCOL && is_odd(route)).collect();
        for route in &odd {
            self.remove("delete a route of a foreign shape".to_owned(), Message::DelRoute(route.clone()))?;
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
}

fn route_message(route: &KernelRoute<u32>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: AddressFamily::Inet,
        destination_prefix_length: route.destination.prefix(),
        // The whole number is in an attribute.
        table: RouteHeader::RT_TABLE_UNSPEC,
        protocol: PROTOCOL,
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::Inet(route.destination.network())),
        RouteAttribute::Priority(route.metric),
        RouteAttribute::Table(route.table),
    ];
    match route.next {
        NextHop::Via { device, gateway } => {
            // The topology decides what is reachable through a port, not the port's own address.
            message.header.flags = RouteFlags::Onlink;
            message.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
            message.attributes.push(RouteAttribute::Oif(device));
        }
        NextHop::Direct { device } => {
            message.header.scope = RouteScope::Link;
            message.attributes.push(RouteAttribute::Oif(device));
        }
        NextHop::BlackHole => message.header.kind = RouteType::BlackHole,
        NextHop::Prohibit => message.header.kind = RouteType::Prohibit,
    }
    message
}

pub(super) fn route_of(message: &Message) -> Option<KernelRoute<u32>> {
    let Message::NewRoute(message) = message else { return None };
    if message.header.protocol != PROTOCOL {
        return None;
    }
    let mut table = u32::from(message.header.table);
    let (mut network, mut metric, mut device, mut via) = (Ipv4Addr::UNSPECIFIED, 0, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => network = *ip,
            RouteAttribute::Priority(value) => metric = *value,
            RouteAttribute::Table(value) => table = *value,
            RouteAttribute::Oif(index) => device = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(ip)) => via = Some(*ip),
            _ => {}
        }
    }
    let next = match (message.header.kind, device, via) {
        (RouteType::BlackHole, ..) => NextHop::BlackHole,
        (RouteType::Prohibit, ..) => NextHop::Prohibit,
        (_, Some(device), Some(gateway)) => NextHop::Via { device, gateway },
        (_, Some(device), None) => NextHop::Direct { device },
        _ => return None,
    };
    let destination = Ipv4Network::new(network, message.header.destination_prefix_length).ok()?;
    Some(KernelRoute { table, destination, metric, next })
}

/// A route of the main table that is not ours.
fn foreign_route_of(message: &Message) -> Option<(Ipv4Network, Option<u32>)> {
    let Message::NewRoute(message) = message else { return None };
    let (mut network, mut table, mut device) = (None, u32::from(message.header.table), None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => network = Some(*ip),
            RouteAttribute::Table(value) => table = *value,
            RouteAttribute::Oif(index) => device = Some(*index),
            _ => {}
        }
    }
    let network = Ipv4Network::new(network?, message.header.destination_prefix_length).ok()?;
    (table == MAIN && message.header.protocol != PROTOCOL).then_some((network, device))
}

fn source_of_route(message: &Message) -> Option<Ipv4Addr> {
    let Message::NewRoute(message) = message else { return None };
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::PrefSource(RouteAddress::Inet(ip)) => Some(*ip),
        _ => None,
    })
}

/// True for a route that has an attribute that no route of ours has.
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
