//! What stands behind a host-to-pod port on this machine, as the kernel has it: a namespace for each subnet, between the
//! switch and the node.
//!
//! ```text
//!  node ── ath… ═ node ── namespace of the subnet ── pods ═ ato… ── switch ── pod
//!  to 169.254.x.y         to the pod's own address           sees 169.254.128.1
//! ```

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use atoll_model::attachment::Mac;
use atoll_model::derive;
use atoll_model::ids::IfName;
use atoll_node::netns::Netns;
use ipnetwork::IpNetwork;
use uuid::Uuid;

/// The namespace of one subnet on this machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostToPodSide {
    /// The id of the port.
    pub id: Uuid,
    /// Where it is pinned.
    pub netns: PathBuf,
}

impl HostToPodSide {
    /// The side of a port below a directory.
    pub fn of(id: Uuid, directory: &Path) -> Self {
        Self { id, netns: directory.join(id.to_string()) }
    }

    /// As a place for links.
    pub fn place(&self) -> Netns {
        Netns::At(self.netns.clone())
    }

    /// The interface that is connected with the switch.
    pub fn switch_end(&self) -> IfName {
        self.end("ato")
    }

    /// The node's interface towards the namespace.
    pub fn node_end(&self) -> IfName {
        self.end("ath")
    }

    /// The MACs of the link to the node: that of the namespace, and that of the node.
    pub fn macs(&self) -> [Mac; 2] {
        [&b"host to pod, namespace"[..], b"host to pod, node"].map(|end| derive::mac(Uuid::new_v5(&self.id, end)))
    }

    fn end(&self, prefix: &str) -> IfName {
        let digits = self.id.simple().to_string();
        IfName::new(format!("{prefix}{}", &digits[..12])).expect("15 letters and digits")
    }
}

/// An address of a pod by which its node reaches it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostToPodEntry {
    /// The address by which the node reaches it.
    pub address: IpAddr,
    /// Its own address, of the same family.
    pub pod: IpAddr,
    /// The host end of its veth, which names the attachment.
    pub interface: IfName,
}

/// A side as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostToPodState {
    /// Everything that all pods of the subnet share is there.
    pub is_complete: bool,
    /// The pods.
    pub pods: Vec<HostToPodEntry>,
}

/// Where the node's own packets to an address of the pool go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostToPodRoute {
    /// To the side with this interface of the node.
    Side(IfName),
    /// Elsewhere: the machine has a route to this network, a part of the pool, or the address itself.
    Elsewhere(IpNetwork),
}

/// A change of a side. What is as it should be already is fine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostToPodChange {
    /// Make the namespace.
    Namespace,
    /// Load its rules: before it has a link.
    Rules,
    /// Make the link to the switch: the MAC of its inner end, and its MTU, bytes.
    SwitchLink(Mac, u32),
    /// Its inner end computes checksums.
    ComputeChecksums,
    /// Make the link to the node, with the same MTU, and the ways from it to these networks of the subnet and back. It comes up
    /// last of all: a side whose link to the node is up is complete.
    NodeLink(Vec<IpNetwork>, u32),
    /// Translate a pod's address. It is made before the routes to it, and goes after them.
    AddPod(HostToPodEntry),
    /// Add the node's routes to a pod. True: also to its own address, which no other pod has; else the node sends nothing to
    /// that address.
    AddRoutes(HostToPodEntry, bool),
    /// Delete the routes to a pod.
    DeleteRoutes(HostToPodEntry),
    /// Delete a pod's translation, and then the tracked flows to it.
    DeletePod(HostToPodEntry),
    /// Delete everything.
    Remove,
}

impl fmt::Display for HostToPodChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace => f.write_str("make the namespace"),
            Self::Rules => f.write_str("load the rules"),
            Self::SwitchLink(..) => f.write_str("make the link to the switch"),
            Self::ComputeChecksums => f.write_str("compute checksums"),
            Self::NodeLink(..) => f.write_str("make the link to the node"),
            Self::AddPod(entry) => write!(f, "translate {} to {} of {}", entry.address, entry.pod, entry.interface),
            Self::AddRoutes(entry, _) => write!(f, "add the routes to {} of {}", entry.address, entry.interface),
            Self::DeleteRoutes(entry) => write!(f, "delete the routes to {} of {}", entry.address, entry.interface),
            Self::DeletePod(entry) => write!(f, "translate {} of {} no more", entry.address, entry.interface),
            Self::Remove => f.write_str("delete everything"),
        }
    }
}
