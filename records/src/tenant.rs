//! A tenant: everything from which its network is computed.

use std::net::IpAddr;

use atoll_model::config::DnsConfig;
use atoll_model::ids::{Incarnation, Namespace, PodDomain, TenantName};
use atoll_model::range::AddressRange;
use ipnetwork::{IpNetwork, Ipv4Network};
use serde::{Deserialize, Serialize};

use crate::codec::Unknown;
use crate::key::{Prefix, RecordKey};

/// `tenants/<tenant>`: everything from which the tenant's network is computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRecord {
    /// Schema.
    pub v: u32,
    /// Its name.
    pub name: TenantName,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Why it was created.
    pub origin: Origin,
    /// Its lifecycle phase.
    pub phase: Phase,
    /// What the engine remembers about the tenant's network; only the engine reads it.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub engine: serde_json::Map<String, serde_json::Value>,
    /// Its transit link: a /30; the first usable address is the provider's side, the second the tenant's.
    pub transit: Ipv4Network,
    /// Its subnets, by ordinal.
    pub subnets: Vec<SubnetEntry>,
    /// Limits set by an operator.
    #[serde(default)]
    pub quota: Quota,
    /// Static routes of its router.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<StaticRoute>,
    /// Removed routes, until the controller has deleted them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<StaticRoute>,
    /// DNS settings of its pods, if neither the pod nor its node has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsConfig>,
    /// The domain in which the network itself answers for its pods' names; none: it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_domain: Option<PodDomain>,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl TenantRecord {
    /// The key of a tenant.
    pub fn at(tenant: &TenantName) -> RecordKey<Self> {
        RecordKey::new(format!("v2/tenants/{tenant}"))
    }

    /// All tenants.
    pub fn all() -> Prefix<Self> {
        Prefix::new("v2/tenants/".to_owned())
    }
}

/// Why a tenant was created. A name alone admits no namespace: a namespace that merely has a tenant's name is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The first pod of this namespace.
    Namespace(Namespace),
    /// Runtimes that name no namespace, through `tenant.default` of the node's configuration.
    Default,
    /// An operator.
    Operator,
}

/// Lifecycle phase of a tenant or subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its objects may be incomplete: the next call that needs them completes them.
    Building,
    /// Everything is there.
    Active,
    /// It is going: no claim may commit.
    Deleting,
}

/// A route that an operator gave to a tenant's router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticRoute {
    /// The destination.
    pub destination: IpNetwork,
    /// The action.
    pub via: Via,
}

/// The action of a static route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// Send it to this address, which is in one of the tenant's subnets.
    Gateway(IpAddr),
    /// Refuse it with an ICMP error.
    Reject,
    /// Drop it silently.
    Blackhole,
}

/// One subnet of a tenant: one bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetEntry {
    /// Its number within the tenant; never reused within one incarnation.
    pub ordinal: u32,
    /// Its prefixes: one of IPv4, one of IPv6, or both, IPv4 first.
    #[serde(flatten, with = "prefixes")]
    pub prefixes: Vec<PrefixEntry>,
    /// Its lifecycle phase; only active subnets give addresses.
    pub phase: Phase,
    /// Addresses that no pod gets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<AddressRange>,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl SubnetEntry {
    /// Its prefix of the family of `address`.
    pub fn prefix_for(&self, address: IpAddr) -> Option<&PrefixEntry> {
        self.prefixes.iter().find(|prefix| prefix.cidr.is_ipv4() == address.is_ipv4())
    }

    /// Whether one of its prefixes contains the address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.prefixes.iter().any(|prefix| prefix.cidr.contains(address))
    }

    /// Its prefixes as text: `10.128.3.0/24`, or `10.128.3.0/24, fd00:0:0:3::/64`.
    pub fn cidrs(&self) -> String {
        cidrs(&self.prefixes)
    }
}

/// Prefixes as text, with commas between them.
pub fn cidrs(prefixes: &[PrefixEntry]) -> String {
    let cidrs: Vec<_> = prefixes.iter().map(|prefix| prefix.cidr.to_string()).collect();
    cidrs.join(", ")
}

/// A prefix of a subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixEntry {
    /// The prefix, without host bits.
    pub cidr: IpNetwork,
    /// The router's address in it.
    pub gateway: IpAddr,
}

/// In JSON the prefixes are fields of the subnet: `cidr` and `gateway`, and for a second prefix `cidr6` and `gateway6`.
pub mod prefixes {
    use std::net::IpAddr;

    use ipnetwork::IpNetwork;
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::PrefixEntry;

    #[derive(Serialize, Deserialize)]
    struct Fields {
        cidr: IpNetwork,
        gateway: IpAddr,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cidr6: Option<IpNetwork>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gateway6: Option<IpAddr>,
    }

    /// Writes the fields.
    pub fn serialize<S: Serializer>(prefixes: &[PrefixEntry], to: S) -> Result<S::Ok, S::Error> {
        let (first, second) = match prefixes {
            [first] => (first, None),
            [first, second] => (first, Some(second)),
            _ => return Err(S::Error::custom("a subnet has one prefix or two")),
        };
        let fields = Fields {
            cidr: first.cidr,
            gateway: first.gateway,
            cidr6: second.map(|second| second.cidr),
            gateway6: second.map(|second| second.gateway),
        };
        fields.serialize(to)
    }

    /// Reads the fields: one prefix, or one of IPv4 and one of IPv6, each with a gateway of its family.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PrefixEntry>, D::Error> {
        let Fields { cidr, gateway, cidr6, gateway6 } = Fields::deserialize(from)?;
        let second = cidr6.zip(gateway6).map(|(cidr, gateway)| PrefixEntry { cidr, gateway });
        let all: Vec<_> = std::iter::once(PrefixEntry { cidr, gateway }).chain(second).collect();
        let of_one_family = |prefix: &PrefixEntry| prefix.cidr.is_ipv4() == prefix.gateway.is_ipv4();
        let in_order = second.is_none_or(|second| cidr.is_ipv4() && second.cidr.is_ipv6());
        if all.iter().all(of_one_family) && in_order && cidr6.is_some() == gateway6.is_some() {
            return Ok(all);
        }
        Err(D::Error::custom("a subnet has one prefix, or one of IPv4 and one of IPv6 (cidr6), with their gateways"))
    }
}

/// Limits of a tenant; none means as far as the pool reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Most subnets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnets: Option<u32>,
    /// Most addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<u32>,
}
