//! Links (`RTM_NEWLINK` and its like, rtnetlink(7)): reading, creating, changing and deleting them.
//!
//! A change names its link by index, because another link of the same name has another index.

use std::fs::File;
use std::os::fd::AsRawFd as _;

use atoll_model::attachment::Mac;
use ipnetwork::IpNetwork;
use nix::errno::Errno;
use nix::libc::{RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK, RTM_SETLINK};
use rtnetlink::packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::link::{
    BridgePortState, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth,
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use super::message::RawMessage;
use super::{Refused, Socket};

/// A link as the kernel shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its index in its namespace.
    pub index: u32,
    /// The index of its other end, in the other end's namespace.
    pub peer: Option<u32>,
    /// The index of the bridge or datapath that it is a port of.
    pub master: Option<u32>,
    /// Its MAC.
    pub mac: Option<Mac>,
    /// Its MTU, bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Its link group.
    pub group: u32,
    /// What it is.
    pub kind: LinkKind,
    /// Its addresses. The kernel lists them separately ([`super::address::list`]): empty if they were not requested.
    pub addresses: Vec<IpNetwork>,
    /// All flags.
    pub flags: LinkFlags,
    /// All attributes, also those that are fields of this type.
    pub attributes: Vec<LinkAttribute>,
}

/// Kinds of links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkKind {
    /// One end of a veth pair.
    Veth,
    /// A bridge.
    Bridge,
    /// Anything else.
    #[default]
    Other,
}

impl Link {
    /// Reads a link of an answer or an event.
    pub fn read(message: LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link =
            Self { index: message.header.index, up: flags.contains(LinkFlags::Up), flags, ..Self::default() };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Link(index) => link.peer = Some(*index).filter(|index| *index != 0),
                LinkAttribute::Controller(index) => link.master = Some(*index).filter(|index| *index != 0),
                LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().ok().map(Mac),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Group(group) => link.group = *group,
                LinkAttribute::LinkInfo(infos) if infos.contains(&LinkInfo::Kind(InfoKind::Veth)) => {
                    link.kind = LinkKind::Veth;
                }
                LinkAttribute::LinkInfo(infos) if infos.contains(&LinkInfo::Kind(InfoKind::Bridge)) => {
                    link.kind = LinkKind::Bridge;
                }
                _ => {}
            }
        }
        link.attributes = message.attributes;
        link
    }

    /// It is up, and so is its other end (`IFF_LOWER_UP`).
    pub fn has_carrier(&self) -> bool {
        self.flags.contains(LinkFlags::LowerUp)
    }

    /// It sends and answers ARP requests.
    pub fn uses_arp(&self) -> bool {
        !self.flags.contains(LinkFlags::Noarp)
    }

    /// Its alias (`IFLA_IFALIAS`).
    pub fn alias(&self) -> Option<&str> {
        self.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::IfAlias(alias) => Some(alias.as_str()),
            _ => None,
        })
    }

    /// As a port of a bridge: it learns the MACs of senders.
    pub fn is_learning(&self) -> Option<bool> {
        self.port_flags().find_map(|flag| if let InfoBridgePort::Learning(it) = flag { Some(*it) } else { None })
    }

    /// It can carry packets, but is a port of a bridge that does not forward.
    pub fn is_blocked(&self) -> bool {
        self.is_running() && !self.forwards()
    }

    /// Packets pass: it has a carrier and, if it is a port of a bridge, forwards.
    pub fn is_forwarding(&self) -> bool {
        self.is_running() && self.forwards()
    }

    fn is_running(&self) -> bool {
        self.flags.contains(LinkFlags::Running | LinkFlags::LowerUp)
    }

    fn forwards(&self) -> bool {
        !self.port_flags().any(|flag| matches!(flag, InfoBridgePort::State(it) if *it != BridgePortState::Forwarding))
    }

    /// Its flags as a port of a bridge.
    pub fn port_flags(&self) -> impl Iterator<Item = &InfoBridgePort> {
        self.infos()
            .filter_map(|info| match info {
                LinkInfo::PortData(InfoPortData::BridgePort(flags)) => Some(flags),
                _ => None,
            })
            .flatten()
    }

    /// Its options as a bridge.
    pub fn bridge_options(&self) -> impl Iterator<Item = &InfoBridge> {
        self.infos()
            .filter_map(|info| match info {
                LinkInfo::Data(InfoData::Bridge(options)) => Some(options),
                _ => None,
            })
            .flatten()
    }

    fn infos(&self) -> impl Iterator<Item = &LinkInfo> {
        self.attributes
            .iter()
            .filter_map(|attribute| match attribute {
                LinkAttribute::LinkInfo(infos) => Some(infos),
                _ => None,
            })
            .flatten()
    }
}

