//! A virtual topology: routers, bridges, ports, routes, chains and rules, with MidoNet's meaning and no wire format.
//!
//! Two crates exchange it: `tenant` computes one from a tenant record and makes the controller match it; `dataplane` takes
//! one and makes the kernel match it. Meaning: MidoNet REST API, sections "Router" to "Rule". All objects are keyed by id
//! and sorted, so that equal topologies are equal values.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::attachment::Mac;

/// Every object of a topology, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Topology {
    /// Routers.
    pub routers: BTreeMap<Uuid, Router>,
    /// Bridges.
    pub bridges: BTreeMap<Uuid, Bridge>,
    /// Ports of routers and of bridges.
    pub ports: BTreeMap<Uuid, Port>,
    /// Routes of routers.
    pub routes: BTreeMap<Uuid, Route>,
    /// Chains with their rules in order.
    pub chains: BTreeMap<Uuid, Chain>,
    /// Port groups.
    pub port_groups: BTreeMap<Uuid, PortGroup>,
    /// Groups of addresses.
    pub address_groups: BTreeMap<Uuid, AddressGroup>,
}

/// A virtual router.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Router {
    /// The tenant that owns it, as the controller stores it.
    pub tenant: String,
    /// For people; not unique.
    pub name: String,
    /// Administratively up.
    pub up: bool,
    /// Chain that packets traverse before routing.
    pub inbound: Option<Uuid>,
    /// Chain that packets traverse after routing.
    pub outbound: Option<Uuid>,
    /// Names of the fields that are set and that this model does not have. They are kept so that they can be reported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other: Vec<String>,
}

/// A virtual bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// The tenant that owns it, as the controller stores it.
    pub tenant: String,
    /// For people; not unique.
    pub name: String,
    /// Administratively up.
    pub up: bool,
    /// Chain that frames traverse before forwarding.
    pub inbound: Option<Uuid>,
    /// Chain that frames traverse after forwarding.
    pub outbound: Option<Uuid>,
    /// Static entries of the forwarding table: the port of a MAC.
    pub macs: BTreeMap<Mac, Uuid>,
    /// Static entries of the ARP table: the MAC of an address.
    pub arp: BTreeMap<Ipv4Addr, Mac>,
    /// Names of the fields that are set and that this model does not have. They are kept so that they can be reported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other: Vec<String>,
}

/// A port of a router or of a bridge: bound to an interface (exterior), linked to a peer (interior) or neither.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its device.
    pub device: Device,
    /// Administratively up.
    pub up: bool,
    /// Chain for what enters the device through this port.
    pub inbound: Option<Uuid>,
    /// Chain for what leaves the device through this port.
    pub outbound: Option<Uuid>,
    /// The port at the other end of the link.
    pub peer: Option<Uuid>,
    /// The interface that carries this port's packets.
    pub binding: Option<Binding>,
    /// The `vifId` of the port, see [`crate::port_security`].
    #[serde(rename = "vif")]
    pub vif_id: Option<Uuid>,
    /// Names of the fields that are set and that this model does not have. They are kept so that they can be reported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other: Vec<String>,
}

/// The device a port belongs to, with what only that kind of port has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// A port of a bridge.
    Bridge {
        /// The bridge.
        id: Uuid,
        /// VLAN of a link between a VLAN-aware and a VLAN-unaware bridge.
        vlan: Option<u16>,
    },
    /// A port of a router.
    Router {
        /// The router.
        id: Uuid,
        /// The port's own address with the length of its network (`10.128.0.1/24`).
        address: Ipv4Network,
        /// The port's own MAC; the server makes one up where none is given.
        mac: Option<Mac>,
    },
}

impl Device {
    /// The id of the bridge or router.
    pub fn id(&self) -> Uuid {
        match self {
            Self::Bridge { id, .. } | Self::Router { id, .. } => *id,
        }
    }
}

/// "Port P is interface I of host H."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The host, by the id of its agent.
    pub host: Uuid,
    /// The interface on that host.
    pub interface: String,
}

/// A route of a router. Longest destination prefix first, then lowest weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The router.
    pub router: Uuid,
    /// The sources for which it is.
    pub source: Ipv4Network,
    /// The destinations for which it is.
    pub destination: Ipv4Network,
    /// The action.
    pub action: RouteAction,
    /// Lower wins among equal prefixes.
    pub weight: u32,
}

