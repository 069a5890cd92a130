//! Reading a [`Config`] from JSON: one function for each section.
//!
//! # Guarantees
//! - No input panics.
//! - The first wrong value is an error with the key, the value (truncated, and omitted if it could be a secret) and the
//!   expected value.
//! - `null` means absent.

pub(super) mod section;
mod url;

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde_json::Value;
use uuid::Uuid;

use self::section::{Section, wrong};
use super::{
    Addressing, ApiVersion, ClusterConfig, Config, ConfigError, ControllerConfig, DnsConfig, EtcdConfig, Ipv6Pools,
    KeystoneConfig, KeystoneDomain, LogConfig, Mtu, OvnConfig, StatusMode, TenantConfig, Tunnel, VXLAN_OVERHEAD,
};
use crate::host_to_pod::HostToPodPool;
use crate::ids::{HostId, IfName, NodeName, TenantName};
use crate::route::{PodRoute, SCOPE_LINK};

impl Config {
    /// Reads the plugin's entry of a conflist.
    pub fn parse(value: &Value) -> Result<Self, ConfigError> {
        let Value::Object(object) = value else {
            return Err(wrong("(the whole)", value, "a JSON object"));
        };
        let top = Section { path: String::new(), object: Some(object) };
        refuse_foreign_ipam(&top)?;
        let ovn_section = top.section("ovn")?;
        let usual = top.section("controller")?.object.is_none() && ovn_section.object.is_some();
        let is_ovn = top.choice("engine", &[("midonet", false), ("ovn", true)])?.unwrap_or(usual);
        Ok(Self {
            etcd: etcd(&top.section("etcd")?)?,
            controller: if is_ovn { no_controller() } else { controller(&top.section("controller")?)? },
            ovn: is_ovn.then(|| ovn(&ovn_section)).transpose()?,
            cluster: cluster(&top.section("cluster")?, is_ovn)?,
            tenant: tenant(&top.section("tenant")?)?,
            node_name: top.parsed::<NodeName>("nodeName", "a name of at most 253 letters, digits, '_', '.' and '-'")?,
            host_id: top.parsed::<HostId>("hostId", "an id of 1 to 253 visible ASCII characters")?,
            mtu: mtu(&top, is_ovn)?,
            subnet: top.parsed("subnet", "a subnet: its number (\"2\") or its network (\"10.128.3.0/24\")")?,
            routes: routes(&top)?,
            dns: dns(&top.section("dns")?)?,
            timeout: Duration::from_secs(top.number("timeoutSeconds", 1..=600)?.unwrap_or(60)),
            max_request_lifetime: Duration::from_secs(top.number("quietPeriodSeconds", 0..=3600)?.unwrap_or(45)),
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

fn ovn(section: &Section<'_>) -> Result<OvnConfig, ConfigError> {
    let northbound = servers(section, "northbound")?;
    if northbound.is_empty() {
        return Err(section.missing("northbound", SERVERS));
    }
    let config = OvnConfig {
        northbound,
        southbound: servers(section, "southbound")?,
        ca: section.path("ca")?,
        cert: section.path("cert")?,
        key: section.path("key")?,
        server_name: section.text("serverName")?.map(str::to_owned),
        local: section.text("local")?.unwrap_or("unix:/run/openvswitch/db.sock").to_owned(),
        bridge: section.text("bridge")?.unwrap_or("br-int").to_owned(),
    };
    if !config.local.starts_with("unix:/") {
        return Err(section.wrong(
            "local",
            &config.local.as_str().into(),
            "a socket like \"unix:/run/openvswitch/db.sock\"",
        ));
    }
    // All three or none: OVN's servers ask for a client certificate.
    let files = [("ca", &config.ca), ("cert", &config.cert), ("key", &config.key)];
    match files.iter().find(|(_, file)| file.is_none()) {
        Some((missing, _)) if files.iter().any(|(_, file)| file.is_some()) => {
            Err(section.missing(missing, "a file, because another one of `ca`, `cert` and `key` is given"))
        }
        _ => Ok(config),
    }
}

/// The default of `transitCidr6`.
const TRANSIT6: Ipv6Addr = Ipv6Addr::new(0xfd64, 0, 0, 0, 0, 0, 0, 0);
const SERVERS: &str = "a list of servers like \"ssl:10.0.0.1:6641\"";

fn servers(section: &Section<'_>, key: &str) -> Result<Vec<String>, ConfigError> {
    let mut servers = Vec::new();
    for (n, value) in section.list(key, SERVERS)?.iter().enumerate() {
        let known = |server: &&str| ["ssl:", "tcp:", "unix:/"].iter().any(|begin| server.starts_with(begin));
        match value.as_str().filter(known) {
            Some(server) => servers.push(server.to_owned()),
            None => return Err(section.wrong(&format!("{key}[{n}]"), value, "a server like \"ssl:10.0.0.1:6641\"")),
        }
    }
    Ok(servers)
}

/// With another engine there is no controller.
fn no_controller() -> ControllerConfig {
    ControllerConfig {
        endpoints: Vec::new(),
        version: ApiVersion::Auto,
        username: None,
        password_file: None,
        project: "admin".to_owned(),
        ca: None,
        cert: None,
        key: None,
        keystone: None,
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

fn cluster(section: &Section<'_>, is_ovn: bool) -> Result<ClusterConfig, ConfigError> {
    let addressings = [("unique", Addressing::Unique), ("overlapping", Addressing::Overlapping)];
    let pod_cidr = section.pool("podCidr", 30, [10, 128, 0, 0], 9)?;
    let transit_cidr = section.pool("transitCidr", 30, [100, 64, 0, 0], 16)?;
    let node_side_cidr = section.pool("nodeSideCidr", 30, [169, 254, 128, 0], 17)?;
    let default = HostToPodPool::DEFAULT.network();
    if is_ovn && node_side_cidr != default {
        let expected = format!("{default}, or nothing: with OVN every network has its first address");
        return Err(section.wrong("nodeSideCidr", &node_side_cidr.to_string().into(), &expected));
    }
    let service_cidr = section.network4("serviceCidr")?;
    let pools = [("podCidr", pod_cidr), ("transitCidr", transit_cidr), ("nodeSideCidr", node_side_cidr)];
    let pools: Vec<_> = pools.into_iter().chain(service_cidr.map(|cidr| ("serviceCidr", cidr))).collect();
    for (n, (key, pool)) in pools.iter().enumerate() {
        if let Some((other, with)) = pools[..n].iter().find(|(_, other)| other.overlaps(*pool)) {
            let expected = format!("a network that does not overlap `cluster.{other}` ({with})");
            return Err(section.wrong(key, &pool.to_string().into(), &expected));
        }
    }
    let ipv6 = ipv6(section, transit_cidr)?;
    let ipv4 = families(section, ipv6.is_some())?;
    let longest = 30;
    let default = 24.max(pod_cidr.prefix()).min(longest);
    let subnet_prefix = section.number("subnetPrefix", pod_cidr.prefix().into()..=longest.into())?;
    Ok(ClusterConfig {
        addressing: section.choice("addressing", &addressings)?.unwrap_or_default(),
        pod_cidr,
        subnet_prefix: subnet_prefix.map_or(default, |n| u8::try_from(n).unwrap_or(longest)),
        transit_cidr,
        ipv4,
        ipv6,
        node_side_cidr,
        service_cidr,
        provider_router: match section.text("providerRouter")? {
            Some("auto") | None => None,
            Some(_) => section.parsed::<Uuid>("providerRouter", "\"auto\" or the UUID of a router")?,
        },
    })
}

/// `podCidr6`, and what belongs to it.
fn ipv6(section: &Section<'_>, transit4: Ipv4Network) -> Result<Option<Ipv6Pools>, ConfigError> {
    let pod_cidr = section.network6("podCidr6")?;
    let transit_cidr = section.network6("transitCidr6")?;
    let subnet_prefix = section.number("subnetPrefix6", 1..=120)?;
    let Some(pod_cidr) = pod_cidr else {
        let alone = [("transitCidr6", transit_cidr.is_some()), ("subnetPrefix6", subnet_prefix.is_some())];
        return match alone.into_iter().find(|(_, given)| *given) {
            Some((key, _)) => Err(section.missing("podCidr6", &format!("a network of IPv6, because `{key}` is given"))),
            None => Ok(None),
        };
    };
    // As many links as the pool of IPv4 has: a tenant's have the same index in both.
    let longest = 96 + transit4.prefix();
    let default = || Ipv6Network::new(TRANSIT6, longest).expect("a prefix length of IPv6");
    let transit_cidr = transit_cidr.unwrap_or_else(default);
    let wrong = |key: &str, given: Value, expected: &str| Err(section.wrong(key, &given, expected));
    for (key, pool, longest) in [("podCidr6", pod_cidr, 120), ("transitCidr6", transit_cidr, longest)] {
        if !(1..=longest).contains(&pool.prefix()) {
            return wrong(key, pool.to_string().into(), &format!("a prefix length from 1 to {longest}"));
        }
    }
    if pod_cidr.overlaps(transit_cidr) {
        let expected = format!("a network that does not overlap `cluster.podCidr6` ({pod_cidr})");
        return wrong("transitCidr6", transit_cidr.to_string().into(), &expected);
    }
    let default = 64.max(pod_cidr.prefix());
    let subnet_prefix = subnet_prefix.map_or(default, |n| u8::try_from(n).unwrap_or(default));
    if subnet_prefix < pod_cidr.prefix() {
        let expected = format!("at least the prefix length of `cluster.podCidr6`, {}", pod_cidr.prefix());
        return wrong("subnetPrefix6", subnet_prefix.into(), &expected);
    }
    Ok(Some(Ipv6Pools { pod_cidr, subnet_prefix, transit_cidr }))
}

/// `ipFamilies`: whether pods have IPv4. They have IPv6 where there is a pool for it.
fn families(section: &Section<'_>, ipv6: bool) -> Result<bool, ConfigError> {
    let expected = "[\"IPv4\"], [\"IPv6\"] or [\"IPv4\", \"IPv6\"]";
    let given = section.list("ipFamilies", expected)?;
    let names: Vec<_> = given.iter().map(|name| name.as_str().unwrap_or_default()).collect();
    let (ipv4, wanted) = match names[..] {
        [] => return Ok(true),
        ["IPv4"] => (true, false),
        ["IPv6"] => (false, true),
        ["IPv4", "IPv6"] => (true, true),
        _ => return Err(section.wrong("ipFamilies", &given.to_vec().into(), expected)),
    };
    match (wanted, ipv6) {
        (true, false) => Err(section.missing("podCidr6", "a network of IPv6, because `ipFamilies` has IPv6")),
        (false, true) => Err(section.wrong("ipFamilies", &given.to_vec().into(), "IPv6, because `podCidr6` is given")),
        _ => Ok(ipv4),
    }
}

fn tenant(section: &Section<'_>) -> Result<TenantConfig, ConfigError> {
    section.choice("from", &[("namespace", ())])?;
    let expected = "a name of at most 63 letters, digits, '_', '.' and '-'";
    Ok(TenantConfig { default: section.parsed::<TenantName>("default", expected)? })
}

fn routes(top: &Section<'_>) -> Result<Vec<PodRoute>, ConfigError> {
    let mut routes = Vec::new();
    for (n, value) in top.list("routes", "a list of objects with \"dst\" and, if need be, \"gw\"")?.iter().enumerate() {
        let path = format!("routes[{n}]");
        let Value::Object(object) = value else {
            return Err(wrong(&path, value, "an object with \"dst\" and, if need be, \"gw\""));
        };
        let route = Section { path, object: Some(object) };
        let Some(destination) = route.network("dst", "10.96.0.0/12")? else {
            return Err(route.missing("dst", "a network like \"10.96.0.0/12\""));
        };
        let narrow = |key, range| Ok(route.number(key, range)?.and_then(|n| u32::try_from(n).ok()));
        let scope = route.number("scope", 0..=u8::MAX.into())?.and_then(|n| u8::try_from(n).ok());
        let gateway = route.address("gw")?;
        if let Some(gateway) = gateway.filter(|gateway| gateway.is_ipv4() != destination.is_ipv4()) {
            return Err(route.wrong("gw", &gateway.to_string().into(), "an address of the family of `dst`"));
        }
        if let (Some(scope), Some(gateway)) = (scope.filter(|scope| *scope >= SCOPE_LINK), gateway) {
            let expected = format!("none, because `scope` {scope} means that the destination is on the link");
            return Err(route.wrong("gw", &gateway.to_string().into(), &expected));
        }
        routes.push(PodRoute {
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

/// `has_record`: the engine's agent records its tunnels on each machine.
fn mtu(top: &Section<'_>, has_record: bool) -> Result<Mtu, ConfigError> {
    let section = top.section("tunnel")?;
    let tunnel = Tunnel {
        interface: section.parsed::<IfName>("interface", "the name of an interface")?,
        overhead: overhead(&section)?,
    };
    match top.get("mtu") {
        None if has_record => Ok(Mtu::Auto(tunnel)),
        None => Ok(Mtu::Fixed(1450)),
        Some(Value::String(text)) if text == "auto" => Ok(Mtu::Auto(tunnel)),
        Some(value) => match value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| MTUS.contains(n)) {
            Some(bytes) => Ok(Mtu::Fixed(bytes)),
            None => Err(top.wrong("mtu", value, "\"auto\" or a whole number from 68 to 65535")),
        },
    }
}

/// The range of a link's MTU: RFC 791, page 13, and the length field of IPv4.
const MTUS: std::ops::RangeInclusive<u32> = 68..=65_535;

fn overhead(section: &Section<'_>) -> Result<Option<u32>, ConfigError> {
    const EXPECTED: &str = "\"geneve\", \"vxlan\", \"gre\" or \"none\"";
    // Outer IPv4 header, tunnel header, inner Ethernet header: RFC 2890, section 2; RFC 8926, section 3, with the option of
    // 8 bytes that OVN adds.
    let known = [("vxlan", VXLAN_OVERHEAD), ("gre", 20 + 8 + 14), ("geneve", 20 + 8 + 8 + 8 + 14), ("none", 0)];
    let by_type = match section.text("type")? {
        None => None,
        Some(text) => match known.iter().find(|(name, _)| *name == text) {
            Some((_, overhead)) => Some(*overhead),
            None => return Err(section.wrong("type", &text.into(), EXPECTED)),
        },
    };
    Ok(section.number("overhead", 0..=1000)?.and_then(|n| u32::try_from(n).ok()).or(by_type))
}

#[cfg(test)]
mod documented;
#[cfg(test)]
mod tests;
