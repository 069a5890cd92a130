//! Addresses of links (`RTM_NEWADDR` and its like, rtnetlink(7)).

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nix::libc::{RTM_DELADDR, RTM_GETADDR, RTM_NEWADDR};
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};

use super::message::RawMessage;
use super::{Refused, Socket, family};

/// The addresses of one link, or of all (`index` 0), each with the index of its link. Of IPv6 those that are valid beyond the
/// link, since the kernel makes the others.
///
/// # Errors
/// The kernel's error.
pub fn list(socket: &Socket, index: u32) -> Result<Vec<(u32, IpNetwork)>, Refused> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Unspec;
    message.header.index = index;
    let answers: Vec<AddressMessage> = RawMessage::read_all(&socket.list(RTM_GETADDR, &message)?, RTM_NEWADDR)?;
    let address = |found: &AddressMessage| {
        let local = own(found).filter(|address| !is_link_local(address))?;
        Some((found.header.index, IpNetwork::new(local, found.header.prefix_len).ok()?))
    };
    // An old kernel does not filter.
    Ok(answers.iter().filter_map(address).filter(|(of, _)| index == 0 || *of == index).collect())
}

/// The index of the link that has an address; none: no link has it.
///
/// # Errors
/// The kernel's error.
pub fn find(socket: &Socket, address: IpAddr) -> Result<Option<u32>, Refused> {
    let mut message = AddressMessage::default();
    message.header.family = family(address.is_ipv4());
    let answers: Vec<AddressMessage> = RawMessage::read_all(&socket.list(RTM_GETADDR, &message)?, RTM_NEWADDR)?;
    Ok(answers.iter().find(|found| own(found) == Some(address)).map(|found| found.header.index))
}

/// The link's own address. The other end of a link between two points is an `Address`, and such a link has a `Local` too.
fn own(found: &AddressMessage) -> Option<IpAddr> {
    let mut local = None;
    for attribute in &found.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => local = local.or(Some(*address)),
            _ => {}
        }
    }
    local
}

fn is_link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// Gives a link an address, of IPv4 with its broadcast address. `metric`: that of the route to its subnet.
///
/// # Errors
/// `EEXIST`: it has that address. Otherwise the kernel's error.
pub fn add(socket: &Socket, index: u32, address: IpNetwork, metric: Option<u32>) -> Result<(), Refused> {
    let mut message = message(index, address);
    if let IpNetwork::V4(address) = address
        && address.prefix() < 31
    {
        message.attributes.push(AddressAttribute::Broadcast(address.broadcast()));
    }
    message.attributes.extend(metric.map(AddressAttribute::RoutePriority));
    socket.change(RTM_NEWADDR, &message, NLM_F_CREATE | NLM_F_EXCL)
}

/// Gives a link an address of either family without a broadcast address; an existing one is replaced. One of IPv6 can be used
/// at once: that no other host has it is the caller's knowledge.
///
/// # Errors
/// The kernel's error.
pub fn replace(socket: &Socket, index: u32, address: impl Into<IpNetwork>) -> Result<(), Refused> {
    socket.change(RTM_NEWADDR, &message(index, address.into()), NLM_F_CREATE | NLM_F_REPLACE)
}

/// Removes an address from a link.
///
/// # Errors
/// `EADDRNOTAVAIL`: it does not have that address. Otherwise the kernel's error.
pub fn delete(socket: &Socket, index: u32, address: IpNetwork) -> Result<(), Refused> {
    socket.change(RTM_DELADDR, &message(index, address), 0)
}

fn message(index: u32, address: IpNetwork) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.is_ipv4());
    message.header.prefix_len = address.prefix();
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Address(address.ip()), AddressAttribute::Local(address.ip())];
    if address.is_ipv6() {
        // Atoll gave the address to this interface alone: waiting for an answer to the question would only take time.
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    message
}
