//! Routes.

use std::net::Ipv4Addr;

use atoll_model::topology::{self, RouteAction};
use uuid::Uuid;

use super::{ConvertError, Reader};
use crate::api::Route;
use crate::dialect::Dialect;
use crate::resource::Resource;

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

    /// As an object of the topology model. On 1.9 a LOCAL route cannot be told from one to a connected destination, see
    /// [`Dialect::shows_local_routes`].
    pub fn to_topology(&self) -> Result<(Uuid, topology::Route), ConvertError> {
        let reader = Reader(Resource::Route);
        let port = || reader.id("nextHopPort", self.next_hop_port);
        let action = match self.kind.as_deref() {
            Some("Normal") => RouteAction::Forward { port: port()?, gateway: self.gateway()? },
            Some("Local") => RouteAction::Local { port: port()? },
            Some("BlackHole") => RouteAction::BlackHole,
            Some("Reject") => RouteAction::Reject,
            other => return Err(reader.wrong("type", other, "Normal, Local, BlackHole or Reject")),
        };
        let weight = u32::try_from(self.weight)
            .map_err(|_| reader.wrong("weight", Some(&self.weight.to_string()), "zero or more"))?;
        let route = topology::Route {
            router: reader.id("routerId", self.router_id)?,
            source: reader.network(
                ("srcNetworkAddr", "srcNetworkLength"),
                self.src_network_addr.as_deref(),
                self.src_network_length,
            )?,
            destination: reader.network(
                ("dstNetworkAddr", "dstNetworkLength"),
                self.dst_network_addr.as_deref(),
                self.dst_network_length,
            )?,
            action,
            weight,
        };
        Ok((reader.id("id", self.id)?, route))
    }

    /// The next hop; none when the destination is directly connected.
    fn gateway(&self) -> Result<Option<Ipv4Addr>, ConvertError> {
        let text = self.next_hop_gateway.as_deref().filter(|text| !text.is_empty());
        text.map(|t| Reader(Resource::Route).address("nextHopGateway", Some(t))).transpose()
    }
}
