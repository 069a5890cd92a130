//! The result of ADD.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

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
