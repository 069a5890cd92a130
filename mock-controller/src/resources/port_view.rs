//! How a port reads: its fields by dialect and version.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::call::{Rendering, exists, extend};
use crate::state::ControllerState;
use crate::state::objects::{Port, PortKind};
use crate::wording::ObjectClass;

pub(crate) fn view(view: &Rendering, state: &ControllerState, id: Uuid) -> Option<Value> {
    let port = state.tables().ports.get(&id)?;
    let path = format!("/ports/{id}");
    let (host, interface) = port.binding.as_ref().map(|b| (b.host, b.interface.as_str())).unzip();
    let router = matches!(port.kind, PortKind::Router { .. });
    let device = if router { "/routers" } else { "/bridges" };
    let mut value = json!({
        "id": id,
        "uri": view.uri(&path),
        "type": type_name(view, port),
        "deviceId": port.device,
        "device": view.link(device, Some(port.device)),
        "adminStateUp": port.up,
        "inboundFilterId": port.inbound,
        "inboundFilter": view.link("/chains", port.inbound),
        "outboundFilterId": port.outbound,
        "outboundFilter": view.link("/chains", port.outbound),
        "vifId": port.vif_id,
        "peerId": port.peer,
        "peer": view.link("/ports", port.peer),
        "link": view.uri(&format!("{path}/link")),
        "portGroups": view.uri(&format!("{path}/port_groups")),
        "active": state.is_active(id),
        "host": view.link("/hosts", host.filter(|host| exists(state, ObjectClass::Host, *host))),
        "hostInterfacePort": host.map_or(Value::Null, |host| view.uri(&format!("/hosts/{host}/ports/{id}"))),
    });
    if view.is_v5() || view.version >= 2 {
        extend(&mut value, json!({ "hostId": host, "interfaceName": interface }));
    }
    extend(&mut value, kind_fields(view, id, port));
    if view.is_v5() {
        extend(
            &mut value,
            json!({
                "tunnelKey": port.tunnel_key,
                "inboundMirrorIds": [],
                "outboundMirrorIds": [],
                "postInFilterMirrorIds": [],
                "preOutFilterMirrorIds": [],
                "insertionIds": [],
            }),
        );
    } else if router {
        extend(&mut value, json!({ "bgps": view.uri(&format!("{path}/bgps")) }));
    }
    Some(value)
}

/// The fields of one kind. 1.9 also shows the other kind's, empty.
fn kind_fields(view: &Rendering, id: Uuid, port: &Port) -> Value {
    match port.kind {
        PortKind::Bridge { vlan } if view.is_v5() => json!({ "vlanId": vlan }),
        PortKind::Bridge { vlan } => json!({
            "vlanId": (vlan != 0).then_some(vlan),
            "networkAddress": null, "networkLength": -1, "portAddress": null, "portMac": null,
        }),
        PortKind::Router { address, network, length, mac } => {
            let mut value =
                json!({ "portAddress": address, "networkAddress": network, "networkLength": length, "portMac": mac });
            let more = if view.is_v5() {
                json!({
                    "rtrPortVni": 0, "offRampVxlan": false, "bgpStatus": null,
                    "serviceContainerId": null, "serviceContainer": null,
                    "peeringTable": view.uri(&format!("/routers/{}/ports/{id}/peering_table", port.device)),
                })
            } else {
                json!({ "vlanId": -1 })
            };
            extend(&mut value, more);
            value
        }
    }
}

/// In the oldest version the type shows whether a port is bound.
fn type_name(view: &Rendering, port: &Port) -> &'static str {
    let legacy = !view.is_v5() && view.version == 1;
    match (&port.kind, legacy, port.binding.is_some()) {
        (PortKind::Router { .. }, false, _) => "Router",
        (PortKind::Bridge { .. }, false, _) => "Bridge",
        (PortKind::Router { .. }, true, true) => "ExteriorRouter",
        (PortKind::Router { .. }, true, false) => "InteriorRouter",
        (PortKind::Bridge { .. }, true, true) => "ExteriorBridge",
        (PortKind::Bridge { .. }, true, false) => "InteriorBridge",
    }
}
