//! The configuration of the plugin and of `atollctl`: one object, the plugin's entry in the conflist.
//!
//! Unknown keys are ignored. A wrong value is an error that names its key by path (`cluster.subnetPrefix`), what was
//! given and what is expected. Secrets are never in it: it names files.

mod parse;
mod possible;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnetwork::{Ipv4Network, Ipv6Network};
use uuid::Uuid;

use crate::address_request::SubnetChoice;
use crate::ids::{HostId, IfName, NodeName, TenantName};
use crate::route::PodRoute;

/// Everything that can be configured, with defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The store.
    pub etcd: EtcdConfig,
    /// The SDN controller, if the engine is MidoNet's.
    pub controller: ControllerConfig,
    /// OVN, if it is the engine.
    pub ovn: Option<OvnConfig>,
    /// The settings on which all nodes must agree.
    pub cluster: ClusterConfig,
    /// How a pod finds its tenant.
    pub tenant: TenantConfig,
    /// This machine's name; none means `uname -n`.
    pub node_name: Option<NodeName>,
    /// The id of this machine's host in the engine; none means the one that the engine's agent has recorded here.
    pub host_id: Option<HostId>,
    /// MTU of the pod's interface.
    pub mtu: Mtu,
    /// The subnet of the tenant that this network's pods are in; none means any.
    pub subnet: Option<SubnetChoice>,
    /// Extra routes of the pod. A route without a gateway uses the subnet's, unless its scope is the link.
    pub routes: Vec<PodRoute>,
    /// Name servers for the result.
    pub dns: DnsConfig,
    /// The overall deadline of one call.
    pub timeout: Duration,
    /// How long a late request of a dead process may still take effect; see `docs/design/attachment.md`.
    pub max_request_lifetime: Duration,
    /// The checks of STATUS.
    pub status: StatusMode,
    /// How long a freed address is not given away; see `docs/design/addresses.md`.
    pub cooldown: Duration,
    /// The log.
    pub log: LogConfig,
    /// Locks, progress and the data plane's namespaces; may be lost. `runDir`, default `/run/atoll`.
    pub run_dir: PathBuf,
    /// Tombstones and caches. `stateDir`, default `/var/lib/atoll`.
    pub state_dir: PathBuf,
}

/// `etcd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdConfig {
    /// Base URLs, tried in order of health.
    pub endpoints: Vec<String>,
    /// The prefix of our keys; begins with `/` and does not end with it.
    pub prefix: String,
    /// CA file, PEM.
    pub ca: Option<PathBuf>,
    /// Client certificate file, PEM.
    pub cert: Option<PathBuf>,
    /// Client key file, PEM, mode 0600.
    pub key: Option<PathBuf>,
}

/// `ovn`: OVN as the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OvnConfig {
    /// The members of the Northbound database: `ssl:10.0.0.1:6641`.
    pub northbound: Vec<String>,
    /// The members of the Southbound database. Only `atollctl` asks them.
    pub southbound: Vec<String>,
    /// CA file, PEM.
    pub ca: Option<PathBuf>,
    /// Client certificate file, PEM.
    pub cert: Option<PathBuf>,
    /// Client key file, PEM, mode 0600.
    pub key: Option<PathBuf>,
    /// The name in the servers' certificates; none: the host of each endpoint.
    pub server_name: Option<String>,
    /// This machine's Open vSwitch: `unix:/run/openvswitch/db.sock`.
    pub local: String,
    /// Its bridge for pods.
    pub bridge: String,
}

/// `controller`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerConfig {
    /// Base URLs of the REST API, tried in order of health.
    pub endpoints: Vec<String>,
    /// The dialect of its API.
    pub version: ApiVersion,
    /// User name for the login; none means no login (a controller with mock authentication).
    pub username: Option<String>,
    /// File that holds the password, mode 0600.
    pub password_file: Option<PathBuf>,
    /// `X-Auth-Project` of the login.
    pub project: String,
    /// CA file, PEM.
    pub ca: Option<PathBuf>,
    /// Client certificate file, PEM.
    pub cert: Option<PathBuf>,
    /// Client key file, PEM, mode 0600.
    pub key: Option<PathBuf>,
    /// The source of tokens; `None`: the controller's own login.
    pub keystone: Option<KeystoneConfig>,
}

/// `controller.keystone`: OpenStack Identity v3 as the source of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeystoneConfig {
    /// Base URLs, with the path: `https://10.0.0.5:5000/v3`.
    pub endpoints: Vec<String>,
    /// CA file, PEM.
    pub ca: Option<PathBuf>,
    /// The domain of `controller.username`.
    pub user_domain: KeystoneDomain,
    /// The domain of `controller.project`.
    pub project_domain: KeystoneDomain,
    /// An application credential, instead of user and password: its id and the file with its secret, mode 0600.
    pub application_credential: Option<(String, PathBuf)>,
}

/// A domain of Keystone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeystoneDomain {
    /// By its id.
    Id(String),
    /// By its name.
    Name(String),
}

