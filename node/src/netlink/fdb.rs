//! Entries of bridges (the forwarding database): which MAC is behind which port (`RTM_NEWNEIGH` of the family
//! `AF_BRIDGE`, bridge(8)).

use atoll_model::attachment::Mac;
use nix::libc::{RTM_DELNEIGH, RTM_NEWNEIGH};
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};

use super::{Refused, Socket, neighbour};

/// An entry of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FdbEntry {
    /// The index of the port, or of the bridge itself.
    pub port: u32,
    /// The MAC behind it.
    pub mac: Mac,
    /// Where the bridge has it from.
    pub origin: FdbOrigin,
}

/// The origin of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FdbOrigin {
    /// Static and sticky: learning does not move it to another port.
    Sticky,
    /// Static.
    Static,
    /// The MAC of the bridge itself, or of its port.
    Local,
    /// Learned from packets.
    Learned,
}

/// All entries of all bridges of the namespace.
///
/// # Errors
/// The kernel's error.
pub fn list(socket: &Socket) -> Result<Vec<FdbEntry>, Refused> {
    let answers = neighbour::list(socket, AddressFamily::Bridge, NeighbourFlags::empty())?;
    let entry = |entry: &NeighbourMessage| {
        let of_bridge = entry.attributes.iter().any(|it| matches!(it, NeighbourAttribute::Controller(_)));
        let origin = match entry.header.state {
            NeighbourState::Noarp if entry.header.flags.contains(NeighbourFlags::Sticky) => FdbOrigin::Sticky,
            NeighbourState::Noarp => FdbOrigin::Static,
            NeighbourState::Permanent => FdbOrigin::Local,
            _ => FdbOrigin::Learned,
        };
        let mac = neighbour::mac(entry).filter(|_| of_bridge)?;
        Some(FdbEntry { port: entry.header.ifindex, mac, origin })
    };
    Ok(answers.iter().filter_map(entry).collect())
}

/// Adds a sticky entry: `mac` is behind the port `index`.
///
/// # Errors
/// The kernel's error.
pub fn add(socket: &Socket, index: u32, mac: Mac) -> Result<(), Refused> {
    let mut message = message(index, mac, NeighbourFlags::Controller | NeighbourFlags::Sticky);
    message.header.state = NeighbourState::Noarp;
    socket.change(RTM_NEWNEIGH, &message, NLM_F_CREATE | NLM_F_REPLACE)
}

/// Deletes an entry of a port.
///
/// # Errors
/// `ENOENT`: there is none. Otherwise the kernel's error.
pub fn delete(socket: &Socket, index: u32, mac: Mac) -> Result<(), Refused> {
    socket.change(RTM_DELNEIGH, &message(index, mac, NeighbourFlags::Controller), 0)
}

/// Adds a local entry: `mac` is the bridge's own.
///
/// # Errors
/// `EEXIST`: there is one. Otherwise the kernel's error.
pub fn add_local(socket: &Socket, bridge: u32, mac: Mac) -> Result<(), Refused> {
    let mut message = message(bridge, mac, NeighbourFlags::Own);
    message.header.state = NeighbourState::Permanent;
    socket.change(RTM_NEWNEIGH, &message, NLM_F_CREATE)
}

/// Deletes an entry of the bridge itself.
///
/// # Errors
/// `ENOENT`: there is none. Otherwise the kernel's error.
pub fn delete_local(socket: &Socket, bridge: u32, mac: Mac) -> Result<(), Refused> {
    socket.change(RTM_DELNEIGH, &message(bridge, mac, NeighbourFlags::Own), 0)
}

fn message(index: u32, mac: Mac, flags: NeighbourFlags) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.flags = flags;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    message
}
