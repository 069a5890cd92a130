//! Where the host end of a pod's veth belongs, so that the engine carries its packets, and what becomes of them on this machine.

use std::net::IpAddr;
use std::path::PathBuf;

use atoll_model::attachment::Mac;
use uuid::Uuid;

/// A place for host ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostSide {
    /// The host's own network namespace. The engine's agent finds the interface by its name, or [`plug`] connects it.
    ///
    /// [`plug`]: crate::engine::Engine::plug
    Host,
    /// The network namespace at this path, if there is one, else the host's own.
    NamespaceOrHost(PathBuf),
}

/// What the datapath behind a host end needs of the pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatapathNeeds {
    /// It takes frames as they are: the pod has to compute the checksums of TCP and UDP, which a veth leaves to hardware.
    pub checksums: bool,
}

/// This machine's end of the tunnels to other hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelEnd {
    /// Its address.
    pub address: IpAddr,
    /// What a tunnel takes of each packet: outer headers and the frame's own, bytes.
    pub overhead: u32,
}

/// The port of a subnet by which each machine reaches its own pods, and no others: what stands behind it is made on every
/// machine that has pods of the subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostToPodPort {
    /// Its id.
    pub id: Uuid,
    /// The MAC of the interface behind it, on every machine the same. Its address is
    /// [`HostToPodPool::source`](atoll_model::host_to_pod::HostToPodPool::source).
    pub mac: Mac,
}
