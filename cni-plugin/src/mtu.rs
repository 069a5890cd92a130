//! The MTU of a pod's interface: as configured, or what the node's own interface leaves inside the tunnel.
//!
//! # Guarantees
//! The MTU is never guessed. A pod with an MTU that is too large works until its first large packet.

use std::collections::BTreeSet;

use atoll_model::config::{Mtu, Tunnel, VXLAN_OVERHEAD};
use atoll_model::route::MAIN_TABLE;
use atoll_network::{Engine, TunnelEnd};

use crate::error::CallError;
use crate::kernel::{FoundRoute, Kernel, Netns};
use crate::plugin::Plugin;

/// The table `default`, which is asked after `main`: rtnetlink(7), `RT_TABLE_DEFAULT`.
const DEFAULT_TABLE: u32 = 253;
/// The least that carries IPv4: RFC 791, page 13.
const LEAST: u32 = 68;

/// The interface that tunnels use.
struct Underlay {
    name: String,
    mtu: u32,
}

impl<S, E: Engine, K: Kernel> Plugin<S, E, K> {
    /// Bytes.
    pub(crate) async fn mtu(&self) -> Result<u32, CallError> {
        let tunnel = match &self.config.mtu {
            Mtu::Fixed(mtu) => return Ok(*mtu),
            Mtu::Auto(tunnel) => tunnel,
        };
        let recorded = match tunnel {
            Tunnel { interface: Some(_), overhead: Some(_) } => None,
            _ => self.engine.tunnel().await?,
        };
        let overhead = tunnel.overhead.or(recorded.map(|end| end.overhead)).unwrap_or(VXLAN_OVERHEAD);
        let Underlay { name, mtu } = self.underlay(tunnel, recorded).await?;
        match mtu.checked_sub(overhead).filter(|mtu| *mtu >= LEAST) {
            Some(mtu) => Ok(mtu),
            None => Err(CallError::Mtu(format!("interface {name} has {mtu} bytes, and the tunnel takes {overhead}"))),
        }
    }

    /// The interface that tunnels go through. By the default route: of several next hops, or several routes of one priority,
    /// the one that carries least, because a packet may take any of them.
    async fn underlay(&self, tunnel: &Tunnel, recorded: Option<TunnelEnd>) -> Result<Underlay, CallError> {
        if let Some(name) = &tunnel.interface {
            let link = self.kernel.inspect(&Netns::Own, name).await?;
            let link = link.ok_or_else(|| CallError::Mtu(format!("this node has no interface {name}")))?;
            return Ok(Underlay { name: link.name, mtu: link.mtu });
        }
        if let Some(TunnelEnd { address, .. }) = recorded {
            let link = self.kernel.inspect_address(&Netns::Own, address).await?;
            let no_link = || format!("tunnels end at {address}, and no interface of this node has that address");
            let link = link.ok_or_else(|| CallError::Mtu(no_link()))?;
            return Ok(Underlay { name: link.name, mtu: link.mtu });
        }
        let routes = self.kernel.routes(&Netns::Own).await?;
        let mut least: Option<Underlay> = None;
        for FoundRoute { route, interfaces } in best(&routes)? {
            if interfaces.is_empty() {
                let why = "a default route uses a next hop object, whose interface the kernel does not report";
                return Err(CallError::Mtu(why.to_owned()));
            }
            for index in interfaces {
                let link = self.kernel.inspect_index(&Netns::Own, *index).await?;
                let gone = || CallError::Mtu("the interface of the default route is gone".to_owned());
                let link = link.ok_or_else(gone)?;
                let mtu = route.mtu.map_or(link.mtu, |mtu| mtu.min(link.mtu));
                if least.as_ref().is_none_or(|least| mtu < least.mtu) {
                    least = Some(Underlay { name: link.name, mtu });
                }
            }
        }
        least.ok_or_else(|| CallError::Mtu("this node has no default route".to_owned()))
    }
}

/// The default routes that count: those of the smallest priority in `main`, else in `default`. Never empty.
fn best(routes: &[FoundRoute]) -> Result<Vec<&FoundRoute>, CallError> {
    let table = |found: &FoundRoute| found.route.table.unwrap_or(MAIN_TABLE);
    let defaults: Vec<_> = routes.iter().filter(|found| found.route.destination.prefix() == 0).collect();
    for asked in [MAIN_TABLE, DEFAULT_TABLE] {
        let of_table = || defaults.iter().copied().filter(|found| table(found) == asked);
        let priority = |found: &FoundRoute| found.route.priority.unwrap_or(0);
        if let Some(smallest) = of_table().map(priority).min() {
            return Ok(of_table().filter(|found| priority(found) == smallest).collect());
        }
    }
    let elsewhere: BTreeSet<_> = defaults.iter().map(|found| table(found).to_string()).collect();
    let elsewhere: Vec<_> = elsewhere.into_iter().collect();
    Err(CallError::Mtu(if elsewhere.is_empty() {
        "this node has no default route for IPv4".to_owned()
    } else {
        format!("this node has no default route in the table main, only in {}", elsewhere.join(", "))
    }))
}
