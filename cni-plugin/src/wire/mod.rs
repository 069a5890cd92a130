//! The seam to the kernel: veth pairs, addresses and routes in network namespaces. One method, one netlink operation,
//! so that a test can stop between any two of them.
//!
//! Promises: creating what is there and deleting what is absent are fine; nothing that is not ours is ever touched.
//! Ours is what has the derived name at the host end, our link group and the derived MAC at the pod's end.

pub mod fake;
pub mod faulty;
pub mod linux;

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};

use atoll_model::attachment::Mac;
use atoll_model::error::{Class, Classify};
use atoll_model::ids::IfName;
use ipnetwork::Ipv4Network;
use std::net::Ipv4Addr;

/// The link group (`IFLA_GROUP`) of every host end: finding and deleting all of ours is one request each.
pub const GROUP: u32 = 0xa701;

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Netns {
    /// The one this process runs in.
    Own,
    /// The one pinned at, or named by, this path.
    At(PathBuf),
}

impl fmt::Display for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("our own network namespace"),
            Self::At(path) => write!(f, "network namespace {}", path.display()),
        }
    }
}

/// What is at the path that a runtime calls a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetnsKind {
    /// Nothing is there.
    Gone,
    /// A file, but no network namespace (left over from before a reboot, for instance).
    NotANetns,
    /// The network namespace of this process.
    OurOwn,
    /// A network namespace.
    Netns,
}

/// A veth pair to be: its host end here, its other end directly in the pod's namespace. Never moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Veth {
    /// Where the host end is.
    pub host_netns: Netns,
    /// Its name.
    pub host_interface: IfName,
    /// Where the pod's end is.
    pub pod_netns: PathBuf,
    /// Its name.
    pub pod_interface: IfName,
    /// Its MAC.
    pub mac: Mac,
    /// MTU of both, bytes.
    pub mtu: u32,
}

/// A change inside the pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Bring `lo` up; up already is fine.
    LoopbackUp,
    /// Give the interface an address; there already is fine.
    Address(IfName, Ipv4Network),
    /// Bring the interface up.
    Up(IfName),
    /// Add a route through the interface; there already is fine.
    Route {
        /// The interface.
        interface: IfName,
        /// Destination.
        destination: Ipv4Network,
        /// Next hop; none means directly connected.
        gateway: Option<Ipv4Addr>,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoopbackUp => f.write_str("bring lo up"),
            Self::Address(interface, address) => write!(f, "add address {address} to {interface}"),
            Self::Up(interface) => write!(f, "bring {interface} up"),
            Self::Route { interface, destination, gateway: Some(gateway) } => {
                write!(f, "add route to {destination} via {gateway} on {interface}")
            }
            Self::Route { interface, destination, gateway: None } => {
                write!(f, "add route to {destination} on {interface}")
            }
        }
    }
}

/// A link as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its MAC.
    pub mac: Option<Mac>,
    /// Its MTU, bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Its link group.
    pub group: u32,
    /// It is a veth.
    pub veth: bool,
    /// Its IPv4 addresses.
    pub addresses: Vec<Ipv4Network>,
}

impl Link {
    /// The pod's end of an attachment with this MAC.
    pub fn is_pod_end(&self, mac: Mac) -> bool {
        self.veth && self.group == GROUP && self.mac == Some(mac)
    }
}

/// See the module.
pub trait Wire {
    /// What is at `path`.
    fn kind(&self, path: &Path) -> impl Future<Output = Result<NetnsKind, WireError>>;

    /// Looks at one link; none means that it, or its namespace, is not there.
    fn inspect(&self, netns: &Netns, interface: &IfName) -> impl Future<Output = Result<Option<Link>, WireError>>;

    /// Creates a veth pair in place, host end up, pod's end down. A pair of ours that is there already is fine.
    fn create(&self, veth: &Veth) -> impl Future<Output = Result<(), WireError>>;

    /// Changes something inside the pod's namespace.
    fn configure(&self, pod_netns: &Path, change: &Change) -> impl Future<Output = Result<(), WireError>>;

    /// Deletes a link of our group, and with it its other end; absent (or its namespace gone) is fine. A link that is
    /// not of our group is left alone, which is an error.
    fn delete(&self, netns: &Netns, interface: &IfName) -> impl Future<Output = Result<(), WireError>>;

    /// All links of our group in a namespace.
    fn list(&self, netns: &Netns) -> impl Future<Output = Result<Vec<Link>, WireError>>;
}

/// The kernel refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct WireError {
    /// What was to be done with which object: `create veth at3f… in …`.
    pub what: String,
    /// The kernel's words and errno.
    pub reason: String,
}

impl Classify for WireError {
    fn class(&self) -> Class {
        Class::Kernel
    }
}
