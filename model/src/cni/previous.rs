//! `prevResult`: what the chain has made so far, in the shape of any version.
//!
//! # Guarantees
//! - The format is that of the result's own `cniVersion`, or of the configuration's if it has none, as in libcni.
//! - Unneeded parts are not checked. A needed part that is malformed is an error, never a guess.

use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::request::{Request, RequestError};
use super::version::Version;
use crate::attachment::Mac;

/// A `prevResult`, independent of its version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Previous {
    /// Interfaces; none before 0.3.0.
    pub interfaces: Vec<PreviousInterface>,
    /// Addresses, each with the index of its interface in `interfaces`, if there is one.
    pub addresses: Vec<(Option<usize>, IpNetwork)>,
    /// Destinations of the routes.
    pub routes: Vec<IpNetwork>,
}

/// An interface of a previous result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviousInterface {
    /// Its name.
    pub name: String,
    /// Its MAC, if the result has it.
    pub mac: Option<Mac>,
    /// Its MTU in bytes, if the result has it.
    pub mtu: Option<u32>,
    /// Its namespace; none: it is the host's.
    pub sandbox: Option<String>,
}

impl Request {
    /// The result of the chain so far; `None`: none was passed.
    pub fn previous(&self) -> Result<Option<Previous>, RequestError> {
        self.input("prevResult").map(|value| Previous::read(value, self.version)).transpose()
    }

    /// We make the interface: an ADD behind another plugin is refused. An empty result is none.
    pub fn refuse_previous(&self) -> Result<(), RequestError> {
        let is_empty = |value: &&Value| value.as_object().is_some_and(serde_json::Map::is_empty);
        let Some(value) = self.input("prevResult").filter(|value| !is_empty(value)) else { return Ok(()) };
        Err(RequestError::Unsupported {
            key: "prevResult".to_owned(),
            value: value.to_string().chars().take(80).collect(),
            reason: "Atoll makes the interface, so it must be the first plugin of the list",
        })
    }
}

impl Previous {
    /// Reads a result. `version` is the version of a result that does not have its own `cniVersion`.
    pub fn read(value: &Value, version: Version) -> Result<Self, RequestError> {
        let shape = |what, expected| RequestError::Shape(what, expected);
        if !value.is_object() {
            return Err(shape("prevResult", "an object"));
        }
        let version = match value.get("cniVersion") {
            None | Some(Value::Null) => version,
            Some(Value::String(text)) if text.is_empty() => version,
            Some(Value::String(text)) => {
                Version::parse(text).ok_or_else(|| RequestError::Version(text.chars().take(80).collect()))?
            }
            Some(_) => return Err(shape("prevResult.cniVersion", "a text")),
        };
        if version < Version::V0_3_0 { Self::read_first(value) } else { Self::read_lists(value) }
    }

    /// 0.1.0 and 0.2.0: one address of each family.
    fn read_first(value: &Value) -> Result<Self, RequestError> {
        let mut previous = Self::default();
        for family in [&value["ip4"], &value["ip6"]] {
            if family.is_null() {
                continue;
            }
            previous.addresses.push((None, parsed(&family["ip"], "prevResult.ip4.ip", "an address with its prefix")?));
            for route in list(&family["routes"], "prevResult.ip4.routes")? {
                previous.routes.push(parsed(&route["dst"], "prevResult.ip4.routes[].dst", "a network")?);
            }
        }
        Ok(previous)
    }

    /// 0.3.0 and later.
    fn read_lists(value: &Value) -> Result<Self, RequestError> {
        let mut previous = Self::default();
        for interface in list(&value["interfaces"], "prevResult.interfaces")? {
            let name = match &interface["name"] {
                Value::String(name) => name.clone(),
                _ => return Err(RequestError::Shape("prevResult.interfaces[].name", "a text")),
            };
            let text = |key: &str| interface[key].as_str().filter(|text| !text.is_empty());
            previous.interfaces.push(PreviousInterface {
                name,
                // An InfiniBand address is no MAC, and a bridge may have none: neither is ours.
                mac: text("mac").and_then(|mac| mac.parse().ok()),
                mtu: interface["mtu"].as_u64().and_then(|mtu| u32::try_from(mtu).ok()).filter(|mtu| *mtu > 0),
                sandbox: text("sandbox").map(str::to_owned),
            });
        }
        for ip in list(&value["ips"], "prevResult.ips")? {
            let interface = match &ip["interface"] {
                Value::Null => None,
                index => {
                    let index = index.as_u64().and_then(|index| usize::try_from(index).ok());
                    let index = index.filter(|index| *index < previous.interfaces.len());
                    Some(index.ok_or(RequestError::Shape("prevResult.ips[].interface", "a place in `interfaces`"))?)
                }
            };
            let address = parsed(&ip["address"], "prevResult.ips[].address", "an address with its prefix")?;
            previous.addresses.push((interface, address));
        }
        for route in list(&value["routes"], "prevResult.routes")? {
            previous.routes.push(parsed(&route["dst"], "prevResult.routes[].dst", "a network")?);
        }
        Ok(previous)
    }
}

