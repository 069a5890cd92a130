//! IPv4 routes: ours, those of others, and the kernel's own for local addresses.

use std::net::{IpAddr, Ipv4Addr};

use atoll_model::route::{LOCAL_TABLE, PodRoute};
use atoll_node::netlink::route::{self, FoundRoute, RoutePosition, RouteRequest};
use ipnetwork::{IpNetwork, Ipv4Network};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType};

use super::netlink::{Netlink, PROTOCOL};
use crate::compile::{KernelRoute, MAIN, NextHop};
use crate::error::PlaneError;

type Result<T> = std::result::Result<T, PlaneError>;

impl Netlink {
    /// Our routes, links by index.
    pub(crate) fn routes(&mut self) -> Result<Vec<KernelRoute<u32>>> {
        Ok(self.all_routes()?.iter().filter_map(our_route).collect())
    }

    /// Adds a route, before others with the same destination and metric: in a namespace of ours, ours count.
    pub(crate) fn add_route(&mut self, route: &KernelRoute<u32>) -> Result<()> {
        self.insert_route(route, None, RoutePosition::First)
    }

    fn insert_route(
        &mut self,
        route: &KernelRoute<u32>,
        source: Option<Ipv4Addr>,
        position: RoutePosition,
    ) -> Result<()> {
        let message = message(route, source);
        self.add(format!("add route to {}", route.destination), |socket| route::add(socket, &message, position))
    }

    /// Deletes a route.
    pub(crate) fn delete_route(&mut self, route: &KernelRoute<u32>) -> Result<()> {
        let message = message(route, None);
        self.remove(format!("delete route to {}", route.destination), |socket| route::delete(socket, &message))
    }

    /// Our routes with the source that packets are sent from, links by index.
    pub(crate) fn sourced_routes(&mut self) -> Result<Vec<(KernelRoute<u32>, Option<Ipv4Addr>)>> {
        let all = self.all_routes()?;
        let source = |message| route::preferred_source(message).and_then(v4);
        Ok(all.iter().filter_map(|message| Some((our_route(message)?, source(message)))).collect())
    }

    /// Networks that this namespace reaches by other routes than ours, with the index of the link.
    pub(crate) fn foreign_routes(&mut self) -> Result<Vec<(Ipv4Network, Option<u32>)>> {
        Ok(self.all_routes()?.iter().filter_map(foreign_route).collect())
    }

    /// Adds a route by which packets are sent from `source`, behind others with the same destination and metric: in a
    /// namespace that is not ours, those of others count.
    pub(crate) fn add_sourced_route(&mut self, route: &KernelRoute<u32>, source: Option<Ipv4Addr>) -> Result<()> {
        self.insert_route(route, source, RoutePosition::Last)
    }

    /// Deletes routes of ours of a shape that we never add; returns their number.
    pub(crate) fn remove_odd_routes(&mut self) -> Result<usize> {
        let mut routes = self.all_routes()?;
        routes.retain(|route| route.header.protocol == PROTOCOL && is_odd(route));
        let count = routes.len();
        for route in routes {
            let what = "delete a route of a foreign shape".to_owned();
            self.remove(what, |socket| route::delete(socket, &route))?;
        }
        Ok(count)
    }

    /// Addresses for which packets are accepted, with the index of their link.
    pub(crate) fn local_addresses(&mut self) -> Result<Vec<(u32, Ipv4Addr)>> {
        let local = |message: &RouteMessage| {
            let of_kernel = message.header.protocol == RouteProtocol::Kernel && message.header.kind == RouteType::Local;
            let found = FoundRoute::read(message).filter(|it| of_kernel && it.route.table == Some(LOCAL_TABLE))?;
            Some((found.interface()?, v4(found.route.destination.ip())?))
        };
        Ok(self.all_routes()?.iter().filter_map(local).collect())
    }

    fn all_routes(&mut self) -> Result<Vec<RouteMessage>> {
        self.read("list routes", route::list)
    }
}

fn message(route: &KernelRoute<u32>, source: Option<Ipv4Addr>) -> RouteMessage {
    let gateway = if let NextHop::Via { gateway, .. } = route.next { Some(gateway) } else { None };
    let all = PodRoute {
        priority: Some(route.metric),
        table: Some(route.table),
        ..PodRoute::plain(route.destination.into(), gateway.map(IpAddr::V4))
    };
    let request = match route.next {
        NextHop::Via { device, .. } | NextHop::Direct { device } => RouteRequest::unicast(&all, device),
        NextHop::BlackHole => RouteRequest::dead_end(&all, RouteType::BlackHole),
        NextHop::Prohibit => RouteRequest::dead_end(&all, RouteType::Prohibit),
    };
    // The topology decides what is reachable through a port, not the port's own address.
    RouteRequest { protocol: PROTOCOL, on_link: gateway.is_some(), source: source.map(IpAddr::V4), ..request }.message()
}

fn our_route(message: &RouteMessage) -> Option<KernelRoute<u32>> {
    if message.header.protocol != PROTOCOL {
        return None;
    }
    let found = FoundRoute::read(message)?;
    let next = match (message.header.kind, found.interface(), found.route.gateway) {
        (RouteType::BlackHole, ..) => NextHop::BlackHole,
        (RouteType::Prohibit, ..) => NextHop::Prohibit,
        (_, Some(device), Some(gateway)) => NextHop::Via { device, gateway: v4(gateway)? },
        (_, Some(device), None) => NextHop::Direct { device },
        _ => return None,
    };
    let PodRoute { destination, priority, table, .. } = found.route;
    Some(KernelRoute { table: table?, destination: v4_network(destination)?, metric: priority.unwrap_or(0), next })
}

/// A route of the main table that is not ours, default routes aside.
fn foreign_route(message: &RouteMessage) -> Option<(Ipv4Network, Option<u32>)> {
    let found = FoundRoute::read(message)?;
    let is_foreign = found.route.table == Some(MAIN) && message.header.protocol != PROTOCOL;
    let destination = v4_network(found.route.destination)?;
    (is_foreign && destination.prefix() != 0).then_some((destination, found.interface()))
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    if let IpAddr::V4(address) = address { Some(address) } else { None }
}

fn v4_network(network: IpNetwork) -> Option<Ipv4Network> {
    if let IpNetwork::V4(network) = network { Some(network) } else { None }
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
        || our_route(route).is_none()
}
