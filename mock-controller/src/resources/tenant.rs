//! Tenants: never created. 5.x with its mock authentication lists one, and echoes any other; 1.9 lists every owner
//! that some object names.

use serde_json::{Value, json};

use crate::call::{Call, Rendering, Reply, ReplyResult, extend};
use atoll_sdn_client::Dialect;

pub(crate) fn list(call: &mut Call<'_>) -> ReplyResult {
    let mut names: Vec<&str> = match call.dialect() {
        Dialect::V1 => call.state.tenants().into_iter().collect(),
        Dialect::V5 => vec!["admin"],
    };
    if let Some(marker) = call.query.get("marker") {
        names.retain(|name| *name > marker.as_str());
    }
    if let Some(limit) = call.query.get("limit").and_then(|limit| limit.parse().ok()) {
        names.truncate(limit);
    }
    let (names, shown): (Vec<String>, _) = (names.into_iter().map(str::to_owned).collect(), call.view.clone());
    Ok(Reply::items(names.len(), names.into_iter().map(move |name| view(&shown, &name))))
}

pub(crate) fn show(call: &mut Call<'_>) -> ReplyResult {
    Ok(Reply::Show(view(&call.view, call.arg(0))))
}

fn view(view: &Rendering, name: &str) -> Value {
    let owned = |kind: &str| view.uri(&format!("/{kind}?tenant_id={name}"));
    let mut value = json!({
        "id": name,
        "name": name,
        "uri": view.uri(&format!("/tenants/{name}")),
        "routers": owned("routers"),
        "bridges": owned("bridges"),
        "chains": owned("chains"),
        "portGroups": owned("port_groups"),
    });
    if view.is_v5() {
        extend(&mut value, json!({ "description": name, "enabled": true }));
    }
    value
}