/// The dialect of the controller's API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApiVersion {
    /// As its root document states.
    #[default]
    Auto,
    /// MidoNet 1.9.
    V1,
    /// MidoNet 5.x.
    V5,
}

/// `cluster`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// How subnets are given to tenants.
    pub addressing: Addressing,
    /// The pool of pod subnets.
    pub pod_cidr: Ipv4Network,
    /// The prefix length of a subnet.
    pub subnet_prefix: u8,
    /// The pool of transit links.
    pub transit_cidr: Ipv4Network,
    /// Pods have an address of IPv4. `ipFamilies`.
    pub ipv4: bool,
    /// Pods have an address of IPv6, from these pools.
    pub ipv6: Option<Ipv6Pools>,
    /// Addresses by which a node reaches its own pods.
    pub node_side_cidr: Ipv4Network,
    /// Addresses of services, which never leave by an uplink; none: not known.
    pub service_cidr: Option<Ipv4Network>,
    /// The provider router; none means `auto`: the only one the controller has.
    pub provider_router: Option<Uuid>,
}

/// The pools of IPv6: `podCidr6`, `subnetPrefix6`, `transitCidr6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ipv6Pools {
    /// The pool of pod subnets.
    pub pod_cidr: Ipv6Network,
    /// The prefix length of a subnet.
    pub subnet_prefix: u8,
    /// The pool of transit links, a /126 each: a tenant's has the same index in it as its /30 in the pool of IPv4.
    pub transit_cidr: Ipv6Network,
}

/// How subnets are given to tenants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Addressing {
    /// No two subnets of the cluster overlap.
    #[default]
    Unique,
    /// Every tenant starts at the same subnet.
    Overlapping,
}

/// `tenant`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantConfig {
    /// The tenant of a call that names no namespace; none refuses such a call.
    pub default: Option<TenantName>,
}

/// `dns`, as CNI knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct DnsConfig {
    /// Name servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// Local domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Search list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Resolver options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// A part of DNS that no resolver could use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusableDns {
    /// The part of the configuration.
    pub what: &'static str,
    /// The given value.
    pub given: String,
    /// The expected value.
    pub expected: &'static str,
}

impl DnsConfig {
    /// Each part becomes a line, or a word of a line, of a pod's `resolv.conf`: resolv.conf(5).
    pub fn refuse_unusable(&self) -> Result<(), UnusableDns> {
        let refuse = |what, given: &String, expected| {
            Err(UnusableDns { what, given: given.chars().take(80).collect(), expected })
        };
        let is_host = |text: &String| {
            text.parse::<IpAddr>().is_ok_and(|address| !address.is_unspecified() && !address.is_multicast())
        };
        if let Some(server) = self.nameservers.iter().find(|server| !is_host(server)) {
            return refuse("name server", server, "the address of a host");
        }
        let is_word =
            |text: &String| !text.is_empty() && text.len() <= 253 && text.bytes().all(|b| b.is_ascii_graphic());
        if let Some(domain) = self.domain.iter().chain(&self.search).find(|domain| !is_word(domain)) {
            return refuse("domain", domain, "a domain name of at most 253 visible characters");
        }
        match self.options.iter().find(|option| !is_word(option)) {
            Some(option) => refuse("option", option, "one word of visible characters"),
            None => Ok(()),
        }
    }
}

/// `log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The file; none means no log.
    pub file: Option<PathBuf>,
    /// The least severe level that is written: `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// A file that has grown to this size, bytes, is put aside. `log.maxMegabytes`.
    pub max_bytes: u64,
    /// How many files that were put aside are kept.
    pub keep: u32,
}

/// `mtu`, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mtu {
    /// As configured, bytes.
    Fixed(u32),
    /// `auto`: what the node's interface carries, less what the tunnel takes.
    Auto(Tunnel),
}

/// What VXLAN takes of each packet: outer IPv4 header, UDP, tunnel header, the frame's own header (RFC 7348, section 5), bytes.
pub const VXLAN_OVERHEAD: u32 = 20 + 8 + 8 + 14;

/// `tunnel`: what carries packets from node to node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The node's interface that tunnels go through; none means the one that the engine's agent has recorded, else that of
    /// the default route.
    pub interface: Option<IfName>,
    /// The tunnel's overhead on each packet, bytes: by type, or a number; none means that of the tunnels that the engine's agent
    /// has recorded, else [`VXLAN_OVERHEAD`].
    pub overhead: Option<u32>,
}

/// `status`: what STATUS reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatusMode {
    /// Faults of this node.
    #[default]
    Local,
    /// Also that etcd or the controller does not answer.
    Strict,
}

/// A value of the configuration is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("configuration key {key:?} is wrong: {problem}")]
pub struct ConfigError {
    /// Path of the key, for instance `cluster.subnetPrefix`.
    pub key: String,
    /// The given and the expected value.
    pub problem: String,
}

impl crate::error::Classify for ConfigError {
    fn class(&self) -> crate::error::Class {
        crate::error::Class::Config
    }
}
