//! Reading a [`Config`] from JSON: one function for each section, one small reader that knows where it is.
//!
//! # Guarantees
//! - No input panics.
//! - The first wrong value is an error with the key, the value (truncated, and omitted if it could be a secret) and the
//!   expected value.
//! - `null` means absent.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnetwork::{IpNetwork, Ipv4Network};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    Addressing, ApiVersion, ClusterConfig, Config, ConfigError, ControllerConfig, DnsConfig, EtcdConfig,
    KeystoneConfig, KeystoneDomain, LogConfig, Mtu, StatusMode, TenantConfig, Tunnel,
};
use crate::ids::{IfName, NodeName, TenantName};
use crate::route::{Route, SCOPE_LINK};

impl Config {
    /// Reads the plugin's entry of a conflist.
    pub fn parse(value: &Value) -> Result<Self, ConfigError> {
        let Value::Object(object) = value else {
            return Err(wrong("(the whole)", value, "a JSON object"));
        };
        let top = Section { path: String::new(), object: Some(object) };
        refuse_foreign_ipam(&top)?;
        Ok(Self {
            etcd: etcd(&top.section("etcd")?)?,
            controller: controller(&top.section("controller")?)?,
            cluster: cluster(&top.section("cluster")?)?,
            tenant: tenant(&top.section("tenant")?)?,
            node_name: top.parsed::<NodeName>("nodeName", "a name of at most 253 letters, digits, '_', '.' and '-'")?,
            host_id: top.parsed::<Uuid>("hostId", "a UUID")?,
            mtu: mtu(&top)?,
            subnet: top.parsed("subnet", "a subnet: its number (\"2\") or its network (\"10.128.3.0/24\")")?,
            routes: routes(&top)?,
            dns: dns(&top.section("dns")?)?,
            timeout: Duration::from_secs(top.number("timeoutSeconds", 1..=600)?.unwrap_or(60)),
            quiet_period: Duration::from_secs(top.number("quietPeriodSeconds", 0..=3600)?.unwrap_or(45)),
            status: top
                .choice("status", &[("local", StatusMode::Local), ("strict", StatusMode::Strict)])?
                .unwrap_or_default(),
            cooldown: Duration::from_secs(top.number("cooldownSeconds", 0..=3600)?.unwrap_or(30)),
            log: log(&top.section("log")?)?,
            run_dir: top.path("runDir")?.unwrap_or_else(|| "/run/atoll".into()),
            state_dir: top.path("stateDir")?.unwrap_or_else(|| "/var/lib/atoll".into()),
        })
    }
}

/// Our addresses come from the claim: another plugin's would be unknown to the controller.
fn refuse_foreign_ipam(top: &Section<'_>) -> Result<(), ConfigError> {
    let ipam = top.section("ipam")?;
    match ipam.text("type")? {
        None | Some("atoll") => Ok(()),
        Some(other) => Err(ipam.wrong("type", &other.into(), "none: Atoll gives addresses itself; leave `ipam` out")),
    }
}

fn etcd(section: &Section<'_>) -> Result<EtcdConfig, ConfigError> {
    let prefix = section.text("prefix")?.unwrap_or("/atoll/default");
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '.' | '-');
    if !prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains("//") || !prefix.chars().all(plain) {
        let expected = "a path like \"/atoll/default\": it begins with '/', does not end with it and holds only \
                        letters, digits, '/', '_', '.' and '-'";
        return Err(section.wrong("prefix", &prefix.into(), expected));
    }
    let config = EtcdConfig {
        endpoints: section.endpoints(false)?,
        prefix: prefix.to_owned(),
        ca: section.path("ca")?,
        cert: section.path("cert")?,
        key: section.path("key")?,
    };
    match (&config.cert, &config.key) {
        (Some(_), None) => Err(section.missing("key", "a file, because `etcd.cert` is given")),
        (None, Some(_)) => Err(section.missing("cert", "a file, because `etcd.key` is given")),
        _ => Ok(config),
    }
}

