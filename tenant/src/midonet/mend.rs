//! One object: create it; if it is there already, look at it and mend what differs.
//!
//! What can be mended in place: whether it is up, its filter chains, its `vifId`. A port with another address, a route
//! or a rule with other fields is deleted and made again; later waves make what went with it. An object of another
//! owner or device, or a port that is linked elsewhere, is somebody else's: it is reported.

use atoll_model::topology::{self, Kind};
use atoll_sdn_client::compare::FieldDifference;
use atoll_sdn_client::dialect::Resource;
use atoll_sdn_client::transport::Transport;
use atoll_sdn_client::wire::{Bridge, Chain, Object, Port, Route, Router};
use atoll_sdn_client::{Client, Ensured};
use uuid::Uuid;

use super::apply::Done;
use crate::controller::{ControllerError, Failure};

/// Fields that say whose an object is. Never changed.
const OWNER: &[&str] = &["tenantId", "deviceId", "peerId", "chainId", "routerId"];

/// Fields that a PUT can change in either dialect.
const IN_PLACE: &[&str] = &["adminStateUp", "inboundFilterId", "outboundFilterId", "vifId"];

pub(super) async fn chain<T: Transport>(client: &Client<T>, wanted: &Chain) -> Result<Done, ControllerError> {
    match client.ensure(wanted).await? {
        Ensured::Created => Ok(Done::CREATED),
        Ensured::Kept => Ok(Done::KEPT),
        Ensured::Differs(differences) => Err(foreign(wanted, &differences)),
    }
}

pub(super) async fn router<T: Transport>(client: &Client<T>, wanted: &Router) -> Result<Done, ControllerError> {
    in_place(client, wanted, |found| {
        found.admin_state_up = wanted.admin_state_up;
        found.inbound_filter_id = wanted.inbound_filter_id;
        found.outbound_filter_id = wanted.outbound_filter_id;
    })
    .await
}

pub(super) async fn bridge<T: Transport>(client: &Client<T>, wanted: &Bridge) -> Result<Done, ControllerError> {
    in_place(client, wanted, |found| {
        found.admin_state_up = wanted.admin_state_up;
        found.inbound_filter_id = wanted.inbound_filter_id;
        found.outbound_filter_id = wanted.outbound_filter_id;
    })
    .await
}

pub(super) async fn port<T: Transport>(client: &Client<T>, wanted: &Port) -> Result<Done, ControllerError> {
    let Some(differences) = differing(client.ensure_port(wanted).await?) else {
        return Ok(Done::CREATED);
    };
    if differences.is_empty() {
        return Ok(Done::KEPT);
    }
    if only(&differences, IN_PLACE) {
        return update(client, wanted, |found| {
            found.admin_state_up = wanted.admin_state_up;
            found.inbound_filter_id = wanted.inbound_filter_id;
            found.outbound_filter_id = wanted.outbound_filter_id;
            found.vif_id = wanted.vif_id;
        })
        .await;
    }
    if owned_otherwise(Kind::Port, &differences) {
        return Err(foreign(wanted, &differences));
    }
    let id = wanted.id.unwrap_or_default();
    client.delete(Resource::Port, id).await?;
    match client.ensure_port(wanted).await? {
        Ensured::Created | Ensured::Kept => Ok(Done::mended(4)),
        Ensured::Differs(differences) => Err(foreign(wanted, &differences)),
    }
}

pub(super) async fn link<T: Transport>(client: &Client<T>, port: Uuid, peer: Uuid) -> Result<Done, ControllerError> {
    match client.link(port, peer).await? {
        Ensured::Created => Ok(Done { created: 0, ..Done::CREATED }),
        Ensured::Kept => Ok(Done { kept: 0, ..Done::KEPT }),
        Ensured::Differs(differences) => Err(conflict(format!("link of port {port}"), &differences)),
    }
}

/// `fresh`: its port did not exist a moment ago, so no route through it can.
pub(super) async fn route<T: Transport>(
    client: &Client<T>,
    id: Uuid,
    route: &topology::Route,
    fresh: bool,
) -> Result<Done, ControllerError> {
    let dialect = client.dialect().await?;
    let wanted = Route::from_topology(id, route, dialect);
    if fresh && dialect.chooses_id(Resource::Route) {
        match client.create(&wanted).await {
            Ok(_) => return Ok(Done::CREATED),
            // It may have been made: the list of the router's routes tells.
            Err(error) if error.is_uncertain() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let Some(differences) = differing(client.ensure_route(&wanted).await?) else {
        let looked = usize::from(dialect.chooses_id(Resource::Route));
        return Ok(Done { rounds: 1 + looked, ..Done::CREATED });
    };
    if differences.is_empty() {
        return Ok(Done::KEPT);
    }
    if owned_otherwise(Kind::Route, &differences) {
        return Err(foreign(&wanted, &differences));
    }
    client.delete(Resource::Route, id).await?;
    client.create(&wanted).await?;
    Ok(Done::mended(4))
}

/// Ensures an object all of whose fields can be changed in place.
async fn in_place<T: Transport, O: Object>(
    client: &Client<T>,
    wanted: &O,
    change: impl FnOnce(&mut O),
) -> Result<Done, ControllerError> {
    match differing(client.ensure(wanted).await?) {
        None => Ok(Done::CREATED),
        Some(differences) if differences.is_empty() => Ok(Done::KEPT),
        Some(differences) if only(&differences, IN_PLACE) => update(client, wanted, change).await,
        Some(differences) => Err(foreign(wanted, &differences)),
    }
}

/// A PUT replaces the whole object: what others set is read and sent again.
async fn update<T: Transport, O: Object>(
    client: &Client<T>,
    wanted: &O,
    change: impl FnOnce(&mut O),
) -> Result<Done, ControllerError> {
    let gone = || ControllerError {
        object: format!("update {}", shown(wanted)),
        failure: Failure::Absent,
        message: "it was deleted meanwhile".to_owned(),
    };
    let id = wanted.id().ok_or_else(gone)?;
    let mut found = client.get::<O>(id).await?.ok_or_else(gone)?;
    change(&mut found);
    client.update(&found).await?;
    Ok(Done::mended(4))
}

/// None: it was created. Else what differs, which may be nothing.
fn differing(ensured: Ensured) -> Option<Vec<FieldDifference>> {
    match ensured {
        Ensured::Created => None,
        Ensured::Kept => Some(Vec::new()),
        Ensured::Differs(differences) => Some(differences),
    }
}

fn only(differences: &[FieldDifference], fields: &[&str]) -> bool {
    differences.iter().all(|difference| fields.contains(&difference.field.as_str()))
}

/// A port of another type belongs to another kind of device; the type of a route or rule is what it does.
pub(super) fn owned_otherwise(kind: Kind, differences: &[FieldDifference]) -> bool {
    let says_whose = |field: &str| OWNER.contains(&field) || (kind == Kind::Port && field == "type");
    differences.iter().any(|difference| says_whose(&difference.field))
}

pub(super) fn foreign<O: Object>(wanted: &O, differences: &[FieldDifference]) -> ControllerError {
    conflict(shown(wanted), differences)
}

/// There is something, and it is not what it should be.
pub(super) fn conflict(object: String, differences: &[FieldDifference]) -> ControllerError {
    let message = differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    ControllerError { object, failure: Failure::Conflict, message }
}

fn shown<O: Object>(object: &O) -> String {
    object.id().map_or_else(|| O::RESOURCE.to_string(), |id| format!("{} {id}", O::RESOURCE))
}
