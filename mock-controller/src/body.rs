//! Reading the fields of a request as leniently as the real server does.
//!
//! Unknown fields are ignored, a null is an absent field, numbers and flags may come as strings. What cannot be read at
//! all is a 400 that names the field; a value that can be read and is out of range is for the resource to judge.
//!
//! Written by hand: serde's typed structs refuse or ignore what this server must accept or name (numbers as strings, one
//! violation per field).

use crate::wording::Wording as _;
use std::net::{IpAddr, Ipv4Addr};

use atoll_model::attachment::Mac;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::refusal::Refusal;
use atoll_sdn_client::Dialect;

/// The JSON object of a request.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    fields: Map<String, Value>,
    dialect: Dialect,
}

type Field<T> = Result<Option<T>, Refusal>;

impl Body {
    /// Parses `bytes`. serde_json bounds the depth itself (128), the shell bounds the size; of a key that comes twice
    /// the last one counts.
    pub(crate) fn parse(bytes: &[u8], dialect: Dialect) -> Result<Self, Refusal> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => Ok(Self { fields, dialect }),
            Ok(_) => Err(dialect.unreadable("a JSON object is expected")),
            Err(error) => Err(dialect.unreadable(error.to_string())),
        }
    }

    /// A body without fields.
    pub(crate) fn empty(dialect: Dialect) -> Self {
        Self { fields: Map::new(), dialect }
    }

    /// Reads a JSON object that is an element of another body.
    pub(crate) fn nested(value: &Value, dialect: Dialect) -> Result<Self, Refusal> {
        match value {
            Value::Object(fields) => Ok(Self { fields: fields.clone(), dialect }),
            _ => Err(dialect.unreadable("a JSON object is expected")),
        }
    }

    /// The value as it came; null counts as absent.
    pub(crate) fn raw(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    fn unreadable<T>(&self, name: &str, expected: &str) -> Field<T> {
        Err(self.dialect.unreadable(format!("field {name}: {expected} is expected")))
    }

    /// A text; numbers and flags are taken as text.
    pub(crate) fn text(&self, name: &str) -> Field<String> {
        match self.raw(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(Value::Bool(flag)) => Ok(Some(flag.to_string())),
            Some(_) => self.unreadable(name, "a text"),
        }
    }

    /// An id.
    pub(crate) fn uuid(&self, name: &str) -> Field<Uuid> {
        match self.text(name)? {
            None => Ok(None),
            Some(text) => match parse_uuid(&text) {
                Some(id) => Ok(Some(id)),
                None => self.unreadable(name, "a UUID"),
            },
        }
    }

    /// A list of ids. An empty list is an absent one.
    pub(crate) fn uuids(&self, name: &str) -> Result<Vec<Uuid>, Refusal> {
        let Some(value) = self.raw(name) else { return Ok(Vec::new()) };
        let ids = value
            .as_array()
            .and_then(|list| list.iter().map(|id| id.as_str().and_then(parse_uuid)).collect::<Option<Vec<_>>>());
        match ids {
            Some(ids) => Ok(ids),
            None => self.unreadable(name, "a list of UUIDs").map(Option::unwrap_or_default),
        }
    }

    /// A flag.
    pub(crate) fn flag(&self, name: &str) -> Field<bool> {
        match self.raw(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(Value::Number(number)) => Ok(Some(number.as_i64() != Some(0))),
            Some(_) => self.unreadable(name, "true or false"),
        }
    }

    /// A whole number.
    pub(crate) fn int(&self, name: &str) -> Field<i64> {
        let number = match self.raw(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_i64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        if number.is_some() { Ok(number) } else { self.unreadable(name, "a whole number") }
    }

    /// An IPv4 address; the outer error is for what is no text, the inner one for a text that is no address.
    pub(crate) fn ipv4(&self, name: &str) -> Field<Result<Ipv4Addr, ()>> {
        Ok(self.text(name)?.map(|text| parse_ipv4(&text).ok_or(())))
    }

    /// A MAC address, as [`Body::ipv4`].
    pub(crate) fn mac(&self, name: &str) -> Field<Result<Mac, ()>> {
        Ok(self.text(name)?.map(|text| text.parse().map_err(|_| ())))
    }
}

/// A UUID in its canonical form, any case. Other forms (braces, no hyphens) are not what the API takes.
pub(crate) fn parse_uuid(text: &str) -> Option<Uuid> {
    if text.len() == 36 { Uuid::try_parse(text).ok() } else { None }
}

/// An IPv4 address as the real server takes it: each number in decimal, of up to three digits, zeros before it or not.
pub(crate) fn parse_ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut numbers = text.split('.').map(|number| {
        let digits = (1..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
        number.parse::<u8>().ok().filter(|_| digits)
    });
    let mut next = || numbers.next().flatten();
    let address = Ipv4Addr::new(next()?, next()?, next()?, next()?);
    numbers.next().is_none().then_some(address)
}

/// An address of either family.
pub(crate) fn parse_ip(text: &str) -> Option<IpAddr> {
    parse_ipv4(text).map(IpAddr::V4).or_else(|| text.parse().ok().filter(IpAddr::is_ipv6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_zeros_are_decimal_and_nothing_else_is_taken() {
        assert_eq!(parse_ipv4("010.000.0.001"), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(parse_ipv4("255.255.255.255"), Some(Ipv4Addr::BROADCAST));
        for wrong in
            ["", "10.0.0", "10.0.0.1.2", "10.0.0.256", "10.0.0.0001", "10.0.0.+1", "0x0a.0.0.1", "10..0.1", "10.0.0.1 "]
        {
            assert_eq!(parse_ipv4(wrong), None, "{wrong}");
        }
        assert_eq!(parse_ip("fd00:0000::0001"), "fd00::1".parse().ok());
        assert_eq!(parse_ip("010.0.0.1"), Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))));
    }
}