fn controller(section: &Section<'_>) -> Result<ControllerConfig, ConfigError> {
    let versions = [("auto", ApiVersion::Auto), ("1.9", ApiVersion::V1), ("5", ApiVersion::V5)];
    let config = ControllerConfig {
        endpoints: section.endpoints(true)?,
        version: section.choice("version", &versions)?.unwrap_or_default(),
        username: section.text("username")?.map(str::to_owned),
        password_file: section.path("passwordFile")?,
        project: section.text("project")?.unwrap_or("admin").to_owned(),
        ca: section.path("ca")?,
        cert: section.path("cert")?,
        key: section.path("key")?,
        keystone: keystone(&section.section("keystone")?)?,
    };
    match (&config.cert, &config.key) {
        (Some(_), None) => return Err(section.missing("key", "a file, because `controller.cert` is given")),
        (None, Some(_)) => return Err(section.missing("cert", "a file, because `controller.key` is given")),
        _ => {}
    }
    let asks_keystone = config.keystone.as_ref().is_some_and(|keystone| keystone.application_credential.is_none());
    match (&config.username, &config.password_file) {
        (Some(_), None) => Err(section.missing("passwordFile", "a file, because `controller.username` is given")),
        (None, Some(_)) => Err(section.missing("username", "a name, because `controller.passwordFile` is given")),
        (None, None) if asks_keystone => {
            Err(section.missing("username", "a name, or `controller.keystone.applicationCredential`"))
        }
        _ => Ok(config),
    }
}

fn keystone(section: &Section<'_>) -> Result<Option<KeystoneConfig>, ConfigError> {
    if section.object.is_none() {
        return Ok(None);
    }
    let credential = section.section("applicationCredential")?;
    let application_credential = match (credential.text("id")?, credential.path("secretFile")?) {
        (Some(id), Some(file)) => Some((id.to_owned(), file)),
        (None, None) => None,
        (Some(_), None) => return Err(credential.missing("secretFile", "a file with the secret, mode 0600")),
        (None, Some(_)) => return Err(credential.missing("id", "the id of the application credential")),
    };
    Ok(Some(KeystoneConfig {
        endpoints: section.endpoints(true)?,
        ca: section.path("ca")?,
        user_domain: domain(section, "userDomainId", "userDomainName")?,
        project_domain: domain(section, "projectDomainId", "projectDomainName")?,
        application_credential,
    }))
}

/// By id or by name; Keystone's first domain, whose id is `default`, if neither is given.
fn domain(section: &Section<'_>, id: &str, name: &str) -> Result<KeystoneDomain, ConfigError> {
    match (section.text(id)?, section.text(name)?) {
        (Some(_), Some(text)) => Err(section.wrong(name, &text.into(), &format!("none, because `{id}` is given"))),
        (None, Some(text)) => Ok(KeystoneDomain::Name(text.to_owned())),
        (text, None) => Ok(KeystoneDomain::Id(text.unwrap_or("default").to_owned())),
    }
}

fn cluster(section: &Section<'_>) -> Result<ClusterConfig, ConfigError> {
    let addressings = [("unique", Addressing::Unique), ("overlapping", Addressing::Overlapping)];
    let pod_cidr = section.pool("podCidr", 30, [10, 128, 0, 0], 9)?;
    let transit_cidr = section.pool("transitCidr", 30, [100, 64, 0, 0], 16)?;
    let node_side_cidr = section.pool("nodeSideCidr", 30, [169, 254, 128, 0], 17)?;
    let service_cidr = section.network("serviceCidr")?;
    let pools = [("podCidr", pod_cidr), ("transitCidr", transit_cidr), ("nodeSideCidr", node_side_cidr)];
    let pools: Vec<_> = pools.into_iter().chain(service_cidr.map(|cidr| ("serviceCidr", cidr))).collect();
    for (n, (key, pool)) in pools.iter().enumerate() {
        if let Some((other, with)) = pools[..n].iter().find(|(_, other)| other.overlaps(*pool)) {
            let expected = format!("a network that does not overlap `cluster.{other}` ({with})");
            return Err(section.wrong(key, &pool.to_string().into(), &expected));
        }
    }
    let longest = 30;
    let default = 24.max(pod_cidr.prefix()).min(longest);
    let subnet_prefix = section.number("subnetPrefix", pod_cidr.prefix().into()..=longest.into())?;
    Ok(ClusterConfig {
        addressing: section.choice("addressing", &addressings)?.unwrap_or_default(),
        pod_cidr,
        subnet_prefix: subnet_prefix.map_or(default, |n| u8::try_from(n).unwrap_or(longest)),
        transit_cidr,
        node_side_cidr,
        service_cidr,
        provider_router: match section.text("providerRouter")? {
            Some("auto") | None => None,
            Some(_) => section.parsed::<Uuid>("providerRouter", "\"auto\" or the UUID of a router")?,
        },
    })
}

