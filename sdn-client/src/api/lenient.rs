//! Reading as the server reads: numbers and flags may be text, null is zero or false.
//!
//! MidoNet REST API, section "JSON quirks": "the server coerces leniently", and a client in the field does send numbers
//! as text.

use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};
use serde_json::Value;

/// An integer that may be absent. Fails when it is no integer or outside of `T`.
pub fn integer<'de, D: Deserializer<'de>, T: TryFrom<i64>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = match &value {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_i64(),
        Value::String(text) if text.trim().is_empty() => return Ok(None),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.and_then(|n| T::try_from(n).ok()).map(Some).ok_or_else(|| {
        let shown: String = value.to_string().chars().take(40).collect();
        D::Error::custom(format!("{shown} is not an integer of the expected range"))
    })
}

/// An integer where null means zero.
pub fn integer_or_zero<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64> + Default,
{
    Ok(integer(deserializer)?.unwrap_or_default())
}

/// A flag where null means false.
pub fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(false),
        Value::Bool(flag) => Ok(flag),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") || text.is_empty() => Ok(false),
        _ => Err(D::Error::custom("true or false is expected")),
    }
}

/// `adminStateUp`: true if it is absent, but an explicit null is false, like every null flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Up(pub bool);

impl Default for Up {
    fn default() -> Self {
        Self(true)
    }
}

impl Serialize for Up {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(self.0)
    }
}

impl<'de> Deserialize<'de> for Up {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        flag(deserializer).map(Self)
    }
}
