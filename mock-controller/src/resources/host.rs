//! Hosts: machines with an agent. Normally the agent registers itself; on 5.x a test may do it.

use crate::wording::Wording as _;
use serde_json::{Value, json};
use uuid::Uuid;

use super::interface;
use crate::call::{Call, Rendering, Reply, ReplyResult, extend};
use crate::refusal::{Checks, Refusal};
use crate::state::ControllerState;
use crate::state::objects::{Host, Weights};
use crate::wording::ObjectClass;
use atoll_sdn_client::Dialect;

pub(crate) fn list(call: &mut Call<'_>) -> ReplyResult {
    let ids: Vec<Uuid> = call.state.tables().hosts.keys().copied().collect();
    Ok(call.list(ids, view))
}

pub(crate) fn show(call: &mut Call<'_>) -> ReplyResult {
    let id = call.id(0)?;
    view(&call.view, call.state, id).map(Reply::Show).ok_or_else(|| call.dialect().absent(ObjectClass::Host, id))
}

pub(crate) fn create(call: &mut Call<'_>) -> ReplyResult {
    if call.dialect() == Dialect::V1 {
        return Err(Refusal::error(405, "Method Not Allowed"));
    }
    let name = call.body.text("name")?;
    let id = call.new_id(ObjectClass::Host)?;
    call.state.put_host(id, Host { name, ..Host::default() });
    Ok(Reply::Created(Some(format!("/hosts/{id}"))))
}

/// Sets the weights. Answers 200, unlike every other PUT.
pub(crate) fn replace(call: &mut Call<'_>) -> ReplyResult {
    let id = call.existing(ObjectClass::Host, 0)?;
    let Some(mut host) = call.state.tables().hosts.get(&id).cloned() else {
        return Err(call.dialect().absent(ObjectClass::Host, id));
    };
    let mut checks = Checks::default();
    let flooding = call.body.int("floodingProxyWeight")?;
    checks.require("floodingProxyWeight", flooding.is_some());
    if flooding.is_some_and(|weight| !(0..=65535).contains(&weight)) {
        checks.wrong("floodingProxyWeight", "must be between 0 and 65535");
    }
    let mut weights = Weights { flooding_proxy: flooding.unwrap_or(1), ..host.weights };
    if call.dialect() == Dialect::V5 {
        let (weight, limit) = (call.body.int("containerWeight")?, call.body.int("containerLimit")?);
        let enforce = call.body.flag("enforceContainerLimit")?;
        checks.require("containerWeight", weight.is_some());
        checks.require("containerLimit", limit.is_some());
        checks.require("enforceContainerLimit", enforce.is_some());
        weights.container = weight.unwrap_or(weights.container);
        weights.container_limit = limit.unwrap_or(weights.container_limit);
        weights.enforce_container_limit = enforce.unwrap_or(weights.enforce_container_limit);
    }
    checks.finish()?;
    host.weights = weights;
    call.state.put_host(id, host);
    Ok(Reply::Done)
}

pub(crate) fn delete(call: &mut Call<'_>) -> ReplyResult {
    let id = call.existing(ObjectClass::Host, 0)?;
    if call.state.tables().hosts.get(&id).is_some_and(|host| host.alive) {
        return Err(Refusal::error(403, format!("Cannot delete host {id} because it is active.")));
    }
    let bindings = call.state.bound_to(id).len();
    if bindings > 0 {
        return Err(Refusal::error(403, format!("Cannot delete host {id} because it has {bindings} binding(s).")));
    }
    call.state.remove_host(id);
    Ok(match call.dialect() {
        Dialect::V1 => Reply::Gone,
        Dialect::V5 => Reply::Done,
    })
}

fn view(view: &Rendering, state: &ControllerState, id: Uuid) -> Option<Value> {
    let host = state.tables().hosts.get(&id)?;
    let path = format!("/hosts/{id}");
    let interfaces: Vec<Value> =
        host.interfaces.iter().map(|(name, one)| interface::view(view, id, name, one)).collect();
    let mut value = json!({
        "id": id,
        "uri": view.uri(&path),
        "name": host.name,
        "addresses": host.addresses,
        "hostInterfaces": interfaces,
        "alive": host.alive,
        "floodingProxyWeight": host.weights.flooding_proxy,
        "interfaces": view.uri(&format!("{path}/interfaces")),
        "ports": view.uri(&format!("{path}/ports")),
    });
    if view.is_v5() {
        extend(
            &mut value,
            json!({
                "containerWeight": host.weights.container,
                "containerLimit": host.weights.container_limit,
                "enforceContainerLimit": host.weights.enforce_container_limit,
            }),
        );
    }
    Some(value)
}
