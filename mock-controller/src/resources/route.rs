//! Routes of a router, those that the server made included. There is no PUT.

use crate::wording::Wording as _;
use std::net::Ipv4Addr;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::call::{BAD_ADDRESS, Call, Rendering, Reply, ReplyResult, RouteNetwork, prefix_length};
use crate::refusal::{Checks, Refusal};
use crate::state::ControllerState;
use crate::state::objects::{Route, RouteKind};
use crate::wording::ObjectClass;
use atoll_sdn_client::Dialect;

const NO_NEXT_HOP: &str = "This type of route requires a next hop port that is a port on the same router.";

pub(crate) fn list(call: &mut Call<'_>) -> ReplyResult {
    let ids = call.state.routes_of(call.existing(ObjectClass::Router, 0)?);
    Ok(call.list(ids, view))
}

pub(crate) fn show(call: &mut Call<'_>) -> ReplyResult {
    let id = call.id(0)?;
    view(&call.view, call.state, id).map(Reply::Show).ok_or_else(|| call.dialect().absent(ObjectClass::Route, id))
}

pub(crate) fn create(call: &mut Call<'_>) -> ReplyResult {
    let route = read(call)?;
    // 1.9 gives routes ids of its own, whatever the body says.
    let id = match call.dialect() {
        Dialect::V1 => call.unused_id(ObjectClass::Route),
        Dialect::V5 => call.new_id(ObjectClass::Route)?,
    };
    call.state.put_route(id, route);
    Ok(Reply::Created(Some(format!("/routes/{id}"))))
}

pub(crate) fn delete(call: &mut Call<'_>) -> ReplyResult {
    let id = call.id(0)?;
    let there = call.state.remove_route(id);
    call.gone(ObjectClass::Route, id, there)
}

fn read(call: &Call<'_>) -> Result<Route, Refusal> {
    let mut checks = Checks::default();
    let kind = match call.body.text("type")?.as_deref() {
        Some("Normal") => RouteKind::Normal,
        Some("BlackHole") => RouteKind::BlackHole,
        Some("Reject") => RouteKind::Reject,
        Some("Local") if call.dialect() == Dialect::V5 => RouteKind::Local,
        Some(_) => return Err(call.dialect().unreadable("This type of route is invalid.")),
        None => {
            checks.require("type", false);
            RouteKind::Normal
        }
    };
    let source = network(call, &mut checks, "srcNetworkAddr", "srcNetworkLength")?;
    let destination = network(call, &mut checks, "dstNetworkAddr", "dstNetworkLength")?;
    let gateway = match call.body.ipv4("nextHopGateway")? {
        Some(Err(())) => {
            checks.wrong("nextHopGateway", BAD_ADDRESS);
            None
        }
        Some(Ok(gateway)) => Some(gateway),
        None => None,
    };
    let weight = u32::try_from(call.body.int("weight")?.unwrap_or(0)).unwrap_or_else(|_| {
        checks.wrong("weight", "must be greater than or equal to 0");
        0
    });
    checks.finish()?;
    let router = call.existing(ObjectClass::Router, 0)?;
    let port = call.body.uuid("nextHopPort")?;
    let forwards = matches!(kind, RouteKind::Normal | RouteKind::Local);
    let own = |port: Uuid| call.state.tables().ports.get(&port).is_some_and(|port| port.device == router);
    if forwards && !port.is_some_and(own) {
        return Err(match call.dialect() {
            Dialect::V1 => Refusal::invalid("nextHopPort", NO_NEXT_HOP),
            Dialect::V5 => Refusal::error(400, NO_NEXT_HOP),
        });
    }
    let attributes = call.body.text("attributes")?;
    Ok(Route { router, kind, source, destination, port: port.filter(|_| forwards), gateway, weight, attributes })
}

fn network(call: &Call<'_>, checks: &mut Checks, address: &str, length: &str) -> Result<RouteNetwork, Refusal> {
    let read = match call.body.ipv4(address)? {
        Some(Ok(read)) => read,
        Some(Err(())) => {
            checks.wrong(address, BAD_ADDRESS);
            Ipv4Addr::UNSPECIFIED
        }
        None => {
            checks.require(address, false);
            Ipv4Addr::UNSPECIFIED
        }
    };
    let bits = prefix_length(call.body.int(length)?.unwrap_or(0)).unwrap_or_else(|| {
        checks.wrong(length, "must be between 0 and 32");
        0
    });
    Ok((read, bits))
}

fn view(view: &Rendering, state: &ControllerState, id: Uuid) -> Option<Value> {
    let route = state.tables().routes.get(&id)?;
    let (kind, gateway) = match (route.kind, view.dialect) {
        // 1.9 shows its own routes like configured ones.
        (RouteKind::Local, Dialect::V1) => (RouteKind::Normal, None),
        (kind, _) => (kind, route.gateway),
    };
    Some(json!({
        "id": id,
        "uri": view.uri(&format!("/routes/{id}")),
        "routerId": route.router,
        "router": view.link("/routers", Some(route.router)),
        "type": kind,
        "srcNetworkAddr": route.source.0,
        "srcNetworkLength": route.source.1,
        "dstNetworkAddr": route.destination.0,
        "dstNetworkLength": route.destination.1,
        "nextHopPort": route.port,
        "nextHopGateway": gateway,
        "weight": route.weight,
        "attributes": route.attributes,
        "learned": false,
    }))
}