/// The link of this name; `None` if there is none.
///
/// # Errors
/// The kernel's error.
pub fn by_name(socket: &Socket, name: &str) -> Result<Option<Link>, Refused> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    get(socket, &message)
}

/// The link of this index; `None` if there is none.
///
/// # Errors
/// The kernel's error.
pub fn by_index(socket: &Socket, index: u32) -> Result<Option<Link>, Refused> {
    get(socket, &of(index))
}

fn get(socket: &Socket, message: &LinkMessage) -> Result<Option<Link>, Refused> {
    match socket.get(RTM_GETLINK, message) {
        Err(refused) if refused.errno == Errno::ENODEV => Ok(None),
        Err(refused) => Err(refused),
        Ok(answers) => Ok(read(&answers)?.into_iter().next()),
    }
}

/// All links of the namespace.
///
/// # Errors
/// The kernel's error.
pub fn list(socket: &Socket) -> Result<Vec<Link>, Refused> {
    let answers = socket.list(RTM_GETLINK, &LinkMessage::default())?;
    read(&answers)
}

fn read(answers: &[RawMessage]) -> Result<Vec<Link>, Refused> {
    let links: Vec<LinkMessage> = RawMessage::read_all(answers, RTM_NEWLINK)?;
    Ok(links.into_iter().map(Link::read).collect())
}

/// One end of a veth pair that is to be created.
#[derive(Clone, Copy, Debug, Default)]
pub struct VethEnd<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its index; 0: the kernel chooses.
    pub index: u32,
    /// Its MAC; `None`: the kernel chooses.
    pub mac: Option<Mac>,
    /// Its MTU, bytes; `None`: the kernel's own.
    pub mtu: Option<u32>,
    /// Its link group; 0: none.
    pub group: u32,
    /// It is up from the beginning. Of two ends only the second that comes up can be (`veth_open`).
    pub up: bool,
    /// One queue for each direction. Otherwise the kernel allocates one for every CPU.
    pub single_queue: bool,
    /// Where it is; `None`: in the namespace of the socket.
    pub netns: Option<&'a File>,
}

impl VethEnd<'_> {
    fn message(&self) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = self.index;
        if self.up {
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
        }
        let attributes = &mut message.attributes;
        attributes.push(LinkAttribute::IfName(self.name.to_owned()));
        attributes.extend(self.netns.map(|file| LinkAttribute::NetNsFd(file.as_raw_fd())));
        attributes.extend(self.mac.map(address));
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        if self.group != 0 {
            attributes.push(LinkAttribute::Group(self.group));
        }
        if self.single_queue {
            attributes.extend([LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)]);
        }
        message
    }
}

/// Creates a veth pair, each end where it stays. Moving an end later costs 15 ms, creating it in place 0.3 ms.
///
/// # Errors
/// `EEXIST`: one of the names or indices is in use. Otherwise the kernel's error.
pub fn create_veth(socket: &Socket, end: &VethEnd<'_>, peer: &VethEnd<'_>) -> Result<(), Refused> {
    let mut message = end.message();
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer.message()))),
    ]));
    socket.change(RTM_NEWLINK, &message, NLM_F_CREATE | NLM_F_EXCL)
}

/// Creates a bridge.
///
/// # Errors
/// `EEXIST`: the name is in use. Otherwise the kernel's error.
pub fn create_bridge(
    socket: &Socket,
    name: &str,
    mac: Mac,
    group: u32,
    options: Vec<InfoBridge>,
) -> Result<(), Refused> {
    let mut message = VethEnd { name, mac: Some(mac), group, ..VethEnd::default() }.message();
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Bridge),
        LinkInfo::Data(InfoData::Bridge(options)),
    ]));
    socket.change(RTM_NEWLINK, &message, NLM_F_CREATE | NLM_F_EXCL)
}

/// Brings a link up or down.
///
/// # Errors
/// The kernel's error.
pub fn set_up(socket: &Socket, index: u32, up: bool) -> Result<(), Refused> {
    let mut message = of(index);
    message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
    message.header.change_mask = LinkFlags::Up;
    socket.change(RTM_SETLINK, &message, 0)
}

