//! The objects a controller keeps, as plain data.
//!
//! They serialise as the dump and as the state file: an object is its own record, indexes are made from it. What an
//! object has many of is kept in persistent collections, so that a copy of an object costs the same whatever it has.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use atoll_model::attachment::Mac;
use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// What routers and bridges have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceFields {
    /// The owner: any text; there is no list of owners.
    pub tenant: Option<String>,
    /// For people; not unique.
    pub name: Option<String>,
    /// Administratively up.
    pub up: bool,
    /// Chain for what enters.
    pub inbound: Option<Uuid>,
    /// Chain for what leaves.
    pub outbound: Option<Uuid>,
}

/// A virtual router.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Router {
    /// Common fields.
    pub device: DeviceFields,
    /// Autonomous system, 5.x.
    pub as_number: Option<i64>,
    /// Chain for redirected local packets, 5.x.
    pub local_redirect: Option<Uuid>,
    /// Chain for forwarded packets, 5.x.
    pub forward: Option<Uuid>,
}

/// A virtual bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// Common fields.
    pub device: DeviceFields,
    /// No anti-spoofing (1.9.14).
    pub disable_anti_spoof: bool,
    /// Static entries of the forwarding table: VLAN (0 is none), MAC, port.
    pub macs: OrdSet<(u16, Mac, Uuid)>,
    /// Static entries of the ARP table.
    pub arp: OrdMap<Ipv4Addr, Mac>,
}

/// A port of a router or of a bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The router or bridge.
    pub device: Uuid,
    /// What only that kind of port has.
    pub kind: PortKind,
    /// Administratively up.
    pub up: bool,
    /// Chain for what enters the device here.
    pub inbound: Option<Uuid>,
    /// Chain for what leaves the device here.
    pub outbound: Option<Uuid>,
    /// Opaque to the controller.
    pub vif_id: Option<Uuid>,
    /// Where it is bound.
    pub binding: Option<Binding>,
    /// The port at the other end of its link.
    pub peer: Option<Uuid>,
    /// Unique, 24 bits, given by the server.
    pub tunnel_key: u32,
}

/// What only one kind of port has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortKind {
    /// A port of a bridge.
    Bridge {
        /// 0 is none.
        vlan: u16,
    },
    /// A port of a router.
    Router {
        /// Its own address.
        address: Ipv4Addr,
        /// The network as it was given.
        network: Ipv4Addr,
        /// Length of the network.
        length: u8,
        /// Its own MAC.
        mac: Mac,
    },
}

/// Where a port is bound.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Binding {
    /// The host.
    pub host: Uuid,
    /// The interface on it.
    pub interface: String,
}

/// A route of a router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The router.
    pub router: Uuid,
    /// What it does.
    pub kind: RouteKind,
    /// Source network.
    pub source: (Ipv4Addr, u8),
    /// Destination network.
    pub destination: (Ipv4Addr, u8),
    /// The port it leaves by.
    pub port: Option<Uuid>,
    /// The next hop.
    pub gateway: Option<Ipv4Addr>,
    /// Lower wins.
    pub weight: u32,
    /// Unused text.
    pub attributes: Option<String>,
}

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouteKind {
    /// Forwards.
    Normal,
    /// Drops.
    BlackHole,
    /// Answers ICMP prohibited.
    Reject,
    /// The router's own address; made by the server with the port.
    Local,
}

/// A list of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// The owner.
    pub tenant: Option<String>,
    /// For people; not unique.
    pub name: Option<String>,
    /// Its rules in the order of evaluation.
    pub rules: Vec<Uuid>,
}

/// A rule. Its fields are kept as normalised JSON: `resources::rule` has the table of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The chain.
    pub chain: Uuid,
    /// Its type, as the API names it.
    pub kind: String,
    /// Every field that is present.
    pub fields: BTreeMap<String, Value>,
}

/// A set of ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortGroup {
    /// The owner.
    pub tenant: Option<String>,
    /// For people.
    pub name: Option<String>,
    /// Members share their state.
    pub stateful: bool,
    /// Its members.
    pub members: OrdSet<Uuid>,
}

/// A set of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressGroup {
    /// For people.
    pub name: Option<String>,
    /// Its members.
    pub members: OrdSet<IpAddr>,
}

/// A machine with an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub name: Option<String>,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its agent has a session.
    pub alive: bool,
    /// Its interfaces, by name.
    pub interfaces: OrdMap<String, Interface>,
    /// Weights: flooding proxy, containers, container limit, whether that is enforced.
    pub weights: Weights,
}

/// What `PUT /hosts/{id}` sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weights {
    /// 0 to 65535.
    pub flooding_proxy: i64,
    /// 5.x.
    pub container: i64,
    /// 5.x; -1 is none.
    pub container_limit: i64,
    /// 5.x.
    pub enforce_container_limit: bool,
}

impl Default for Weights {
    fn default() -> Self {
        Self { flooding_proxy: 1, container: 1, container_limit: -1, enforce_container_limit: false }
    }
}

/// An interface of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Interface {
    /// Its MAC.
    pub mac: Option<Mac>,
    /// Its MTU.
    pub mtu: u32,
    /// `Physical`, `Virtual`, `Tunnel` or `Unknown`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it ends: `PHYSICAL`, `VM`, `DATAPATH` ...
    pub endpoint: String,
    /// What kind of port the agent made of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_type: Option<String>,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Bit 0: up, bit 1: link.
    pub status: u8,
}

impl Default for Interface {
    fn default() -> Self {
        Self {
            mac: None,
            mtu: 1500,
            kind: "Physical".to_owned(),
            endpoint: "PHYSICAL".to_owned(),
            port_type: None,
            addresses: Vec::new(),
            status: 3,
        }
    }
}

/// A set of hosts that reach each other by tunnels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelZone {
    /// Unique.
    pub name: String,
    /// `gre`, `vxlan` or `vtep`.
    pub kind: String,
    /// Members and their tunnel addresses.
    pub members: OrdMap<Uuid, Ipv4Addr>,
}
