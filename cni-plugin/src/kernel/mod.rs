//! The seam to the kernel: veth pairs, addresses and routes in network namespaces. One method is one netlink operation, so that a
//! test can stop between any two of them.
//!
//! # Guarantees
//! * Creating what exists and deleting what does not are fine.
//! * Only objects of ours are changed. Ours is a veth of our link group: its host end has the derived name; the pod's end has the
//!   derived MAC or, if another MAC was requested or set since, the derived index at its other end.

mod host_to_pod;
pub mod linux;

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub use self::host_to_pod::{HostToPodChange, HostToPodEntry, HostToPodRoute, HostToPodSide, HostToPodState};
use atoll_model::attachment::Mac;
use atoll_model::error::{Class, Classify};
use atoll_model::ids::IfName;
use atoll_model::route::PodRoute;
pub use atoll_node::netlink::link::{Link, LinkKind};
pub use atoll_node::netlink::policy_rule::PolicyRule;
pub use atoll_node::netlink::route::FoundRoute;
pub use atoll_node::netns::Netns;
pub use atoll_node::veth::{GROUP, host_index};
use ipnetwork::IpNetwork;

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
pub enum PodChange {
    /// Bring `lo` up.
    LoopbackUp,
    /// Give the interface an address; there already is fine. With a metric the route to its subnet stands back behind
    /// that of another interface in the same one.
    Address(IfName, IpNetwork, Option<u32>),
    /// Bring the interface up.
    Up(IfName),
    /// Add a route through the interface; an existing one to that destination is fine.
    Route(IfName, PodRoute),
    /// Add a policy rule; an existing one is fine.
    AddRule(PolicyRule),
    /// Delete a policy rule; a missing one is fine.
    DeleteRule(PolicyRule),
    /// Announce the addresses of the interface by ARP (RFC 5227, section 2.3): a neighbour that remembers another MAC learns
    /// the new one.
    Announce(IfName),
    /// The interface computes the checksums of TCP and UDP itself.
    ComputeChecksums(IfName),
}

impl fmt::Display for PodChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoopbackUp => f.write_str("bring lo up"),
            Self::Address(interface, address, _) => write!(f, "add address {address} to {interface}"),
            Self::AddRule(rule) => write!(f, "add policy rule {rule}"),
            Self::DeleteRule(rule) => write!(f, "delete policy rule {rule}"),
            Self::Up(interface) => write!(f, "bring {interface} up"),
            Self::Route(interface, route) => write!(f, "add route to {route} on {interface}"),
            Self::Announce(interface) => write!(f, "announce {interface}"),
            Self::ComputeChecksums(interface) => write!(f, "let {interface} compute checksums"),
        }
    }
}

/// The kernel seam.
pub trait Kernel: Send + Sync {
    /// What is at `path`.
    fn kind(&self, path: &Path) -> impl Future<Output = Result<NetnsKind, KernelError>> + Send;

    /// Reads one link with its addresses; `None` if it, or its namespace, is not there.
    fn inspect(
        &self,
        netns: &Netns,
        interface: &IfName,
    ) -> impl Future<Output = Result<Option<Link>, KernelError>> + Send;

    /// The same by its index.
    fn inspect_index(
        &self,
        netns: &Netns,
        index: u32,
    ) -> impl Future<Output = Result<Option<Link>, KernelError>> + Send;

    /// The link that has this address.
    fn inspect_address(
        &self,
        netns: &Netns,
        address: IpAddr,
    ) -> impl Future<Output = Result<Option<Link>, KernelError>> + Send;

    /// Creates a veth pair in place, host end up, pod's end down. A pair of ours that is there already is fine.
    fn create(&self, veth: &Veth) -> impl Future<Output = Result<(), KernelError>> + Send;

    /// Changes something inside the pod's namespace.
    fn configure(&self, pod_netns: &Path, change: &PodChange) -> impl Future<Output = Result<(), KernelError>> + Send;

    /// Deletes a link of our group, and with it its other end; absent (or its namespace gone) is fine. A link that is
    /// not of our group is left alone, which is an error.
    fn delete(&self, netns: &Netns, interface: &IfName) -> impl Future<Output = Result<(), KernelError>> + Send;

    /// Deletes several links of our group, in one request to the kernel where that is possible: each by itself waits for
    /// the kernel's grace period. Absent ones are fine, and so are none; others of the namespace are left alone.
    fn delete_all(&self, netns: &Netns, interfaces: &[IfName]) -> impl Future<Output = Result<(), KernelError>> + Send;

    /// All IPv4 routes of a namespace but those to its own addresses; none if it is not there.
    fn routes(&self, netns: &Netns) -> impl Future<Output = Result<Vec<FoundRoute>, KernelError>> + Send;

    /// The rules of a namespace by which one address's packets have a table of their own; none if it is not there.
    fn rules(&self, netns: &Netns) -> impl Future<Output = Result<Vec<PolicyRule>, KernelError>> + Send;

    /// Both paths lead to one namespace.
    fn is_same(&self, one: &Path, other: &Path) -> impl Future<Output = Result<bool, KernelError>> + Send;

    /// Changes what stands behind a host-to-pod port. False: another pod of this node has the address.
    fn change_host_to_pod(
        &self,
        side: &HostToPodSide,
        change: &HostToPodChange,
    ) -> impl Future<Output = Result<bool, KernelError>> + Send;

    /// What stands behind a host-to-pod port.
    fn host_to_pod(&self, side: &HostToPodSide) -> impl Future<Output = Result<HostToPodState, KernelError>> + Send;

    /// Where the node's own packets to an address of the pool go; none: the pool has no route to it.
    fn host_to_pod_route(&self, to: IpAddr)
    -> impl Future<Output = Result<Option<HostToPodRoute>, KernelError>> + Send;

    /// All links of our group in a namespace.
    fn list(&self, netns: &Netns) -> impl Future<Output = Result<Vec<Link>, KernelError>> + Send;
}

/// The kernel refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct KernelError {
    /// What was to be done with which object: `create veth at3f… in …`.
    pub what: String,
    /// The kernel's words and errno.
    pub reason: String,
}

impl Classify for KernelError {
    fn class(&self) -> Class {
        Class::Kernel
    }
}
