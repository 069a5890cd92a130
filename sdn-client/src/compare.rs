//! Whether an object that is there is the one that was wanted.
//!
//! Compared is what changes the meaning of an object, field by field, after the dialect's sentinels are taken out.
//! Not compared: names (an operator may rename things), addresses of sub-resources, a rule's place in its chain, and
//! what the wanted object has no opinion on.

use serde_json::Value;

use crate::dialect::{Dialect, Resource};
use crate::wire::{self, Object};

/// One field that is not as wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldDifference {
    /// Its name on the wire.
    pub field: String,
    /// As it should be, as JSON.
    pub wanted: String,
    /// As it is, as JSON.
    pub found: String,
}

impl std::fmt::Display for FieldDifference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is {}, should be {}", self.field, self.found, self.wanted)
    }
}

/// Fields that a request may leave to the server or to others: compared only when the wanted object sets them.
const ONLY_IF_WANTED: &[&str] =
    &["portMac", "hostId", "interfaceName", "peerId", "fragmentPolicy", "loadBalancerId", "asNumber"];

/// Fields that never matter.
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

/// The fields in which `found` is not `wanted`; empty when it is the same.
pub fn differences<O: Object>(dialect: Dialect, wanted: &O, found: &O) -> Vec<FieldDifference> {
    let (wanted, found) = (wire::full(wanted), wire::full(found));
    let mut differences = Vec::new();
    // The keys of an empty object are the fields that this project knows; whatever else is there is no opinion.
    for field in wire::full(&O::default()).keys() {
        let key = field.as_str();
        let wanted = meaning(dialect, O::RESOURCE, key, wanted.get(key).unwrap_or(&Value::Null));
        let found = meaning(dialect, O::RESOURCE, key, found.get(key).unwrap_or(&Value::Null));
        let opinion = !wanted.is_null() || !ONLY_IF_WANTED.contains(&key);
        if opinion && wanted != found && !NEVER.contains(&key) {
            let (wanted, found) = (wanted.to_string(), found.to_string());
            differences.push(FieldDifference { field: field.clone(), wanted, found });
        }
    }
    differences
}

/// A value as it is meant: what is unset is null, and texts that name one thing are one text.
fn meaning(dialect: Dialect, resource: Resource, field: &str, value: &Value) -> Value {
    let number = || value.as_i64().and_then(|n| i32::try_from(n).ok());
    match value {
        Value::Number(_) if field == "vlanId" => Dialect::vlan(number()).map_or(Value::Null, Value::from),
        Value::Number(_) if matches!(field, "nwProto" | "nwTos") => {
            dialect.protocol_or_tos(number()).map_or(Value::Null, Value::from)
        }
        // -1 is how 1.9 fills the fields of the other kind of port, 0 how it fills lengths without an address.
        Value::Number(n) if resource != Resource::Route && matches!(n.as_i64(), Some(-1 | 0)) => Value::Null,
        Value::Bool(false) => Value::Null,
        Value::Array(list) if list.is_empty() => Value::Null,
        Value::String(text) if text.is_empty() => Value::Null,
        Value::String(text) if matches!(field, "portMac" | "dlSrc" | "dlDst") => Value::from(text.to_ascii_lowercase()),
        other => other.clone(),
    }
}