/// Brings the link of this name up, with further settings in the same request.
///
/// # Errors
/// The kernel's error.
pub fn bring_up(socket: &Socket, name: &str, settings: Option<LinkAttribute>) -> Result<(), Refused> {
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes.extend(settings);
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    socket.change(RTM_SETLINK, &message, 0)
}

/// ARP settings of a pod's interface: its addresses are announced whenever its MAC is set (`arp_notify`); it answers for its
/// own addresses and no others of the pod (`arp_ignore` 1), and asks with one of its own (`arp_announce` 2), because a port
/// passes nothing else.
pub fn pod_arp_settings() -> LinkAttribute {
    const ARP_ANNOUNCE: u16 = 18;
    const ARP_IGNORE: u16 = 19;
    const ARP_NOTIFY: u16 = 22;
    inet_settings(&[(ARP_ANNOUNCE, 2), (ARP_IGNORE, 1), (ARP_NOTIFY, 1)])
}

/// What comes in by the interface is forwarded.
pub fn forwarding() -> LinkAttribute {
    const FORWARDING: u16 = 1;
    inet_settings(&[(FORWARDING, 1)])
}

/// IPv4 settings of an interface (`IFLA_INET_CONF`, `linux/ip.h`).
fn inet_settings(settings: &[(u16, u32)]) -> LinkAttribute {
    const AF_INET: u16 = 2;
    const IFLA_INET_CONF: u16 = 1;
    let settings: Vec<u8> =
        settings.iter().flat_map(|(kind, value)| attribute(*kind, value.to_ne_bytes().to_vec())).collect();
    of_family(AF_INET, attribute(IFLA_INET_CONF, settings))
}

/// Makes the kernel give a link no IPv6 address by itself (`IFLA_INET6_ADDR_GEN_MODE`, `linux/if_link.h`). On a machine without
/// IPv6 it gives none anyway.
///
/// # Errors
/// The kernel's error.
pub fn without_link_local(socket: &Socket, index: u32) -> Result<(), Refused> {
    const AF_INET6: u16 = 10;
    const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
    const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
    let mode = attribute(IFLA_INET6_ADDR_GEN_MODE, vec![IN6_ADDR_GEN_MODE_NONE]);
    match set(socket, index, of_family(AF_INET6, mode)) {
        Err(refused) if refused.errno == Errno::EAFNOSUPPORT => Ok(()),
        other => other,
    }
}

/// Settings of a link in one address family (`IFLA_AF_SPEC`).
fn of_family(family: u16, settings: Vec<u8>) -> LinkAttribute {
    const IFLA_AF_SPEC: u16 = 26;
    LinkAttribute::Other(DefaultNla::new(IFLA_AF_SPEC, attribute(family, settings)))
}

/// An attribute, padded to whole words (netlink(7)).
fn attribute(kind: u16, mut value: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    value.resize(value.len().next_multiple_of(4), 0);
    [length.to_ne_bytes().to_vec(), kind.to_ne_bytes().to_vec(), value].concat()
}

/// Gives a link a MAC.
///
/// # Errors
/// The kernel's error.
pub fn set_mac(socket: &Socket, index: u32, mac: Mac) -> Result<(), Refused> {
    set(socket, index, address(mac))
}

/// Puts a link into a link group.
///
/// # Errors
/// The kernel's error.
pub fn set_group(socket: &Socket, index: u32, group: u32) -> Result<(), Refused> {
    set(socket, index, LinkAttribute::Group(group))
}

/// Makes a link a port of `bridge`, or of none.
///
/// # Errors
/// The kernel's error.
pub fn set_master(socket: &Socket, index: u32, bridge: Option<u32>) -> Result<(), Refused> {
    set(socket, index, LinkAttribute::Controller(bridge.unwrap_or(0)))
}

/// Gives a link an alias; an empty one removes it.
///
/// # Errors
/// The kernel's error.
pub fn set_alias(socket: &Socket, index: u32, alias: &str) -> Result<(), Refused> {
    set(socket, index, LinkAttribute::IfAlias(alias.to_owned()))
}

/// Sets group and MTU of a link, and makes it use ARP. `mtu` is `None` for a bridge: its MTU follows its ports.
///
/// # Errors
/// The kernel's error.
pub fn reset(socket: &Socket, index: u32, group: u32, mtu: Option<u32>) -> Result<(), Refused> {
    let mut message = of(index);
    message.header.change_mask = LinkFlags::Noarp;
    message.attributes.push(LinkAttribute::Group(group));
    message.attributes.extend(mtu.map(LinkAttribute::Mtu));
    socket.change(RTM_SETLINK, &message, 0)
}

