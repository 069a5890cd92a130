//! Routers. Deleting one deletes its ports and routes; its chains stay.

use crate::wording::Wording as _;
use serde_json::{Value, json};
use uuid::Uuid;

use super::device;
use crate::call::{Call, Rendering, Reply, ReplyResult, extend};
use crate::refusal::Refusal;
use crate::state::ControllerState;
use crate::state::objects::Router;
use crate::wording::ObjectClass;

pub(crate) fn list(call: &mut Call<'_>) -> ReplyResult {
    let ids = call.state.routers(call.query.get("tenant_id").map(String::as_str));
    Ok(call.list(ids, view))
}

pub(crate) fn create(call: &mut Call<'_>) -> ReplyResult {
    let router = read(call)?;
    let id = call.new_id(ObjectClass::Router)?;
    call.state.put_router(id, router);
    Ok(Reply::Created(Some(format!("/routers/{id}"))))
}

pub(crate) fn show(call: &mut Call<'_>) -> ReplyResult {
    let id = call.id(0)?;
    view(&call.view, call.state, id).map(Reply::Show).ok_or_else(|| call.dialect().absent(ObjectClass::Router, id))
}

/// Replaces every field; what is missing falls back to its default.
pub(crate) fn replace(call: &mut Call<'_>) -> ReplyResult {
    let id = call.existing(ObjectClass::Router, 0)?;
    let router = read(call)?;
    call.state.put_router(id, router);
    Ok(Reply::Gone)
}

pub(crate) fn delete(call: &mut Call<'_>) -> ReplyResult {
    let id = call.id(0)?;
    let there = call.state.remove_router(id);
    call.gone(ObjectClass::Router, id, there)
}

fn read(call: &Call<'_>) -> Result<Router, Refusal> {
    let device = device::read(call)?;
    call.reference("loadBalancerId", ObjectClass::LoadBalancer)?;
    if !call.view.is_v5() {
        return Ok(Router { device, ..Router::default() });
    }
    Ok(Router {
        device,
        as_number: call.body.int("asNumber")?,
        local_redirect: call.reference("localRedirectChainId", ObjectClass::Chain)?,
        forward: call.reference("forwardChainId", ObjectClass::Chain)?,
    })
}

fn view(view: &Rendering, state: &ControllerState, id: Uuid) -> Option<Value> {
    let router = state.tables().routers.get(&id)?;
    let path = format!("/routers/{id}");
    let mut value = device::show(view, &router.device);
    extend(
        &mut value,
        json!({
            "id": id,
            "uri": view.uri(&path),
            "ports": view.uri(&format!("{path}/ports")),
            "peerPorts": view.uri(&format!("{path}/peer_ports")),
            "routes": view.uri(&format!("{path}/routes")),
        }),
    );
    if view.is_v5() {
        extend(
            &mut value,
            json!({
                "asNumber": router.as_number.unwrap_or(-1),
                "localRedirectChainId": router.local_redirect,
                "localRedirectChain": view.link("/chains", router.local_redirect),
                "forwardChainId": router.forward,
                "forwardChain": view.link("/chains", router.forward),
                "bgpNetworks": view.uri(&format!("{path}/bgp_networks")),
                "bgpPeers": view.uri(&format!("{path}/bgp_peers")),
            }),
        );
    }
    if view.is_v5() || view.version >= 2 {
        extend(&mut value, json!({ "loadBalancerId": null, "loadBalancer": null }));
    }
    Some(value)
}