/// The action of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteAction {
    /// Send it out of a port, by way of a gateway or straight to its destination.
    Forward {
        /// The port of the same router.
        port: Uuid,
        /// The next hop; none means that the destination is directly connected.
        gateway: Option<Ipv4Addr>,
    },
    /// The address is the router's own: the controller adds one for each router port.
    Local {
        /// The port that has the address.
        port: Uuid,
    },
    /// Drop silently.
    BlackHole,
    /// Answer ICMP "communication administratively prohibited".
    Reject,
}

/// A list of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// The tenant that owns it, as the controller stores it.
    pub tenant: String,
    /// For people; not unique.
    pub name: String,
    /// In the order of evaluation.
    pub rules: Vec<Rule>,
}

/// One rule of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The rule's id.
    pub id: Uuid,
    /// When it applies.
    pub condition: Condition,
    /// The action.
    pub action: RuleAction,
}

/// The action of a rule on a packet that meets its condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleAction {
    /// The packet passes; the chain ends.
    Accept,
    /// The packet is dropped silently.
    Drop,
    /// The packet is dropped, and its sender gets an ICMP error.
    Reject,
    /// Go on after the jump, or accept at the top.
    Return,
    /// Evaluate another chain, then go on; a chain that was visited already is skipped.
    Jump {
        /// The chain.
        chain: Uuid,
    },
    /// Rewrite the source.
    Snat {
        /// To one of these.
        targets: Vec<NatTarget>,
        /// And then.
        then: FlowAction,
    },
    /// Rewrite the destination.
    Dnat {
        /// To one of these.
        targets: Vec<NatTarget>,
        /// And then.
        then: FlowAction,
    },
    /// Undo an earlier rewriting of the source for what returns; without one, evaluation continues.
    ReverseSnat {
        /// And then.
        then: FlowAction,
    },
    /// Undo an earlier rewriting of the destination for what returns; without one, evaluation continues.
    ReverseDnat {
        /// And then.
        then: FlowAction,
    },
    /// A kind of rule that this vocabulary has no word for; kept so that it can be reported, never ignored.
    Other {
        /// The controller's name of the kind.
        kind: String,
    },
}

/// The evaluation after a translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowAction {
    /// The packet passes; the chain ends.
    Accept,
    /// The next rule.
    Continue,
    /// Back to the caller.
    Return,
}

/// A range of addresses and ports to translate to. Ports 0 to 0 keep the packet's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatTarget {
    /// First address.
    pub from: Ipv4Addr,
    /// Last address, included.
    pub to: Ipv4Addr,
    /// First port.
    pub port_from: u16,
    /// Last port, included.
    pub port_to: u16,
}

/// A value to compare with, or to differ from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Test<T> {
    /// The value.
    pub value: T,
    /// True: the field must differ from the value.
    pub inverted: bool,
}

impl<T> Test<T> {
    /// The field must equal `value`.
    pub fn is(value: T) -> Self {
        Self { value, inverted: false }
    }
}

/// When a rule applies: all fields that are present must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Condition {
    /// Negates the conjunction of everything but the fragment policy.
    pub inverted: bool,
    /// The packet is of the direction that opened the flow.
    pub forward_flow: bool,
    /// The packet is of the direction that answers.
    pub return_flow: bool,
    /// It entered the device through one of these ports.
    pub in_ports: Option<Test<Vec<Uuid>>>,
    /// It leaves the device through one of these ports.
    pub out_ports: Option<Test<Vec<Uuid>>>,
    /// It entered through a member of this group.
    pub in_port_group: Option<Test<Uuid>>,
    /// It leaves through a member of this group.
    pub out_port_group: Option<Test<Uuid>>,
    /// Its source is in this group of addresses.
    pub source_group: Option<Test<Uuid>>,
    /// Its destination is in this group of addresses.
    pub destination_group: Option<Test<Uuid>>,
    /// It has traversed this device.
    pub traversed: Option<Test<Uuid>>,
    /// Its EtherType.
    pub ether_type: Option<Test<u16>>,
    /// Its source MAC under a mask.
    pub ether_source: Option<Test<(Mac, Mac)>>,
    /// Its destination MAC under a mask.
    pub ether_destination: Option<Test<(Mac, Mac)>>,
    /// Its VLAN: some id, or none at all.
    #[expect(clippy::option_option, reason = "not asked, asked for untagged, and asked for an id are three things")]
    pub vlan: Option<Option<u16>>,
    /// Its type of service.
    pub tos: Option<Test<u8>>,
    /// Its IP protocol.
    pub protocol: Option<Test<u8>>,
    /// Its source network.
    pub source: Option<Test<Ipv4Network>>,
    /// Its destination network.
    pub destination: Option<Test<Ipv4Network>>,
    /// Its source port or ICMP type, first to last included.
    pub source_port: Option<Test<(u16, u16)>>,
    /// Its destination port or ICMP code, first to last included.
    pub destination_port: Option<Test<(u16, u16)>>,
    /// The fragments that it matches.
    pub fragments: Fragments,
    /// Fields that this vocabulary has no word for, by the controller's name; kept so that they can be reported.
    pub other: Vec<String>,
}

