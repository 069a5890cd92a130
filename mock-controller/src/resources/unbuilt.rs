//! Lists of what is not built: load balancers, BGP, DHCP, QoS and their like. None can be created, so the lists
//! are empty, which is what upstream answers where there are none. Below a parent that does not exist, the list is a 404.

use crate::call::{Call, Reply, ReplyResult};
use crate::refusal::Refusal;
use crate::wording::ObjectClass;
use crate::wording::Wording as _;
use atoll_sdn_client::Dialect;

const NOTHING: ReplyResult = Ok(Reply::Show(serde_json::Value::Array(Vec::new())));

pub(crate) fn list(_: &mut Call<'_>) -> ReplyResult {
    NOTHING
}

/// Only 5.x has it.
pub(crate) fn list_of_5(call: &mut Call<'_>) -> ReplyResult {
    only(call, Dialect::V5)?;
    NOTHING
}

/// The parent is not built either, so that there is none.
pub(crate) fn list_below_unbuilt(call: &mut Call<'_>) -> ReplyResult {
    let id = call.id(0)?;
    Err(call.dialect().absent(ObjectClass::LoadBalancer, id))
}

pub(crate) fn list_of_bridge(call: &mut Call<'_>) -> ReplyResult {
    call.existing(ObjectClass::Bridge, 0)?;
    NOTHING
}

pub(crate) fn list_of_router_of_5(call: &mut Call<'_>) -> ReplyResult {
    only(call, Dialect::V5)?;
    call.existing(ObjectClass::Router, 0)?;
    NOTHING
}

/// The peering table of a port of a router.
pub(crate) fn list_of_router_port(call: &mut Call<'_>) -> ReplyResult {
    only(call, Dialect::V5)?;
    let (router, port) = (call.existing(ObjectClass::Router, 0)?, call.existing(ObjectClass::Port, 1)?);
    match call.state.tables().ports.get(&port) {
        Some(found) if found.device == router => NOTHING,
        _ => Err(call.dialect().absent(ObjectClass::Port, port)),
    }
}

pub(crate) fn list_of_port_of_1_9(call: &mut Call<'_>) -> ReplyResult {
    only(call, Dialect::V1)?;
    call.existing(ObjectClass::Port, 0)?;
    NOTHING
}

/// The other dialect has no such path.
fn only(call: &Call<'_>, dialect: Dialect) -> Result<(), Refusal> {
    if call.dialect() == dialect { Ok(()) } else { Err(Refusal::error(404, "Not RouteMatch")) }
}
