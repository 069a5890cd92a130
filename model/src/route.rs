//! A route of a pod, with all properties that CNI has: CNI SPEC 1.1.0, section "Success", `routes`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

/// The scope of a route whose destination is on the link itself (`RT_SCOPE_LINK`, rtnetlink(7)). From here on a route
/// has no next hop.
pub const SCOPE_LINK: u8 = 253;

/// The table `main`, in which a route is that names none: rtnetlink(7), `RT_TABLE_MAIN`.
pub const MAIN_TABLE: u32 = 254;

/// The table `local`, which the kernel fills with its own addresses: rtnetlink(7), `RT_TABLE_LOCAL`.
pub const LOCAL_TABLE: u32 = 255;

/// A route of a pod. The kernel chooses what is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodRoute {
    /// Destination.
    pub destination: IpNetwork,
    /// Next hop; none means directly connected.
    pub gateway: Option<IpAddr>,
    /// Path MTU, bytes.
    pub mtu: Option<u32>,
    /// The largest segment that TCP offers, bytes.
    pub advmss: Option<u32>,
    /// Of two routes to the same destination the one with the smaller number counts.
    pub priority: Option<u32>,
    /// The routing table; none means `main`.
    pub table: Option<u32>,
    /// As in rtnetlink(7); `None`: from the next hop.
    pub scope: Option<u8>,
}

impl PodRoute {
    /// A route with only a destination and a next hop.
    pub fn plain(destination: IpNetwork, gateway: Option<IpAddr>) -> Self {
        Self { destination, gateway, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }

    /// The default route by a next hop, of its family.
    pub fn default_by(gateway: IpAddr) -> Self {
        let all: IpAddr = if gateway.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        Self::plain(IpNetwork::new(all, 0).expect("0 is a prefix length"), Some(gateway))
    }

    /// The two cannot coexist: the kernel identifies a route by destination, table and priority, and the first one wins.
    pub fn is_instead_of(&self, other: &Self) -> bool {
        let key = |route: &Self| (route.destination, route.table.unwrap_or(MAIN_TABLE), route.priority.unwrap_or(0));
        key(self) == key(other)
    }

    /// A default route of the table `main`.
    pub fn is_default(&self) -> bool {
        self.destination.prefix() == 0 && self.table.unwrap_or(MAIN_TABLE) == MAIN_TABLE
    }

    /// The destination is on the link itself, with or without a gateway.
    pub fn is_local(&self) -> bool {
        self.scope.is_some_and(|scope| scope >= SCOPE_LINK)
    }
}

impl fmt::Display for PodRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.destination)?;
        let words = [
            ("via", self.gateway.map(|gateway| gateway.to_string())),
            ("mtu", self.mtu.map(|n| n.to_string())),
            ("advmss", self.advmss.map(|n| n.to_string())),
            ("metric", self.priority.map(|n| n.to_string())),
            ("table", self.table.map(|n| n.to_string())),
            ("scope", self.scope.map(|n| n.to_string())),
        ];
        words
            .iter()
            .filter_map(|(key, value)| Some((key, value.as_ref()?)))
            .try_for_each(|(k, v)| write!(f, " {k} {v}"))
    }
}