fn tenant(section: &Section<'_>) -> Result<TenantConfig, ConfigError> {
    section.choice("from", &[("namespace", ())])?;
    let expected = "a name of at most 63 letters, digits, '_', '.' and '-'";
    Ok(TenantConfig { default: section.parsed::<TenantName>("default", expected)? })
}

fn routes(top: &Section<'_>) -> Result<Vec<Route>, ConfigError> {
    let mut routes = Vec::new();
    for (n, value) in top.list("routes", "a list of objects with \"dst\" and, if need be, \"gw\"")?.iter().enumerate() {
        let path = format!("routes[{n}]");
        let Value::Object(object) = value else {
            return Err(wrong(&path, value, "an object with \"dst\" and, if need be, \"gw\""));
        };
        let route = Section { path, object: Some(object) };
        let Some(destination) = route.network("dst")? else {
            return Err(route.missing("dst", "an IPv4 network like \"10.96.0.0/12\""));
        };
        let narrow = |key, range| Ok(route.number(key, range)?.and_then(|n| u32::try_from(n).ok()));
        let scope = route.number("scope", 0..=u8::MAX.into())?.and_then(|n| u8::try_from(n).ok());
        let gateway = route.address("gw")?;
        if let (Some(scope), Some(gateway)) = (scope.filter(|scope| *scope >= SCOPE_LINK), gateway) {
            let expected = format!("none, because `scope` {scope} means that the destination is on the link");
            return Err(route.wrong("gw", &gateway.to_string().into(), &expected));
        }
        routes.push(Route {
            destination,
            gateway,
            mtu: narrow("mtu", 68..=65_535)?,
            advmss: narrow("advmss", 1..=65_535)?,
            priority: narrow("priority", 0..=u32::MAX.into())?,
            table: narrow("table", 1..=u32::MAX.into())?,
            scope,
        });
    }
    Ok(routes)
}

fn dns(section: &Section<'_>) -> Result<DnsConfig, ConfigError> {
    Ok(DnsConfig {
        nameservers: section.texts("nameservers")?,
        domain: section.text("domain")?.map(str::to_owned),
        search: section.texts("search")?,
        options: section.texts("options")?,
    })
}

fn log(section: &Section<'_>) -> Result<LogConfig, ConfigError> {
    let levels = ["error", "warn", "info", "debug", "trace"].map(|level| (level, level));
    let level = section.choice("level", &levels)?.unwrap_or("info");
    Ok(LogConfig {
        file: section.path("file")?,
        level: level.to_owned(),
        max_bytes: section.number("maxMegabytes", 1..=1_000_000)?.unwrap_or(10) * 1_000_000,
        keep: section.number("keep", 0..=100)?.and_then(|n| u32::try_from(n).ok()).unwrap_or(3),
    })
}

fn mtu(top: &Section<'_>) -> Result<Mtu, ConfigError> {
    let section = top.section("tunnel")?;
    let tunnel = Tunnel {
        interface: section.parsed::<IfName>("interface", "the name of an interface")?,
        overhead: overhead(&section)?,
    };
    match top.get("mtu") {
        None => Ok(Mtu::Fixed(1450)),
        Some(Value::String(text)) if text == "auto" => Ok(Mtu::Auto(tunnel)),
        Some(value) => match value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| MTUS.contains(n)) {
            Some(bytes) => Ok(Mtu::Fixed(bytes)),
            None => Err(top.wrong("mtu", value, "\"auto\" or a whole number from 68 to 65535")),
        },
    }
}

/// What a link can have: RFC 791, page 13, and the length field of IPv4.
const MTUS: std::ops::RangeInclusive<u32> = 68..=65_535;

fn overhead(section: &Section<'_>) -> Result<u32, ConfigError> {
    const EXPECTED: &str = "\"vxlan\", \"gre\" or \"none\"";
    // Outer IPv4 header, tunnel header, inner Ethernet header: RFC 7348, section 5; RFC 2890, section 2.
    let known = [("vxlan", 20 + 8 + 8 + 14), ("gre", 20 + 8 + 14), ("none", 0)];
    let by_type = match section.text("type")? {
        None => known[0].1,
        Some(text) => known
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, overhead)| *overhead)
            .ok_or_else(|| section.wrong("type", &text.into(), EXPECTED))?,
    };
    Ok(section.number("overhead", 0..=1000)?.and_then(|n| u32::try_from(n).ok()).unwrap_or(by_type))
}

