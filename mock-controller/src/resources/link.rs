//! Links: two ports, each the other's peer.

use crate::call::{Call, Reply, ReplyResult};
use crate::refusal::Refusal;
use crate::state::objects::{Port, PortKind};
use crate::wording::ObjectClass;
use crate::wording::Wording as _;
use atoll_sdn_client::Dialect;

const REFUSED: &str = "Ports are not linkable.";

pub(crate) fn create(call: &mut Call<'_>) -> ReplyResult {
    let peer = call.body.uuid("peerId")?;
    if call.dialect() == Dialect::V5 && call.body.raw("portId").is_some() {
        // The real server builds its answer from this field and fails on it.
        return Err(Refusal::error(500, "portId cannot be set"));
    }
    let id = call.existing(ObjectClass::Port, 0)?;
    let Some(peer) = peer else { return Err(Refusal::invalid("peerId", "may not be null")) };
    let ports = &call.state.tables().ports;
    let (Some(one), Some(other)) = (ports.get(&id), ports.get(&peer)) else {
        return Err(match call.dialect() {
            Dialect::V1 => Refusal::invalid("peerId", "Port ID is not valid."),
            Dialect::V5 => call.dialect().absent(ObjectClass::Port, peer),
        });
    };
    if one.peer.is_some() || other.peer.is_some() || (call.dialect() == Dialect::V1 && !linkable(one, other)) {
        return Err(call.dialect().conflict("link", REFUSED));
    }
    call.state.link(id, peer);
    // 5.x builds the Location from a field that the body does not have.
    Ok(Reply::Created(match call.dialect() {
        Dialect::V1 => Some(format!("/ports/{id}/link")),
        Dialect::V5 => None,
    }))
}

/// What only 1.9 looks at: ports that are bound, or that no packet could pass between.
fn linkable(one: &Port, other: &Port) -> bool {
    let sense = match (&one.kind, &other.kind) {
        (PortKind::Bridge { vlan }, PortKind::Bridge { vlan: other_vlan }) => (*vlan == 0) != (*other_vlan == 0),
        (PortKind::Router { .. }, PortKind::Router { .. }) => one.device != other.device,
        _ => true,
    };
    sense && one.binding.is_none() && other.binding.is_none()
}

pub(crate) fn delete(call: &mut Call<'_>) -> ReplyResult {
    let id = call.id(0)?;
    if call.dialect() == Dialect::V5 {
        call.existing(ObjectClass::Port, 0)?;
    }
    call.state.unlink(id);
    Ok(Reply::Gone)
}
