//! Port security: from which addresses a bridge port may send that an interface of this machine is bound to.
//!
//! The `vif` of a port and static entries of the bridge's MAC and ARP tables name the only MACs and addresses: a `vif` has room for
//! one address, static entries are for the others. A port that has neither may send from any address except that of a router
//! port of its bridge.

use std::collections::{BTreeMap, BTreeSet};

use atoll_model::attachment::Mac;
use atoll_model::port_security::PortSecurity;
use atoll_model::topology::{Bridge, Device, Port};
use uuid::Uuid;

use super::element::AllowedSource;
use super::location::{self, Location};
use super::pod::{BridgePort, PodBridge};
use super::unsupported::Unsupported;
use super::view::View;
use super::{audit, filters, names};

/// What a pod's port needs to know about its bridge.
pub(super) fn attached(view: &View<'_>, namespace: Uuid, id: Uuid, closed_chains: &BTreeSet<String>) -> PodBridge {
    let mut gateways = BTreeSet::new();
    let mut routed = false;
    for (_, port) in view.ports_of(id) {
        let Some((peer_id, peer)) = view.peer(port) else { continue };
        if let Device::Router { id: router, address, .. } = peer.device {
            gateways.insert((names::router_mac(peer_id, &peer.device), address.ip()));
            routed |= matches!(location::locate(view, router, peer_id, peer), Location::Bridge(_));
        }
    }
    let bridge = view.bridge(id);
    let closed = match bridge {
        Some(bridge) if !bridge.up => Some(("its bridge is administratively down".to_owned(), false)),
        Some(bridge) => audit::bridge(id, bridge).closed.map(|left| (format!("its bridge: {}", left.why), true)),
        None => Some(("its bridge does not exist".to_owned(), true)),
    };
    let router = filters::router_end(view, id);
    let closed_chains = closed_chains.clone();
    PodBridge { namespace, device: names::bridge(id), gateways, routed, router, closed_chains, closed }
}

/// What `port` becomes: `Ok(None)` when it is not on this host.
pub(super) fn pod(
    view: &View<'_>,
    bridges: &BTreeMap<Uuid, PodBridge>,
    id: Uuid,
) -> Result<Option<BridgePort>, Unsupported> {
    let site = view.site;
    let Some(port) = view.port(id) else { return Ok(None) };
    let (Some(binding), None, Device::Bridge { id: bridge_id, vlan }) = (&port.binding, port.peer, &port.device) else {
        return Ok(None);
    };
    if binding.host != site.host || !port.up {
        return Ok(None);
    }
    let refuse = |field: &str, why: String| Err(inactive(id, field, why));
    if let Some(why) = names::unusable(&binding.interface) {
        return refuse("interfaceName", why.to_owned());
    }
    let Some(bridge) = bridges.get(bridge_id) else {
        return refuse("deviceId", "its bridge does not exist".to_owned());
    };
    if let Some((why, closes)) = &bridge.closed {
        return Err(Unsupported { closes: *closes, ..inactive(id, "deviceId", why.clone()) });
    }
    if vlan.is_some_and(|vlan| vlan != 0) {
        return refuse("vlanId", "VLAN ports are not supported".to_owned());
    }
    let left = audit::port(id, port);
    if let Some(closed) = left.closed {
        return Err(closed);
    }
    let stages = filters::stages(view, *bridge_id, bridge.router.as_ref(), port.inbound, port.outbound);
    if let Some((chain, _)) = stages.values().find(|(_, name)| bridge.closed_chains.contains(name)) {
        return refuse(
            "inboundFilterId/outboundFilterId",
            format!("chain {chain} restricts more than can be expressed"),
        );
    }
    let bridge_object = view.bridge(*bridge_id);
    let allowed_sources = allowed_sources(id, port, bridge_object);
    for source in &allowed_sources {
        if bridge.gateways.iter().any(|(mac, address)| *mac == source.mac || *address == source.address) {
            return refuse("vifId", format!("{} or {} belongs to a router port", source.mac, source.address));
        }
        if site.host_to_pod.is_some_and(|pool| pool.network().contains(source.address)) {
            return refuse("vifId", format!("{} belongs to host-to-pod addressing", source.address));
        }
        if source.mac.0[0] & 1 == 1 || source.address.is_unspecified() || source.address.is_multicast() {
            return refuse("vifId", format!("{} with {} is no address of a host", source.mac, source.address));
        }
    }
    let entries = bridge_object.into_iter().flat_map(|bridge| &bridge.macs);
    let entries = entries.filter(|(mac, behind)| **behind == id && mac.0[0] & 1 == 0).map(|(mac, _)| *mac);
    let not_a_gateway = |mac: &Mac| !bridge.gateways.iter().any(|(gateway, _)| gateway == mac);
    let fdb = allowed_sources.iter().map(|source| source.mac).chain(entries.filter(not_a_gateway)).collect();
    Ok(Some(BridgePort {
        namespace: bridge.namespace,
        bridge: bridge.device.clone(),
        interface: binding.interface.clone(),
        allowed_sources,
        fdb,
        stages: stages.into_iter().map(|(stage, (_, name))| (stage, name)).collect(),
        routed: bridge.routed,
        left: left.unsupported,
        node: None,
    }))
}

/// Some port of the bridge that an interface of this machine is bound to may send from any address.
pub(super) fn has_open_ports(view: &View<'_>, id: Uuid) -> bool {
    let bridge = view.bridge(id);
    view.ports_of(id).any(|(port_id, port)| {
        port.peer.is_none()
            && port.binding.as_ref().is_some_and(|binding| binding.host == view.site.host)
            && allowed_sources(port_id, port, bridge).is_empty()
    })
}

fn inactive(port: Uuid, field: &str, why: String) -> Unsupported {
    let effect = "the port stays inactive".to_owned();
    Unsupported { object: port, field: field.to_owned(), why, effect, closes: true }
}

/// Another port has the interface that this one is bound to.
pub fn taken(port: Uuid, holder: Uuid, interface: &str) -> Unsupported {
    inactive(port, "interfaceName", format!("interface {interface} is bound to port {holder} already"))
}

fn allowed_sources(id: Uuid, port: &Port, bridge: Option<&Bridge>) -> BTreeSet<AllowedSource> {
    let vif =
        port.vif_id.and_then(PortSecurity::from_vif_id).map(|vif| AllowedSource { mac: vif.mac, address: vif.address });
    let Some(bridge) = bridge else { return vif.into_iter().collect() };
    let behind = |mac: &Mac| bridge.macs.get(mac) == Some(&id);
    let entries = bridge.arp.iter().filter(|(_, mac)| behind(mac));
    vif.into_iter().chain(entries.map(|(address, mac)| AllowedSource { mac: *mac, address: *address })).collect()
}