/// One object of the configuration and where it is; absent is the same as empty.
struct Section<'a> {
    path: String,
    object: Option<&'a Map<String, Value>>,
}

impl<'a> Section<'a> {
    fn at(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn wrong(&self, key: &str, given: &Value, expected: &str) -> ConfigError {
        wrong(&self.at(key), given, expected)
    }

    fn missing(&self, key: &str, expected: &str) -> ConfigError {
        ConfigError { key: self.at(key), problem: format!("it is missing, expected is {expected}") }
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        #[cfg(test)]
        documented::asked(&self.at(key));
        self.object?.get(key).filter(|value| !value.is_null())
    }

    fn section(&self, key: &str) -> Result<Section<'a>, ConfigError> {
        let object = match self.get(key) {
            None => None,
            Some(Value::Object(object)) => Some(object),
            Some(other) => return Err(self.wrong(key, other, "an object")),
        };
        Ok(Section { path: self.at(key), object })
    }

    /// A text; the empty one is the same as none.
    fn text(&self, key: &str) -> Result<Option<&'a str>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(other) => Err(self.wrong(key, other, "a text")),
        }
    }

    fn list(&self, key: &str, expected: &str) -> Result<&'a [Value], ConfigError> {
        match self.get(key) {
            None => Ok(&[]),
            Some(Value::Array(list)) => Ok(list),
            Some(other) => Err(self.wrong(key, other, expected)),
        }
    }

    fn texts(&self, key: &str) -> Result<Vec<String>, ConfigError> {
        let one = |(n, value): (usize, &Value)| match value {
            Value::String(text) => Ok(text.clone()),
            other => Err(self.wrong(&format!("{key}[{n}]"), other, "a text")),
        };
        self.list(key, "a list of texts")?.iter().enumerate().map(one).collect()
    }

    fn parsed<T: FromStr>(&self, key: &str, expected: &str) -> Result<Option<T>, ConfigError> {
        let refuse = |text: &str| self.wrong(key, &text.into(), expected);
        self.text(key)?.map(|text| text.parse().map_err(|_| refuse(text))).transpose()
    }

    fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<Option<T>, ConfigError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text) {
            return Ok(Some(*choice));
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        Err(self.wrong(key, &text.into(), &names.join(" or ")))
    }

    fn number(&self, key: &str, range: std::ops::RangeInclusive<u64>) -> Result<Option<u64>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        if let Some(n) = value.as_u64().filter(|n| range.contains(n)) {
            return Ok(Some(n));
        }
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        Err(self.wrong(key, value, &expected))
    }

    fn path(&self, key: &str) -> Result<Option<PathBuf>, ConfigError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        // A runtime starts us in any directory; and a path with a NUL names no file.
        if !text.starts_with('/') || text.contains('\0') {
            return Err(self.wrong(key, &text.into(), "an absolute path"));
        }
        Ok(Some(text.into()))
    }

    fn address(&self, key: &str) -> Result<Option<Ipv4Addr>, ConfigError> {
        match self.parsed::<IpAddr>(key, "an IPv4 address")? {
            None => Ok(None),
            Some(IpAddr::V4(address)) => Ok(Some(address)),
            Some(IpAddr::V6(address)) => Err(self.wrong(key, &address.to_string().into(), NO_IPV6)),
        }
    }

    fn network(&self, key: &str) -> Result<Option<Ipv4Network>, ConfigError> {
        let expected = "an IPv4 network like \"10.128.0.0/9\"";
        let network = match self.parsed::<IpNetwork>(key, expected)? {
            None => return Ok(None),
            Some(IpNetwork::V4(network)) => network,
            Some(IpNetwork::V6(network)) => return Err(self.wrong(key, &network.to_string().into(), NO_IPV6)),
        };
        if network.ip() != network.network() {
            let expected = format!("the network itself, {}/{}", network.network(), network.prefix());
            return Err(self.wrong(key, &network.to_string().into(), &expected));
        }
        Ok(Some(network))
    }

    fn pool(&self, key: &str, longest: u8, default: [u8; 4], prefix: u8) -> Result<Ipv4Network, ConfigError> {
        let pool = match self.network(key)? {
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
    fn endpoints(&self, with_path: bool) -> Result<Vec<String>, ConfigError> {
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

const NO_IPV6: &str = "IPv4; IPv6 is not supported yet";

/// `http[s]://host[:port]`, with a path if `with_path`; no query, no fragment.
fn is_base_url(url: &str, with_path: bool) -> bool {
    let Some(rest) = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) else { return false };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = match authority.strip_prefix('[') {
        // An IPv6 host stands in brackets.
        Some(bracketed) => match bracketed.split_once(']') {
            Some((host, "")) if host.parse::<std::net::Ipv6Addr>().is_ok() => (host, None),
            Some((host, port)) if host.parse::<std::net::Ipv6Addr>().is_ok() => match port.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None => return false,
            },
            _ => return false,
        },
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let host_is_plain = !host.is_empty()
        && (authority.starts_with('[') || host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)));
    let port_is_plain = port.is_none_or(|p| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok());
    let path_is_plain = path.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '?' | '#'));
    host_is_plain && port_is_plain && path_is_plain && (with_path || path.is_empty())
}

