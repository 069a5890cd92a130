//! One object of the configuration, which knows where it is: typed reads whose errors name key, value and expectation.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde_json::{Map, Value};

use super::url::is_base_url;
use crate::config::ConfigError;

const ONLY_IPV4: &str = "IPv4; keys for IPv6 end in 6";

/// One object of the configuration and where it is; absent is the same as empty.
pub(super) struct Section<'a> {
    pub(super) path: String,
    pub(super) object: Option<&'a Map<String, Value>>,
}

impl<'a> Section<'a> {
    pub(super) fn at(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn wrong(&self, key: &str, given: &Value, expected: &str) -> ConfigError {
        wrong(&self.at(key), given, expected)
    }

    pub(super) fn missing(&self, key: &str, expected: &str) -> ConfigError {
        ConfigError { key: self.at(key), problem: format!("it is missing, expected is {expected}") }
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        #[cfg(test)]
        super::documented::asked(&self.at(key));
        self.object?.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn section(&self, key: &str) -> Result<Section<'a>, ConfigError> {
        let object = match self.get(key) {
            None => None,
            Some(Value::Object(object)) => Some(object),
            Some(other) => return Err(self.wrong(key, other, "an object")),
        };
        Ok(Section { path: self.at(key), object })
    }

    /// A text; the empty one is the same as none.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(other) => Err(self.wrong(key, other, "a text")),
        }
    }

    pub(super) fn list(&self, key: &str, expected: &str) -> Result<&'a [Value], ConfigError> {
        match self.get(key) {
            None => Ok(&[]),
            Some(Value::Array(list)) => Ok(list),
            Some(other) => Err(self.wrong(key, other, expected)),
        }
    }

    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>, ConfigError> {
        let one = |(n, value): (usize, &Value)| match value {
            Value::String(text) => Ok(text.clone()),
            other => Err(self.wrong(&format!("{key}[{n}]"), other, "a text")),
        };
        self.list(key, "a list of texts")?.iter().enumerate().map(one).collect()
    }

    pub(super) fn parsed<T: FromStr>(&self, key: &str, expected: &str) -> Result<Option<T>, ConfigError> {
        let refuse = |text: &str| self.wrong(key, &text.into(), expected);
        self.text(key)?.map(|text| text.parse().map_err(|_| refuse(text))).transpose()
    }

    pub(super) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<Option<T>, ConfigError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text) {
            return Ok(Some(*choice));
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        Err(self.wrong(key, &text.into(), &names.join(" or ")))
    }

    pub(super) fn number(&self, key: &str, range: std::ops::RangeInclusive<u64>) -> Result<Option<u64>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        if let Some(n) = value.as_u64().filter(|n| range.contains(n)) {
            return Ok(Some(n));
        }
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        Err(self.wrong(key, value, &expected))
    }

    pub(super) fn path(&self, key: &str) -> Result<Option<PathBuf>, ConfigError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        // A runtime starts us in any directory; and a path with a NUL names no file.
        if !text.starts_with('/') || text.contains('\0') {
            return Err(self.wrong(key, &text.into(), "an absolute path"));
        }
        Ok(Some(text.into()))
    }

    pub(super) fn address(&self, key: &str) -> Result<Option<IpAddr>, ConfigError> {
        self.parsed::<IpAddr>(key, "an IP address")
    }

    /// A network of either family, without host bits.
    pub(super) fn network(&self, key: &str, example: &str) -> Result<Option<IpNetwork>, ConfigError> {
        let expected = format!("a network like \"{example}\"");
        let Some(network) = self.parsed::<IpNetwork>(key, &expected)? else { return Ok(None) };
        if network.ip() != network.network() {
            let expected = format!("the network itself, {}/{}", network.network(), network.prefix());
            return Err(self.wrong(key, &network.to_string().into(), &expected));
        }
        Ok(Some(network))
    }

    pub(super) fn network4(&self, key: &str) -> Result<Option<Ipv4Network>, ConfigError> {
        match self.network(key, "10.128.0.0/9")? {
            None => Ok(None),
            Some(IpNetwork::V4(network)) => Ok(Some(network)),
            Some(IpNetwork::V6(network)) => Err(self.wrong(key, &network.to_string().into(), ONLY_IPV4)),
        }
    }

    pub(super) fn network6(&self, key: &str) -> Result<Option<Ipv6Network>, ConfigError> {
        match self.network(key, "fd00:10:128::/48")? {
            None => Ok(None),
            Some(IpNetwork::V6(network)) => Ok(Some(network)),
            Some(IpNetwork::V4(network)) => Err(self.wrong(key, &network.to_string().into(), "IPv6")),
        }
    }

    pub(super) fn pool(
        &self,
        key: &str,
        longest: u8,
        default: [u8; 4],
        prefix: u8,
    ) -> Result<Ipv4Network, ConfigError> {
        let pool = match self.network4(key)? {
            Some(pool) => pool,
            None => Ipv4Network::new(default.into(), prefix).expect("the defaults are networks"),
        };
        if !(1..=longest).contains(&pool.prefix()) {
            let expected = format!("a prefix length from 1 to {longest}");
            return Err(self.wrong(key, &pool.to_string().into(), &expected));
        }
        Ok(pool)
    }

    /// `endpoints`: it has no default, because a wrong default could be the store or controller of another
    /// installation.
    pub(super) fn endpoints(&self, with_path: bool) -> Result<Vec<String>, ConfigError> {
        let example = if with_path { "http://127.0.0.1:8181/midonet-api" } else { "http://127.0.0.1:2379" };
        let expected = format!("a list of URLs like \"{example}\"");
        let list = self.list("endpoints", &expected)?;
        if list.is_empty() {
            return Err(self.missing("endpoints", &expected));
        }
        let mut endpoints = Vec::new();
        for (n, value) in list.iter().enumerate() {
            let key = format!("endpoints[{n}]");
            let url = value.as_str().map(|url| url.trim_end_matches('/'));
            match url {
                Some(url) if url.contains('@') => {
                    // Not shown: what stands before the '@' may be a password.
                    let problem = "a user name in the URL is not allowed; secrets belong in files".to_owned();
                    return Err(ConfigError { key: self.at(&key), problem });
                }
                Some(url) if is_base_url(url, with_path) => endpoints.push(url.to_owned()),
                _ => return Err(self.wrong(&key, value, &format!("a URL like \"{example}\""))),
            }
        }
        Ok(endpoints)
    }
}

pub(in crate::config) fn wrong(key: &str, given: &Value, expected: &str) -> ConfigError {
    let mut given = given.to_string();
    if given.chars().count() > 80 {
        given = given.chars().take(79).chain(['…']).collect();
    }
    ConfigError { key: key.to_owned(), problem: format!("{given} was given, expected is {expected}") }
}
