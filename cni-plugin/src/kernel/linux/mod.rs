//! The real kernel, over netlink.
//!
//! A veth pair is created where it stays, both ends in one request: moving one end costs 15 ms, creating it in place
//! 0.3 ms. The pod's end cannot be up in that request (`veth_open` wants the other end first), so it comes up with the
//! addresses. Deleting waits for an RCU grace period, 15 ms and more, so it happens on a thread of its own and network
//! requests go on meanwhile.

mod routes;
mod rules;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::rc::Rc;

use atoll_model::attachment::Mac;
use atoll_model::ids::IfName;
use atoll_node::netlink::{Refused, Socket};
use atoll_node::netns;
use ipnetwork::Ipv4Network;
use nix::errno::Errno;
use rtnetlink::AddressMessageBuilder;
use rtnetlink::packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{FoundRoute, GROUP, Kernel, KernelError, Link, Netns, NetnsKind, PodChange, PolicyRule, Veth, host_index};

/// The real kernel. Keeps one socket for each namespace it has touched.
#[derive(Default)]
pub struct Linux {
    /// By device and inode of the namespace, so that another namespace at the same path is another one. An open socket
    /// keeps its namespace alive, so that the numbers cannot be given away meanwhile.
    sockets: RefCell<BTreeMap<netns::Identity, Rc<Socket>>>,
    own: RefCell<Option<Rc<Socket>>>,
}

impl Linux {
    /// Opens nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A socket in a namespace; none: it is not there.
    fn socket(&self, netns: &Netns) -> io::Result<Option<Rc<Socket>>> {
        match netns {
            Netns::Own => {
                if let Some(socket) = &*self.own.borrow() {
                    return Ok(Some(Rc::clone(socket)));
                }
                let socket = Rc::new(Socket::here()?);
                *self.own.borrow_mut() = Some(Rc::clone(&socket));
                Ok(Some(socket))
            }
            Netns::At(path) => match netns::open(path)? {
                None => Ok(None),
                Some(file) => match self.socket_in(&file) {
                    Err(error) if netns::is_no_netns(&error) => Ok(None),
                    other => other.map(Some),
                },
            },
        }
    }

    fn socket_in(&self, file: &File) -> io::Result<Rc<Socket>> {
        let identity = netns::identity(file)?;
        if let Some(socket) = self.sockets.borrow().get(&identity) {
            return Ok(Rc::clone(socket));
        }
        let socket = Rc::new(Socket::inside(file)?);
        self.sockets.borrow_mut().insert(identity, Rc::clone(&socket));
        Ok(socket)
    }

    fn look_at(&self, netns: &Netns, which: LinkMessage) -> Result<Option<Link>, Refused> {
        let Some(socket) = self.socket(netns)? else { return Ok(None) };
        let Some(link) = get(&socket, which)? else { return Ok(None) };
        let addresses = addresses(&socket, link.header.index)?;
        Ok(Some(describe(&link, &addresses)))
    }

    fn change(&self, pod_netns: &Path, change: &PodChange) -> Result<(), Refused> {
        let socket = self.socket(&Netns::At(pod_netns.to_owned()))?.ok_or_else(gone)?;
        let index = |name: &IfName| match find(&socket, name)? {
            Some(link) => Ok(link.header.index),
            None => Err(Refused { errno: Errno::ENODEV, words: String::new() }),
        };
        match change {
            PodChange::LoopbackUp => up(&socket, "lo", vec![]),
            PodChange::Up(name) => up(&socket, name.as_str(), vec![neighbourly()]),
            PodChange::AddRule(rule) => {
                let message = RouteNetlinkMessage::NewRule(rules::message(*rule));
                there_already_is_fine(socket.change(message, NLM_F_CREATE | NLM_F_EXCL))
            }
            PodChange::DeleteRule(rule) => {
                let answer = socket.change(RouteNetlinkMessage::DelRule(rules::message(*rule)), 0);
                answer.or_else(|refused| if refused.errno == Errno::ENOENT { Ok(()) } else { Err(refused) })
            }
            PodChange::Announce(name) => announce(&socket, name),
            PodChange::Address(name, address, metric) => {
                let builder = AddressMessageBuilder::<Ipv4Addr>::new().index(index(name)?);
                let mut message = builder.address(address.ip(), address.prefix()).build();
                message.attributes.extend(metric.map(AddressAttribute::RoutePriority));
                there_already_is_fine(
                    socket.change(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL),
                )
            }
            PodChange::Route(interface, route) => {
                // Of several networks that bring the same route, the first one wins, as with other plugins.
                let message = RouteNetlinkMessage::NewRoute(routes::message(route, index(interface)?));
                there_already_is_fine(socket.change(message, NLM_F_CREATE | NLM_F_EXCL))
            }
        }
    }

