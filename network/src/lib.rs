//! What a tenant's network shall be, in no engine's words, and the trait of the engines that make it real.
//!
//! | module | content |
//! |---|---|
//! | [`network`] | a tenant's network: router, transit link, subnets, routes |
//! | [`provider`] | the provider router and its uplinks |
//! | [`port`] | a pod's port |
//! | [`host_side`] | where the host end of a pod's veth belongs |
//! | [`capabilities`] | what an engine can do |
//! | [`drift`] | how an object differs from what it should be |
//! | [`engine`] | the trait that every engine implements |
//! | [`error`] | how an engine fails, by class |
//! | [`conformance`] | one conformance suite for every engine |
//!
//! # Guarantees
//! - Everything here is data and one trait. The crate does no input or output.
//! - Ids are derived, never looked up: the same network has the same ids in every process (`atoll_model::derive`).
//! - A prefix or an address is of either family.

pub mod capabilities;
pub mod conformance;
pub mod drift;
pub mod engine;
pub mod error;
pub mod host_side;
pub mod network;
pub mod port;
pub mod provider;

pub use capabilities::Capabilities;
pub use drift::{Drift, DriftKind};
pub use engine::{Applied, Engine, HostState};
pub use error::{EngineError, EngineFailure};
pub use host_side::{DatapathNeeds, HostSide, HostToPodPort, TunnelEnd};
pub use network::{
    EngineMemory, Network, NetworkId, NetworkNextHop, NetworkRoute, NetworkSubnet, SubnetId, SubnetPrefix, TransitLink,
};
pub use port::{PodPort, PortLocation, PortRemoval, PortState, WriterEpoch};
pub use provider::{ProviderCandidate, ProviderNetwork, ProviderUplink, provider_object};
