//! The state of the system. 1.9 can be made read-only; 5.x only reports.

use serde_json::json;

use crate::call::{Call, Reply, ReplyResult, extend};
use crate::refusal::Refusal;
use atoll_sdn_client::Dialect;

pub(crate) fn show(call: &mut Call<'_>) -> ReplyResult {
    let availability = if call.state.is_read_only() { "READONLY" } else { "READWRITE" };
    let mut value = json!({ "uri": call.view.uri("/system_state"), "state": "ACTIVE", "availability": availability });
    match call.dialect() {
        Dialect::V5 => extend(&mut value, json!({ "version": env!("CARGO_PKG_VERSION"), "information": null })),
        Dialect::V1 if call.view.version >= 2 => extend(&mut value, json!({ "writeVersion": "1.9" })),
        Dialect::V1 => {}
    }
    Ok(Reply::Show(value))
}

pub(crate) fn replace(call: &mut Call<'_>) -> ReplyResult {
    if call.dialect() == Dialect::V5 {
        return Err(Refusal::error(405, "Method Not Allowed"));
    }
    let read_only = match call.body.text("availability")?.as_deref() {
        Some("READONLY") => true,
        Some("READWRITE") | None => false,
        Some(_) => return Err(Refusal::invalid("availability", "should be READWRITE or READONLY")),
    };
    call.state.set_read_only(read_only);
    Ok(Reply::Gone)
}