fn list<'a>(value: &'a Value, what: &'static str) -> Result<&'a [Value], RequestError> {
    match value {
        Value::Null => Ok(&[]),
        Value::Array(list) => Ok(list),
        _ => Err(RequestError::Shape(what, "a list")),
    }
}

fn parsed<T: FromStr>(value: &Value, what: &'static str, expected: &'static str) -> Result<T, RequestError> {
    value.as_str().and_then(|text| text.parse().ok()).ok_or(RequestError::Shape(what, expected))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cni::result::AddResult;
    use crate::config::DnsConfig;
    use crate::ids::IfName;
    use crate::route::PodRoute;

    fn attached() -> AddResult {
        AddResult {
            interface: IfName::new("eth0").expect("valid"),
            mac: Mac([2, 0, 0, 0xab, 0xcd, 0xef]),
            mtu: 1450,
            sandbox: "/run/netns/x".to_owned(),
            host_interface: IfName::new("at0123456789ab").expect("valid"),
            addresses: vec![("10.128.0.5/24".parse().expect("valid"), [10, 128, 0, 1].into())],
            routes: vec![PodRoute::plain("0.0.0.0/0".parse().expect("valid"), Some([10, 128, 0, 1].into()))],
            dns: DnsConfig::default(),
        }
    }

    /// A result that is written in a version is read back unchanged.
    #[test]
    fn every_versions_result_is_read_back() {
        for version in Version::ALL {
            let written: Value = serde_json::from_str(&attached().to_json(version)).expect("JSON");
            // The version inside counts, not the other.
            let previous = Previous::read(&written, Version::V1_1_0).expect("ours");
            let has_interfaces = version >= Version::V0_3_0;
            let place = has_interfaces.then_some(1);
            assert_eq!(previous.addresses, [(place, "10.128.0.5/24".parse().expect("valid"))], "{version}");
            assert_eq!(previous.routes, ["0.0.0.0/0".parse::<IpNetwork>().expect("valid")], "{version}");
            let mtu = (version >= Version::V1_1_0).then_some(1450);
            let pod = PreviousInterface {
                name: "eth0".to_owned(),
                mac: Some(attached().mac),
                mtu,
                sandbox: Some("/run/netns/x".to_owned()),
            };
            let host = PreviousInterface { name: "at0123456789ab".to_owned(), mac: None, mtu, sandbox: None };
            assert_eq!(previous.interfaces, if has_interfaces { vec![host, pod] } else { vec![] }, "{version}");
        }
    }

    #[test]
    fn what_others_put_in_is_taken_or_named() {
        let fine = json!({ "interfaces": [{ "name": "cni0", "mac": "", "sandbox": null, "mtu": 0 }, { "name": "ib0",
            "mac": "80:00:00:00:fe:80:00:00:00:00:00:00:00:00:00:00:00:00:00:00" }], "ips": [{ "address": "fd00::5/64",
            "interface": null }], "routes": null, "dns": {}, "colour": 7 });
        let previous = Previous::read(&fine, Version::V1_0_0).expect("valid");
        assert_eq!(previous.interfaces.iter().map(|interface| interface.mac).collect::<Vec<_>>(), [None, None]);
        assert_eq!(previous.addresses.len(), 1);
        assert_eq!(Previous::read(&json!({}), Version::V1_0_0).expect("valid"), Previous::default());
        assert_eq!(Previous::read(&json!({ "cniVersion": "" }), Version::V0_4_0).expect("valid"), Previous::default());
        for (wrong, what) in [
            (json!([]), "prevResult must be"),
            (json!({ "cniVersion": 1 }), "prevResult.cniVersion"),
            (json!({ "cniVersion": "7" }), "incompatible"),
            (json!({ "interfaces": {} }), "prevResult.interfaces"),
            (json!({ "interfaces": [{}] }), "prevResult.interfaces[].name"),
            (json!({ "ips": [{ "address": "10.0.0.1/8", "interface": 0 }] }), "prevResult.ips[].interface"),
            (json!({ "ips": [{ "address": "10.0.0.1/33" }] }), "prevResult.ips[].address"),
            (json!({ "routes": [{ "dst": 7 }] }), "prevResult.routes[].dst"),
            (json!({ "cniVersion": "0.2.0", "ip4": { "ip": "x" } }), "prevResult.ip4.ip"),
            (json!({ "cniVersion": "0.1.0", "ip4": { "ip": "10.0.0.1/8", "routes": 7 } }), "prevResult.ip4.routes"),
        ] {
            let error = Previous::read(&wrong, Version::V1_0_0).expect_err(what);
            assert!(error.to_string().contains(what), "{error}");
        }
    }
}
