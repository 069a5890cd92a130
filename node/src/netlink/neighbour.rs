//! Permanent neighbours, lists of those of IPv4, and proxy entries: addresses for which the kernel answers ARP requests itself
//! (`RTM_NEWNEIGH` and its like, rtnetlink(7)).

use std::net::{IpAddr, Ipv4Addr};

use atoll_model::attachment::Mac;
use nix::libc::{RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH};
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use super::message::RawMessage;
use super::{Refused, Socket, family};

/// All permanent neighbours: the index of their link, their address and their MAC.
///
/// # Errors
/// The kernel's error.
pub fn list_permanent(socket: &Socket) -> Result<Vec<(u32, Ipv4Addr, Mac)>, Refused> {
    let answers = list(socket, AddressFamily::Inet, NeighbourFlags::empty())?;
    let permanent = answers.iter().filter(|it| it.header.state == NeighbourState::Permanent);
    Ok(permanent.filter_map(|it| Some((it.header.ifindex, destination(it)?, mac(it)?))).collect())
}

/// Adds a permanent neighbour, or changes the MAC of an existing one.
///
/// # Errors
/// The kernel's error.
pub fn replace(socket: &Socket, index: u32, address: impl Into<IpAddr>, mac: Mac) -> Result<(), Refused> {
    socket.change(RTM_NEWNEIGH, &permanent(index, address.into(), mac), NLM_F_CREATE | NLM_F_REPLACE)
}

/// Deletes a neighbour.
///
/// # Errors
/// `ENOENT`: there is none. Otherwise the kernel's error.
pub fn delete(socket: &Socket, index: u32, address: Ipv4Addr, mac: Mac) -> Result<(), Refused> {
    socket.change(RTM_DELNEIGH, &permanent(index, address.into(), mac), 0)
}

/// All proxy entries: the index of their link and their address.
///
/// # Errors
/// The kernel's error.
pub fn list_proxies(socket: &Socket) -> Result<Vec<(u32, Ipv4Addr)>, Refused> {
    let answers = list(socket, AddressFamily::Inet, NeighbourFlags::Proxy)?;
    let proxies = answers.iter().filter(|it| it.header.flags.contains(NeighbourFlags::Proxy));
    Ok(proxies.filter_map(|it| Some((it.header.ifindex, destination(it)?))).collect())
}

/// Deletes a proxy entry.
///
/// # Errors
/// `ENOENT`: there is none. Otherwise the kernel's error.
pub fn delete_proxy(socket: &Socket, index: u32, address: Ipv4Addr) -> Result<(), Refused> {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = index;
    message.header.flags = NeighbourFlags::Proxy;
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(address)));
    socket.change(RTM_DELNEIGH, &message, 0)
}

/// All entries of one family.
pub(super) fn list(
    socket: &Socket,
    family: AddressFamily,
    flags: NeighbourFlags,
) -> Result<Vec<NeighbourMessage>, Refused> {
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    message.header.flags = flags;
    let answers = socket.list(RTM_GETNEIGH, &message)?;
    RawMessage::read_all(&answers, RTM_NEWNEIGH)
}

/// The MAC of an entry.
pub(super) fn mac(entry: &NeighbourMessage) -> Option<Mac> {
    entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) => mac.as_slice().try_into().ok().map(Mac),
        _ => None,
    })
}

fn destination(entry: &NeighbourMessage) -> Option<Ipv4Addr> {
    entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(*address),
        _ => None,
    })
}

fn permanent(index: u32, address: IpAddr, mac: Mac) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address.is_ipv4());
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes =
        vec![NeighbourAttribute::Destination(address.into()), NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())];
    message
}
