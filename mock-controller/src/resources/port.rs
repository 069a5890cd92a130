//! Ports of routers and bridges.
//!
//! Creating a router port also makes the LOCAL route to its address; deleting a port deletes its link, its binding and
//! the routes through it. 5.x may bind or link a port in the request that creates it.

use crate::wording::Wording as _;
use std::net::Ipv4Addr;

use uuid::Uuid;

use super::port_view::view;
use crate::call::{BAD_ADDRESS, Call, Reply, ReplyResult, prefix_length};
use crate::refusal::{Checks, Refusal};
use crate::state::objects::{Binding, Port, PortKind, Route, RouteKind};
use crate::wording::ObjectClass;
use atoll_sdn_client::Dialect;

pub(crate) fn list(call: &mut Call<'_>) -> ReplyResult {
    let ids: Vec<Uuid> = call.state.tables().ports.keys().copied().collect();
    Ok(call.list(ids, view))
}

pub(crate) fn list_of_router(call: &mut Call<'_>) -> ReplyResult {
    list_of(call, ObjectClass::Router)
}

pub(crate) fn list_of_bridge(call: &mut Call<'_>) -> ReplyResult {
    list_of(call, ObjectClass::Bridge)
}

fn list_of(call: &mut Call<'_>, class: ObjectClass) -> ReplyResult {
    let ids = call.state.ports_of(call.existing(class, 0)?);
    Ok(call.list(ids, view))
}

pub(crate) fn peers_of_router(call: &mut Call<'_>) -> ReplyResult {
    peers_of(call, ObjectClass::Router)
}

pub(crate) fn peers_of_bridge(call: &mut Call<'_>) -> ReplyResult {
    peers_of(call, ObjectClass::Bridge)
}

fn peers_of(call: &mut Call<'_>, class: ObjectClass) -> ReplyResult {
    let device = call.existing(class, 0)?;
    let ports = &call.state.tables().ports;
    let peers: Vec<Uuid> =
        call.state.ports_of(device).iter().filter_map(|id| ports.get(id).and_then(|port| port.peer)).collect();
    Ok(call.list(peers, view))
}

pub(crate) fn show(call: &mut Call<'_>) -> ReplyResult {
    let id = call.id(0)?;
    view(&call.view, call.state, id).map(Reply::Show).ok_or_else(|| call.dialect().absent(ObjectClass::Port, id))
}

pub(crate) fn create_on_router(call: &mut Call<'_>) -> ReplyResult {
    create(call, ObjectClass::Router)
}

pub(crate) fn create_on_bridge(call: &mut Call<'_>) -> ReplyResult {
    create(call, ObjectClass::Bridge)
}

fn create(call: &mut Call<'_>, class: ObjectClass) -> ReplyResult {
    check_type(call, class)?;
    let kind = match class {
        ObjectClass::Router => read_router_kind(call)?,
        _ => read_bridge_kind(call)?,
    };
    let device = call.existing(class, 0)?;
    let (peer, binding) = match call.dialect() {
        // 1.9 stores such fields without the host's side of them; this server leaves them out.
        Dialect::V1 => (None, None),
        Dialect::V5 => (read_peer(call)?, read_binding(call)?),
    };
    let kind = with_mac(call, kind);
    let mut port = read_common(call, device, kind)?;
    let id = call.new_id(ObjectClass::Port)?;
    if call.dialect() == Dialect::V1 {
        check_vlan(call, device, &port)?;
    }
    port.tunnel_key = call.ids.tunnel_key();
    port.binding = binding;
    if let PortKind::Router { address, .. } = port.kind {
        let route = call.unused_id(ObjectClass::Route);
        call.state.put_port(id, port);
        call.state.put_route(route, local_route(device, id, address));
    } else {
        call.state.put_port(id, port);
    }
    if let Some(peer) = peer {
        call.state.link(id, peer);
    }
    Ok(Reply::Created(Some(format!("/ports/{id}"))))
}

/// The route by which a router knows its own address.
pub(crate) fn local_route(router: Uuid, port: Uuid, address: Ipv4Addr) -> Route {
    Route {
        router,
        kind: RouteKind::Local,
        source: (Ipv4Addr::UNSPECIFIED, 0),
        destination: (address, 32),
        port: Some(port),
        gateway: Some(Ipv4Addr::BROADCAST),
        weight: 0,
        attributes: None,
    }
}

