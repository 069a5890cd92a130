//! rtnetlink: links, addresses, routes and neighbours of one namespace, over one blocking socket.
//!
//! The kernel works inside the system call, so nothing would be gained by waiting for it asynchronously. Nothing
//! outside this module knows the shape of a netlink message. Adding what is there and deleting what is absent are
//! fine.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;

use atoll_model::attachment::Mac;
use atoll_node::netlink::{Socket, errno_of};
use ipnetwork::Ipv4Network;
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{
    BridgeBooleanOptionFlags, BridgeBooleanOptions, BridgePortState, InfoBridge, InfoBridgePort, InfoData, InfoKind,
    InfoPortData, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use uuid::Uuid;

use super::netns::Netns;
use super::options::Drift;
use super::steps::step;
use crate::compile::{GROUP, MAIN, Neighbour, NextHop, Route, SourceRule};
use crate::counters::Count;
use crate::error::PlaneError;

/// The origin of our routes (`rtm_protocol`).
pub(super) const PROTOCOL: RouteProtocol = RouteProtocol::Other(201);

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
    pub(crate) speaks: bool,
    pub(crate) mtu: u32,
    /// It is a port of a bridge, has a carrier, and does not forward.
    pub(crate) stopped: bool,
    /// Options and settings that are not as they should be.
    pub(crate) drift: Drift,
    /// It was taken from the namespace of the data plane's process, and goes back there in the end.
    pub(crate) taken: bool,
    /// Packets pass: it has a carrier and, where it is a port of a bridge, forwards.
    pub(crate) flowing: bool,
}

/// A rule that leads packets to a table of the node side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HostRule {
    /// What comes in through this link.
    From {
        /// Its name.
        link: String,
        /// The table.
        table: u32,
    },
    /// What carries this bit in its mark.
    Marked {
        /// The bit.
        mark: u32,
        /// The table.
        table: u32,
    },
}

/// A socket in one namespace.
pub(crate) struct Netlink {
    socket: Socket,
}

impl Netlink {
    /// Opens a socket in `netns`.
    pub(crate) fn open(netns: &Netns) -> Result<Self> {
        netns.run(Self::open_here)
    }

    /// Opens a socket in the calling thread's namespace.
    pub(crate) fn open_here() -> io::Result<Self> {
        Socket::here().map(|socket| Self { socket })
    }

    /// What the kernel calls this socket in its namespace: it says so in what it tells of our changes.
    pub(crate) fn port(&self) -> Result<u32> {
        self.socket.port_id().map_err(|source| fail("read the socket's address".to_owned(), source))
    }

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
            Err(refused) => Err(fail(format!("look at link {name}"), refused.into())),
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
        peer: &Netns,
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

    /// Gives a link of ours back its mark, its usual size of packets and its speech (ARP).
    pub(crate) fn mend_link(&mut self, link: &Link) -> Result<()> {
        let mut message = same_link(link);
        message.header.change_mask = LinkFlags::Noarp;
        message.attributes.push(LinkAttribute::Group(GROUP));
        if !link.is_bridge {
            // A bridge's follows its ports.
            message.attributes.push(LinkAttribute::Mtu(MTU));
        }
        self.change(format!("mend link {}", link.name), Message::SetLink(message), 0)
    }

    /// Marks a link as taken from this namespace, or not any more.
    pub(crate) fn mark_taken(&mut self, link: &Link, taken: bool) -> Result<()> {
        let mut mark = same_link(link);
        mark.attributes.push(LinkAttribute::IfAlias(if taken { TAKEN.to_owned() } else { String::new() }));
        self.change(format!("mark link {}", link.name), Message::SetLink(mark), 0)
    }

    /// Moves a link into another namespace.
    pub(crate) fn move_to(&mut self, link: &Link, netns: &Netns) -> Result<()> {
        let mut message = same_link(link);
        message.attributes.push(LinkAttribute::NetNsFd(netns.file().as_raw_fd()));
        message.attributes.push(LinkAttribute::NewIfIndex(index_for(&link.name).cast_signed()));
        self.change(format!("move link {} to {}", link.name, netns.path().display()), Message::SetLink(message), 0)
    }

