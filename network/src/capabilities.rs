//! What an engine can do. A request for what it cannot do is refused by name.

/// The features of an engine. The conformance suite checks each by what packets do, present or absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// It forwards IPv6.
    pub ipv6: bool,
    /// Tenants may have the same prefixes.
    pub overlapping: bool,
    /// More than one uplink carries packets at once.
    pub several_uplinks: bool,
    /// A port of a host that it does not know is refused. Otherwise the port is made, and never becomes active.
    pub checks_hosts: bool,
    /// Pods of several hosts are in one network. Without it, packets of one host's pods alone are forwarded.
    pub several_hosts: bool,
    /// A node reaches its own pods at their addresses, if these are unique in the cluster. Where an engine has a port for it
    /// ([`Engine::host_to_pod_port`](crate::engine::Engine::host_to_pod_port)), it takes what the plugin makes behind the port.
    pub host_to_pod: bool,
    /// The network itself answers DNS queries of its pods for the names of its pods.
    pub pod_names: bool,
}
