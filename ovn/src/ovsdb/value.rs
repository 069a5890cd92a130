//! Values of columns: how OVSDB writes them in JSON (RFC 7047, section 5.1), and back.
//!
//! # Guarantees
//! - One value has one form in memory, whatever form the server chose: a scalar is a set of one.
//! - What cannot be read is an error with the place, never a value that was guessed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};
use uuid::Uuid;

/// One atom: RFC 7047's `<atom>`. Real numbers are left out: no column that Atoll uses holds one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Atom {
    /// An integer.
    Integer(i64),
    /// A Boolean.
    Boolean(bool),
    /// A string.
    Text(String),
    /// A reference to a row.
    Uuid(Uuid),
}

impl From<&str> for Atom {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Atom {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Uuid> for Atom {
    fn from(uuid: Uuid) -> Self {
        Self::Uuid(uuid)
    }
}

impl From<i64> for Atom {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<bool> for Atom {
    fn from(yes: bool) -> Self {
        Self::Boolean(yes)
    }
}

/// The value of a column: RFC 7047's `<value>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A set. A column with one value is a set of one, an absent optional value the empty set.
    Set(BTreeSet<Atom>),
    /// A map.
    Map(BTreeMap<Atom, Atom>),
}

/// A value that is no value of OVSDB.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a value of OVSDB: {0}")]
pub struct NotValue(String);

impl Value {
    /// One atom.
    pub fn one(atom: impl Into<Atom>) -> Self {
        Self::Set(BTreeSet::from([atom.into()]))
    }

    /// A set.
    pub fn set<A: Into<Atom>>(atoms: impl IntoIterator<Item = A>) -> Self {
        Self::Set(atoms.into_iter().map(Into::into).collect())
    }

    /// A map from strings to strings.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::Map(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }

    /// The empty set.
    pub fn none() -> Self {
        Self::Set(BTreeSet::new())
    }

    /// The only atom; none if there is not exactly one.
    pub fn single(&self) -> Option<&Atom> {
        match self {
            Self::Set(atoms) if atoms.len() == 1 => atoms.first(),
            _ => None,
        }
    }

    /// The only atom, if it is a string.
    pub fn text(&self) -> Option<&str> {
        match self.single() {
            Some(Atom::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The only atom, if it is an integer.
    pub fn integer(&self) -> Option<i64> {
        match self.single() {
            Some(Atom::Integer(number)) => Some(*number),
            _ => None,
        }
    }

    /// The only atom, if it is a Boolean.
    pub fn boolean(&self) -> Option<bool> {
        match self.single() {
            Some(Atom::Boolean(yes)) => Some(*yes),
            _ => None,
        }
    }

    /// What a map holds for a key, if that is a string.
    pub fn get(&self, key: &str) -> Option<&str> {
        match self {
            Self::Map(pairs) => match pairs.get(&Atom::from(key)) {
                Some(Atom::Text(text)) => Some(text),
                _ => None,
            },
            Self::Set(_) => None,
        }
    }

    /// The references in a set.
    pub fn uuids(&self) -> impl Iterator<Item = Uuid> {
        let atoms = match self {
            Self::Set(atoms) => Some(atoms.iter()),
            Self::Map(_) => None,
        };
        atoms.into_iter().flatten().filter_map(|atom| match atom {
            Atom::Uuid(uuid) => Some(*uuid),
            _ => None,
        })
    }

    /// The strings in a set.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let atoms = match self {
            Self::Set(atoms) => Some(atoms.iter()),
            Self::Map(_) => None,
        };
        atoms.into_iter().flatten().filter_map(|atom| match atom {
            Atom::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// Whether it has all of another value.
    pub fn includes(&self, part: &Self) -> bool {
        match (self, part) {
            (Self::Map(map), Self::Map(part)) => part.iter().all(|(key, value)| map.get(key) == Some(value)),
            (Self::Set(set), Self::Set(part)) => part.is_subset(set),
            _ => false,
        }
    }

    /// Whether it has nothing of another value.
    pub fn excludes(&self, part: &Self) -> bool {
        match (self, part) {
            (Self::Map(map), Self::Map(part)) => part.iter().all(|(key, value)| map.get(key) != Some(value)),
            (Self::Set(set), Self::Set(part)) => part.is_disjoint(set),
            _ => true,
        }
    }

    /// As OVSDB writes it.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Set(atoms) => match self.single() {
                Some(atom) => atom.to_json(),
                None => json!(["set", atoms.iter().map(Atom::to_json).collect::<Vec<_>>()]),
            },
            Self::Map(pairs) => {
                let pairs: Vec<_> = pairs.iter().map(|(key, value)| json!([key.to_json(), value.to_json()])).collect();
                json!(["map", pairs])
            }
        }
    }

    /// Reads what OVSDB wrote.
    ///
    /// # Errors
    /// It is no value, or it holds a real number.
    pub fn from_json(json: &Json) -> Result<Self, NotValue> {
        let parts = json.as_array().and_then(|parts| match parts.as_slice() {
            [Json::String(kind), Json::Array(items)] => Some((kind.as_str(), items)),
            _ => None,
        });
        match parts {
            Some(("set", items)) => Ok(Self::Set(items.iter().map(Atom::from_json).collect::<Result<_, _>>()?)),
            Some(("map", items)) => {
                let pair = |item: &Json| match item.as_array().map(Vec::as_slice) {
                    Some([key, value]) => Ok((Atom::from_json(key)?, Atom::from_json(value)?)),
                    _ => Err(NotValue::of(item)),
                };
                Ok(Self::Map(items.iter().map(pair).collect::<Result<_, _>>()?))
            }
            _ => Ok(Self::one(Atom::from_json(json)?)),
        }
    }
}

impl Atom {
    /// As OVSDB writes it.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Integer(number) => json!(number),
            Self::Boolean(yes) => json!(yes),
            Self::Text(text) => json!(text),
            Self::Uuid(uuid) => json!(["uuid", uuid.to_string()]),
        }
    }