    /// Deletes a link.
    pub(crate) fn delete(&mut self, link: &Link) -> Result<()> {
        self.remove(format!("delete link {}", link.name), Message::DelLink(same_link(link)))
    }

    /// All IPv4 addresses with the index of their link.
    pub(crate) fn addresses(&mut self) -> Result<Vec<(u32, Ipv4Network)>> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        let answers = self.list("list addresses", Message::GetAddress(message))?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| {
                let Message::NewAddress(address) = answer else { return None };
                let ip = address.attributes.iter().find_map(|a| match a {
                    AddressAttribute::Local(IpAddr::V4(ip)) => Some(*ip),
                    _ => None,
                })?;
                Some((address.header.index, Ipv4Network::new(ip, address.header.prefix_len).ok()?))
            })
            .collect())
    }

    /// Gives a link an address.
    pub(crate) fn add_address(&mut self, index: u32, address: Ipv4Network) -> Result<()> {
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.change(format!("add address {address}"), Message::NewAddress(address_message(index, address)), flags)
    }

    /// Takes an address from a link.
    pub(crate) fn delete_address(&mut self, index: u32, address: Ipv4Network) -> Result<()> {
        self.remove(format!("delete address {address}"), Message::DelAddress(address_message(index, address)))
    }

    /// Our routes, links by index.
    pub(crate) fn routes(&mut self) -> Result<Vec<Route<u32>>> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let answers = self.list("list routes", Message::GetRoute(message))?;
        Ok(answers.iter().filter_map(route_of).collect())
    }

    /// Adds a route, before others with the same destination and metric: in a namespace of ours, ours count.
    pub(crate) fn add_route(&mut self, route: &Route<u32>) -> Result<()> {
        self.insert_route(route.destination, route_message(route), NLM_F_CREATE)
    }

    fn insert_route(&mut self, to: Ipv4Network, message: RouteMessage, flags: u16) -> Result<()> {
        let what = format!("add route to {to}");
        match step(&what).and_then(|()| Ok(self.socket.change(Message::NewRoute(message), flags)?)) {
            Err(error) if is(&error, Errno::EEXIST) => Ok(()),
            other => other.map_err(|source| fail(what, source)),
        }
    }

    /// Deletes a route.
    pub(crate) fn delete_route(&mut self, route: &Route<u32>) -> Result<()> {
        self.remove(format!("delete route to {}", route.destination), Message::DelRoute(route_message(route)))
    }

    /// Our rules that lead sources to tables of their own.
    pub(crate) fn sources(&mut self) -> Result<Vec<SourceRule>> {
        let mut message = RuleMessage::default();
        message.header.family = AddressFamily::Inet;
        let answers = self.list("list rules", Message::GetRule(message))?;
        Ok(answers.iter().filter_map(source_rule_of).collect())
    }

    /// Leads a source to its table.
    pub(crate) fn add_source_rule(&mut self, source: SourceRule) -> Result<()> {
        let what = format!("add rule from {}", source.network);
        self.change(what, Message::NewRule(source_rule_message(source)), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Stops leading a source to its table.
    pub(crate) fn delete_source_rule(&mut self, source: SourceRule) -> Result<()> {
        self.remove(format!("delete rule from {}", source.network), Message::DelRule(source_rule_message(source)))
    }

    /// Our rules that lead to tables of the node side.
    pub(crate) fn host_rules(&mut self) -> Result<Vec<HostRule>> {
        let mut message = RuleMessage::default();
        message.header.family = AddressFamily::Inet;
        let answers = self.list("list rules", Message::GetRule(message))?;
        Ok(answers.iter().filter_map(host_rule_of).collect())
    }

    /// Leads packets to a table.
    pub(crate) fn add_host_rule(&mut self, rule: &HostRule) -> Result<()> {
        self.change(format!("add rule {rule:?}"), Message::NewRule(host_rule_message(rule)), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Stops leading packets to a table.
    pub(crate) fn delete_host_rule(&mut self, rule: &HostRule) -> Result<()> {
        self.remove(format!("delete rule {rule:?}"), Message::DelRule(host_rule_message(rule)))
    }

    /// Our routes with the source that packets are sent from, links by index.
    pub(crate) fn sourced_routes(&mut self) -> Result<Vec<(Route<u32>, Option<Ipv4Addr>)>> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let answers = self.list("list routes", Message::GetRoute(message))?;
        Ok(answers.iter().filter_map(|answer| Some((route_of(answer)?, source_of_route(answer)))).collect())
    }

    /// Networks that this namespace reaches by other routes than ours, with the index of the link.
    pub(crate) fn foreign_routes(&mut self) -> Result<Vec<(Ipv4Network, Option<u32>)>> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let answers = self.list("list routes", Message::GetRoute(message))?;
        Ok(answers.iter().filter_map(foreign_route_of).collect())
    }

    /// Adds a route by which packets are sent from `source`, behind others with the same destination and metric: in a
    /// namespace that is not ours, those of others count.
    pub(crate) fn add_sourced_route(&mut self, route: &Route<u32>, source: Option<Ipv4Addr>) -> Result<()> {
        let mut message = route_message(route);
        message.attributes.extend(source.map(|ip| RouteAttribute::PrefSource(RouteAddress::Inet(ip))));
        self.insert_route(route.destination, message, NLM_F_CREATE | NLM_F_APPEND)
    }

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

    pub(super) fn change(&mut self, what: String, message: Message, flags: u16) -> Result<()> {
        match step(&what).and_then(|()| Ok(self.socket.change(message, flags)?)) {
            Ok(()) => Ok(()),
            Err(source) => Err(fail(what, source)),
        }
    }

    pub(super) fn remove(&mut self, what: String, message: Message) -> Result<()> {
        let absent = [Errno::ENODEV, Errno::ENOENT, Errno::ESRCH, Errno::EADDRNOTAVAIL, Errno::ENXIO];
        match step(&what).and_then(|()| Ok(self.socket.change(message, 0)?)) {
            Err(error) if absent.iter().any(|errno| is(&error, *errno)) => Ok(()),
            Err(source) => Err(fail(what, source)),
            Ok(()) => Ok(()),
        }
    }

    /// All objects of a kind.
    pub(super) fn list(&mut self, what: &str, message: Message) -> Result<Vec<Message>> {
        self.socket.list(message).map_err(|refused| fail(what.to_owned(), refused.into()))
    }
}

pub(super) fn fail(what: String, source: io::Error) -> PlaneError {
    PlaneError::Netlink { what, source }
}

pub(super) fn is(error: &io::Error, errno: Errno) -> bool {
    errno_of(error) == Some(errno)
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
        speaks: !message.header.flags.contains(LinkFlags::Noarp),
        mtu: 0,
        stopped: false,
        drift: Drift::of(message),
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

fn address_message(index: u32, address: Ipv4Network) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = address.prefix();
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message.attributes =
        vec![AddressAttribute::Local(address.ip().into()), AddressAttribute::Address(address.ip().into())];
    message
}

fn route_message(route: &Route<u32>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: AddressFamily::Inet,
        destination_prefix_length: route.destination.prefix(),
        // The whole number is in an attribute.
        table: RouteHeader::RT_TABLE_UNSPEC,
        protocol: PROTOCOL,
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::Inet(route.destination.network())),
        RouteAttribute::Priority(route.metric),
        RouteAttribute::Table(route.table),
    ];
    match route.next {
        NextHop::Via { device, gateway } => {
            // The topology decides what is reachable through a port, not the port's own address.
            message.header.flags = RouteFlags::Onlink;
            message.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
            message.attributes.push(RouteAttribute::Oif(device));
        }
        NextHop::Direct { device } => {
            message.header.scope = RouteScope::Link;
            message.attributes.push(RouteAttribute::Oif(device));
        }
        NextHop::BlackHole => message.header.kind = RouteType::BlackHole,
        NextHop::Prohibit => message.header.kind = RouteType::Prohibit,
    }
    message
}

