//! What routers and bridges have in common: owner, name, state, filters.

use serde_json::{Value, json};

use crate::call::{Call, Rendering};
use crate::refusal::{Checks, Refusal};
use crate::state::objects::DeviceFields;
use crate::wording::ObjectClass;
use atoll_sdn_client::Dialect;

/// Reads and checks the common fields.
pub(crate) fn read(call: &Call<'_>) -> Result<DeviceFields, Refusal> {
    let (tenant, name) = owner(call)?;
    let device = DeviceFields {
        tenant,
        name,
        up: call.body.flag("adminStateUp")?.unwrap_or(true),
        inbound: call.reference("inboundFilterId", ObjectClass::Chain)?,
        outbound: call.reference("outboundFilterId", ObjectClass::Chain)?,
    };
    // Fields that would need a family of resources which is not built: a value in them is a dangling reference.
    call.references("inboundMirrorIds", ObjectClass::Mirror)?;
    call.references("outboundMirrorIds", ObjectClass::Mirror)?;
    Ok(device)
}

/// `tenantId` and `name`: 1.9 requires both, 5.x neither.
pub(crate) fn owner(call: &Call<'_>) -> Result<(Option<String>, Option<String>), Refusal> {
    let (tenant, name) = (call.body.text("tenantId")?, call.body.text("name")?);
    let mut checks = Checks::default();
    match call.dialect() {
        Dialect::V1 => {
            checks.require("tenantId", tenant.is_some());
            checks.require("name", name.is_some());
            checks.length("name", name.as_deref(), 1);
        }
        Dialect::V5 => checks.length("name", name.as_deref(), 0),
    }
    checks.finish()?;
    Ok((tenant, name))
}

/// The common fields of an answer.
pub(crate) fn show(view: &Rendering, device: &DeviceFields) -> Value {
    let mut value = json!({
        "tenantId": device.tenant,
        "name": device.name,
        "adminStateUp": device.up,
        "inboundFilterId": device.inbound,
        "outboundFilterId": device.outbound,
        "inboundFilter": view.link("/chains", device.inbound),
        "outboundFilter": view.link("/chains", device.outbound),
    });
    if view.is_v5() {
        crate::call::extend(&mut value, json!({ "inboundMirrorIds": [], "outboundMirrorIds": [] }));
    }
    value
}
