//! The MTU of a pod's interface: as configured, or what the node's own interface leaves inside the tunnel.
//!
//! Promise: it is never guessed. A pod with an MTU that is too large works until its first large packet.

use atoll_model::config::{Mtu, Tunnel};
use atoll_model::route::Route;

use crate::error::Error;
use crate::wire::{FoundRoute, Link, Netns, Wire};
use crate::world::World;

/// The table `main`: rtnetlink(7), `RT_TABLE_MAIN`.
const MAIN: u32 = 254;
/// The least that carries IPv4: RFC 791, page 13.
const LEAST: u32 = 68;

impl<S, C, W: Wire> World<S, C, W> {
    /// Bytes.
    pub(crate) async fn mtu(&self) -> Result<u32, Error> {
        let tunnel = match &self.config.mtu {
            Mtu::Fixed(mtu) => return Ok(*mtu),
            Mtu::Auto(tunnel) => tunnel,
        };
        let link = self.underlay(tunnel).await?;
        match link.mtu.checked_sub(tunnel.overhead).filter(|mtu| *mtu >= LEAST) {
            Some(mtu) => Ok(mtu),
            None => Err(Error::Mtu(format!(
                "interface {} has {} bytes, and the tunnel takes {}",
                link.name, link.mtu, tunnel.overhead
            ))),
        }
    }

    /// The interface that tunnels go through.
    async fn underlay(&self, tunnel: &Tunnel) -> Result<Link, Error> {
        if let Some(name) = &tunnel.interface {
            let link = self.wire.inspect(&Netns::Own, name).await?;
            return link.ok_or_else(|| Error::Mtu(format!("this node has no interface {name}")));
        }
        let routes = self.wire.routes(&Netns::Own).await?;
        let is_default = |Route { destination, table, .. }: &Route| {
            destination.prefix() == 0 && table.is_none_or(|table| table == MAIN)
        };
        let best = routes.iter().filter(|found| is_default(&found.route));
        let best = best.min_by_key(|found| found.route.priority.unwrap_or(0));
        let Some(FoundRoute { interface, .. }) = best else {
            return Err(Error::Mtu("this node has no default route".to_owned()));
        };
        let link = self.wire.inspect_index(&Netns::Own, *interface).await?;
        link.ok_or_else(|| Error::Mtu("the interface of the default route is gone".to_owned()))
    }
}
