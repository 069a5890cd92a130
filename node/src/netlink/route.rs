//! Routes (`RTM_NEWROUTE` and its like, rtnetlink(7)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use atoll_model::route::{PodRoute, SCOPE_LINK};
use ipnetwork::IpNetwork;
use nix::errno::Errno;
use nix::libc::{RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE};
use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMetric, RouteProtocol, RouteScope,
};
pub use rtnetlink::packet_route::route::{RouteMessage, RouteType};

use super::message::RawMessage;
use super::{Refused, Socket, family};

/// A route as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRoute {
    /// The route. If it has several next hops, its gateway is `None`.
    pub route: PodRoute,
    /// The indices of the interfaces it goes through: one for each next hop. Empty if the kernel names a next hop object
    /// instead.
    pub interfaces: Vec<u32>,
}

impl FoundRoute {
    /// Reads a route of an answer.
    pub fn read(message: &RouteMessage) -> Option<Self> {
        let RouteHeader { destination_prefix_length: prefix, table, scope, .. } = message.header;
        let mut network = match message.header.address_family {
            AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
            AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let mut interfaces = Vec::new();
        let mut route = PodRoute {
            table: Some(table.into()),
            scope: Some(scope.into()),
            ..PodRoute::plain(IpNetwork::new(network, prefix).ok()?, None)
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => network = ip(address)?,
                RouteAttribute::Gateway(address) => route.gateway = ip(address),
                RouteAttribute::Oif(index) => interfaces.push(*index),
                RouteAttribute::MultiPath(hops) => interfaces.extend(hops.iter().map(|hop| hop.interface_index)),
                RouteAttribute::Priority(priority) => route.priority = Some(*priority),
                RouteAttribute::Table(table) => route.table = Some(*table),
                RouteAttribute::Metrics(metrics) => {
                    for metric in metrics {
                        match metric {
                            RouteMetric::Mtu(mtu) => route.mtu = Some(*mtu),
                            RouteMetric::Advmss(advmss) => route.advmss = Some(*advmss),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        route.destination = IpNetwork::new(network, prefix).ok()?;
        Some(Self { route, interfaces })
    }

    /// The interface of a route with one next hop.
    pub fn interface(&self) -> Option<u32> {
        if let [only] = *self.interfaces { Some(only) } else { None }
    }
}

/// The source address that the kernel prefers for packets of this route.
pub fn preferred_source(message: &RouteMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::PrefSource(address) => ip(address),
        _ => None,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// All IPv4 routes of the namespace, of every table and type.
///
/// # Errors
/// The kernel's error.
pub fn list(socket: &Socket) -> Result<Vec<RouteMessage>, Refused> {
    list_family(socket, AddressFamily::Inet)
}

fn list_family(socket: &Socket, family: AddressFamily) -> Result<Vec<RouteMessage>, Refused> {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    let answers = socket.list(RTM_GETROUTE, &message)?;
    RawMessage::read_all(&answers, RTM_NEWROUTE)
}

/// All routes of both families that lead somewhere else (`RTN_UNICAST`).
///
/// # Errors
/// The kernel's error.
pub fn list_unicast(socket: &Socket) -> Result<Vec<FoundRoute>, Refused> {
    let mut routes = list(socket)?;
    routes.extend(list_family(socket, AddressFamily::Inet6)?);
    let unicast = routes.iter().filter(|route| route.header.kind == RouteType::Unicast);
    Ok(unicast.filter_map(FoundRoute::read).collect())
}

/// A route that is to be added or deleted.
#[derive(Clone, Debug)]
pub struct RouteRequest<'a> {
    /// The route. Without a scope, its next hop decides: a gateway is elsewhere, and the destination of a unicast route
    /// without a gateway is on the link.
    pub route: &'a PodRoute,
    /// Unicast, or what happens to packets instead.
    pub kind: RouteType,
    /// The index of its interface.
    pub interface: Option<u32>,
    /// Whose route it is (`rtm_protocol`).
    pub protocol: RouteProtocol,
    /// The gateway is reached through the interface whatever addresses the interface has.
    pub on_link: bool,
    /// The source address that the kernel prefers for packets of this route.
    pub source: Option<IpAddr>,
}

impl<'a> RouteRequest<'a> {
    /// A unicast route as an administrator would add it (`RTPROT_STATIC`).
    pub fn unicast(route: &'a PodRoute, interface: u32) -> Self {
        let (kind, protocol) = (RouteType::Unicast, RouteProtocol::Static);
        Self { route, kind, interface: Some(interface), protocol, on_link: false, source: None }
    }

    /// A route that leads nowhere: [`RouteType::BlackHole`] or [`RouteType::Prohibit`].
    pub fn dead_end(route: &'a PodRoute, kind: RouteType) -> Self {
        Self { route, kind, interface: None, protocol: RouteProtocol::Static, on_link: false, source: None }
    }

    /// The message of this route.
    pub fn message(&self) -> RouteMessage {
        let Self { route, kind, .. } = *self;
        let is_on_link = kind == RouteType::Unicast && route.gateway.is_none();
        let scope = route.scope.unwrap_or(if is_on_link { SCOPE_LINK } else { 0 });
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(route.destination.is_ipv4()),
            destination_prefix_length: route.destination.prefix(),
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: self.protocol,
            scope: RouteScope::from(scope),
            kind,
            flags: if self.on_link { RouteFlags::Onlink } else { RouteFlags::empty() },
            ..RouteHeader::default()
        };
        let attributes = &mut message.attributes;
        attributes.push(RouteAttribute::Destination(route.destination.network().into()));
        attributes.extend(self.interface.map(RouteAttribute::Oif));
        attributes.extend(route.gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
        // The kernel uses it instead of the table of the header, which has eight bits.
        attributes.extend(route.table.map(RouteAttribute::Table));
        attributes.extend(route.priority.map(RouteAttribute::Priority));
        attributes.extend(self.source.map(|source| RouteAttribute::PrefSource(source.into())));
        let metrics: Vec<_> =
            route.mtu.map(RouteMetric::Mtu).into_iter().chain(route.advmss.map(RouteMetric::Advmss)).collect();
        if !metrics.is_empty() {
            attributes.push(RouteAttribute::Metrics(metrics));
        }
        message
    }
}

/// The route that packets of this machine itself take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsedRoute {
    /// Where it leads, as its table has it.
    pub destination: IpNetwork,
    /// Its table.
    pub table: u32,
    /// The index of its interface.
    pub interface: Option<u32>,
}

/// The route that packets of this machine itself to an address take; none: nothing leads there, or a dead end.
///
/// # Errors
/// The kernel's error.
pub fn used(socket: &Socket, to: IpAddr) -> Result<Option<UsedRoute>, Refused> {
    let mut message = RouteMessage::default();
    message.header.address_family = family(to.is_ipv4());
    message.header.destination_prefix_length = IpNetwork::from(to).prefix();
    // The route, and not what is made of it for this address. Of IPv4 with its table; of IPv6 the kernel shows that anyway.
    let with_table = if to.is_ipv4() { RouteFlags::LookupTable } else { RouteFlags::empty() };
    message.header.flags = RouteFlags::FibMatch | with_table;
    message.attributes.push(RouteAttribute::Destination(to.into()));
    let answers = match socket.get(RTM_GETROUTE, &message) {
        Err(Refused { errno: Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL, .. }) => {
            return Ok(None);
        }
        other => other?,
    };
    let routes: Vec<RouteMessage> = RawMessage::read_all(&answers, RTM_NEWROUTE)?;
    Ok(routes.first().and_then(|route| UsedRoute::read(to, route)))
}

impl UsedRoute {
    fn read(to: IpAddr, message: &RouteMessage) -> Option<Self> {
        let (mut table, mut interface) = (u32::from(message.header.table), None);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Oif(index) => interface = Some(*index),
                RouteAttribute::Table(number) => table = *number,
                _ => {}
            }
        }
        let destination = IpNetwork::new(to, message.header.destination_prefix_length).ok()?;
        let destination = IpNetwork::new(destination.network(), destination.prefix()).ok()?;
        Some(Self { destination, table, interface })
    }
}

/// The position of a new route among routes with the same table, destination and metric. The first one is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutePosition {
    /// Before the others.
    First,
    /// Behind the others.
    Last,
    /// There must be no other.
    Only,
}

/// Adds a route.
///
/// # Errors
/// `EEXIST`: there is such a route. Otherwise the kernel's error.
pub fn add(socket: &Socket, message: &RouteMessage, position: RoutePosition) -> Result<(), Refused> {
    let flags = match position {
        RoutePosition::First => NLM_F_CREATE,
        RoutePosition::Last => NLM_F_CREATE | NLM_F_APPEND,
        RoutePosition::Only => NLM_F_CREATE | NLM_F_EXCL,
    };
    socket.change(RTM_NEWROUTE, message, flags)
}

/// Deletes a route.
///
/// # Errors
/// `ESRCH`: there is no such route. Otherwise the kernel's error.
pub fn delete(socket: &Socket, message: &RouteMessage) -> Result<(), Refused> {
    socket.change(RTM_DELROUTE, message, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(gateway: Option<[u8; 4]>) -> PodRoute {
        PodRoute::plain("10.8.0.0/13".parse().expect("a network"), gateway.map(IpAddr::from))
    }

    #[test]
    fn a_route_is_read_as_it_was_built() {
        let route = PodRoute {
            mtu: Some(1400),
            advmss: Some(1360),
            priority: Some(7),
            table: Some(1000),
            scope: Some(0),
            ..plain(Some([10, 8, 0, 1]))
        };
        let source = Some([10, 8, 0, 2].into());
        let request = RouteRequest { source, on_link: true, ..RouteRequest::unicast(&route, 5) };
        let message = request.message();
        assert_eq!(preferred_source(&message), source);
        let found = FoundRoute::read(&message).expect("a route");
        assert_eq!((found.interface(), &found.route), (Some(5), &route));

        let gateway = "fd00::1".parse().ok();
        let route = PodRoute {
            table: Some(1000),
            scope: Some(0),
            ..PodRoute::plain("::/0".parse().expect("a network"), gateway)
        };
        let found = FoundRoute::read(&RouteRequest::unicast(&route, 5).message()).expect("a route");
        assert_eq!((found.interface(), &found.route), (Some(5), &route));
    }

    #[test]
    fn the_next_hop_decides_the_scope_of_a_route_without_one() {
        let scope = |message: RouteMessage| u8::from(message.header.scope);
        let (on_link, by_gateway) = (plain(None), plain(Some([10, 8, 0, 1])));
        assert_eq!(scope(RouteRequest::unicast(&on_link, 5).message()), SCOPE_LINK);
        assert_eq!(scope(RouteRequest::unicast(&by_gateway, 5).message()), 0);
        assert_eq!(scope(RouteRequest::dead_end(&on_link, RouteType::BlackHole).message()), 0);
        let given = PodRoute { scope: Some(200), ..on_link };
        assert_eq!(scope(RouteRequest::unicast(&given, 5).message()), 200);
    }

    #[test]
    fn a_dead_end_has_no_interface() {
        let route = plain(None);
        let message = RouteRequest::dead_end(&route, RouteType::Prohibit).message();
        assert_eq!(message.header.kind, RouteType::Prohibit);
        assert_eq!(FoundRoute::read(&message).map(|found| found.interfaces), Some(vec![]));
    }
}
