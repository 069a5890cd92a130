//! The result of ADD: CNI SPEC 1.1.0, section "Success"; older shapes as the older specifications have them.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use serde::Serialize;

use super::version::Version;
use crate::attachment::Mac;
use crate::config::DnsConfig;
use crate::ids::IfName;

/// What an ADD made, independent of the version in which it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
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
    /// Its addresses, the first one is the pod's.
    pub addresses: Vec<(Ipv4Network, Ipv4Addr)>,
    /// Its routes.
    pub routes: Vec<(Ipv4Network, Option<Ipv4Addr>)>,
    /// Name servers.
    pub dns: DnsConfig,
}

impl Attached {
    /// As one JSON document in the shape of `version`.
    ///
    /// The host end comes first and the pod's interface second, as with the reference plugins; `ips` point at the
    /// second. 0.3.1 and 0.4.0 tell the IP version and always have `dns`; 1.1.0 tells the MTU.
    pub fn to_json(&self, version: Version) -> String {
        let old = version < Version::V1_0_0;
        let mtu = (version >= Version::V1_1_0).then_some(self.mtu);
        let document = Document {
            cni_version: version,
            interfaces: [
                Interface { name: &self.host_interface, mac: None, sandbox: None, mtu },
                Interface { name: &self.interface, mac: Some(self.mac), sandbox: Some(&self.sandbox), mtu },
            ],
            ips: self
                .addresses
                .iter()
                .map(|(address, gateway)| Ip {
                    version: old.then_some("4"),
                    interface: 1,
                    address: *address,
                    gateway: *gateway,
                })
                .collect(),
            routes: self.routes.iter().map(|(dst, gw)| Route { dst: *dst, gw: *gw }).collect(),
            dns: (old || self.dns != DnsConfig::default()).then_some(&self.dns),
        };
        serde_json::to_string(&document).expect("texts and numbers")
    }
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "cniVersion")]
    cni_version: Version,
    interfaces: [Interface<'a>; 2],
    ips: Vec<Ip>,
    routes: Vec<Route>,
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
    address: Ipv4Network,
    gateway: Ipv4Addr,
}

#[derive(Serialize)]
struct Route {
    dst: Ipv4Network,
    #[serde(skip_serializing_if = "Option::is_none")]
    gw: Option<Ipv4Addr>,
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn attached() -> Attached {
        Attached {
            interface: IfName::new("eth0").expect("valid"),
            mac: Mac([2, 0, 0, 0xab, 0xcd, 0xef]),
            mtu: 1450,
            sandbox: "/var/run/netns/../netns/x".to_owned(),
            host_interface: IfName::new("at0123456789ab").expect("valid"),
            addresses: vec![("10.128.0.5/24".parse().expect("valid"), [10, 128, 0, 1].into())],
            routes: vec![
                ("0.0.0.0/0".parse().expect("valid"), Some([10, 128, 0, 1].into())),
                ("10.96.0.0/12".parse().expect("valid"), None),
            ],
            dns: DnsConfig { nameservers: vec!["10.96.0.10".to_owned()], ..DnsConfig::default() },
        }
    }

    /// One scenario, told in every version.
    #[test]
    fn every_version_has_its_own_shape() {
        for version in Version::ALL {
            let full = attached().to_json(version);
            let bare = Attached { dns: DnsConfig::default(), routes: vec![], ..attached() }.to_json(version);
            let both = [full, bare].map(|text| serde_json::from_str::<Value>(&text).expect("JSON"));
            insta::assert_json_snapshot!(format!("result_{version}"), both);
        }
    }
}
