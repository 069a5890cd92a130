//! Netlink: one blocking socket for every program of this project, and one file for each kind of object.
//!
//! | module | what |
//! |---|---|
//! | [`socket`] | a request and all its answers |
//! | [`message`] | a message as bytes |
//! | [`answer`] | reading a datagram |
//! | [`refused`] | why the kernel did not do it |
//! | [`link`] | links: reading, creating, changing, deleting |
//! | [`address`] | addresses of links |
//! | [`route`] | routes |
//! | [`policy_rule`] | policy rules (`ip rule`) |
//! | [`neighbour`] | permanent neighbours and proxy entries |
//! | [`fdb`] | entries of bridges |
//! | [`offload`] | checksums of a link (`ethtool -K`) |
//! | [`nfnetlink`] | messages of nftables and connection tracking |
//! | [`nfnetlink_socket`] | its lists and transactions |
//! | [`flows`] | tracked flows of a namespace |
//! | [`filter`] | a table of nftables: its chains, rules and maps |
//! | [`queue`] | queueing disciplines (`tc qdisc`) |
//!
//! The modules build and read messages. Which objects are ours, and what is to be done about others, is decided by the
//! programs.

pub mod address;
pub mod answer;
pub mod fdb;
pub mod filter;
pub mod flows;
pub mod link;
pub mod message;
pub mod neighbour;
pub mod nfnetlink;
pub mod nfnetlink_socket;
pub mod offload;
pub mod policy_rule;
pub mod queue;
pub mod refused;
pub mod route;
pub mod socket;

pub use refused::{Refused, errno_of};
pub use socket::Socket;

use rtnetlink::packet_route::AddressFamily;

/// The family of an address, as messages name it.
fn family(is_ipv4: bool) -> AddressFamily {
    if is_ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 }
}
