//! What a topology becomes on one host: the objects of the kernel, as data.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use atoll_model::attachment::Mac;
use atoll_model::host_to_pod::HostToPodPool;
use ipnetwork::Ipv4Network;
use serde::Serialize;
use uuid::Uuid;

use super::element::Element;
use super::pod::PodBridge;
use super::table::Ruleset;
use super::unsupported::Unsupported;

/// Everything that one topology becomes on one host, ports of pods aside: those come and go too often.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KernelPlan {
    /// The namespaces, by the id of their router, or of their bridge where there is none.
    pub namespaces: BTreeMap<Uuid, RouterNamespace>,
    /// Where pods can be attached, by the id of the bridge.
    pub bridges: BTreeMap<Uuid, PodBridge>,
}

/// What one namespace holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RouterNamespace {
    /// Interfaces by name.
    pub devices: BTreeMap<String, KernelDevice>,
    /// Routes of the router.
    pub routes: BTreeSet<KernelRoute<String>>,
    /// Which sources have a table of their own.
    pub sources: BTreeSet<SourceTable>,
    /// Neighbours that are known without asking.
    pub neighbours: BTreeSet<Neighbour<String>>,
    /// The packet filter, elements of pods aside.
    pub ruleset: Ruleset,
    /// Elements of the filter that belong to the structure.
    pub elements: BTreeSet<Element>,
    /// Chains whose ports must stay closed.
    pub closed: BTreeSet<String>,
    /// Some port or bridge rule matches on flows: bridged packets must pass connection tracking.
    pub track_bridged: bool,
    /// The router forwards nothing: something that may restrict could not be expressed.
    pub shut: bool,
    /// What each rule of the router translates to, whether the router is up or not.
    #[serde(skip)]
    pub targets: BTreeMap<Uuid, BTreeSet<TranslationTarget>>,
    /// The link by which the machine reaches the pods.
    pub node: Option<HostLink>,
    /// What could not be expressed.
    pub unsupported: BTreeSet<Unsupported>,
}

/// Addresses that something is translated to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TranslationTarget {
    /// The destination is translated; else the source.
    pub destination: bool,
    /// The first of them.
    pub from: Ipv4Addr,
    /// The last.
    pub to: Ipv4Addr,
}

/// An interface that the structure of a router namespace needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelDevice {
    /// What it is.
    pub kind: DeviceKind,
    /// Its MAC.
    pub mac: Mac,
    /// Its addresses. They bring no route of their own: the topology decides what is reachable.
    pub addresses: BTreeSet<Ipv4Addr>,
}

/// Kinds of [`KernelDevice`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// A bridge; its own interface is the router's port on it.
    Bridge,
    /// One end of a link between two ports.
    Link {
        /// The namespace of the other end.
        namespace: Uuid,
        /// The name of the other end.
        name: String,
        /// The MAC of the other end.
        mac: Mac,
        /// The bridge that this end is a port of.
        bridge: Option<String>,
    },
    /// One end of the link to the node.
    Host {
        /// The name of the node's end.
        end: String,
        /// The MAC of the node's end.
        mac: Mac,
    },
    /// An interface of this machine that a router port is bound to.
    Uplink {
        /// The external network behind it, simulated if the machine has no such interface.
        #[serde(rename = "outside")]
        external: Option<ExternalNetwork>,
    },
}

/// The other end of an uplink that leads nowhere: a namespace that answers as the next hop would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExternalNetwork {
    /// The name of its interface.
    pub name: String,
    /// Its MAC.
    pub mac: Mac,
    /// Its address: the next hop of the route through the uplink.
    pub address: Ipv4Network,
    /// The way back: the uplink's own address.
    pub back: Ipv4Addr,
}

/// The link group (`IFLA_GROUP`) of every link that we make. It is set in the request that creates the link, so there
/// is no moment at which a link of ours does not carry it.
pub const GROUP: u32 = 0xa702;

/// The table of routes for every source.
pub const MAIN: u32 = 254;

/// A route; `D` names a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct KernelRoute<D> {
    /// The table: [`MAIN`], or one for the sources that a rule leads there.
    pub table: u32,
    /// Destination.
    pub destination: Ipv4Network,
    /// Lower wins among equal destinations.
    pub metric: u32,
    /// What happens to the packet.
    pub next: NextHop<D>,
}

/// What a route does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NextHop<D> {
    /// To a gateway.
    Via {
        /// Through this device.
        device: D,
        /// To this address.
        gateway: Ipv4Addr,
    },
    /// Straight to the destination.
    Direct {
        /// Through this device.
        device: D,
    },
    /// Dropped silently.
    BlackHole,
    /// Answered with ICMP "communication administratively prohibited".
    Prohibit,
}

/// Sources that have a table of their own. The longest prefix wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SourceTable {
    /// The sources.
    pub network: Ipv4Network,
    /// Their table.
    pub table: u32,
}

/// An address whose MAC is known; `D` names a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Neighbour<D> {
    /// Behind this device.
    pub device: D,
    /// The address.
    pub address: Ipv4Addr,
    /// Its MAC.
    pub mac: Mac,
}

/// The link between a router namespace and the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostLink {
    /// The router's end.
    pub name: String,
    /// The node's end.
    pub end: String,
    /// Where its addresses come from.
    pub pool: HostToPodPool,
}