    fn from_json(json: &Json) -> Result<Self, NotValue> {
        let otherwise = || NotValue::of(json);
        match json {
            Json::Bool(yes) => Ok(Self::Boolean(*yes)),
            Json::Number(number) => number.as_i64().map(Self::Integer).ok_or_else(otherwise),
            Json::String(text) => Ok(Self::Text(text.clone())),
            Json::Array(parts) => match parts.as_slice() {
                [Json::String(kind), Json::String(uuid)] if kind == "uuid" => {
                    uuid.parse().map(Self::Uuid).map_err(|_| otherwise())
                }
                _ => Err(otherwise()),
            },
            Json::Null | Json::Object(_) => Err(otherwise()),
        }
    }
}

impl NotValue {
    /// Shows the begin of what was read: it may be large.
    pub(super) fn of(json: &Json) -> Self {
        Self(json.to_string().chars().take(80).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_value_is_read_and_written() {
        let uuid = Uuid::from_u128(7);
        let reference = json!(["uuid", uuid.to_string()]);
        for (value, written) in [
            (Value::one(5), json!(5)),
            (Value::one(true), json!(true)),
            (Value::one("a"), json!("a")),
            (Value::one(uuid), reference.clone()),
            (Value::none(), json!(["set", []])),
            (Value::set(["a", "b"]), json!(["set", ["a", "b"]])),
            (Value::set([uuid]), reference.clone()),
            (Value::map([("a", "b")]), json!(["map", [["a", "b"]]])),
            (Value::Map(BTreeMap::new()), json!(["map", []])),
        ] {
            assert_eq!(value.to_json(), written);
            assert_eq!(Value::from_json(&written), Ok(value));
        }
        assert_eq!(Value::from_json(&json!(["set", [reference]])), Ok(Value::one(uuid)), "a set of one is that one");
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for wrong in [
            json!(null),
            json!({}),
            json!(1.5),
            json!([]),
            json!(["set"]),
            json!(["set", 5]),
            json!(["set", [null]]),
            json!(["set", [["set", []]]]),
            json!(["map", [["a"]]]),
            json!(["map", ["a"]]),
            json!(["uuid", "x"]),
            json!(["named-uuid", "x"]),
        ] {
            assert!(Value::from_json(&wrong).is_err(), "{wrong}");
        }
    }
}
