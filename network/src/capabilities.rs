//! What an engine can do. A request for what it cannot do is refused by name.

/// The features of an engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// It forwards IPv6.
    pub ipv6: bool,
    /// Tenants may have the same prefixes.
    pub overlapping: bool,
    /// Prefixes of tenants reach the external network without translation.
    pub routed: bool,
    /// More than one uplink carries packets at once.
    pub several_uplinks: bool,
}
