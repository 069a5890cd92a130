//! The ARP table of a bridge: static entries with the MAC of an address.

use std::net::Ipv4Addr;

use atoll_model::attachment::Mac;
use serde_json::{Value, json};
use uuid::Uuid;

use super::mac_table::hyphenated;
use crate::body::parse_ipv4;
use crate::call::{BAD_ADDRESS, Call, Rendering, Reply, ReplyResult};
use crate::refusal::Refusal;
use crate::wording::ObjectClass;

pub(crate) fn list(call: &mut Call<'_>) -> ReplyResult {
    let id = call.existing(ObjectClass::Bridge, 0)?;
    let entries = call.state.tables().bridges.get(&id).map(|bridge| bridge.arp.clone()).unwrap_or_default();
    let shown = call.view.clone();
    let show = move |(address, mac)| view(&shown, id, address, mac);
    Ok(Reply::items(entries.len(), entries.into_iter().map(show)))
}

pub(crate) fn create(call: &mut Call<'_>) -> ReplyResult {
    let (address, mac) = (call.body.ipv4("ip")?, call.body.mac("mac")?);
    let id = call.existing(ObjectClass::Bridge, 0)?;
    let Some(Ok(address)) = address else { return Err(Refusal::invalid("ip", BAD_ADDRESS)) };
    let Some(Ok(mac)) = mac else { return Err(Refusal::invalid("mac", "is an invalid MAC address")) };
    call.state.edit_bridge(id, |bridge| {
        bridge.arp.insert(address, mac);
    });
    Ok(Reply::Created(Some(path(id, address, mac))))
}

pub(crate) fn show(call: &mut Call<'_>) -> ReplyResult {
    let id = call.existing(ObjectClass::Bridge, 0)?;
    let (address, mac) = entry(call.arg(1))?;
    let found = call.state.tables().bridges.get(&id).and_then(|bridge| bridge.arp.get(&address));
    if found == Some(&mac) {
        Ok(Reply::Show(view(&call.view, id, address, mac)))
    } else {
        Err(Refusal::error(404, "The requested ARP table entry was not found."))
    }
}

pub(crate) fn delete(call: &mut Call<'_>) -> ReplyResult {
    let id = call.existing(ObjectClass::Bridge, 0)?;
    let (address, mac) = entry(call.arg(1))?;
    call.state.edit_bridge(id, |bridge| {
        if bridge.arp.get(&address) == Some(&mac) {
            bridge.arp.remove(&address);
        }
    });
    Ok(Reply::Gone)
}

/// `10.0.0.1_aa-bb-cc-dd-ee-ff`.
fn entry(text: &str) -> Result<(Ipv4Addr, Mac), Refusal> {
    let refuse =
        || Refusal::error(400, "The ARP table entry must be an IP address and a hyphenated MAC joined by '_'.");
    let (address, mac) = text.split_once('_').ok_or_else(refuse)?;
    Ok((parse_ipv4(address).ok_or_else(refuse)?, hyphenated(mac).ok_or_else(refuse)?))
}

fn path(bridge: Uuid, address: Ipv4Addr, mac: Mac) -> String {
    format!("/bridges/{bridge}/arp_table/{address}_{}", mac.to_string().replace(':', "-"))
}

fn view(view: &Rendering, bridge: Uuid, address: Ipv4Addr, mac: Mac) -> Value {
    json!({ "uri": view.uri(&path(bridge, address, mac)), "ip": address, "mac": mac })
}
