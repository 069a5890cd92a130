//! `atollctl address list`: addresses that are taken, in cool-down or reserved.

use std::collections::BTreeMap;

use atoll_ipam::audit::{AddressId, Observation};
use atoll_ipam::observe;
use atoll_model::attachment::Attachment;
use atoll_model::ids::TenantName;
use atoll_records::{AddressState, ClaimRecord, Key, ReservationRecord};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output::{self, OutputFormat, or_dash};
use crate::reservation;
use crate::settings::Settings;

pub(crate) async fn list(
    settings: &Settings,
    output: OutputFormat,
    tenant: Option<&TenantName>,
) -> Result<String, Failure> {
    Ok(shown(&observe(&settings.store()?).await?, output, tenant))
}

/// One address that is taken, in cool-down or reserved.
#[derive(Default)]
struct Row<'a> {
    attachment: Option<&'a Attachment>,
    pod: Option<String>,
    cools: bool,
    reserved: Option<&'a ReservationRecord>,
}

impl Row<'_> {
    fn state(&self) -> &'static str {
        match self {
            Self { attachment: Some(_), .. } => "claimed",
            Self { cools: true, .. } => "cool-down",
            _ => "reserved",
        }
    }
}

fn shown(seen: &Observation, output: OutputFormat, tenant: Option<&TenantName>) -> String {
    let meant = |place: &AddressId| tenant.is_none_or(|tenant| *tenant == place.tenant);
    let mut rows: BTreeMap<&AddressId, Row<'_>> = BTreeMap::new();
    for (place, address) in seen.addresses.iter().filter(|(place, _)| meant(place)) {
        let row = rows.entry(place).or_default();
        match &address.record.record.state {
            AddressState::Claimed { attachment, .. } => {
                row.attachment = Some(attachment);
                row.pod = pod(seen, attachment);
            }
            AddressState::CoolDown { .. } => row.cools = true,
        }
    }
    for (place, reservation) in seen.reserved.iter().filter(|(place, _)| meant(place)) {
        rows.entry(place).or_default().reserved = Some(&reservation.record);
    }
    match output {
        OutputFormat::Json => output::json(&rows.iter().map(|(place, row)| json_of(place, row)).collect::<Vec<_>>()),
        OutputFormat::Table if rows.is_empty() => "no addresses\n".to_owned(),
        OutputFormat::Table => output::table(
            ["address", "tenant", "subnet", "state", "pod", "attachment", "reserved for"],
            rows.iter().map(|(place, row)| cells(place, row)),
        ),
    }
}

/// The pod of an attachment, as its claim names it.
fn pod(seen: &Observation, attachment: &Attachment) -> Option<String> {
    let claim = &seen.claims.get(&Key::from(ClaimRecord::at(attachment)))?.record;
    let pod = claim.pod.as_ref()?;
    Some(claim.namespace.as_ref().map_or_else(|| pod.clone(), |namespace| format!("{namespace}/{pod}")))
}

fn cells(place: &AddressId, row: &Row<'_>) -> [String; 7] {
    let reserved = row.reserved.map(|kept| {
        let mac = kept.mac.map(|mac| format!(", MAC {mac}")).unwrap_or_default();
        format!("{}/{}{mac}", kept.namespace, kept.pod)
    });
    [
        place.address.to_string(),
        place.tenant.to_string(),
        place.subnet.to_string(),
        row.state().to_owned(),
        or_dash(row.pod.as_ref()),
        or_dash(row.attachment),
        or_dash(reserved),
    ]
}

fn json_of(place: &AddressId, row: &Row<'_>) -> Value {
    json!({"address": place.address, "tenant": place.tenant, "subnet": place.subnet, "state": row.state(),
           "attachment": row.attachment.map(ToString::to_string), "pod": row.pod,
           "reservedFor": row.reserved.map(reservation::shown)})
}
