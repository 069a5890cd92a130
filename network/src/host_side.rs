//! Where the host end of a pod's veth belongs, so that the engine carries its packets.

use std::path::PathBuf;

/// A place for host ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostSide {
    /// The host's own network namespace. The engine's agent finds the interface by its name.
    Host,
    /// The network namespace at this path, if there is one, else the host's own.
    NamespaceOrHost(PathBuf),
    /// A port of this Open vSwitch bridge, whose Interface has this `external_ids:iface-id`.
    OvsBridge {
        /// The bridge.
        bridge: String,
        /// The `iface-id`.
        interface_id: String,
    },
}
