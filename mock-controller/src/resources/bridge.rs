//! Bridges. Deleting one deletes its ports and tables; its chains stay.

use crate::wording::Wording as _;
use serde_json::{Value, json};
use uuid::Uuid;

use super::device;
use crate::call::{Call, Rendering, Reply, ReplyResult, extend};
use crate::refusal::Refusal;
use crate::state::ControllerState;
use crate::state::objects::Bridge;
use crate::wording::ObjectClass;

pub(crate) fn list(call: &mut Call<'_>) -> ReplyResult {
    let ids = call.state.bridges(call.query.get("tenant_id").map(String::as_str));
    Ok(call.list(ids, view))
}

pub(crate) fn create(call: &mut Call<'_>) -> ReplyResult {
    let bridge = read(call)?;
    let id = call.new_id(ObjectClass::Bridge)?;
    call.state.put_bridge(id, bridge);
    Ok(Reply::Created(Some(format!("/bridges/{id}"))))
}

pub(crate) fn show(call: &mut Call<'_>) -> ReplyResult {
    let id = call.id(0)?;
    view(&call.view, call.state, id).map(Reply::Show).ok_or_else(|| call.dialect().absent(ObjectClass::Bridge, id))
}

/// Replaces every field but the tables, which have resources of their own.
pub(crate) fn replace(call: &mut Call<'_>) -> ReplyResult {
    let id = call.existing(ObjectClass::Bridge, 0)?;
    let mut bridge = read(call)?;
    if let Some(old) = call.state.tables().bridges.get(&id) {
        bridge.macs.clone_from(&old.macs);
        bridge.arp.clone_from(&old.arp);
    }
    call.state.put_bridge(id, bridge);
    Ok(Reply::Gone)
}

pub(crate) fn delete(call: &mut Call<'_>) -> ReplyResult {
    let id = call.id(0)?;
    let there = call.state.remove_bridge(id);
    call.gone(ObjectClass::Bridge, id, there)
}

fn read(call: &Call<'_>) -> Result<Bridge, Refusal> {
    if call.body.uuid("vxLanPortId")?.is_some() || !call.body.uuids("vxLanPortIds")?.is_empty() {
        return Err(Refusal::invalid("vxLanPortId", "VXLAN port ID cannot be set directly"));
    }
    let device = device::read(call)?;
    call.reference("qosPolicyId", ObjectClass::QosPolicy)?;
    let disable_anti_spoof =
        !call.view.is_v5() && call.view.version >= 4 && call.body.flag("disableAntiSpoof")?.unwrap_or(false);
    Ok(Bridge { device, disable_anti_spoof, ..Bridge::default() })
}

fn view(view: &Rendering, state: &ControllerState, id: Uuid) -> Option<Value> {
    let bridge = state.tables().bridges.get(&id)?;
    let path = format!("/bridges/{id}");
    let mut value = device::show(view, &bridge.device);
    extend(
        &mut value,
        json!({
            "id": id,
            "uri": view.uri(&path),
            "ports": view.uri(&format!("{path}/ports")),
            "peerPorts": view.uri(&format!("{path}/peer_ports")),
            "macTable": view.uri(&format!("{path}/mac_table")),
            "arpTable": view.uri(&format!("{path}/arp_table")),
            "dhcpSubnets": view.uri(&format!("{path}/dhcp")),
            "dhcpSubnet6s": view.uri(&format!("{path}/dhcpV6")),
            "vlanMacTableTemplate": view.uri(&format!("{path}/vlans/{{vlanId}}/mac_table")),
            "macPortTemplate": view.uri(&format!("{path}/mac_table/{{macAddress}}_{{portId}}")),
            "vlanMacPortTemplate": view.uri(&format!("{path}/vlans/{{vlanId}}/mac_table/{{macAddress}}_{{portId}}")),
        }),
    );
    if view.is_v5() || view.version >= 2 {
        extend(&mut value, json!({ "vxLanPortId": null, "vxLanPort": null }));
    }
    if view.is_v5() || view.version >= 3 {
        // 5.x names the list; 1.9 names each of its ports.
        let ports = if view.is_v5() { view.uri(&format!("{path}/vxlan_ports")) } else { json!([]) };
        extend(&mut value, json!({ "vxLanPortIds": [], "vxLanPorts": ports }));
    }
    if !view.is_v5() && view.version >= 4 {
        extend(&mut value, json!({ "disableAntiSpoof": bridge.disable_anti_spoof }));
    }
    Some(value)
}