/// The packets of a fragmented datagram that a rule matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fragments {
    /// Every packet.
    #[default]
    Any,
    /// Whole packets and first fragments.
    Header,
    /// Later fragments only.
    NonHeader,
    /// Whole packets only.
    Unfragmented,
}

/// A set of ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortGroup {
    /// For people.
    pub name: String,
    /// Members share their NAT and flow state.
    pub stateful: bool,
    /// Its members.
    pub members: Vec<Uuid>,
}

/// A set of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressGroup {
    /// For people.
    pub name: String,
    /// Its members.
    pub members: Vec<std::net::IpAddr>,
}

/// The kinds of object, as the field calls them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A router.
    Router,
    /// A bridge.
    Bridge,
    /// A port.
    Port,
    /// A link between two ports.
    Link,
    /// A route.
    Route,
    /// A chain.
    Chain,
    /// A rule.
    Rule,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Router => "router",
            Self::Bridge => "bridge",
            Self::Port => "port",
            Self::Link => "link",
            Self::Route => "route",
            Self::Chain => "chain",
            Self::Rule => "rule",
        })
    }
}

/// One object with its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Object {
    /// A router.
    Router(Uuid, Router),
    /// A bridge.
    Bridge(Uuid, Bridge),
    /// A port.
    Port(Uuid, Port),
    /// A route.
    Route(Uuid, Route),
    /// A chain with its rules.
    Chain(Uuid, Chain),
    /// A port group.
    PortGroup(Uuid, PortGroup),
    /// A group of addresses.
    AddressGroup(Uuid, AddressGroup),
}

impl Object {
    /// Its id.
    pub fn id(&self) -> Uuid {
        match self {
            Self::Router(id, _)
            | Self::Bridge(id, _)
            | Self::Port(id, _)
            | Self::Route(id, _)
            | Self::Chain(id, _)
            | Self::PortGroup(id, _)
            | Self::AddressGroup(id, _) => *id,
        }
    }
}

/// One step from a topology to the next. Replaying the changes of a controller in order gives its topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TopologyChange {
    /// The object is new, or is now like this.
    Put(Object),
    /// The object of this id is gone, of any kind.
    Remove(Uuid),
}

impl TopologyChange {
    /// The object that it is about.
    pub fn id(&self) -> Uuid {
        match self {
            Self::Put(object) => object.id(),
            Self::Remove(id) => *id,
        }
    }
}

impl Topology {
    /// Takes one step.
    pub fn apply(&mut self, change: TopologyChange) {
        match change {
            TopologyChange::Put(Object::Router(id, value)) => drop(self.routers.insert(id, value)),
            TopologyChange::Put(Object::Bridge(id, value)) => drop(self.bridges.insert(id, value)),
            TopologyChange::Put(Object::Port(id, value)) => drop(self.ports.insert(id, value)),
            TopologyChange::Put(Object::Route(id, value)) => drop(self.routes.insert(id, value)),
            TopologyChange::Put(Object::Chain(id, value)) => drop(self.chains.insert(id, value)),
            TopologyChange::Put(Object::PortGroup(id, value)) => drop(self.port_groups.insert(id, value)),
            TopologyChange::Put(Object::AddressGroup(id, value)) => drop(self.address_groups.insert(id, value)),
            TopologyChange::Remove(id) => {
                self.routers.remove(&id);
                self.bridges.remove(&id);
                self.ports.remove(&id);
                self.routes.remove(&id);
                self.chains.remove(&id);
                self.port_groups.remove(&id);
                self.address_groups.remove(&id);
            }
        }
    }
}