pub(super) fn route_of(message: &Message) -> Option<Route<u32>> {
    let Message::NewRoute(message) = message else { return None };
    if message.header.protocol != PROTOCOL {
        return None;
    }
    let mut table = u32::from(message.header.table);
    let (mut network, mut metric, mut device, mut via) = (Ipv4Addr::UNSPECIFIED, 0, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => network = *ip,
            RouteAttribute::Priority(value) => metric = *value,
            RouteAttribute::Table(value) => table = *value,
            RouteAttribute::Oif(index) => device = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(ip)) => via = Some(*ip),
            _ => {}
        }
    }
    let next = match (message.header.kind, device, via) {
        (RouteType::BlackHole, ..) => NextHop::BlackHole,
        (RouteType::Prohibit, ..) => NextHop::Prohibit,
        (_, Some(device), Some(gateway)) => NextHop::Via { device, gateway },
        (_, Some(device), None) => NextHop::Direct { device },
        _ => return None,
    };
    let destination = Ipv4Network::new(network, message.header.destination_prefix_length).ok()?;
    Some(Route { table, destination, metric, next })
}

/// A route of the main table that is not ours.
fn foreign_route_of(message: &Message) -> Option<(Ipv4Network, Option<u32>)> {
    let Message::NewRoute(message) = message else { return None };
    let (mut network, mut table, mut device) = (None, u32::from(message.header.table), None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => network = Some(*ip),
            RouteAttribute::Table(value) => table = *value,
            RouteAttribute::Oif(index) => device = Some(*index),
            _ => {}
        }
    }
    let network = Ipv4Network::new(network?, message.header.destination_prefix_length).ok()?;
    (table == MAIN && message.header.protocol != PROTOCOL).then_some((network, device))
}

