//! Compares an existing object with the wanted one, field by field.
//!
//! Fields that change the meaning of an object are compared, after the dialect's sentinels are replaced. Not compared: names
//! (an operator may rename objects), URIs of sub-resources, the position of a rule, and fields that the wanted object leaves
//! open.

use serde_json::Value;

use crate::api::{self, ApiObject};
use crate::dialect::Dialect;
use crate::resource::Resource;

/// A field that is not as wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldDifference {
    /// Its name in the JSON.
    pub field: String,
    /// The wanted value, as JSON.
    pub wanted: String,
    /// The present value, as JSON.
    pub found: String,
}

impl std::fmt::Display for FieldDifference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is {}, should be {}", self.field, self.found, self.wanted)
    }
}

/// Fields that a request may leave to the server: compared only when the wanted object sets them.
const ONLY_IF_WANTED: &[&str] =
    &["portMac", "hostId", "interfaceName", "peerId", "fragmentPolicy", "loadBalancerId", "asNumber"];

/// Fields that are never compared.
const NEVER: &[&str] = &[
    "id",
    "name",
    "uri",
    "active",
    "tunnelKey",
    "position",
    "jumpChainName",
    "meterName",
    "attributes",
    "learned",
    "vxLanPortIds",
    "vxLanPortId",
    "alive",
    "addresses",
    "hostInterfaces",
    "floodingProxyWeight",
    "containerWeight",
    "containerLimit",
    "enforceContainerLimit",
];

/// The fields in which `found` differs from `wanted`.
pub fn differences<O: ApiObject>(dialect: Dialect, wanted: &O, found: &O) -> Vec<FieldDifference> {
    let (wanted, found) = (api::full(wanted), api::full(found));
    let mut differences = Vec::new();
    // The keys of an empty object are the fields that this project knows.
    for field in api::full(&O::default()).keys() {
        let key = field.as_str();
        let wanted = canonical(dialect, O::RESOURCE, key, wanted.get(key).unwrap_or(&Value::Null));
        let found = canonical(dialect, O::RESOURCE, key, found.get(key).unwrap_or(&Value::Null));
        let is_compared = !wanted.is_null() || !ONLY_IF_WANTED.contains(&key);
        if is_compared && wanted != found && !NEVER.contains(&key) {
            let (wanted, found) = (wanted.to_string(), found.to_string());
            differences.push(FieldDifference { field: field.clone(), wanted, found });
        }
    }
    differences
}

/// The canonical form of a value: unset values are null, and MAC addresses are in lower case.
fn canonical(dialect: Dialect, resource: Resource, field: &str, value: &Value) -> Value {
    let number = || value.as_i64().and_then(|n| i32::try_from(n).ok());
    match value {
        Value::Number(_) if field == "vlanId" => Dialect::vlan(number()).map_or(Value::Null, Value::from),
        Value::Number(_) if matches!(field, "nwProto" | "nwTos") => {
            dialect.protocol_or_tos(number()).map_or(Value::Null, Value::from)
        }
        // 1.9 sets the fields of the other kind of port to -1, and a length without an address to 0.
        Value::Number(n) if resource != Resource::Route && matches!(n.as_i64(), Some(-1 | 0)) => Value::Null,
        Value::Bool(false) => Value::Null,
        Value::Array(list) if list.is_empty() => Value::Null,
        Value::String(text) if text.is_empty() => Value::Null,
        Value::String(text) if matches!(field, "portMac" | "dlSrc" | "dlDst") => Value::from(text.to_ascii_lowercase()),
        other => other.clone(),
    }
}
