//! The JSON types of the API, for both dialects.
//!
//! | module | what |
//! |---|---|
//! | [`system`] | root document, token, error body, system state, tenant |
//! | [`device`] | router, bridge, and the bridge's MAC and ARP tables |
//! | [`port`] | port of either kind, link, binding |
//! | [`route`] | route |
//! | [`rule`] | chain, rule |
//! | [`group`] | port group, group of addresses, and their members |
//! | [`host`] | host, interface, tunnel zone and its members |
//! | [`object`] | the trait of all of them; reading and writing |
//! | [`lenient`] | numbers and flags as the server reads them |
//!
//! These structs hold the values of the JSON without interpretation: addresses and kinds are text, sentinels are numbers.
//! [`crate::convert`] interprets them; [`crate::dialect`] has the differences between the dialects.
//!
//! # Guarantees
//!
//! MidoNet REST API, section "JSON quirks":
//! - Of a key that occurs twice the last value counts, as for Jackson.
//! - Unknown keys survive in `other`, which also holds the read-only URIs of sub-resources.
//! - Absent keys and nulls have the server's defaults. Numbers and flags may be text.
//! - [`full`] writes every key, as answers have them; [`sparse`] writes what a request needs.

pub mod device;
pub mod group;
pub mod host;
pub mod lenient;
pub mod object;
pub mod port;
pub mod route;
pub mod rule;
pub mod system;

pub use device::{Bridge, Ip4Mac, MacPort, Router};
pub use group::{IpAddrGroup, IpAddrGroupAddr, PortGroup, PortGroupPort};
pub use host::{Host, Interface, TunnelZone, TunnelZoneHost};
pub use object::{ApiObject, Extra, Incomplete, full, read, read_list, sparse};
pub use port::{HostInterfacePort, Port, PortLink};
pub use route::Route;
pub use rule::{Chain, NatTarget, Range, Rule};
pub use system::{Application, ErrorBody, SystemState, Tenant, Token, Violation};