    fn make(&self, veth: &Veth) -> Result<(), Refused> {
        let pod = netns::open(&veth.pod_netns)?.ok_or_else(gone)?;
        let host = self.socket(&veth.host_netns)?.ok_or_else(gone)?;
        match host.change(RouteNetlinkMessage::NewLink(pair(veth, &pod)), NLM_F_CREATE | NLM_F_EXCL) {
            Err(refused) if refused.errno == Errno::EEXIST => {
                let pod = self.socket_in(&pod)?;
                let host_end = find(&host, &veth.host_interface)?;
                let pod_end = find(&pod, &veth.pod_interface)?;
                match (host_end, pod_end) {
                    (Some(host_end), Some(pod_end)) if is_our_pair(&host_end, &pod_end, veth.mac) => Ok(()),
                    _ => Err(refused),
                }
            }
            other => other,
        }
    }
}

impl Kernel for Linux {
    async fn kind(&self, path: &Path) -> Result<NetnsKind, KernelError> {
        let look = || {
            let Some(file) = netns::open(path)? else { return Ok(NetnsKind::Gone) };
            if !netns::is_namespace(&file)? {
                return Ok(NetnsKind::NotANetns);
            }
            if netns::is_own(&file)? {
                return Ok(NetnsKind::OurOwn);
            }
            match self.socket_in(&file) {
                Ok(_) => Ok(NetnsKind::Netns),
                Err(error) if netns::is_no_netns(&error) => Ok(NetnsKind::NotANetns),
                Err(error) => Err(error),
            }
        };
        look().map_err(|error| failed(format!("look at network namespace {}", path.display()), &error))
    }

    async fn inspect(&self, netns: &Netns, interface: &IfName) -> Result<Option<Link>, KernelError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(interface.to_string()));
        self.look_at(netns, message)
            .map_err(|refused| failed(format!("look at interface {interface} in {netns}"), &refused))
    }

    async fn inspect_index(&self, netns: &Netns, index: u32) -> Result<Option<Link>, KernelError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.look_at(netns, message).map_err(|refused| failed(format!("look at link {index} in {netns}"), &refused))
    }

    async fn create(&self, veth: &Veth) -> Result<(), KernelError> {
        self.make(veth).map_err(|refused| {
            let (pod, netns) = (&veth.pod_interface, veth.pod_netns.display());
            failed(
                format!("create veth {} in {} with {pod} in {netns}", veth.host_interface, veth.host_netns),
                &refused,
            )
        })
    }

    async fn configure(&self, pod_netns: &Path, change: &PodChange) -> Result<(), KernelError> {
        self.change(pod_netns, change)
            .map_err(|refused| failed(format!("{change} in network namespace {}", pod_netns.display()), &refused))
    }

    async fn delete(&self, netns: &Netns, interface: &IfName) -> Result<(), KernelError> {
        let name = interface.clone();
        let work = move |socket: &Socket| {
            let Some(link) = find(socket, &name)? else { return Ok(()) };
            refuse_foreign(&link)?;
            let mut message = LinkMessage::default();
            message.header.index = link.header.index;
            gone_already_is_fine(socket.change(RouteNetlinkMessage::DelLink(message), 0))
        };
        elsewhere(netns, work)
            .await
            .map_err(|refused| failed(format!("delete interface {interface} in {netns}"), &refused))
    }

    async fn delete_all(&self, netns: &Netns, interfaces: &[IfName]) -> Result<(), KernelError> {
        match interfaces {
            [] => return Ok(()),
            [one] => return self.delete(netns, one).await,
            _ => {}
        }
        let names = interfaces.to_vec();
        let work = move |socket: &Socket| {
            for name in &names {
                let Some(link) = find(socket, name)? else { continue };
                refuse_foreign(&link)?;
                let mut message = LinkMessage::default();
                message.header.index = link.header.index;
                message.attributes.push(LinkAttribute::Group(DOOMED));
                gone_already_is_fine(socket.change(RouteNetlinkMessage::SetLink(message), 0))?;
            }
            let mut message = LinkMessage::default();
            message.attributes.push(LinkAttribute::Group(DOOMED));
            gone_already_is_fine(socket.change(RouteNetlinkMessage::DelLink(message), 0))
        };
        let count = interfaces.len();
        elsewhere(netns, work)
            .await
            .map_err(|refused| failed(format!("delete {count} interfaces in {netns}"), &refused))
    }

    async fn routes(&self, netns: &Netns) -> Result<Vec<FoundRoute>, KernelError> {
        let look = || match self.socket(netns)? {
            Some(socket) => routes::all(&socket),
            None => Ok(vec![]),
        };
        look().map_err(|refused| failed(format!("list routes in {netns}"), &refused))
    }

    async fn rules(&self, netns: &Netns) -> Result<Vec<PolicyRule>, KernelError> {
        let look = || match self.socket(netns)? {
            Some(socket) => rules::all(&socket),
            None => Ok(vec![]),
        };
        look().map_err(|refused| failed(format!("list rules in {netns}"), &refused))
    }

    async fn is_same(&self, one: &Path, other: &Path) -> Result<bool, KernelError> {
        let look = |path: &Path| {
            let identity = netns::open(path).and_then(|file| file.map(|file| netns::identity(&file)).transpose());
            identity.map_err(|error| failed(format!("look at network namespace {}", path.display()), &error))
        };
        Ok(look(one)?.is_some_and(|identity| look(other) == Ok(Some(identity))))
    }

    async fn list(&self, netns: &Netns) -> Result<Vec<Link>, KernelError> {
        let look = || {
            let Some(socket) = self.socket(netns)? else { return Ok(vec![]) };
            let all = socket.list(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
            let addresses = addresses(&socket, 0)?;
            let links = all.iter().filter_map(|message| match message {
                RouteNetlinkMessage::NewLink(link) => Some(describe(link, &addresses)),
                _ => None,
            });
            Ok::<_, Refused>(links.filter(|link| link.group == GROUP).collect())
        };
        look().map_err(|refused| failed(format!("list interfaces in {netns}"), &refused))
    }
}

