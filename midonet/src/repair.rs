//! Creates one object. An object that exists already is read, and updated where it differs.
//!
//! Updated in place: whether the object is up, its filter chains, its `vifId`. A port with another address, and a route or
//! rule with other fields, is deleted and created again; later levels create what was deleted with it. An object of another
//! owner or device, or a port that is linked elsewhere, is not ours: it is reported.

use atoll_model::topology::{self, Kind};
use atoll_sdn_client::Resource;
use atoll_sdn_client::api::{ApiObject, Bridge, Chain, Port, Route, Router};
use atoll_sdn_client::compare::FieldDifference;
use atoll_sdn_client::transport::Transport;
use atoll_sdn_client::{Client, Ensured};
use uuid::Uuid;

use crate::error::MidoNetError;
use crate::ownership::{conflict, foreign, is_foreign, shown};
use crate::step::StepResult;
use atoll_network::EngineFailure;

/// Fields that a PUT can change in either dialect.
const IN_PLACE: &[&str] = &["adminStateUp", "inboundFilterId", "outboundFilterId", "vifId"];

/// An object with such fields.
pub(crate) trait InPlace: ApiObject {
    /// Takes these fields from `wanted`.
    fn update_from(&mut self, wanted: &Self);
}

macro_rules! in_place {
    ($($object:ty: $($field:ident),+;)+) => {
        $(impl InPlace for $object {
            fn update_from(&mut self, wanted: &Self) {
                $(self.$field = wanted.$field;)+
            }
        })+
    };
}

in_place! {
    Router: admin_state_up, inbound_filter_id, outbound_filter_id;
    Bridge: admin_state_up, inbound_filter_id, outbound_filter_id;
    Port: admin_state_up, inbound_filter_id, outbound_filter_id, vif_id;
}

pub(crate) async fn chain<T: Transport>(client: &Client<T>, wanted: &Chain) -> Result<StepResult, MidoNetError> {
    match client.ensure(wanted).await? {
        Ensured::Created => Ok(StepResult::CREATED),
        Ensured::Kept => Ok(StepResult::KEPT),
        Ensured::Differs(differences) => Err(foreign(wanted, &differences)),
    }
}

/// A router or a bridge: every field that can differ can be updated in place.
pub(crate) async fn device<T: Transport, O: InPlace>(
    client: &Client<T>,
    wanted: &O,
) -> Result<StepResult, MidoNetError> {
    match differing(client.ensure(wanted).await?) {
        None => Ok(StepResult::CREATED),
        Some(differences) if differences.is_empty() => Ok(StepResult::KEPT),
        Some(differences) if only(&differences, IN_PLACE) => update(client, wanted).await,
        Some(differences) => Err(foreign(wanted, &differences)),
    }
}

pub(crate) async fn port<T: Transport>(client: &Client<T>, wanted: &Port) -> Result<StepResult, MidoNetError> {
    let Some(differences) = differing(client.ensure_port(wanted).await?) else {
        return Ok(StepResult::CREATED);
    };
    if differences.is_empty() {
        return Ok(StepResult::KEPT);
    }
    if only(&differences, IN_PLACE) {
        return update(client, wanted).await;
    }
    if is_foreign(Kind::Port, &differences) {
        return Err(foreign(wanted, &differences));
    }
    let id = wanted.id.unwrap_or_default();
    client.delete(Resource::Port, id).await?;
    match client.ensure_port(wanted).await? {
        Ensured::Created | Ensured::Kept => Ok(StepResult::updated(4)),
        Ensured::Differs(differences) => Err(foreign(wanted, &differences)),
    }
}

pub(crate) async fn link<T: Transport>(client: &Client<T>, port: Uuid, peer: Uuid) -> Result<StepResult, MidoNetError> {
    match client.link(port, peer).await? {
        Ensured::Created => Ok(StepResult { created: 0, ..StepResult::CREATED }),
        Ensured::Kept => Ok(StepResult { kept: 0, ..StepResult::KEPT }),
        Ensured::Differs(differences) => Err(conflict(format!("link of port {port}"), &differences)),
    }
}

/// `is_new_port`: its port did not exist before, so there is no route through it.
pub(crate) async fn route<T: Transport>(
    client: &Client<T>,
    id: Uuid,
    route: &topology::Route,
    is_new_port: bool,
) -> Result<StepResult, MidoNetError> {
    let dialect = client.dialect().await?;
    let wanted = Route::from_topology(id, route, dialect);
    if is_new_port && Resource::Route.has_server_id(dialect) {
        match client.create(&wanted).await {
            Ok(_) => return Ok(StepResult::CREATED),
            // It may exist: the list of the router's routes shows it.
            Err(error) if error.is_uncertain() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let Some(differences) = differing(client.ensure_route(&wanted).await?) else {
        let reads = usize::from(Resource::Route.has_server_id(dialect));
        return Ok(StepResult { rounds: 1 + reads, ..StepResult::CREATED });
    };
    if differences.is_empty() {
        return Ok(StepResult::KEPT);
    }
    if is_foreign(Kind::Route, &differences) {
        return Err(foreign(&wanted, &differences));
    }
    client.delete(Resource::Route, id).await?;
    client.create(&wanted).await?;
    Ok(StepResult::updated(4))
}

/// A PUT replaces the whole object, so the fields of others are read and sent again.
async fn update<T: Transport, O: InPlace>(client: &Client<T>, wanted: &O) -> Result<StepResult, MidoNetError> {
    let gone = || MidoNetError {
        object: format!("update {}", shown(wanted)),
        failure: EngineFailure::Absent,
        message: "it was deleted meanwhile".to_owned(),
    };
    let id = wanted.id().ok_or_else(gone)?;
    let mut found = client.get::<O>(id).await?.ok_or_else(gone)?;
    found.update_from(wanted);
    client.update(&found).await?;
    Ok(StepResult::updated(4))
}

/// `None`: the object was created. Otherwise its differences, which may be none.
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
