//! The result of ADD: CNI SPEC 1.1.0, section "Success"; older shapes as the older specifications have them.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::Serialize;

use super::version::Version;
use crate::attachment::Mac;
use crate::config::DnsConfig;
use crate::ids::IfName;
use crate::route::PodRoute;

/// What an ADD made, independent of the version of its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddResult {
    /// The interface inside the container.
    pub interface: IfName,
    /// Its MAC.
    pub mac: Mac,
    /// Its MTU, bytes.
    pub mtu: u32,
    /// `CNI_NETNS`, verbatim.
    pub sandbox: String,
    /// The host end of the veth pair.
    pub host_interface: IfName,
    /// Its addresses with their gateways; the first one is the pod's.
    pub addresses: Vec<(IpNetwork, IpAddr)>,
    /// Its routes.
    pub routes: Vec<PodRoute>,
    /// Name servers.
    pub dns: DnsConfig,
}

impl AddResult {
    /// As one JSON document in the shape of `version`.
    ///
    /// | version | shape |
    /// |---|---|
    /// | 0.1.0, 0.2.0 | one address of a family under `ip4` and `ip6`, each with its routes; no interfaces; `dns` always |
    /// | 0.3.0 to 0.4.0 | lists; an address has its IP version; `dns` always |
    /// | 1.0.0 | an address has no IP version; `dns` if it is not empty |
    /// | 1.1.0 | also the MTU of an interface, and all that a route has |
    ///
    /// The host end comes first and the pod's interface second, as with the reference plugins; `ips` point at the
    /// second.
    pub fn to_json(&self, version: Version) -> String {
        let text = if version < Version::V0_3_0 {
            serde_json::to_string(&self.to_first(version))
        } else {
            serde_json::to_string(&self.to_lists(version))
        };
        text.expect("texts and numbers")
    }

    fn to_first(&self, version: Version) -> First<'_> {
        let of_family = |v4: bool| {
            let (ip, gateway) = *self.addresses.iter().find(|(ip, _)| ip.is_ipv4() == v4)?;
            let routes = self.routes.iter().filter(|route| route.destination.is_ipv4() == v4);
            Some(FirstIp { ip, gateway, routes: routes.map(|route| RouteJson::of(route, false)).collect() })
        };
        First { cni_version: version, ip4: of_family(true), ip6: of_family(false), dns: &self.dns }
    }

    fn to_lists(&self, version: Version) -> Lists<'_> {
        let old = version < Version::V1_0_0;
        let newest = version >= Version::V1_1_0;
        let mtu = newest.then_some(self.mtu);
        Lists {
            cni_version: version,
            interfaces: [
                Interface { name: &self.host_interface, mac: None, sandbox: None, mtu },
                Interface { name: &self.interface, mac: Some(self.mac), sandbox: Some(&self.sandbox), mtu },
            ],
            ips: self
                .addresses
                .iter()
                .map(|(address, gateway)| Ip {
                    version: old.then_some(if address.is_ipv4() { "4" } else { "6" }),
                    interface: 1,
                    address: *address,
                    gateway: *gateway,
                })
                .collect(),
            routes: self.routes.iter().map(|route| RouteJson::of(route, newest)).collect(),
            dns: (old || self.dns != DnsConfig::default()).then_some(&self.dns),
        }
    }
}

#[derive(Serialize)]
struct First<'a> {
    #[serde(rename = "cniVersion")]
    cni_version: Version,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip4: Option<FirstIp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip6: Option<FirstIp>,
    dns: &'a DnsConfig,
}

#[derive(Serialize)]
struct FirstIp {
    ip: IpNetwork,
    gateway: IpAddr,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<RouteJson>,
}

#[derive(Serialize)]
struct Lists<'a> {
    #[serde(rename = "cniVersion")]
    cni_version: Version,
    interfaces: [Interface<'a>; 2],
    ips: Vec<Ip>,
    routes: Vec<RouteJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<&'a DnsConfig>,
}

#[derive(Serialize)]
struct Interface<'a> {
    name: &'a IfName,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<Mac>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
}

#[derive(Serialize)]
struct Ip {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    interface: u8,
    address: IpNetwork,
    gateway: IpAddr,
}

#[derive(Serialize)]
struct RouteJson {
    dst: IpNetwork,
    #[serde(skip_serializing_if = "Option::is_none")]
    gw: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advmss: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<u8>,
}

impl RouteJson {
    /// `whole`: with what came with 1.1.0.
    fn of(route: &PodRoute, whole: bool) -> Self {
        let PodRoute { destination, gateway, mtu, advmss, priority, table, scope } = route.clone();
        if whole {
            Self { dst: destination, gw: gateway, mtu, advmss, priority, table, scope }
        } else {
            Self { dst: destination, gw: gateway, mtu: None, advmss: None, priority: None, table: None, scope: None }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn attached() -> AddResult {
        AddResult {
            interface: IfName::new("eth0").expect("valid"),
            mac: Mac([2, 0, 0, 0xab, 0xcd, 0xef]),
            mtu: 1450,
            sandbox: "/var/run/netns/../netns/x".to_owned(),
            host_interface: IfName::new("at0123456789ab").expect("valid"),
            addresses: vec![("10.128.0.5/24".parse().expect("valid"), [10, 128, 0, 1].into())],
            routes: vec![
                PodRoute::plain("0.0.0.0/0".parse().expect("valid"), Some([10, 128, 0, 1].into())),
                PodRoute {
                    mtu: Some(1400),
                    advmss: Some(1360),
                    priority: Some(50),
                    table: Some(100),
                    scope: Some(253),
                    ..PodRoute::plain("10.96.0.0/12".parse().expect("valid"), None)
                },
            ],
            dns: DnsConfig { nameservers: vec!["10.96.0.10".to_owned()], ..DnsConfig::default() },
        }
    }

    /// One result in every version.
    #[test]
    fn every_version_has_its_own_shape() {
        for version in Version::ALL {
            let full = attached().to_json(version);
            let bare = AddResult { dns: DnsConfig::default(), routes: vec![], ..attached() }.to_json(version);
            let both = [full, bare].map(|text| serde_json::from_str::<Value>(&text).expect("JSON"));
            insta::assert_json_snapshot!(format!("result_{version}"), both);
        }
    }
}