/// The link group of host ends that are about to be deleted together. Whoever marked them may have died: they are ours
/// like the others, but a pair is not taken for one that can stay.
const DOOMED: u32 = 0xa7ff;

fn refuse_foreign(link: &LinkMessage) -> Result<(), Refused> {
    if describe(link, &[]).group == GROUP {
        return Ok(());
    }
    Err(Refused { errno: Errno::EPERM, words: "the interface is not one of ours".to_owned() })
}

/// Does in a namespace what takes the kernel long: on a thread of its own, with a socket of its own. A namespace that is
/// not there has nothing to do in.
async fn elsewhere(
    netns: &Netns,
    work: impl FnOnce(&Socket) -> Result<(), Refused> + Send + 'static,
) -> Result<(), Refused> {
    let at = netns.clone();
    let begin = move || {
        let socket = match &at {
            Netns::Own => Socket::here()?,
            Netns::At(path) => match netns::open(path)? {
                None => return Ok(()),
                Some(file) => match Socket::inside(&file) {
                    Err(error) if netns::is_no_netns(&error) => return Ok(()),
                    other => other?,
                },
            },
        };
        work(&socket)
    };
    let (tell, told) = tokio::sync::oneshot::channel();
    // tokio's own threads panic where none can be started.
    let thread = std::thread::Builder::new().stack_size(256 * 1024).spawn(move || drop(tell.send(begin())));
    thread.map_err(|error| netns::cannot_start(&error))?;
    told.await.unwrap_or_else(|_| Err(Refused { errno: Errno::ECANCELED, words: "the thread died".to_owned() }))
}

fn gone_already_is_fine(answer: Result<(), Refused>) -> Result<(), Refused> {
    answer.or_else(|refused| if refused.errno == Errno::ENODEV { Ok(()) } else { Err(refused) })
}

fn gone() -> Refused {
    Refused { errno: Errno::ESTALE, words: "the network namespace is gone".to_owned() }
}

fn there_already_is_fine(answer: Result<(), Refused>) -> Result<(), Refused> {
    answer.or_else(|refused| if refused.errno == Errno::EEXIST { Ok(()) } else { Err(refused) })
}

fn find(socket: &Socket, name: &IfName) -> Result<Option<LinkMessage>, Refused> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_string()));
    get(socket, message)
}

fn get(socket: &Socket, message: LinkMessage) -> Result<Option<LinkMessage>, Refused> {
    match socket.get(RouteNetlinkMessage::GetLink(message)) {
        Err(refused) if refused.errno == Errno::ENODEV => Ok(None),
        Err(refused) => Err(refused),
        Ok(answers) => Ok(answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        })),
    }
}

/// The IPv4 addresses of one interface, or of all (`index` 0), with their interface.
fn addresses(socket: &Socket, index: u32) -> Result<Vec<(u32, Ipv4Network)>, Refused> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.index = index;
    let answers = socket.list(RouteNetlinkMessage::GetAddress(message))?;
    Ok(answers
        .iter()
        .filter_map(|answer| match answer {
            // An old kernel does not filter.
            RouteNetlinkMessage::NewAddress(found) if index == 0 || found.header.index == index => {
                let local = found.attributes.iter().find_map(|attribute| match attribute {
                    AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
                    _ => None,
                })?;
                Some((found.header.index, Ipv4Network::new(local, found.header.prefix_len).ok()?))
            }
            _ => None,
        })
        .collect())
}

