//! Links: bridges, veth pairs, and interfaces of pods and of the machine.

use std::os::fd::AsRawFd;

use atoll_model::attachment::Mac;
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::link::{
    BridgeBooleanOptionFlags, BridgeBooleanOptions, BridgePortState, InfoBridge, InfoBridgePort, InfoData, InfoKind,
    InfoPortData, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use uuid::Uuid;

use super::netlink::{Netlink, fail};
use super::netns::OpenNetns;
use super::options::OptionDrift;
use crate::compile::GROUP;
use crate::counters::Count;
use crate::error::PlaneError;

/// The kernel's own for a new link.
pub(crate) const MTU: u32 = 1500;

/// The alias of an interface that was taken from elsewhere.
const TAKEN: &str = "atoll:taken";

type Result<T> = std::result::Result<T, PlaneError>;

/// A link as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: Option<Mac>,
    pub(crate) up: bool,
    pub(crate) group: u32,
    pub(crate) master: Option<u32>,
    /// The index of the other end of a pair, in its own namespace.
    pub(crate) peer: Option<u32>,
    pub(crate) learning: Option<bool>,
    pub(crate) is_bridge: bool,
    /// It asks and answers by ARP.
    pub(crate) uses_arp: bool,
    pub(crate) mtu: u32,
    /// It is a port of a bridge, has a carrier, and does not forward.
    pub(crate) stopped: bool,
    /// Options and settings that are not as they should be.
    pub(crate) drift: OptionDrift,
    /// It was taken from the namespace of the data plane's process, and goes back there in the end.
    pub(crate) taken: bool,
    /// Packets pass: it has a carrier and, where it is a port of a bridge, forwards.
    pub(crate) flowing: bool,
}

impl Netlink {
    /// All links.
    pub(crate) fn links(&mut self) -> Result<Vec<Link>> {
        let answers = self.list("list links", Message::GetLink(LinkMessage::default()))?;
        Ok(answers.iter().filter_map(link_of).collect())
    }

    /// What each link has counted: name, in, out.
    pub(crate) fn counts(&mut self) -> Result<Vec<(String, Count, Count)>> {
        let answers = self.list("list links", Message::GetLink(LinkMessage::default()))?;
        Ok(answers.iter().filter_map(counts_of).collect())
    }

    /// The link of this name.
    pub(crate) fn link(&mut self, name: &str) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        match self.socket.get(Message::GetLink(message)) {
            Ok(answers) => Ok(answers.iter().find_map(link_of)),
            Err(refused) if refused.errno == Errno::ENODEV => Ok(None),
            Err(refused) => Err(fail(format!("read link {name}"), refused.into())),
        }
    }

    /// Makes a bridge without spanning tree, without snooping, and deaf to link-local frames: those pass no filter,
    /// so they must teach the bridge nothing.
    pub(crate) fn add_bridge(&mut self, name: &str, mac: Mac) -> Result<()> {
        let mut message = new_link(name, mac);
        let quiet = BridgeBooleanOptionFlags::NoLinkLocalLearn;
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![
                InfoBridge::MulticastSnooping(false),
                InfoBridge::MultiBoolOpt(BridgeBooleanOptions { value: quiet, mask: quiet }),
            ])),
        ]));
        self.change(format!("create bridge {name}"), Message::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Makes a veth pair whose other end is created directly in `peer`.
    pub(crate) fn add_veth(
        &mut self,
        name: &str,
        mac: Mac,
        peer: &OpenNetns,
        peer_name: &str,
        peer_mac: Mac,
    ) -> Result<()> {
        let mut other = new_link(peer_name, peer_mac);
        other.header.index = index_for(peer_name);
        other.attributes.push(LinkAttribute::NetNsFd(peer.file().as_raw_fd()));
        let mut message = new_link(name, mac);
        message.header.index = index_for(name);
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other))),
        ]));
        let what = format!("create veth {name} to {peer_name} in {}", peer.path().display());
        self.change(what, Message::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Brings a link up or down.
    pub(crate) fn set_up(&mut self, link: &Link, up: bool) -> Result<()> {
        let mut message = same_link(link);
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        message.header.change_mask = LinkFlags::Up;
        self.change(
            format!("bring link {} {}", link.name, if up { "up" } else { "down" }),
            Message::SetLink(message),
            0,
        )
    }

    /// Makes a link a port of `bridge`, or of none.
    pub(crate) fn set_master(&mut self, link: &Link, bridge: Option<u32>) -> Result<()> {
        let mut message = same_link(link);
        message.attributes.push(LinkAttribute::Controller(bridge.unwrap_or(0)));
        self.change(format!("change the bridge of link {}", link.name), Message::SetLink(message), 0)
    }

    /// Takes a link out of its bridge; gone meanwhile is fine.
    pub(crate) fn leave_master(&mut self, link: &Link) -> Result<()> {
        let mut message = same_link(link);
        message.attributes.push(LinkAttribute::Controller(0));
        self.remove(format!("take link {} out of its bridge", link.name), Message::SetLink(message))
    }

    /// Gives a link a MAC.
    pub(crate) fn set_mac(&mut self, link: &Link, mac: Mac) -> Result<()> {
        let mut message = same_link(link);
        message.attributes.push(LinkAttribute::Address(mac.0.to_vec()));
        self.change(format!("set the MAC of link {} to {mac}", link.name), Message::SetLink(message), 0)
    }

    /// Changes options of a link.
    pub(super) fn set_link(&mut self, what: String, message: LinkMessage) -> Result<()> {
        self.change(what, Message::NewLink(message), 0)
    }

    /// Gives a link of ours back its mark, its usual size of packets and ARP.
    pub(crate) fn repair_link(&mut self, link: &Link) -> Result<()> {
        let mut message = same_link(link);
        message.header.change_mask = LinkFlags::Noarp;
        message.attributes.push(LinkAttribute::Group(GROUP));
        if !link.is_bridge {
            // A bridge's follows its ports.
            message.attributes.push(LinkAttribute::Mtu(MTU));
        }
        self.change(format!("repair link {}", link.name), Message::SetLink(message), 0)
    }

    /// Marks a link as taken from this namespace, or not any more.
    pub(crate) fn mark_taken(&mut self, link: &Link, taken: bool) -> Result<()> {
        let mut mark = same_link(link);
        mark.attributes.push(LinkAttribute::IfAlias(if taken { TAKEN.to_owned() } else { String::new() }));
        self.change(format!("mark link {}", link.name), Message::SetLink(mark), 0)
    }

    /// Moves a link into another namespace.
    pub(crate) fn move_to(&mut self, link: &Link, netns: &OpenNetns) -> Result<()> {
        let mut message = same_link(link);
        message.attributes.push(LinkAttribute::NetNsFd(netns.file().as_raw_fd()));
        message.attributes.push(LinkAttribute::NewIfIndex(index_for(&link.name).cast_signed()));
        self.change(format!("move link {} to {}", link.name, netns.path().display()), Message::SetLink(message), 0)
    }

    /// Deletes a link.
    pub(crate) fn delete(&mut self, link: &Link) -> Result<()> {
        self.remove(format!("delete link {}", link.name), Message::DelLink(same_link(link)))
    }
}