/// Replaces a port. 1.9 takes filters, state and VIF only; on 5.x a stored link or binding stays, one that is absent
/// may be set.
pub(crate) fn replace(call: &mut Call<'_>) -> ReplyResult {
    let id = call.existing(ObjectClass::Port, 0)?;
    let Some(old) = call.state.tables().ports.get(&id).cloned() else {
        return Err(call.dialect().absent(ObjectClass::Port, id));
    };
    let mut port = read_common(call, old.device, old.kind.clone())?;
    port.tunnel_key = old.tunnel_key;
    port.peer = old.peer;
    port.binding.clone_from(&old.binding);
    let mut link = None;
    if call.dialect() == Dialect::V5 {
        let class = if matches!(old.kind, PortKind::Router { .. }) { ObjectClass::Router } else { ObjectClass::Bridge };
        check_type(call, class)?;
        port.kind = match (class, &old.kind) {
            (ObjectClass::Router, PortKind::Router { mac, .. }) => match read_router_kind(call)? {
                ReadKind::Router { address, network, length, mac: given } => {
                    PortKind::Router { address, network, length, mac: given.unwrap_or(*mac) }
                }
                ReadKind::Bridge { vlan } => PortKind::Bridge { vlan },
            },
            _ => with_mac(call, read_bridge_kind(call)?),
        };
        if port.binding.is_none() {
            port.binding = read_binding(call)?;
        }
        if port.peer.is_none() {
            link = read_peer(call)?;
        }
    }
    call.state.put_port(id, port);
    if let Some(peer) = link {
        call.state.link(id, peer);
    }
    Ok(Reply::Gone)
}

pub(crate) fn delete(call: &mut Call<'_>) -> ReplyResult {
    let id = call.id(0)?;
    let there = call.state.remove_port(id);
    call.gone(ObjectClass::Port, id, there)
}

// ---- reading -----------------------------------------------------------------------------------------------------

/// The kind of port that a body describes, before the server fills in a MAC.
#[derive(Clone, Copy)]
enum ReadKind {
    Bridge { vlan: u16 },
    Router { address: Ipv4Addr, network: Ipv4Addr, length: u8, mac: Option<atoll_model::attachment::Mac> },
}

fn with_mac(call: &mut Call<'_>, kind: ReadKind) -> PortKind {
    match kind {
        ReadKind::Bridge { vlan } => PortKind::Bridge { vlan },
        ReadKind::Router { address, network, length, mac } => {
            PortKind::Router { address, network, length, mac: mac.unwrap_or_else(|| call.ids.mac()) }
        }
    }
}

fn check_type(call: &Call<'_>, class: ObjectClass) -> Result<(), Refusal> {
    let device = if class == ObjectClass::Router { "Router" } else { "Bridge" };
    let kind = call.body.text("type")?;
    let legacy = call.dialect() == Dialect::V1 && call.view.version == 1;
    let known: &[&str] = if legacy {
        &["InteriorRouter", "ExteriorRouter", "InteriorBridge", "ExteriorBridge"]
    } else {
        &["Router", "Bridge", "Vxlan"]
    };
    match kind.as_deref() {
        Some(kind) if known.contains(&kind) && kind.ends_with(device) => Ok(()),
        Some(kind) if known.contains(&kind) => Err(call.dialect().wrong_port(device)),
        Some(kind) => Err(call.dialect().unreadable(format!("Could not resolve type id '{kind}' into a port"))),
        None => Err(call.dialect().unreadable("missing property 'type' that is to contain type id")),
    }
}

fn read_bridge_kind(call: &Call<'_>) -> Result<ReadKind, Refusal> {
    let vlan = call.body.int("vlanId")?.unwrap_or(0);
    let mut checks = Checks::default();
    let vlan = u16::try_from(vlan).ok().filter(|vlan| *vlan <= 4095).unwrap_or_else(|| {
        checks.wrong("vlanId", "must be between 0 and 4095");
        0
    });
    checks.finish()?;
    Ok(ReadKind::Bridge { vlan })
}

