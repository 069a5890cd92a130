//! Where a bridge or a router port is: which namespace, which interface.

use atoll_model::topology::{Device as Owner, Port};
use uuid::Uuid;

use super::view::View;
use super::{audit, names};

/// The namespace of a bridge: the router of its lowest router link, or itself where it has ports of this host only.
pub(super) fn of_bridge(view: &View<'_>, bridge: Uuid) -> Option<Uuid> {
    let router = view.ports_of(bridge).find_map(|(_, port)| match view.peer(port)?.1.device {
        Owner::Router { id, .. } => view.router(id).is_some().then_some(id),
        Owner::Bridge { .. } => None,
    });
    let bound =
        || view.ports_of(bridge).any(|(_, port)| port.binding.as_ref().is_some_and(|b| b.host == view.site.host));
    // A bridge that is just being built gets no namespace: its router link is about to come.
    router.or_else(|| bound().then_some(bridge))
}

/// How a router port appears in its router's namespace.
pub(super) enum Location {
    /// The bridge's own interface.
    Bridge(Uuid),
    /// A veth to this port at the other end of the link.
    Link(Uuid),
    /// An interface of the machine.
    Uplink(String),
    /// Not at all: not linked, not bound here, or down.
    Nowhere,
}

/// Where a router port's packets go.
pub(super) fn locate(view: &View<'_>, router: Uuid, id: Uuid, port: &Port) -> Location {
    let closed = |id, port| audit::port(id, port).closed.is_some();
    if !port.up || closed(id, port) {
        return Location::Nowhere;
    }
    if let Some((peer_id, peer)) = view.peer(port) {
        if !peer.up || closed(peer_id, peer) {
            return Location::Nowhere;
        }
        return match peer.device {
            Owner::Bridge { id: bridge, .. } if view.bridge(bridge).is_none() => Location::Nowhere,
            Owner::Bridge { id: bridge, .. } if first_link(view, bridge, router) == Some(id) => {
                Location::Bridge(bridge)
            }
            Owner::Router { id: other, .. } if view.router(other).is_none() => Location::Nowhere,
            _ => Location::Link(peer_id),
        };
    }
    match &port.binding {
        Some(binding) if binding.host == view.site.host && names::unusable(&binding.interface).is_none() => {
            Location::Uplink(binding.interface.clone())
        }
        _ => Location::Nowhere,
    }
}

/// The router port that the bridge's own interface stands for: the first link, if it is to `router`.
fn first_link(view: &View<'_>, bridge: Uuid, router: Uuid) -> Option<Uuid> {
    view.ports_of(bridge)
        .find_map(|(_, port)| match view.peer(port)? {
            (id, Port { device: Owner::Router { id: owner, .. }, .. }) => Some((id, *owner)),
            _ => None,
        })
        .filter(|(_, owner)| *owner == router)
        .map(|(id, _)| id)
}

/// The interface of a router port in its router's namespace.
pub(super) fn interface(view: &View<'_>, router: Uuid, id: Uuid) -> Option<String> {
    let port = view.port(id).filter(|port| port.device.id() == router)?;
    match locate(view, router, id, port) {
        Location::Bridge(bridge) => Some(names::bridge(bridge)),
        Location::Link(peer) => Some(names::link(id, peer)),
        Location::Uplink(name) => Some(name),
        Location::Nowhere => None,
    }
}
