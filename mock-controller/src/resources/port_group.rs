//! Port groups and their members. Members of a stateful group share NAT and flow state across hosts.

use crate::wording::Wording as _;
use serde_json::{Value, json};
use uuid::Uuid;

use super::device;
use crate::call::{Call, Rendering, Reply, ReplyResult, exists};
use crate::refusal::Refusal;
use crate::state::ControllerState;
use crate::state::objects::PortGroup;
use crate::wording::ObjectClass;
use atoll_sdn_client::Dialect;

pub(crate) fn list(call: &mut Call<'_>) -> ReplyResult {
    let tenant = call.query.get("tenant_id").map(String::as_str);
    let mut ids = match call.query.get("port_id").map(|id| crate::body::parse_uuid(id)) {
        Some(port) => call.state.groups_of(port.unwrap_or_default()),
        None => call.state.port_groups(tenant),
    };
    if let Some(tenant) = tenant {
        let groups = &call.state.tables().port_groups;
        ids.retain(|id| groups.get(id).is_some_and(|group| group.tenant.as_deref() == Some(tenant)));
    }
    Ok(call.list(ids, view))
}

/// The memberships of a port, and not the groups themselves.
pub(crate) fn list_of_port(call: &mut Call<'_>) -> ReplyResult {
    let port = call.existing(ObjectClass::Port, 0)?;
    let (groups, view) = (call.state.groups_of(port), call.view.clone());
    Ok(Reply::items(groups.len(), groups.into_iter().map(move |group| view_member(&view, group, port))))
}

pub(crate) fn create(call: &mut Call<'_>) -> ReplyResult {
    let group = read(call)?;
    let id = call.new_id(ObjectClass::PortGroup)?;
    call.state.put_port_group(id, group);
    Ok(Reply::Created(Some(format!("/port_groups/{id}"))))
}

pub(crate) fn show(call: &mut Call<'_>) -> ReplyResult {
    let id = call.id(0)?;
    view(&call.view, call.state, id).map(Reply::Show).ok_or_else(|| call.dialect().absent(ObjectClass::PortGroup, id))
}

pub(crate) fn replace(call: &mut Call<'_>) -> ReplyResult {
    let id = call.existing(ObjectClass::PortGroup, 0)?;
    let mut group = read(call)?;
    if let Some(old) = call.state.tables().port_groups.get(&id) {
        group.members.clone_from(&old.members);
    }
    call.state.put_port_group(id, group);
    Ok(Reply::Gone)
}

pub(crate) fn delete(call: &mut Call<'_>) -> ReplyResult {
    let id = call.id(0)?;
    let there = call.state.remove_port_group(id);
    call.gone(ObjectClass::PortGroup, id, there)
}

fn read(call: &Call<'_>) -> Result<PortGroup, Refusal> {
    let (tenant, name) = device::owner(call)?;
    Ok(PortGroup { tenant, name, stateful: call.body.flag("stateful")?.unwrap_or(false), ..PortGroup::default() })
}

// ---- members -----------------------------------------------------------------------------------------------------

pub(crate) fn members(call: &mut Call<'_>) -> ReplyResult {
    let group = call.existing(ObjectClass::PortGroup, 0)?;
    let members = call.state.tables().port_groups.get(&group).map(|group| group.members.clone()).unwrap_or_default();
    let view = call.view.clone();
    Ok(Reply::items(members.len(), members.into_iter().map(move |port| view_member(&view, group, port))))
}

pub(crate) fn add(call: &mut Call<'_>) -> ReplyResult {
    let port = call.body.uuid("portId")?.ok_or_else(|| Refusal::invalid("portId", "may not be null"))?;
    let id = call.existing(ObjectClass::PortGroup, 0)?;
    if !exists(call.state, ObjectClass::Port, port) {
        return Err(call.dialect().dangling("portId", ObjectClass::Port, port));
    }
    let Some(mut group) = call.state.tables().port_groups.get(&id).cloned() else {
        return Err(call.dialect().absent(ObjectClass::PortGroup, id));
    };
    if group.members.insert(port).is_some() {
        return Err(match call.dialect() {
            Dialect::V1 => Refusal::invalid("portId", "Port is already in the port group."),
            Dialect::V5 => Refusal::Bare(409),
        });
    }
    call.state.put_port_group(id, group);
    Ok(Reply::Created(Some(format!("/port_groups/{id}/ports/{port}"))))
}

pub(crate) fn member(call: &mut Call<'_>) -> ReplyResult {
    let (id, port) = (call.existing(ObjectClass::PortGroup, 0)?, call.id(1)?);
    let found = call.state.tables().port_groups.get(&id).is_some_and(|group| group.members.contains(&port));
    if found {
        Ok(Reply::Show(view_member(&call.view, id, port)))
    } else {
        Err(Refusal::error(404, "The port is not a member of the port group."))
    }
}

pub(crate) fn remove(call: &mut Call<'_>) -> ReplyResult {
    let (id, port) = (call.existing(ObjectClass::PortGroup, 0)?, call.id(1)?);
    if let Some(mut group) = call.state.tables().port_groups.get(&id).cloned() {
        group.members.remove(&port);
        call.state.put_port_group(id, group);
    }
    Ok(Reply::Gone)
}

fn view(view: &Rendering, state: &ControllerState, id: Uuid) -> Option<Value> {
    let group = state.tables().port_groups.get(&id)?;
    Some(json!({
        "id": id,
        "uri": view.uri(&format!("/port_groups/{id}")),
        "tenantId": group.tenant,
        "name": group.name,
        "stateful": group.stateful,
        "ports": view.uri(&format!("/port_groups/{id}/ports")),
    }))
}

fn view_member(view: &Rendering, group: Uuid, port: Uuid) -> Value {
    json!({
        "uri": view.uri(&format!("/port_groups/{group}/ports/{port}")),
        "portGroupId": group,
        "portGroup": view.link("/port_groups", Some(group)),
        "portId": port,
        "port": view.link("/ports", Some(port)),
    })
}