pub(super) fn wrong(key: &str, given: &Value, expected: &str) -> ConfigError {
    let mut given = given.to_string();
    if given.chars().count() > 80 {
        given = given.chars().take(79).chain(['…']).collect();
    }
    ConfigError { key: key.to_owned(), problem: format!("{given} was given, expected is {expected}") }
}

#[cfg(test)]
mod documented;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// The smallest configuration there is.
    fn least() -> Value {
        json!({ "etcd": { "endpoints": ["http://127.0.0.1:2379"] },
                "controller": { "endpoints": ["http://127.0.0.1:8181/midonet-api"] } })
    }

    /// `least`, with `value` at a path like `cluster.mtu`.
    fn with(path: &str, value: Value) -> Value {
        let mut config = least();
        let mut place = &mut config;
        for key in path.split('.') {
            place = &mut place[key];
        }
        *place = value;
        config
    }

    /// The example of the documentation: every key there is.
    fn full() -> Value {
        let text = include_str!("../../../docs/configuration.md");
        let start = text.find("```json\n").expect("an example") + "```json\n".len();
        let end = text[start..].find("```").expect("its end") + start;
        serde_json::from_str(&text[start..end]).expect("the example is JSON")
    }

    #[test]
    fn defaults_are_filled_in() {
        insta::assert_debug_snapshot!(Config::parse(&least()).expect("valid"));
    }

    #[test]
    fn the_documented_example_is_read_wholly() {
        insta::assert_debug_snapshot!(Config::parse(&full()).expect("valid"));
    }

    #[test]
    fn keystone_takes_an_application_credential_or_the_user() {
        let mut config = least();
        config["controller"]["keystone"] = json!({
            "endpoints": ["https://127.0.0.1:5000/v3/"], "userDomainName": "people",
            "applicationCredential": { "id": "4f", "secretFile": "/etc/atoll/secret" } });
        let keystone = Config::parse(&config).expect("valid").controller.keystone.expect("given");
        assert_eq!(keystone.endpoints, ["https://127.0.0.1:5000/v3"]);
        assert_eq!(keystone.user_domain, KeystoneDomain::Name("people".to_owned()));
        assert_eq!(keystone.project_domain, KeystoneDomain::Id("default".to_owned()));
        assert_eq!(keystone.application_credential, Some(("4f".to_owned(), "/etc/atoll/secret".into())));
        config["controller"]["keystone"]["applicationCredential"] = Value::Null;
        Config::parse(&config).expect_err("there is neither a user nor a credential");
        config["controller"]["username"] = json!("admin");
        config["controller"]["passwordFile"] = json!("/etc/atoll/password");
        Config::parse(&config).expect("valid");
    }

    #[test]
    fn wrong_values_name_key_value_and_expectation() {
        let cases = [
            ("etcd", json!("http://x")),
            ("etcd.endpoints", json!([])),
            ("etcd.endpoints", json!("http://127.0.0.1:2379")),
            ("etcd.endpoints", json!(["http://127.0.0.1:2379", 7])),
            ("etcd.endpoints", json!(["127.0.0.1:2379"])),
            ("etcd.endpoints", json!(["http://127.0.0.1:2379/path"])),
            ("etcd.endpoints", json!(["http://127.0.0.1:99999"])),
            ("etcd.endpoints", json!(["http://root:hunter2@127.0.0.1:2379"])),
            ("etcd.prefix", json!("atoll")),
            ("etcd.prefix", json!("/atoll/")),
            ("etcd.cert", json!("/c.pem")),
            ("etcd.key", json!("/k.pem")),
            ("etcd.ca", json!("ca.pem")),
            ("controller.endpoints", json!(["ftp://127.0.0.1"])),
            ("controller.version", json!("6")),
            ("controller.version", json!(5)),
            ("controller.username", json!("admin")),
            ("controller.passwordFile", json!("/pw")),
            ("controller.cert", json!("/c.pem")),
            ("controller.key", json!("/k.pem")),
            ("controller.keystone", json!({ "endpoints": ["https://127.0.0.1:5000/v3"] })),
            ("controller.keystone", json!({ "applicationCredential": { "id": "a", "secretFile": "/s" } })),
            ("controller.keystone.applicationCredential", json!({ "id": "a" })),
            ("controller.keystone.applicationCredential", json!({ "secretFile": "/s" })),
            ("controller.keystone", json!({ "userDomainId": "a", "userDomainName": "b" })),
            ("cluster.addressing", json!("both")),
            ("cluster.podCidr", json!("10.0.0.1/8")),
            ("cluster.podCidr", json!("fd00::/48")),
            ("cluster.podCidr", json!("100.64.0.0/10")),
            ("cluster.podCidr", json!("0.0.0.0/0")),
            ("cluster.subnetPrefix", json!(31)),
            ("cluster.subnetPrefix", json!(8)),
            ("cluster.subnetPrefix", json!("24")),
            ("cluster.transitCidr", json!("100.64.0.0/31")),
            ("cluster.serviceCidr", json!("10.96.0.1/12")),
            ("cluster.serviceCidr", json!("10.200.0.0/16")),
            ("cluster.serviceCidr", json!("0.0.0.0/0")),
            ("cluster.providerRouter", json!("mine")),
            ("tenant.from", json!("label")),
            ("tenant.default", json!("a/b")),
            ("nodeName", json!("-")),
            ("hostId", json!("7")),
            ("mtu", json!(67)),
            ("mtu", json!(-1)),
            ("mtu", json!(1450.5)),
            ("mtu", json!("1450")),
            ("mtu", json!("Auto")),
            ("tunnel.type", json!("wireguard")),
            ("tunnel.interface", json!("a/b")),
            ("tunnel.overhead", json!(1001)),
            ("tunnel", json!(7)),
            ("log.maxMegabytes", json!(0)),
            ("log.keep", json!(-1)),
            ("subnet", json!("first")),
            ("subnet", json!(2)),
            ("routes", json!({})),
            ("routes", json!(["10.0.0.0/8"])),
            ("routes", json!([{ "gw": "10.0.0.1" }])),
            ("routes", json!([{ "dst": "10.0.0.0/8" }, { "dst": "10.0.0.0/8", "gw": "::1" }])),
            ("routes", json!([{ "dst": "10.0.0.0/8", "mtu": 67 }])),
            ("routes", json!([{ "dst": "10.0.0.0/8", "advmss": 0 }])),
            ("routes", json!([{ "dst": "10.0.0.0/8", "priority": -1 }])),
            ("routes", json!([{ "dst": "10.0.0.0/8", "table": 0 }])),
            ("routes", json!([{ "dst": "10.0.0.0/8", "scope": 256 }])),
            ("routes", json!([{ "dst": "10.0.0.0/8", "scope": 253, "gw": "10.0.0.1" }])),
            ("dns", json!([])),
            ("dns.nameservers", json!(["1.1.1.1", 8])),
            ("timeoutSeconds", json!(0)),
            ("quietPeriodSeconds", json!(3601)),
            ("cooldownSeconds", json!(-1)),
            ("status", json!("lenient")),
            ("log.level", json!("loud")),
            ("log.file", json!("cni.log")),
            ("runDir", json!("run")),
            ("stateDir", json!("/x\u{0}")),
            ("ipam", json!("host-local")),
            ("ipam.type", json!("host-local")),
            ("log.file", json!("x".repeat(200))),
        ];
        let mut said = Vec::new();
        for (path, value) in cases {
            let error = Config::parse(&with(path, value.clone())).expect_err(&format!("{path} = {value}"));
            said.push(error.to_string());
        }
        said.push(Config::parse(&json!([])).expect_err("no object").to_string());
        let said = said.join("\n");
        assert!(!said.contains("hunter2"), "a secret was shown");
        insta::assert_snapshot!(said);
    }

    #[test]
    fn an_mtu_is_a_number_or_what_the_tunnel_leaves() {
        let mtu = |mtu: Value, tunnel: Value| {
            let mut config = least();
            (config["mtu"], config["tunnel"]) = (mtu, tunnel);
            Config::parse(&config).expect("valid").mtu
        };
        assert_eq!(mtu(Value::Null, Value::Null), Mtu::Fixed(1450));
        assert_eq!(mtu(json!(9000), json!({ "type": "gre" })), Mtu::Fixed(9000));
        for (tunnel, overhead) in [
            (json!(null), 50),
            (json!({ "type": "vxlan" }), 50),
            (json!({ "type": "gre" }), 42),
            (json!({ "type": "none" }), 0),
            (json!({ "type": "gre", "overhead": 60 }), 60),
        ] {
            assert_eq!(mtu(json!("auto"), tunnel), Mtu::Auto(Tunnel { interface: None, overhead }));
        }
        let interface = IfName::new("bond0").ok();
        let auto = mtu(json!("auto"), json!({ "interface": "bond0" }));
        assert_eq!(auto, Mtu::Auto(Tunnel { interface, overhead: 50 }));
    }

    #[test]
    fn null_is_absent_and_unknown_keys_are_ignored() {
        let expected = Config::parse(&least());
        let known = [
            "etcd.prefix",
            "etcd.ca",
            "controller.version",
            "controller.username",
            "cluster",
            "cluster.podCidr",
            "cluster.providerRouter",
            "tenant",
            "tenant.default",
            "nodeName",
            "hostId",
            "mtu",
            "tunnel",
            "tunnel.type",
            "subnet",
            "routes",
            "dns",
            "timeoutSeconds",
            "quietPeriodSeconds",
            "cooldownSeconds",
            "status",
            "log",
            "log.file",
            "runDir",
            "stateDir",
            "ipam",
            "ipam.type",
            "colour",
            "etcd.colour",
        ];
        for path in known {
            assert_eq!(Config::parse(&with(path, Value::Null)), expected, "{path}");
        }
        for path in ["colour", "etcd.colour", "capabilities", "prevResult", "name", "ipMasq"] {
            assert_eq!(Config::parse(&with(path, json!({ "type": 7 }))), expected, "{path}");
        }
        assert_eq!(Config::parse(&with("ipam", json!({}))), expected);
        assert_eq!(Config::parse(&with("ipam.type", json!("atoll"))), expected);
    }

    /// Any JSON, with our own keys among the names so that it reaches the depths.
    fn anything() -> impl Strategy<Value = Value> {
        let keys = "etcd|controller|cluster|tenant|endpoints|prefix|podCidr|subnetPrefix|routes|dst|gw|mtu|dns|log|ipam|[a-z]{0,4}";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "https?://[\\[\\]a-z0-9:/.@]{0,20}".prop_map(Value::from),
            "[0-9a-f.:]{1,15}/[0-9]{1,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(keys, inner, 0..8).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn each_key(value: &Value, path: &str, paths: &mut Vec<String>) {
        if let Value::Object(object) = value {
            for (key, value) in object {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                each_key(value, &path, paths);
                paths.push(path);
            }
        }
    }

    proptest! {
        #[test]
        fn no_json_panics(value in anything()) {
            drop(Config::parse(&value));
        }

        /// One key of the full example replaced by anything: never a panic, and an error names that key or one of
        /// its kin, never another section.
        #[test]
        fn one_wrong_value_never_panics_and_is_blamed(value in anything(), which in any::<prop::sample::Index>()) {
            let mut config = full();
            let mut paths = Vec::new();
            each_key(&config, "", &mut paths);
            let path = which.get(&paths).clone();
            let mut place = &mut config;
            for key in path.split('.') {
                place = &mut place[key];
            }
            *place = value;
            if let Err(error) = Config::parse(&config) {
                let section = path.split('.').next().unwrap_or_default();
                prop_assert!(error.key.starts_with(section), "{path} was wrong, {} is blamed", error.key);
            }
        }
    }
}
