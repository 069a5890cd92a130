//! The resources of the API, one file each: reading, validating, changing, showing.
#![expect(clippy::unnecessary_wraps, reason = "every verb has the signature of the routing table")]

pub(crate) mod application;
pub(crate) mod arp_table;
pub(crate) mod binding;
pub(crate) mod bridge;
pub(crate) mod chain;
pub(crate) mod device;
pub(crate) mod host;
pub(crate) mod interface;
pub(crate) mod ip_addr_group;
pub(crate) mod link;
pub(crate) mod login;
pub(crate) mod mac_table;
pub(crate) mod port;
pub(crate) mod port_group;
mod port_view;
pub(crate) mod route;
pub(crate) mod router;
pub(crate) mod rule;
pub(crate) mod rule_fields;
pub(crate) mod system_state;
pub(crate) mod tenant;
pub(crate) mod tunnel_zone;
pub(crate) mod unbuilt;
