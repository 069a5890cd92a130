//! Hosts and interfaces as their agents would report them.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::body::{Body, parse_uuid};
use crate::controller::MockController;
use crate::refusal::Refusal;
use crate::settings::tunnel_zone;
use crate::state::objects::{Host, Interface};

/// How many interfaces a host may have.
const INTERFACES: usize = 4096;

/// A host that is alive. If it has an address, it is a member of the tunnel zone.
pub(super) fn add(controller: &mut MockController, body: &Body) -> Result<Value, Refusal> {
    let id = body.uuid("id")?.unwrap_or_else(|| controller.ids.uuid());
    let address = match body.ipv4("address")? {
        Some(Err(())) => return Err(Refusal::invalid("address", "is an invalid IP format")),
        address => address.and_then(Result::ok),
    };
    let mut host = controller.tables().hosts.get(&id).cloned().unwrap_or_default();
    host.name = body.text("name")?.or(host.name);
    host.alive = true;
    if let Some(address) = address {
        host.addresses = vec![address.to_string()];
        if let Some(mut zone) = controller.tables().tunnel_zones.get(&tunnel_zone()).cloned() {
            zone.members.insert(id, address);
            controller.state.put_tunnel_zone(tunnel_zone(), zone);
        }
    }
    controller.state.put_host(id, host);
    Ok(json!({ "id": id }))
}

pub(super) fn set_alive(controller: &mut MockController, id: &str, body: &Body) -> Result<Value, Refusal> {
    let alive = body.flag("alive")?.ok_or_else(|| Refusal::invalid("alive", "may not be null"))?;
    edit(controller, id, |host| host.alive = alive)
}

pub(super) fn set_interface(
    controller: &mut MockController,
    id: &str,
    name: &str,
    body: &[u8],
) -> Result<Value, Refusal> {
    let interface: Interface = match body {
        [] => Interface::default(),
        body => serde_json::from_slice(body).map_err(|error| Refusal::error(400, error.to_string()))?,
    };
    let full = |host: &Host| host.interfaces.len() >= INTERFACES && !host.interfaces.contains_key(name);
    if parse_uuid(id).and_then(|id| controller.tables().hosts.get(&id)).is_some_and(full) {
        return Err(Refusal::error(400, "the host has too many interfaces"));
    }
    edit(controller, id, |host| drop(host.interfaces.insert(name.to_owned(), interface)))
}

pub(super) fn remove_interface(controller: &mut MockController, id: &str, name: &str) -> Result<Value, Refusal> {
    edit(controller, id, |host| drop(host.interfaces.remove(name)))
}

fn edit(controller: &mut MockController, id: &str, edit: impl FnOnce(&mut Host)) -> Result<Value, Refusal> {
    let found = parse_uuid(id).and_then(|id: Uuid| Some((id, controller.tables().hosts.get(&id)?.clone())));
    let (id, mut host) = found.ok_or_else(|| Refusal::error(404, "there is no such host"))?;
    edit(&mut host);
    controller.state.put_host(id, host);
    Ok(Value::Null)
}
