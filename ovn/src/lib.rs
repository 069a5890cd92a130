//! The engine for OVN: tenants' networks as rows of its Northbound database, host ends of pods on the node's Open vSwitch.
//!
//! | module | what |
//! |---|---|
//! | [`ovsdb`] | a client of the databases; it knows no table |
//! | `names` | identities of rows. Pure |
//! | `rows`, `provider` | a network, and the provider router, as rows. Pure, but for applying the latter |
//! | `compare` | rows as they are beside rows as they should be. Pure |
//! | `network` | ensure, compare, delete, withdraw networks |
//! | `next_hops` | what the ports of next hops accept. Pure |
//! | `ports` | ports of pods, and the writer epoch |
//! | `pod_names` | names of pods in DNS. Pure |
//! | `switch` | host ends on the node's bridge, and readiness |
//! | `hosts` | chassis, and which one this machine is |
//! | `inspect`, `facts` | what `atollctl doctor` asks |
//! | `engine` | the trait of `atoll-network` |
//! | `error` | failures by class, with the remedy |
//!
//! Tables, traps and limits: `docs/design/ovn.md`.

mod compare;
mod engine;
mod error;
mod facts;
mod hosts;
mod inspect;
mod names;
mod network;
mod next_hops;
pub mod ovsdb;
mod pod_names;
mod ports;
mod provider;
mod rows;
mod switch;

pub use engine::{NAME, Ovn};
pub use error::unusable;
pub use facts::{
    BridgeFacts, ChassisFacts, ConfigurationProgress, HostEndFacts, ListenerFacts, NorthboundFacts, OwnedRow,
    SouthboundFacts, SwitchFacts, TunnelFacts, UplinkFacts,
};
pub use provider::provider_rows;
pub use rows::{ProviderRows, WantedRow, network_rows};
pub use switch::Switch;
