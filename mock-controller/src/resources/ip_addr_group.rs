//! Groups of addresses, IPv4 and IPv6, which rules match on.

use crate::wording::Wording as _;
use std::net::IpAddr;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::body::parse_ip;
use crate::call::{BAD_ADDRESS, Call, Rendering, Reply, ReplyResult};
use crate::refusal::{Checks, Refusal};
use crate::state::ControllerState;
use crate::state::objects::AddressGroup;
use crate::wording::ObjectClass;

pub(crate) fn list(call: &mut Call<'_>) -> ReplyResult {
    let ids: Vec<Uuid> = call.state.tables().address_groups.keys().copied().collect();
    Ok(call.list(ids, view))
}

pub(crate) fn create(call: &mut Call<'_>) -> ReplyResult {
    let name = call.body.text("name")?;
    let mut checks = Checks::default();
    checks.require("name", name.is_some());
    checks.length("name", name.as_deref(), 1);
    checks.finish()?;
    let id = call.new_id(ObjectClass::IpAddrGroup)?;
    call.state.put_address_group(id, AddressGroup { name, ..AddressGroup::default() });
    Ok(Reply::Created(Some(format!("/ip_addr_groups/{id}"))))
}

pub(crate) fn show(call: &mut Call<'_>) -> ReplyResult {
    let id = call.id(0)?;
    view(&call.view, call.state, id).map(Reply::Show).ok_or_else(|| call.dialect().absent(ObjectClass::IpAddrGroup, id))
}

pub(crate) fn delete(call: &mut Call<'_>) -> ReplyResult {
    let id = call.id(0)?;
    let there = call.state.remove_address_group(id);
    call.gone(ObjectClass::IpAddrGroup, id, there)
}

// ---- members -----------------------------------------------------------------------------------------------------

pub(crate) fn members(call: &mut Call<'_>) -> ReplyResult {
    members_where(call, |_| true)
}

pub(crate) fn members_of_version(call: &mut Call<'_>) -> ReplyResult {
    let version = version(call)?;
    members_where(call, move |address| version_of(address) == version)
}

fn members_where(call: &Call<'_>, wanted: impl Fn(IpAddr) -> bool + 'static) -> ReplyResult {
    let id = call.existing(ObjectClass::IpAddrGroup, 0)?;
    let members = call.state.tables().address_groups.get(&id).map(|group| group.members.clone()).unwrap_or_default();
    let view = call.view.clone();
    let shown = members.clone().into_iter().filter(move |address| wanted(*address));
    Ok(Reply::items(members.len(), shown.map(move |address| view_member(&view, id, address))))
}

pub(crate) fn add(call: &mut Call<'_>) -> ReplyResult {
    let (text, version) = (call.body.text("addr")?, call.body.int("version")?);
    let address = text.as_deref().and_then(parse_ip);
    let Some(address) = address else { return Err(Refusal::invalid("addr", BAD_ADDRESS)) };
    if version.is_some_and(|version| version != version_of(address)) {
        return Err(Refusal::invalid("version", "does not match the address"));
    }
    let id = call.existing(ObjectClass::IpAddrGroup, 0)?;
    let Some(mut group) = call.state.tables().address_groups.get(&id).cloned() else {
        return Err(call.dialect().absent(ObjectClass::IpAddrGroup, id));
    };
    // Adding the same address again succeeds, on both dialects.
    group.members.insert(address);
    call.state.put_address_group(id, group);
    Ok(Reply::Created(Some(path(id, address))))
}

pub(crate) fn member(call: &mut Call<'_>) -> ReplyResult {
    let (id, address) = item(call)?;
    let found = call.state.tables().address_groups.get(&id).is_some_and(|group| group.members.contains(&address));
    if found {
        Ok(Reply::Show(view_member(&call.view, id, address)))
    } else {
        Err(Refusal::error(404, format!("IP address group does not contain IP {address}")))
    }
}

pub(crate) fn remove(call: &mut Call<'_>) -> ReplyResult {
    let (id, address) = item(call)?;
    if let Some(mut group) = call.state.tables().address_groups.get(&id).cloned() {
        group.members.remove(&address);
        call.state.put_address_group(id, group);
    }
    Ok(Reply::Gone)
}

fn item(call: &Call<'_>) -> Result<(Uuid, IpAddr), Refusal> {
    let id = call.existing(ObjectClass::IpAddrGroup, 0)?;
    let version = version(call)?;
    let address = parse_ip(call.arg(2)).filter(|address| version_of(*address) == version);
    Ok((id, address.ok_or_else(|| Refusal::error(400, "The address is not valid."))?))
}

fn version(call: &Call<'_>) -> Result<i64, Refusal> {
    match call.arg(1) {
        "4" => Ok(4),
        "6" => Ok(6),
        _ => Err(Refusal::error(404, "Not RouteMatch")),
    }
}

const fn version_of(address: IpAddr) -> i64 {
    if address.is_ipv4() { 4 } else { 6 }
}

fn path(group: Uuid, address: IpAddr) -> String {
    format!("/ip_addr_groups/{group}/versions/{}/ip_addrs/{address}", version_of(address))
}

fn view(view: &Rendering, state: &ControllerState, id: Uuid) -> Option<Value> {
    let group = state.tables().address_groups.get(&id)?;
    Some(json!({
        "id": id,
        "uri": view.uri(&format!("/ip_addr_groups/{id}")),
        "name": group.name,
        "addrs": view.uri(&format!("/ip_addr_groups/{id}/ip_addrs")),
    }))
}

fn view_member(view: &Rendering, group: Uuid, address: IpAddr) -> Value {
    json!({
        "uri": view.uri(&path(group, address)),
        "ipAddrGroupId": group,
        "ipAddrGroup": view.link("/ip_addr_groups", Some(group)),
        "addr": address,
        "version": version_of(address),
    })
}