pub(super) fn source_rule_message(source: SourceRule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.src_len = source.network.prefix();
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Source(source.network.network().into()),
        // The longest prefix first, and all of them before the main table.
        RuleAttribute::Priority(1000 + u32::from(32 - source.network.prefix().min(32))),
        RuleAttribute::Table(source.table),
        RuleAttribute::Protocol(PROTOCOL),
    ];
    message
}

pub(super) fn source_rule_of(message: &Message) -> Option<SourceRule> {
    let Message::NewRule(message) = message else { return None };
    let (mut network, mut table, mut ours) = (None, None, false);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Source(IpAddr::V4(ip)) => network = Ipv4Network::new(*ip, message.header.src_len).ok(),
            RuleAttribute::Table(value) => table = Some(*value),
            RuleAttribute::Protocol(protocol) => ours = *protocol == PROTOCOL,
            _ => {}
        }
    }
    Some(SourceRule { network: network.filter(|_| ours)?, table: table? })
}

pub(super) fn host_rule_message(rule: &HostRule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.action = RuleAction::ToTable;
    // Before the rules for sources: what comes from the node never reaches the next one.
    let (priority, table) = match rule {
        HostRule::From { link, table } => {
            message.attributes.push(RuleAttribute::Iifname(link.clone()));
            (100, *table)
        }
        HostRule::Marked { mark, table } => {
            message.attributes.extend([RuleAttribute::FwMark(*mark), RuleAttribute::FwMask(*mark)]);
            (101, *table)
        }
    };
    message.attributes.extend([
        RuleAttribute::Priority(priority),
        RuleAttribute::Table(table),
        RuleAttribute::Protocol(PROTOCOL),
    ]);
    message
}

pub(super) fn host_rule_of(message: &Message) -> Option<HostRule> {
    let Message::NewRule(message) = message else { return None };
    let (mut from, mut marked, mut table, mut ours) = (None, None, None, false);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Iifname(link) => from = Some(link.clone()),
            RuleAttribute::FwMark(mark) => marked = Some(*mark),
            RuleAttribute::Table(value) => table = Some(*value),
            RuleAttribute::Protocol(protocol) => ours = *protocol == PROTOCOL,
            _ => {}
        }
    }
    let table = table.filter(|_| ours)?;
    from.map(|link| HostRule::From { link, table }).or(marked.map(|mark| HostRule::Marked { mark, table }))
}

fn source_of_route(message: &Message) -> Option<Ipv4Addr> {
    let Message::NewRoute(message) = message else { return None };
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::PrefSource(RouteAddress::Inet(ip)) => Some(*ip),
        _ => None,
    })
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

pub(super) fn mac_of(attributes: &[NeighbourAttribute]) -> Option<Mac> {
    attributes.iter().find_map(|a| match a {
        NeighbourAttribute::LinkLayerAddress(mac) => mac.as_slice().try_into().ok().map(Mac),
        _ => None,
    })
}