/// Sets options of a bridge.
///
/// # Errors
/// The kernel's error.
pub fn set_bridge_options(socket: &Socket, index: u32, options: Vec<InfoBridge>) -> Result<(), Refused> {
    set_info(socket, index, vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(InfoData::Bridge(options))])
}

/// Sets flags of a port of a bridge.
///
/// # Errors
/// The kernel's error.
pub fn set_port_flags(socket: &Socket, index: u32, flags: Vec<InfoBridgePort>) -> Result<(), Refused> {
    let data = LinkInfo::PortData(InfoPortData::BridgePort(flags));
    set_info(socket, index, vec![LinkInfo::PortKind(InfoPortKind::Bridge), data])
}

fn set_info(socket: &Socket, index: u32, info: Vec<LinkInfo>) -> Result<(), Refused> {
    let mut message = of(index);
    message.attributes.push(LinkAttribute::LinkInfo(info));
    socket.change(RTM_NEWLINK, &message, 0)
}

/// Moves a link into another namespace, where it gets `new_index`.
///
/// # Errors
/// `EEXIST`: its name is in use there. Otherwise the kernel's error.
pub fn move_to(socket: &Socket, index: u32, netns: &File, new_index: u32) -> Result<(), Refused> {
    let mut message = of(index);
    message.attributes.push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
    message.attributes.push(LinkAttribute::NewIfIndex(new_index.cast_signed()));
    socket.change(RTM_SETLINK, &message, 0)
}

/// Deletes a link, and with it its other end.
///
/// # Errors
/// `ENODEV`: there is no such link. Otherwise the kernel's error.
pub fn delete(socket: &Socket, index: u32) -> Result<(), Refused> {
    socket.change(RTM_DELLINK, &of(index), 0)
}

/// Deletes all links of a group in one request.
///
/// # Errors
/// `ENODEV`: there is no such link. Otherwise the kernel's error.
pub fn delete_group(socket: &Socket, group: u32) -> Result<(), Refused> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::Group(group));
    socket.change(RTM_DELLINK, &message, 0)
}

fn set(socket: &Socket, index: u32, attribute: LinkAttribute) -> Result<(), Refused> {
    let mut message = of(index);
    message.attributes.push(attribute);
    socket.change(RTM_SETLINK, &message, 0)
}

fn of(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

fn address(mac: Mac) -> LinkAttribute {
    LinkAttribute::Address(mac.0.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(flags: LinkFlags, state: Option<BridgePortState>) -> Link {
        let mut message = LinkMessage::default();
        message.header.flags = flags;
        let data = state.map(|state| InfoPortData::BridgePort(vec![InfoBridgePort::State(state)]));
        message.attributes.push(LinkAttribute::LinkInfo(data.into_iter().map(LinkInfo::PortData).collect()));
        Link::read(message)
    }

    #[test]
    fn a_port_forwards_if_it_has_a_carrier_and_its_bridge_lets_it() {
        use BridgePortState::{Disabled, Forwarding};
        let carrier = LinkFlags::Up | LinkFlags::Running | LinkFlags::LowerUp;
        for (flags, state, forwards, is_blocked) in [
            (carrier, None, true, false),
            (carrier, Some(Forwarding), true, false),
            (carrier, Some(Disabled), false, true),
            (LinkFlags::Up, Some(Disabled), false, false),
            (LinkFlags::Up, None, false, false),
        ] {
            let link = port(flags, state);
            assert_eq!((link.is_forwarding(), link.is_blocked()), (forwards, is_blocked), "{flags:?}, {state:?}");
        }
    }

    #[test]
    fn an_end_of_a_veth_pair_is_read_as_it_was_built() {
        let mac = Some(Mac([2, 0, 0, 0, 0, 1]));
        let end = VethEnd { name: "at0", index: 7, mac, mtu: Some(1450), group: 5, up: true, ..VethEnd::default() };
        let link = Link::read(end.message());
        assert_eq!((link.name.as_str(), link.index, link.mac, link.mtu), ("at0", 7, mac, 1450));
        assert_eq!((link.group, link.up, link.peer, link.master), (5, true, None, None));
    }
}
