//! Bindings: "port P is interface I of host H". Only the mapping is recorded; whether the host is alive or the interface
//! exists is not checked, in any version.

use crate::wording::Wording as _;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::call::{Call, Rendering, Reply, ReplyResult};
use crate::refusal::{Checks, Refusal};
use crate::state::ControllerState;
use crate::state::objects::Binding;
use crate::wording::ObjectClass;
use atoll_sdn_client::Dialect;

pub(crate) fn list(call: &mut Call<'_>) -> ReplyResult {
    let ids = call.state.bound_to(call.existing(ObjectClass::Host, 0)?);
    Ok(call.list(ids, view))
}

pub(crate) fn create(call: &mut Call<'_>) -> ReplyResult {
    let (port, interface) = (call.body.uuid("portId")?, call.body.text("interfaceName")?);
    let mut checks = Checks::default();
    checks.require("portId", port.is_some());
    checks.require("interfaceName", interface.is_some());
    checks.finish()?;
    let (Some(port), Some(interface)) = (port, interface) else { return Err(Refusal::Bare(400)) };
    let host = call.existing(ObjectClass::Host, 0)?;
    let Some(old) = call.state.tables().ports.get(&port) else {
        return Err(match call.dialect() {
            Dialect::V1 => Refusal::invalid("portId", "Port ID is not valid."),
            Dialect::V5 => call.dialect().absent(ObjectClass::Port, port),
        });
    };
    let binding = Binding { host, interface };
    // 1.9 replaces an existing binding: on the same host as documented, on another host without an error.
    if call.dialect() == Dialect::V5 && old.binding.is_some() {
        return Err(Refusal::error(409, format!("Port {port} is already bound to an interface")));
    }
    if !call.state.in_tunnel_zone(host) {
        return Err(call.dialect().conflict("hostId", "The specified host is not in any tunnel zone."));
    }
    if old.binding.as_ref() != Some(&binding) && call.state.is_used(&binding) {
        return Err(match call.dialect() {
            Dialect::V1 => Refusal::invalid("interfaceName", "Interface is already bound to a port."),
            Dialect::V5 => Refusal::error(409, format!("Interface {} is already bound to a port.", binding.interface)),
        });
    }
    call.state.bind(port, binding);
    Ok(Reply::Created(Some(format!("/hosts/{host}/ports/{port}"))))
}

pub(crate) fn show(call: &mut Call<'_>) -> ReplyResult {
    let (host, port) = (call.id(0)?, call.id(1)?);
    let found = call.state.tables().ports.get(&port).and_then(|port| port.binding.as_ref());
    if found.is_none_or(|binding| binding.host != host) {
        return Err(Refusal::error(404, "Host interface port not found"));
    }
    Ok(Reply::Show(view(&call.view, call.state, port).unwrap_or_default()))
}

/// 5.x clears the binding whatever host the path names; 1.9 only on that host.
pub(crate) fn delete(call: &mut Call<'_>) -> ReplyResult {
    let (host, port) = (call.id(0)?, call.id(1)?);
    match (call.dialect(), call.state.tables().ports.get(&port)) {
        (Dialect::V5, None) => return Err(call.dialect().absent(ObjectClass::Port, port)),
        (Dialect::V1, Some(found)) if found.binding.as_ref().is_none_or(|binding| binding.host != host) => {}
        _ => call.state.unbind(port),
    }
    Ok(Reply::Gone)
}

fn view(view: &Rendering, state: &ControllerState, port: Uuid) -> Option<Value> {
    let binding = state.tables().ports.get(&port)?.binding.as_ref()?;
    let host = binding.host;
    Some(json!({
        "uri": view.uri(&format!("/hosts/{host}/ports/{port}")),
        "hostId": host,
        "portId": port,
        "interfaceName": binding.interface,
        "host": view.link("/hosts", Some(host)),
        "port": view.link("/ports", Some(port)),
    }))
}
