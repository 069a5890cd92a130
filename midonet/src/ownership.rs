//! Whether an object with an id of ours is ours, and the errors for one that is not.

use atoll_model::topology::Kind;
use atoll_sdn_client::api::ApiObject;
use atoll_sdn_client::compare::FieldDifference;

use crate::error::MidoNetError;
use atoll_network::EngineFailure;

/// Fields that show the owner of an object. They are never changed.
const OWNER: &[&str] = &["tenantId", "deviceId", "peerId", "chainId", "routerId"];

/// Whether these differences show that the object belongs to another owner, device or peer. A port of another type belongs
/// to another kind of device; the type of a route or rule is its action.
pub(crate) fn is_foreign(kind: Kind, differences: &[FieldDifference]) -> bool {
    let shows_owner = |field: &str| OWNER.contains(&field) || (kind == Kind::Port && field == "type");
    differences.iter().any(|difference| shows_owner(&difference.field))
}

/// The error for an object that is not ours.
pub(crate) fn foreign<O: ApiObject>(wanted: &O, differences: &[FieldDifference]) -> MidoNetError {
    conflict(shown(wanted), differences)
}

/// The error for an object that differs.
pub(crate) fn conflict(object: String, differences: &[FieldDifference]) -> MidoNetError {
    let message = differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    MidoNetError { object, failure: EngineFailure::Conflict, message }
}

/// An object as errors name it.
pub(crate) fn shown<O: ApiObject>(object: &O) -> String {
    O::RESOURCE.with_id(object.id())
}
