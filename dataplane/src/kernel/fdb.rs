//! Entries of bridges: which MAC is behind which port.

use atoll_model::attachment::Mac;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::netlink::Netlink;
use crate::error::PlaneError;

type Result<T> = std::result::Result<T, PlaneError>;

/// An entry of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FdbEntry {
    /// The index of the port, or of the bridge itself.
    pub(crate) port: u32,
    pub(crate) mac: Mac,
    pub(crate) kind: FdbOrigin,
}

/// How a bridge came to know a station.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FdbOrigin {
    /// By hand, for good, and learning leaves it alone.
    Fixed,
    /// By hand.
    ByHand,
    /// It is the bridge's own, or its port's.
    Own,
    /// From its packets.
    Learned,
}

impl Netlink {
    /// All that bridges know.
    pub(crate) fn fdb(&mut self) -> Result<Vec<FdbEntry>> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        let answers = self.list("list FDB entries", Message::GetNeighbour(message))?;
        let station = |answer: &Message| {
            let Message::NewNeighbour(entry) = answer else { return None };
            let of_bridge = entry.attributes.iter().any(|a| matches!(a, NeighbourAttribute::Controller(_)));
            let kind = match entry.header.state {
                NeighbourState::Noarp if entry.header.flags.contains(NeighbourFlags::Sticky) => FdbOrigin::Fixed,
                NeighbourState::Noarp => FdbOrigin::ByHand,
                NeighbourState::Permanent => FdbOrigin::Own,
                _ => FdbOrigin::Learned,
            };
            let mac = mac_of(&entry.attributes).filter(|_| of_bridge)?;
            Some(FdbEntry { port: entry.header.ifindex, mac, kind })
        };
        Ok(answers.iter().filter_map(station).collect())
    }

    /// Tells the bridge of port `index` that `mac` is behind it, for good.
    pub(crate) fn add_fdb_entry(&mut self, index: u32, mac: Mac) -> Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = index;
        message.header.state = NeighbourState::Noarp;
        message.header.flags = NeighbourFlags::Controller | NeighbourFlags::Sticky;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        self.change(format!("add FDB entry {mac}"), Message::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Deletes a bridge's entry.
    pub(crate) fn delete_fdb_entry(&mut self, index: u32, mac: Mac) -> Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = index;
        message.header.flags = NeighbourFlags::Controller;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        self.remove(format!("delete FDB entry {mac}"), Message::DelNeighbour(message))
    }

    /// Tells a bridge that `mac` is its own.
    pub(crate) fn add_own_fdb_entry(&mut self, bridge: u32, mac: Mac) -> Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = bridge;
        message.header.state = NeighbourState::Permanent;
        message.header.flags = NeighbourFlags::Own;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        self.change(format!("add the bridge's own FDB entry {mac}"), Message::NewNeighbour(message), NLM_F_CREATE)
    }

    /// Makes a bridge forget what is behind itself.
    pub(crate) fn delete_own_fdb_entry(&mut self, bridge: u32, mac: Mac) -> Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = bridge;
        message.header.flags = NeighbourFlags::Own;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        self.remove(format!("delete the bridge's FDB entry {mac}"), Message::DelNeighbour(message))
    }
}

pub(super) fn mac_of(attributes: &[NeighbourAttribute]) -> Option<Mac> {
    attributes.iter().find_map(|a| match a {
        NeighbourAttribute::LinkLayerAddress(mac) => mac.as_slice().try_into().ok().map(Mac),
        _ => None,
    })
}