fn new_link(name: &str, mac: Mac) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Address(mac.0.to_vec()),
        LinkAttribute::Group(GROUP),
    ];
    message
}

/// An index for a link of this name. Where both ends of a veth pair happen to have the same index, which is likely in
/// young namespaces, the kernel mistakes them for plain devices and lets their carrier wait for up to a second
/// (`net/core/link_watch.c`, `linkwatch_urgent_event`).
fn index_for(name: &str) -> u32 {
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes());
    let (_, low) = hash.as_u64_pair();
    // A large positive number: the kernel itself counts from one.
    u32::try_from(low & 0x0fff_ffff).unwrap_or_default() | 0x1000_0000
}

pub(super) fn same_link(link: &Link) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = link.index;
    message
}

/// Reads a link out of an answer or an event.
pub(super) fn link_of(message: &Message) -> Option<Link> {
    let (Message::NewLink(message) | Message::DelLink(message)) = message else { return None };
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        up: message.header.flags.contains(LinkFlags::Up),
        group: 0,
        master: None,
        peer: None,
        learning: None,
        is_bridge: false,
        uses_arp: !message.header.flags.contains(LinkFlags::Noarp),
        mtu: 0,
        stopped: false,
        drift: OptionDrift::of(message),
        taken: false,
        flowing: message.header.flags.contains(LinkFlags::Running | LinkFlags::LowerUp),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().ok().map(Mac),
            LinkAttribute::IfAlias(alias) => link.taken = alias == TAKEN,
            LinkAttribute::Group(group) => link.group = *group,
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Link(index) => link.peer = Some(*index).filter(|index| *index != 0),
            LinkAttribute::Controller(index) => link.master = Some(*index).filter(|index| *index != 0),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    link.is_bridge |= *info == LinkInfo::Kind(InfoKind::Bridge);
                    if let LinkInfo::PortData(InfoPortData::BridgePort(port)) = info {
                        for property in port {
                            match property {
                                InfoBridgePort::Learning(learning) => link.learning = Some(*learning),
                                InfoBridgePort::State(state) => {
                                    link.stopped = link.flowing && *state != BridgePortState::Forwarding;
                                    link.flowing &= !link.stopped;
                                }
                                _ => {}
                            }
                        }
                    }
                }
            }
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

fn counts_of(message: &Message) -> Option<(String, Count, Count)> {
    let name = link_of(message)?.name;
    let Message::NewLink(message) = message else { return None };
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Stats64(stats) => Some((
            name.clone(),
            Count { packets: stats.rx_packets, bytes: stats.rx_bytes },
            Count { packets: stats.tx_packets, bytes: stats.tx_bytes },
        )),
        _ => None,
    })
}
