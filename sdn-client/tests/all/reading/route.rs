//! Routes.

use std::net::Ipv4Addr;

use atoll_model::topology::{self, RouteAction};
use atoll_sdn_client::Resource;
use atoll_sdn_client::api::Route;
use uuid::Uuid;

use super::{ConvertError, Reader, ToTopology};

impl ToTopology for Route {
    type Object = topology::Route;

    /// As an object of the topology model. On 1.9 a LOCAL route cannot be distinguished from one to a connected destination, see
    /// [`atoll_sdn_client::Dialect::shows_local_routes`].
    fn to_topology(&self) -> Result<(Uuid, Self::Object), ConvertError> {
        let reader = Reader(Resource::Route);
        let port = || reader.id("nextHopPort", self.next_hop_port);
        let action = match self.kind.as_deref() {
            Some("Normal") => RouteAction::Forward { port: port()?, gateway: gateway(self)? },
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
}

/// The next hop; none when the destination is directly connected.
fn gateway(route: &Route) -> Result<Option<Ipv4Addr>, ConvertError> {
    let text = route.next_hop_gateway.as_deref().filter(|text| !text.is_empty());
    text.map(|t| Reader(Resource::Route).address("nextHopGateway", Some(t))).transpose()
}
