//! The capabilities that an entry declares in `capabilities`, and the requests for them in `runtimeConfig`.
//!
//! A runtime passes a request to every plugin whose entry declares its capability, and does not learn whether the plugin
//! handles it. So Atoll refuses an ADD that requests a capability that Atoll does not implement: otherwise a pod would run
//! without the host port, or the limit, that its owner requested. A value that requests nothing (an empty list, a rate of
//! zero) is not a request.

use serde_json::Value;

use super::request::{Request, RequestError, any_case};

/// The capabilities that Atoll serves, in `address_request` and `request`.
const SERVED: [&str; 4] = ["ips", "mac", "dns", super::address_request::ANNOTATIONS];

/// Capabilities that inform a plugin and request nothing for the interface.
const INFORMATIVE: [&str; 2] = ["cgroupPath", "aliases"];

/// Capabilities that other plugins serve, and the remedy for each.
const OTHERS: [(&str, &str); 6] = [
    (
        "portMappings",
        "Atoll maps no host ports: put the plugin portmap behind it and declare the capability in the entry of portmap",
    ),
    (
        "bandwidth",
        "Atoll limits no rates: put the plugin bandwidth behind it and declare the capability in the entry of bandwidth",
    ),
    (
        "ipRanges",
        "addresses come from the tenant's subnets: choose one with the key `subnet`, and take the capability out",
    ),
    ("infinibandGUID", "Atoll's interface is Ethernet: take the capability out of Atoll's entry"),
    ("deviceID", "Atoll makes its interface and hands over no device: take the capability out of Atoll's entry"),
    (
        "aliases",
        "Atoll gives no names: put a DNS plugin behind it and declare the capability in the entry of that plugin",
    ),
];

const UNKNOWN: &str = "Atoll does not serve this capability: take it out of `capabilities` of Atoll's entry";

impl Request {
    /// Refuses what a runtime asks for and we do not do.
    pub fn refuse_unserved(&self) -> Result<(), RequestError> {
        let asked = self.input("runtimeConfig").and_then(Value::as_object);
        for (key, value) in asked.into_iter().flatten() {
            let is = |known: &&str| known.eq_ignore_ascii_case(key);
            if SERVED.iter().chain(&INFORMATIVE).any(is) || !asks(key, value) {
                continue;
            }
            return Err(RequestError::Unsupported {
                key: format!("runtimeConfig.{key}"),
                value: value.to_string().chars().take(80).collect(),
                reason: remedy(key),
            });
        }
        Ok(())
    }
}

/// The capabilities that an entry of a list declares and Atoll does not serve, each with what to do about it.
pub fn unserved(entry: &Value) -> Vec<(String, &'static str)> {
    let declared = entry.get("capabilities").and_then(Value::as_object);
    let declared = declared.into_iter().flatten().filter(|(_, value)| **value == Value::Bool(true));
    let is_served = |key: &str| SERVED.iter().chain(["cgroupPath"].iter()).any(|known| known.eq_ignore_ascii_case(key));
    declared.filter(|(key, _)| !is_served(key)).map(|(key, _)| (key.clone(), remedy(key))).collect()
}

fn remedy(key: &str) -> &'static str {
    OTHERS.iter().find(|(known, _)| known.eq_ignore_ascii_case(key)).map_or(UNKNOWN, |(_, remedy)| remedy)
}

/// Whether a value requests anything. containerd sends zeros as the limits of a pod that has none.
fn asks(key: &str, value: &Value) -> bool {
    let positive = |value: Option<&Value>| value.is_some_and(|value| !is_nothing(value));
    if key.eq_ignore_ascii_case("bandwidth") && value.is_object() {
        return ["ingressRate", "egressRate"].iter().any(|rate| positive(any_case(value, rate)));
    }
    match value {
        // A port of the container that no port of the host is mapped to.
        Value::Array(list) if key.eq_ignore_ascii_case("portMappings") => {
            list.iter().any(|mapping| !mapping.is_object() || positive(any_case(mapping, "hostPort")))
        }
        other => !is_nothing(other),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.trim().is_empty(),
        Value::Array(list) => list.iter().all(is_nothing),
        Value::Object(object) => object.values().all(is_nothing),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::request::Environment;
    use super::*;
    use crate::error::Classify;

    fn request(runtime: &Value) -> Request {
        let environment = Environment::read(|name| {
            let value = match name {
                "CNI_COMMAND" => "ADD",
                "CNI_CONTAINERID" => "3f9a",
                "CNI_NETNS" => "/n",
                "CNI_IFNAME" => "eth0",
                _ => return None,
            };
            Some(value.into())
        });
        let input = json!({ "cniVersion": "1.0.0", "name": "net", "runtimeConfig": runtime });
        Request::read(environment.expect("valid").expect("a command"), input.to_string().as_bytes()).expect("valid")
    }

    #[test]
    fn a_capability_without_a_plugin_is_refused_with_key_value_and_remedy() {
        for (runtime, key, remedy) in [
            (
                json!({ "portMappings": [{ "HostPort": 8080, "ContainerPort": 80 }] }),
                "runtimeConfig.portMappings",
                "portmap",
            ),
            (json!({ "portmappings": "80" }), "runtimeConfig.portmappings", "portmap"),
            (json!({ "bandwidth": { "IngressRate": 0, "EgressRate": 7 } }), "runtimeConfig.bandwidth", "bandwidth"),
            (json!({ "ipRanges": [[{ "subnet": "10.9.9.0/24" }]] }), "runtimeConfig.ipRanges", "`subnet`"),
            (json!({ "infinibandGUID": "c2:11" }), "runtimeConfig.infinibandGUID", "Ethernet"),
            (json!({ "deviceID": "0000:00:1f.6" }), "runtimeConfig.deviceID", "no device"),
            (json!({ "teleport": true }), "runtimeConfig.teleport", "`capabilities`"),
        ] {
            let error = request(&runtime).refuse_unserved().expect_err(key);
            assert_eq!(error.class().cni_code(), 2, "{error}");
            assert!(error.to_string().contains(key) && error.to_string().contains(remedy), "{error}");
        }
    }

    #[test]
    fn what_asks_for_nothing_or_is_served_passes() {
        for runtime in [
            json!({}),
            json!({ "portMappings": [] }),
            json!({ "portMappings": [{ "HostPort": 0, "ContainerPort": 80, "Protocol": "tcp" }] }),
            json!({ "bandwidth": { "IngressRate": 0, "IngressBurst": 4_294_967_295_u32, "EgressRate": 0 } }),
            json!({ "ipRanges": [], "infinibandGUID": "", "deviceID": null }),
            json!({ "ips": ["10.0.0.7"], "Mac": "02:00:00:00:00:01", "DNS": { "Servers": ["10.0.0.1"] } }),
            json!({ "aliases": { "net": ["a"] }, "cgroupPath": "/pods/x", crate::cni::address_request::ANNOTATIONS: { "a": "b" } }),
        ] {
            request(&runtime).refuse_unserved().unwrap_or_else(|error| panic!("{runtime}: {error}"));
        }
    }

    #[test]
    fn what_is_declared_and_not_served_is_reported_without_a_request() {
        let entry = json!({ "capabilities": { "ips": true, "portMappings": true, "bandwidth": false, "x": true,
            "aliases": true, "cgroupPath": true } });
        let unserved: Vec<_> = unserved(&entry).into_iter().map(|(key, _)| key).collect();
        assert_eq!(unserved, ["aliases", "portMappings", "x"]);
        assert!(super::unserved(&json!({})).is_empty());
    }
}
