//! Topology to kernel objects. Pure: no kernel, no clock, the same text for the same topology.
//!
//! A *namespace* is one network namespace: a router with every bridge whose first router link (lowest port id) is that
//! router's. A bridge that no router is linked to is a namespace of its own. What cannot be expressed is returned as
//! [`Unsupported`]; where it would have restricted traffic, the namespace or the port stays closed.
//!
//! | module | what |
//! |---|---|
//! | `view` | how the topology is read, and what was read |
//! | `compiled` | a topology and what it becomes, kept up to date change by change |
//! | `audit` | what of routers, bridges and ports is left out |
//! | `names` | interface names and MACs that derive from ids |
//! | `namespace` | devices, addresses, routes, neighbours |
//! | `host_to_pod`, `pool` | how the machine itself reaches every pod, and by which address |
//! | `port` | port security of a bridge port that an interface is bound to |
//! | `rules`, `condition`, `fragments`, `runs`, `jumps` | chains to nftables |
//! | `counting` | which line is which rule |
//! | `filters` | the stages of bridges and their ports |
//! | `ruleset`, `router` | the two tables of a router namespace |

mod audit;
mod call_graph;
mod compiled;
mod condition;
mod context;
mod element;
mod filters;
mod fragments;
mod groups;
pub(crate) mod host_to_pod;
mod limits;
mod location;
pub(crate) mod marks;
pub(crate) mod names;
mod namespace;
mod passes;
mod plan;
mod pod;
mod port;
pub(crate) mod priorities;
mod router;
mod rule_list;
mod ruleset;
mod site;
mod statement;
pub(crate) mod table;
mod translation;
mod unsupported;
mod view;

use atoll_model::topology::Topology;

pub use compiled::{Compiled, Touched};
pub use element::{AllowedSource, Element, NftSet, Stage};
pub use host_to_pod::{TO_HOST, TO_PODS};
pub use plan::{
    DeviceKind, ExternalNetwork, GROUP, HostLink, KernelDevice, KernelPlan, KernelRoute, MAIN, Neighbour, NextHop,
    RouterNamespace, SourceTable, TranslationTarget,
};
pub use pod::{BridgePort, HostToPod, PodBridge, RouterEnd};
pub use port::taken;
pub use site::HostSite;
pub use table::Ruleset;
pub use unsupported::Unsupported;

/// What `topology` becomes on this machine: a [`HostSite`], or the id of a host with the default pool.
pub fn compile(topology: &Topology, site: impl Into<HostSite>) -> KernelPlan {
    Compiled::new(topology.clone(), site).plan
}
