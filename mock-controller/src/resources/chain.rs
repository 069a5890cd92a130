//! Chains. Deleting one deletes its rules and the jumps to it, and clears it from every filter: a device that
//! used it is silently unfiltered, as in the real controller.

use crate::wording::Wording as _;
use serde_json::{Value, json};
use uuid::Uuid;

use super::device;
use crate::call::{Call, Rendering, Reply, ReplyResult};
use crate::state::ControllerState;
use crate::state::objects::Chain;
use crate::wording::ObjectClass;

pub(crate) fn list(call: &mut Call<'_>) -> ReplyResult {
    let ids = call.state.chains(call.query.get("tenant_id").map(String::as_str));
    Ok(call.list(ids, view))
}

pub(crate) fn create(call: &mut Call<'_>) -> ReplyResult {
    let (tenant, name) = device::owner(call)?;
    let id = call.new_id(ObjectClass::Chain)?;
    call.state.put_chain(id, Chain { tenant, name, rules: Vec::new() });
    Ok(Reply::Created(Some(format!("/chains/{id}"))))
}

pub(crate) fn show(call: &mut Call<'_>) -> ReplyResult {
    let id = call.id(0)?;
    view(&call.view, call.state, id).map(Reply::Show).ok_or_else(|| call.dialect().absent(ObjectClass::Chain, id))
}

pub(crate) fn delete(call: &mut Call<'_>) -> ReplyResult {
    let id = call.id(0)?;
    let there = call.state.remove_chain(id);
    call.gone(ObjectClass::Chain, id, there)
}

fn view(view: &Rendering, state: &ControllerState, id: Uuid) -> Option<Value> {
    let chain = state.tables().chains.get(&id)?;
    Some(json!({
        "id": id,
        "uri": view.uri(&format!("/chains/{id}")),
        "tenantId": chain.tenant,
        "name": chain.name,
        "rules": view.uri(&format!("/chains/{id}/rules")),
    }))
}
