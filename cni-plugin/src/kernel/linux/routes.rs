//! Routes as netlink has them: rtnetlink(7).

use std::net::Ipv4Addr;

use atoll_model::route::PodRoute;
use atoll_node::netlink::{Refused, Socket};
use ipnetwork::Ipv4Network;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::kernel::FoundRoute;

/// The request that adds a route through the interface `index`.
pub(super) fn message(route: &PodRoute, index: u32) -> RouteMessage {
    let mut builder = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(route.destination.network(), route.destination.prefix())
        .output_interface(index);
    match route.gateway {
        Some(gateway) => builder = builder.gateway(gateway),
        None => builder = builder.scope(RouteScope::Link),
    }
    if let Some(scope) = route.scope {
        builder = builder.scope(scope.into());
    }
    if let Some(table) = route.table {
        builder = builder.table_id(table);
    }
    if let Some(priority) = route.priority {
        builder = builder.priority(priority);
    }
    let metrics: Vec<_> =
        route.mtu.map(RouteMetric::Mtu).into_iter().chain(route.advmss.map(RouteMetric::Advmss)).collect();
    let mut message = builder.build();
    if !metrics.is_empty() {
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    message
}

/// All routes to somewhere else.
pub(super) fn all(socket: &Socket) -> Result<Vec<FoundRoute>, Refused> {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    let answers = socket.list(RouteNetlinkMessage::GetRoute(message))?;
    Ok(answers
        .iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(message) if message.header.kind == RouteType::Unicast => read(message),
            _ => None,
        })
        .collect())
}

fn read(message: &RouteMessage) -> Option<FoundRoute> {
    let RouteHeader { destination_prefix_length: prefix, table, scope, .. } = message.header;
    let mut network = Ipv4Addr::UNSPECIFIED;
    let mut interfaces = Vec::new();
    let mut route = PodRoute {
        table: Some(table.into()),
        scope: Some(scope.into()),
        ..PodRoute::plain(Ipv4Network::new(network, prefix).ok()?, None)
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => network = *address,
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => route.gateway = Some(*address),
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
    route.destination = Ipv4Network::new(network, prefix).ok()?;
    Some(FoundRoute { route, interfaces })
}
