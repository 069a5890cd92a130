//! Routes.

use std::net::Ipv4Addr;

use atoll_model::topology::{self, RouteAction};
use uuid::Uuid;

use crate::api::Route;
use crate::dialect::Dialect;

impl Route {
    /// As a request, and as an answer of a server of this dialect (which is where LOCAL routes occur).
    pub fn from_topology(id: Uuid, route: &topology::Route, dialect: Dialect) -> Self {
        let (kind, port, gateway) = match &route.action {
            RouteAction::Forward { port, gateway } => ("Normal", Some(*port), *gateway),
            RouteAction::Local { port } if dialect.shows_local_routes() => {
                ("Local", Some(*port), Some(Ipv4Addr::BROADCAST))
            }
            RouteAction::Local { port } => ("Normal", Some(*port), None),
            RouteAction::BlackHole => ("BlackHole", None, None),
            RouteAction::Reject => ("Reject", None, None),
        };
        Self {
            id: Some(id),
            router_id: Some(route.router),
            kind: Some(kind.to_owned()),
            dst_network_addr: Some(route.destination.network().to_string()),
            dst_network_length: Some(route.destination.prefix().into()),
            src_network_addr: Some(route.source.network().to_string()),
            src_network_length: Some(route.source.prefix().into()),
            next_hop_port: port,
            next_hop_gateway: gateway.map(|g| g.to_string()),
            weight: i32::try_from(route.weight).unwrap_or(i32::MAX),
            ..Self::default()
        }
    }
}
