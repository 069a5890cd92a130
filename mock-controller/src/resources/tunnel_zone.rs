//! Tunnel zones and their members. A host must be in one before anything can be bound to it.

use crate::wording::Wording as _;
use std::net::Ipv4Addr;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::call::{BAD_ADDRESS, Call, Rendering, Reply, ReplyResult, exists};
use crate::refusal::{Checks, Refusal};
use crate::state::ControllerState;
use crate::state::objects::TunnelZone;
use crate::wording::ObjectClass;
use atoll_sdn_client::Dialect;

pub(crate) fn list(call: &mut Call<'_>) -> ReplyResult {
    let ids: Vec<Uuid> = call.state.tables().tunnel_zones.keys().copied().collect();
    Ok(call.list(ids, view))
}

pub(crate) fn show(call: &mut Call<'_>) -> ReplyResult {
    let id = call.id(0)?;
    view(&call.view, call.state, id).map(Reply::Show).ok_or_else(|| call.dialect().absent(ObjectClass::TunnelZone, id))
}

pub(crate) fn create(call: &mut Call<'_>) -> ReplyResult {
    let zone = read(call)?;
    let id = call.new_id(ObjectClass::TunnelZone)?;
    check_name(call, &zone.name, None)?;
    call.state.put_tunnel_zone(id, zone);
    Ok(Reply::Created(Some(format!("/tunnel_zones/{id}"))))
}

pub(crate) fn replace(call: &mut Call<'_>) -> ReplyResult {
    let id = call.existing(ObjectClass::TunnelZone, 0)?;
    let mut zone = read(call)?;
    // 5.x compares with every zone, also with the one that is replaced.
    check_name(call, &zone.name, (call.dialect() == Dialect::V1).then_some(id))?;
    if let Some(old) = call.state.tables().tunnel_zones.get(&id) {
        zone.members.clone_from(&old.members);
    }
    call.state.put_tunnel_zone(id, zone);
    Ok(Reply::Gone)
}

pub(crate) fn delete(call: &mut Call<'_>) -> ReplyResult {
    let id = call.id(0)?;
    let there = call.state.remove_tunnel_zone(id);
    call.gone(ObjectClass::TunnelZone, id, there)
}

fn read(call: &Call<'_>) -> Result<TunnelZone, Refusal> {
    let (name, kind) = (call.body.text("name")?, call.body.text("type")?);
    let mut checks = Checks::default();
    checks.require("name", name.is_some());
    checks.length("name", name.as_deref(), 1);
    checks.require("type", kind.is_some());
    checks.finish()?;
    let kind = kind.unwrap_or_default();
    if !["gre", "vxlan", "vtep"].contains(&kind.as_str()) {
        return Err(call.dialect().unreadable(format!("field type: gre, vxlan or vtep is expected, not {kind}")));
    }
    Ok(TunnelZone { name: name.unwrap_or_default(), kind, ..TunnelZone::default() })
}

fn check_name(call: &Call<'_>, name: &str, own: Option<Uuid>) -> Result<(), Refusal> {
    match call.state.zone_named(name) {
        Some(other) if Some(other) != own => Err(call.dialect().conflict("name", "Tunnel zone name already exists.")),
        _ => Ok(()),
    }
}

// ---- members -----------------------------------------------------------------------------------------------------

pub(crate) fn members(call: &mut Call<'_>) -> ReplyResult {
    let zone = call.existing(ObjectClass::TunnelZone, 0)?;
    let members = call.state.tables().tunnel_zones.get(&zone).map(|zone| zone.members.clone()).unwrap_or_default();
    let view = call.view.clone();
    let show = move |(host, address)| view_member(&view, zone, host, address);
    Ok(Reply::items(members.len(), members.into_iter().map(show)))
}

pub(crate) fn add(call: &mut Call<'_>) -> ReplyResult {
    let (host, address) = (call.body.uuid("hostId")?, call.body.ipv4("ipAddress")?);
    let mut checks = Checks::default();
    checks.require("hostId", host.is_some());
    checks.require("ipAddress", address.is_some());
    if address == Some(Err(())) {
        checks.wrong("ipAddress", BAD_ADDRESS);
    }
    checks.finish()?;
    let (Some(host), Some(Ok(address))) = (host, address) else { return Err(Refusal::Bare(400)) };
    let id = call.existing(ObjectClass::TunnelZone, 0)?;
    if !exists(call.state, ObjectClass::Host, host) {
        return Err(call.dialect().dangling("hostId", ObjectClass::Host, host));
    }
    let Some(mut zone) = call.state.tables().tunnel_zones.get(&id).cloned() else {
        return Err(call.dialect().absent(ObjectClass::TunnelZone, id));
    };
    if zone.members.insert(host, address).is_some() {
        return Err(match call.dialect() {
            Dialect::V1 => Refusal::invalid("hostId", "Tunnel zone membership already exists."),
            Dialect::V5 => Refusal::Bare(409),
        });
    }
    call.state.put_tunnel_zone(id, zone);
    Ok(Reply::Created(Some(format!("/tunnel_zones/{id}/hosts/{host}"))))
}

pub(crate) fn member(call: &mut Call<'_>) -> ReplyResult {
    let (zone, host) = (call.id(0)?, call.id(1)?);
    let address = call.state.tables().tunnel_zones.get(&zone).and_then(|zone| zone.members.get(&host));
    let address = address.ok_or_else(|| Refusal::error(404, "Tunnel zone host not found"))?;
    Ok(Reply::Show(view_member(&call.view, zone, host, *address)))
}

pub(crate) fn remove(call: &mut Call<'_>) -> ReplyResult {
    let (id, host) = (call.id(0)?, call.id(1)?);
    let zone = call.state.tables().tunnel_zones.get(&id).filter(|zone| zone.members.contains_key(&host)).cloned();
    match (zone, call.dialect()) {
        (Some(mut zone), _) => {
            zone.members.remove(&host);
            call.state.put_tunnel_zone(id, zone);
        }
        (None, Dialect::V5) => return Err(Refusal::error(404, "Tunnel zone host not found")),
        (None, Dialect::V1) => {}
    }
    Ok(Reply::Gone)
}

fn view(view: &Rendering, state: &ControllerState, id: Uuid) -> Option<Value> {
    let zone = state.tables().tunnel_zones.get(&id)?;
    Some(json!({
        "id": id,
        "uri": view.uri(&format!("/tunnel_zones/{id}")),
        "name": zone.name,
        "type": zone.kind,
        "hosts": view.uri(&format!("/tunnel_zones/{id}/hosts")),
    }))
}

fn view_member(view: &Rendering, zone: Uuid, host: Uuid, address: Ipv4Addr) -> Value {
    json!({
        "uri": view.uri(&format!("/tunnel_zones/{zone}/hosts/{host}")),
        "tunnelZoneId": zone,
        "tunnelZone": view.link("/tunnel_zones", Some(zone)),
        "hostId": host,
        "host": view.link("/hosts", Some(host)),
        "ipAddress": address,
    })
}
