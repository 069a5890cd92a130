//! Settings for new pods that no kernel would accept: they are reported before a pod requests them.
//!
//! Only commands that create something call this: ADD and STATUS, `atollctl doctor` and `install`. A pod that was created
//! under an earlier configuration must remain deletable. Settings that depend on the pod's subnet are checked once that is
//! known.

use std::net::IpAddr;

use serde_json::Value;

use super::parse::section::wrong;
use super::{Config, ConfigError, DnsConfig, Mtu};
use crate::route::{LOCAL_TABLE, PodRoute};

/// The scope of what does not exist: rtnetlink(7), `RT_SCOPE_NOWHERE`.
const SCOPE_NOWHERE: u8 = 255;

impl Config {
    /// Refuses settings that no pod's kernel would accept, and settings that would have another effect than they state.
    pub fn refuse_impossible(&self) -> Result<(), ConfigError> {
        for (n, route) in self.routes.iter().enumerate() {
            self.refuse_route(n, route)?;
        }
        refuse_dns(&self.dns)
    }

    fn refuse_route(&self, n: usize, route: &PodRoute) -> Result<(), ConfigError> {
        let refuse =
            |key: &str, given: Value, expected: &str| Err(wrong(&format!("routes[{n}]{key}"), &given, expected));
        let PodRoute { destination, gateway, mtu, table, scope, .. } = route;
        if destination.network().is_loopback() {
            return refuse(".dst", destination.to_string().into(), "a network outside the pod itself");
        }
        let is_host = |gateway: &IpAddr| {
            let is_broadcast = matches!(gateway, IpAddr::V4(gateway) if gateway.is_broadcast());
            !(gateway.is_unspecified() || gateway.is_loopback() || gateway.is_multicast() || is_broadcast)
        };
        if let Some(gateway) = gateway.filter(|gateway| !is_host(gateway)) {
            return refuse(".gw", gateway.to_string().into(), "the address of a host");
        }
        if *scope == Some(SCOPE_NOWHERE) {
            return refuse(".scope", SCOPE_NOWHERE.into(), "at most 254: this is the scope of what does not exist");
        }
        if *table == Some(LOCAL_TABLE) {
            return refuse(".table", LOCAL_TABLE.into(), "another table than `local`, which is the kernel's own");
        }
        // The kernel would accept it, and drop packets that are larger than the interface's MTU.
        if let (Some(bytes), Mtu::Fixed(most)) = (*mtu, &self.mtu)
            && bytes > *most
        {
            return refuse(".mtu", bytes.into(), &format!("at most the interface's `mtu`, {most}"));
        }
        match self.routes[..n].iter().position(|other| other.is_instead_of(route)) {
            Some(other) => {
                let expected = format!("another destination, table or priority than those of routes[{other}]");
                refuse("", route.to_string().into(), &expected)
            }
            None => Ok(()),
        }
    }
}

fn refuse_dns(dns: &DnsConfig) -> Result<(), ConfigError> {
    let Err(unusable) = dns.refuse_unusable() else { return Ok(()) };
    let key = match unusable.what {
        "name server" => "dns.nameservers",
        "option" => "dns.options",
        _ if dns.domain.as_ref().is_some_and(|domain| unusable.given == *domain) => "dns.domain",
        _ => "dns.search",
    };
    Err(wrong(key, &unusable.given.into(), unusable.expected))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(key: &str, value: Value) -> Result<(), ConfigError> {
        let mut config = json!({ "etcd": { "endpoints": ["http://127.0.0.1:2379"] },
            "controller": { "endpoints": ["http://127.0.0.1:8181/midonet-api"] } });
        config[key] = value;
        Config::parse(&config).expect("it can be read: a DEL does").refuse_impossible()
    }

    #[test]
    fn what_no_pod_could_have_is_refused_with_key_value_and_expectation() {
        for (key, value, expected) in [
            ("routes", json!([{ "dst": "127.0.0.0/8" }]), ["routes[0].dst", "127.0.0.0/8", "outside the pod"]),
            ("routes", json!([{ "dst": "10.0.0.0/8", "gw": "0.0.0.0" }]), ["routes[0].gw", "0.0.0.0", "a host"]),
            ("routes", json!([{ "dst": "10.0.0.0/8", "gw": "224.0.0.1" }]), ["routes[0].gw", "224.0.0.1", "a host"]),
            ("routes", json!([{ "dst": "10.0.0.0/8", "gw": "127.0.0.1" }]), ["routes[0].gw", "127.0.0.1", "a host"]),
            ("routes", json!([{ "dst": "10.0.0.0/8", "scope": 255 }]), ["routes[0].scope", "255", "at most 254"]),
            ("routes", json!([{ "dst": "10.0.0.0/8", "table": 255 }]), ["routes[0].table", "255", "local"]),
            ("routes", json!([{ "dst": "10.0.0.0/8", "mtu": 1451 }]), ["routes[0].mtu", "1451", "1450"]),
            (
                "routes",
                json!([{ "dst": "10.0.0.0/8" }, { "dst": "10.0.0.0/8", "table": 254, "gw": "10.0.0.1" }]),
                ["routes[1]", "10.0.0.0/8 via 10.0.0.1", "routes[0]"],
            ),
            ("dns", json!({ "nameservers": ["192.0.2.1", "dns.example"] }), ["dns.nameservers", "dns.example", "host"]),
            ("dns", json!({ "nameservers": ["0.0.0.0"] }), ["dns.nameservers", "0.0.0.0", "host"]),
            ("dns", json!({ "nameservers": ["ff02::1"] }), ["dns.nameservers", "ff02::1", "host"]),
            ("dns", json!({ "domain": "a b" }), ["dns.domain", "a b", "domain name"]),
            ("dns", json!({ "search": ["a\nnameserver 192.0.2.1"] }), ["dns.search", "192.0.2.1", "domain name"]),
            ("dns", json!({ "options": ["ndots:5 debug"] }), ["dns.options", "ndots:5 debug", "one word"]),
        ] {
            let error = refused(key, value.clone()).expect_err(expected[0]);
            assert!(expected.iter().all(|expected| error.to_string().contains(expected)), "{value}: {error}");
        }
    }

    #[test]
    fn what_a_pod_can_have_passes() {
        for (key, value) in [
            ("routes", json!([{ "dst": "0.0.0.0/0" }, { "dst": "0.0.0.0/0", "priority": 5 }])),
            ("routes", json!([{ "dst": "10.0.0.0/8" }, { "dst": "10.0.0.0/8", "table": 100 }])),
            ("routes", json!([{ "dst": "224.0.0.0/4", "scope": 253 }, { "dst": "10.0.0.0/8", "mtu": 1450 }])),
            (
                "dns",
                json!({ "nameservers": ["192.0.2.1", "fd00::1"], "domain": "cluster.local", "options": ["ndots:5"] }),
            ),
        ] {
            refused(key, value.clone()).unwrap_or_else(|error| panic!("{value}: {error}"));
        }
    }
}
