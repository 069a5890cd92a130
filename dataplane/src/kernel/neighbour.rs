//! Permanent IPv4 neighbours, and addresses that the kernel answers for by proxy.

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::fdb::mac_of;
use super::netlink::Netlink;
use crate::compile::Neighbour;
use crate::error::PlaneError;

type Result<T> = std::result::Result<T, PlaneError>;

impl Netlink {
    /// All permanent IPv4 neighbours, links by index.
    pub(crate) fn neighbours(&mut self) -> Result<Vec<Neighbour<u32>>> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        let answers = self.list("list neighbours", Message::GetNeighbour(message))?;
        Ok(answers.iter().filter_map(neighbour_of).collect())
    }

    /// Adds or changes a permanent neighbour.
    pub(crate) fn add_neighbour(&mut self, neighbour: &Neighbour<u32>) -> Result<()> {
        let what = format!("add neighbour {} at {}", neighbour.address, neighbour.mac);
        self.change(what, Message::NewNeighbour(neighbour_message(neighbour)), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Deletes a neighbour.
    pub(crate) fn delete_neighbour(&mut self, neighbour: &Neighbour<u32>) -> Result<()> {
        let what = format!("delete neighbour {}", neighbour.address);
        self.remove(what, Message::DelNeighbour(neighbour_message(neighbour)))
    }

    /// Removes what would be answered for by proxy through these links; answers how many.
    pub(crate) fn remove_proxies(&mut self, links: impl Fn(u32) -> bool) -> Result<usize> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.flags = NeighbourFlags::Proxy;
        let answers = self.list("list proxies", Message::GetNeighbour(message))?;
        let mut changes = 0;
        for answer in answers {
            let Message::NewNeighbour(proxy) = answer else { continue };
            let address = proxy.attributes.iter().find_map(|attribute| match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(*ip),
                _ => None,
            });
            let Some(address) = address.filter(|_| proxy.header.flags.contains(NeighbourFlags::Proxy)) else {
                continue;
            };
            if !links(proxy.header.ifindex) {
                continue;
            }
            let mut message = NeighbourMessage::default();
            message.header.family = AddressFamily::Inet;
            message.header.ifindex = proxy.header.ifindex;
            message.header.flags = NeighbourFlags::Proxy;
            message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(address)));
            self.remove(format!("delete proxy {address}"), Message::DelNeighbour(message))?;
            changes += 1;
        }
        Ok(changes)
    }
}

fn neighbour_message(neighbour: &Neighbour<u32>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = neighbour.device;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::Inet(neighbour.address)),
        NeighbourAttribute::LinkLayerAddress(neighbour.mac.0.to_vec()),
    ];
    message
}

fn neighbour_of(message: &Message) -> Option<Neighbour<u32>> {
    let Message::NewNeighbour(message) = message else { return None };
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let address = message.attributes.iter().find_map(|a| match a {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(*ip),
        _ => None,
    })?;
    Some(Neighbour { device: message.header.ifindex, address, mac: mac_of(&message.attributes)? })
}
