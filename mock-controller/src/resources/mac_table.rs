//! The MAC table of a bridge: static entries with the port of a MAC. VLAN 0 is the untagged table.

use crate::wording::Wording as _;
use atoll_model::attachment::Mac;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::body::parse_uuid;
use crate::call::{Call, Rendering, Reply, ReplyResult};
use crate::refusal::Refusal;
use crate::state::objects::PortKind;
use crate::wording::ObjectClass;

pub(crate) fn list(call: &mut Call<'_>) -> ReplyResult {
    list_where(call, None)
}

pub(crate) fn list_vlan(call: &mut Call<'_>) -> ReplyResult {
    let vlan = vlan(call)?;
    list_where(call, Some(vlan))
}

fn list_where(call: &Call<'_>, vlan: Option<u16>) -> ReplyResult {
    let id = call.existing(ObjectClass::Bridge, 0)?;
    let entries = call.state.tables().bridges.get(&id).map(|bridge| bridge.macs.clone()).unwrap_or_default();
    let (count, shown) = (entries.len(), call.view.clone());
    let entries = entries.into_iter().filter(move |(own, _, _)| vlan.is_none_or(|vlan| vlan == *own));
    Ok(Reply::items(count, entries.map(move |(vlan, mac, port)| view(&shown, id, vlan, mac, port))))
}

pub(crate) fn create(call: &mut Call<'_>) -> ReplyResult {
    let vlan = match call.body.int("vlanId")?.map(|vlan| (vlan, u16::try_from(vlan))) {
        None => 0,
        Some((_, Ok(vlan))) if vlan <= 4095 => vlan,
        Some(_) => return Err(Refusal::invalid("vlanId", "must be between 0 and 4095")),
    };
    create_in(call, vlan)
}

pub(crate) fn create_vlan(call: &mut Call<'_>) -> ReplyResult {
    let vlan = vlan(call)?;
    create_in(call, vlan)
}

/// The VLAN of a path wins over the one of the body.
fn create_in(call: &mut Call<'_>, vlan: u16) -> ReplyResult {
    let (mac, port) = (call.body.mac("macAddr")?, call.body.uuid("portId")?);
    let id = call.existing(ObjectClass::Bridge, 0)?;
    let Some(Ok(mac)) = mac else { return Err(Refusal::invalid("macAddr", "is an invalid MAC address")) };
    let Some(port) = port else { return Err(Refusal::invalid("portId", "may not be null")) };
    let Some(found) = call.state.tables().ports.get(&port) else {
        return Err(call.dialect().dangling("portId", ObjectClass::Port, port));
    };
    if found.device != id {
        let message = "The port must belong to the bridge that owns the mac table.";
        return Err(Refusal::invalid("portId", message));
    }
    // A port of a VLAN sends and receives in that VLAN only, so an entry without a VLAN would never match.
    if let PortKind::Bridge { vlan: own } = found.kind
        && own != 0
        && own != vlan
    {
        return Err(call.dialect().wrong_vlan(own));
    }
    call.state.edit_bridge(id, |bridge| {
        bridge.macs.insert((vlan, mac, port));
    });
    Ok(Reply::Created(Some(path(id, vlan, mac, port))))
}

pub(crate) fn show(call: &mut Call<'_>) -> ReplyResult {
    show_in(call, 0, 1)
}

pub(crate) fn show_vlan(call: &mut Call<'_>) -> ReplyResult {
    let vlan = vlan(call)?;
    show_in(call, vlan, 2)
}

fn show_in(call: &Call<'_>, vlan: u16, place: usize) -> ReplyResult {
    let id = call.existing(ObjectClass::Bridge, 0)?;
    let (mac, port) = entry(call.arg(place))?;
    let found = call.state.tables().bridges.get(&id).is_some_and(|bridge| bridge.macs.contains(&(vlan, mac, port)));
    if found {
        Ok(Reply::Show(view(&call.view, id, vlan, mac, port)))
    } else {
        Err(Refusal::error(404, "The requested MAC table entry was not found."))
    }
}

pub(crate) fn delete(call: &mut Call<'_>) -> ReplyResult {
    delete_in(call, 0, 1)
}

pub(crate) fn delete_vlan(call: &mut Call<'_>) -> ReplyResult {
    let vlan = vlan(call)?;
    delete_in(call, vlan, 2)
}

fn delete_in(call: &mut Call<'_>, vlan: u16, place: usize) -> ReplyResult {
    let id = call.existing(ObjectClass::Bridge, 0)?;
    let (mac, port) = entry(call.arg(place))?;
    call.state.edit_bridge(id, |bridge| {
        bridge.macs.remove(&(vlan, mac, port));
    });
    Ok(Reply::Gone)
}

fn vlan(call: &Call<'_>) -> Result<u16, Refusal> {
    let vlan = call.arg(1).parse::<u16>().ok().filter(|vlan| *vlan <= 4095);
    vlan.ok_or_else(|| Refusal::error(404, "Not RouteMatch"))
}

/// `aa-bb-cc-dd-ee-ff_<port>`.
fn entry(text: &str) -> Result<(Mac, Uuid), Refusal> {
    let refuse = || Refusal::error(400, "The MAC table entry must be a hyphenated MAC and a port ID joined by '_'.");
    let (mac, port) = text.split_once('_').ok_or_else(refuse)?;
    let port = parse_uuid(port).ok_or_else(refuse)?;
    Ok((hyphenated(mac).ok_or_else(refuse)?, port))
}

/// A MAC as paths write it.
pub(crate) fn hyphenated(text: &str) -> Option<Mac> {
    if text.contains(':') { None } else { text.parse().ok() }
}

fn path(bridge: Uuid, vlan: u16, mac: Mac, port: Uuid) -> String {
    let mac = mac.to_string().replace(':', "-");
    match vlan {
        0 => format!("/bridges/{bridge}/mac_table/{mac}_{port}"),
        vlan => format!("/bridges/{bridge}/vlans/{vlan}/mac_table/{mac}_{port}"),
    }
}

fn view(view: &Rendering, bridge: Uuid, vlan: u16, mac: Mac, port: Uuid) -> Value {
    json!({
        "uri": view.uri(&path(bridge, vlan, mac, port)),
        "macAddr": mac,
        "portId": port,
        "port": view.link("/ports", Some(port)),
        "bridgeId": bridge,
        "bridge": view.link("/bridges", Some(bridge)),
        "vlanId": vlan,
    })
}
