//! Interfaces of a host, as its agent reports them. Read-only.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::call::{Call, Rendering, Reply, ReplyResult};
use crate::refusal::Refusal;
use crate::state::objects::Interface;
use crate::wording::ObjectClass;

pub(crate) fn list(call: &mut Call<'_>) -> ReplyResult {
    let id = call.existing(ObjectClass::Host, 0)?;
    let interfaces = call.state.tables().hosts.get(&id).map(|host| host.interfaces.clone()).unwrap_or_default();
    let shown = call.view.clone();
    let show = move |(name, one): (String, Interface)| view(&shown, id, &name, &one);
    Ok(Reply::items(interfaces.len(), interfaces.into_iter().map(show)))
}

pub(crate) fn show(call: &mut Call<'_>) -> ReplyResult {
    let id = call.existing(ObjectClass::Host, 0)?;
    let name = call.arg(1);
    let interface = call.state.tables().hosts.get(&id).and_then(|host| host.interfaces.get(name));
    let interface = interface.ok_or_else(|| Refusal::error(404, format!("Interface {name} not found")))?;
    Ok(Reply::Show(view(&call.view, id, name, interface)))
}

pub(crate) fn view(view: &Rendering, host: Uuid, name: &str, interface: &Interface) -> Value {
    json!({
        "uri": view.uri(&format!("/hosts/{host}/interfaces/{name}")),
        "hostId": host,
        "name": name,
        "mac": interface.mac,
        "mtu": interface.mtu,
        "type": interface.kind,
        "endpoint": interface.endpoint,
        "portType": interface.port_type,
        "addresses": interface.addresses,
        "status": interface.status,
    })
}