fn up(socket: &Socket, name: &str, settings: Vec<LinkAttribute>) -> Result<(), Refused> {
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes = settings;
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    socket.change(RouteNetlinkMessage::SetLink(message), 0)
}

/// Settings of an interface towards its neighbours, in the nested attributes `IFLA_AF_SPEC`, `AF_INET`, `IFLA_INET_CONF`
/// (`linux/if_link.h`, `linux/ip.h`): its addresses are announced whenever its MAC is set (`arp_notify`); it answers for its
/// own addresses and no others of the pod (`arp_ignore` 1), and asks with one of its own (`arp_announce` 2), because a port
/// lets nothing else pass.
fn neighbourly() -> LinkAttribute {
    const IFLA_AF_SPEC: u16 = 26;
    const AF_INET: u16 = 2;
    const IFLA_INET_CONF: u16 = 1;
    const ARP_ANNOUNCE: u16 = 18;
    const ARP_IGNORE: u16 = 19;
    const ARP_NOTIFY: u16 = 22;
    let attribute = |kind: u16, value: Vec<u8>| {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        [length.to_ne_bytes().to_vec(), kind.to_ne_bytes().to_vec(), value].concat()
    };
    let settings = [(ARP_ANNOUNCE, 2_u32), (ARP_IGNORE, 1), (ARP_NOTIFY, 1)];
    let settings = settings.map(|(kind, value)| attribute(kind, value.to_ne_bytes().to_vec())).concat();
    let nested = attribute(AF_INET, attribute(IFLA_INET_CONF, settings));
    LinkAttribute::Other(DefaultNla::new(IFLA_AF_SPEC, nested))
}

/// Sets the MAC that the interface has, upon which the kernel announces. A packet socket of our own would do the same,
/// but closing one waits for the kernel's grace period, 16 ms.
fn announce(socket: &Socket, name: &IfName) -> Result<(), Refused> {
    let link = find(socket, name)?.ok_or_else(|| Refused { errno: Errno::ENODEV, words: String::new() })?;
    let mut message = LinkMessage::default();
    message.header.index = link.header.index;
    message.attributes = link.attributes;
    message.attributes.retain(|attribute| matches!(attribute, LinkAttribute::Address(_)));
    socket.change(RouteNetlinkMessage::SetLink(message), 0)
}

/// The request that creates both ends where they stay.
fn pair(veth: &Veth, pod_netns: &File) -> LinkMessage {
    use std::os::fd::AsRawFd;

    // One queue each way: a veth has one for every CPU otherwise, and makes them all now.
    let common = [
        LinkAttribute::Mtu(veth.mtu),
        LinkAttribute::Group(GROUP),
        LinkAttribute::NumTxQueues(1),
        LinkAttribute::NumRxQueues(1),
    ];
    let mut pod = LinkMessage::default();
    pod.attributes = vec![
        LinkAttribute::IfName(veth.pod_interface.to_string()),
        LinkAttribute::NetNsFd(pod_netns.as_raw_fd()),
        LinkAttribute::Address(veth.mac.0.to_vec()),
    ];
    pod.attributes.extend(common.clone());
    let mut host = LinkMessage::default();
    host.header.index = host_index(&veth.host_interface);
    host.header.flags = LinkFlags::Up;
    host.header.change_mask = LinkFlags::Up;
    host.attributes = vec![LinkAttribute::IfName(veth.host_interface.to_string())];
    host.attributes.extend(common);
    host.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(pod))),
    ]));
    host
}

fn is_our_pair(host: &LinkMessage, pod: &LinkMessage, mac: Mac) -> bool {
    let (host_end, pod_end) = (describe(host, &[]), describe(pod, &[]));
    host_end.is_ours()
        && !host.attributes.contains(&LinkAttribute::Group(DOOMED))
        && pod_end.veth
        && pod_end.mac == Some(mac)
        && host_end.peer == Some(pod_end.index)
        && pod_end.peer == Some(host_end.index)
}

fn describe(message: &LinkMessage, addresses: &[(u32, Ipv4Network)]) -> Link {
    let index = message.header.index;
    let mut link = Link {
        name: String::new(),
        index,
        peer: None,
        master: None,
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        group: 0,
        veth: false,
        addresses: addresses.iter().filter(|(of, _)| *of == index).map(|(_, a)| *a).collect(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Link(peer) => link.peer = Some(*peer),
            LinkAttribute::Controller(master) => link.master = Some(*master),
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().ok().map(Mac),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Group(DOOMED) => link.group = GROUP,
            LinkAttribute::Group(group) => link.group = *group,
            LinkAttribute::LinkInfo(infos) => link.veth = infos.contains(&LinkInfo::Kind(InfoKind::Veth)),
            _ => {}
        }
    }
    link
}

fn failed(what: String, reason: &impl ToString) -> KernelError {
    KernelError { what, reason: reason.to_string() }
}