fn read_router_kind(call: &Call<'_>) -> Result<ReadKind, Refusal> {
    let mut checks = Checks::default();
    let mut address = |field: &str| -> Result<Ipv4Addr, Refusal> {
        let read = call.body.ipv4(field)?;
        match read {
            None => checks.wrong(field, "may not be null"),
            Some(Err(())) => checks.wrong(field, BAD_ADDRESS),
            Some(Ok(address)) => return Ok(address),
        }
        Ok(Ipv4Addr::UNSPECIFIED)
    };
    let (network, own) = (address("networkAddress")?, address("portAddress")?);
    let length = prefix_length(call.body.int("networkLength")?.unwrap_or(0));
    if length.is_none() {
        checks.wrong("networkLength", "must be between 0 and 32");
    }
    let mac = match call.body.mac("portMac")? {
        Some(Err(())) => {
            checks.wrong("portMac", "is an invalid MAC address");
            None
        }
        Some(Ok(mac)) => Some(mac),
        None => None,
    };
    checks.finish()?;
    Ok(ReadKind::Router { address: own, network, length: length.unwrap_or(32), mac })
}

fn read_common(call: &Call<'_>, device: Uuid, kind: PortKind) -> Result<Port, Refusal> {
    for field in ["inboundMirrorIds", "outboundMirrorIds", "postInFilterMirrorIds", "preOutFilterMirrorIds"] {
        call.references(field, ObjectClass::Mirror)?;
    }
    call.reference("qosPolicyId", ObjectClass::QosPolicy)?;
    call.references("insertionIds", ObjectClass::Insertion)?;
    call.reference("serviceContainerId", ObjectClass::ServiceContainer)?;
    if call.body.int("rtrPortVni")?.is_some_and(|vni| vni != 0) || call.body.flag("offRampVxlan")?.unwrap_or(false) {
        return Err(Refusal::error(501, "VTEPs on router ports are not built"));
    }
    Ok(Port {
        device,
        kind,
        up: call.body.flag("adminStateUp")?.unwrap_or(true),
        inbound: call.reference("inboundFilterId", ObjectClass::Chain)?,
        outbound: call.reference("outboundFilterId", ObjectClass::Chain)?,
        vif_id: call.body.uuid("vifId")?,
        binding: None,
        peer: None,
        tunnel_key: 0,
    })
}

/// `peerId` of a new port: the peer must be there and free.
fn read_peer(call: &Call<'_>) -> Result<Option<Uuid>, Refusal> {
    let Some(peer) = call.reference("peerId", ObjectClass::Port)? else { return Ok(None) };
    match call.state.tables().ports.get(&peer).and_then(|port| port.peer) {
        Some(other) => Err(Dialect::taken(ObjectClass::Port, peer, ObjectClass::Port, other, "peer_id")),
        None => Ok(Some(peer)),
    }
}

/// `hostId` and `interfaceName` of a new port. Neither the tunnel zone nor other uses of the interface are checked: the
/// real server does not check them here either.
fn read_binding(call: &Call<'_>) -> Result<Option<Binding>, Refusal> {
    let (host, interface) = (call.reference("hostId", ObjectClass::Host)?, call.body.text("interfaceName")?);
    match (host, interface) {
        (Some(host), Some(interface)) => Ok(Some(Binding { host, interface })),
        (None, None) => Ok(None),
        // Half a binding is refused: which half the real server would keep is not known.
        _ => Err(Refusal::invalid("interfaceName", "hostId and interfaceName must be given together")),
    }
}

/// 1.9: one VLAN once per bridge.
fn check_vlan(call: &Call<'_>, bridge: Uuid, port: &Port) -> Result<(), Refusal> {
    let PortKind::Bridge { vlan } = port.kind else { return Ok(()) };
    let ports = &call.state.tables().ports;
    let same = |id: &Uuid| ports.get(id).is_some_and(|port| port.kind == PortKind::Bridge { vlan });
    if vlan != 0 && call.state.ports_of(bridge).iter().any(same) {
        return Err(Refusal::invalid("vlanId", "VLAN ID is already used by another port of this bridge."));
    }
    Ok(())
}
