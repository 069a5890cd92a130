//! The real kernel, over netlink.
//!
//! A veth pair is created where it stays, both ends in one request: moving one end costs 15 ms, creating it in place
//! 0.3 ms. The pod's end cannot be up in that request (`veth_open` wants the other end first), so it comes up with the
//! addresses. Deleting waits for an RCU grace period, 15 ms and more, so it happens on a thread of its own and network
//! requests go on meanwhile.

mod host_to_pod;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use atoll_model::ids::IfName;
use atoll_model::sync::locked;
use atoll_node::netlink::link::VethEnd;
use atoll_node::netlink::route::{RoutePosition, RouteRequest};
use atoll_node::netlink::{Refused, Socket, address, link, offload, policy_rule, route};
use atoll_node::netns;
use atoll_node::veth::DOOMED;
use nix::errno::Errno;

use super::{
    FoundRoute, GROUP, HostToPodChange, HostToPodRoute, HostToPodSide, HostToPodState, Kernel, KernelError, Link,
    LinkKind, Netns, NetnsKind, PodChange, PolicyRule, Veth, host_index,
};

/// The priority of our policy rules: before `main` (32766) and what is counted down from it, behind what has a number of
/// its own.
const PRIORITY: u32 = 30_000;

/// The real kernel. Keeps one socket for each namespace it has touched.
#[derive(Default)]
pub struct Linux {
    /// By device and inode of the namespace, so that another namespace at the same path is another one. An open socket
    /// keeps its namespace alive, so that the numbers cannot be given away meanwhile.
    sockets: Mutex<BTreeMap<netns::Identity, Arc<Socket>>>,
    own: Mutex<Option<Arc<Socket>>>,
}

impl Linux {
    /// Opens nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A socket in a namespace; none: it is not there.
    fn socket(&self, netns: &Netns) -> io::Result<Option<Arc<Socket>>> {
        match netns {
            Netns::Own => {
                if let Some(socket) = &*locked(&self.own) {
                    return Ok(Some(Arc::clone(socket)));
                }
                let socket = Arc::new(Socket::here()?);
                *locked(&self.own) = Some(Arc::clone(&socket));
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

    fn socket_in(&self, file: &File) -> io::Result<Arc<Socket>> {
        let identity = netns::identity(file)?;
        if let Some(socket) = locked(&self.sockets).get(&identity) {
            return Ok(Arc::clone(socket));
        }
        let socket = Arc::new(Socket::inside(file)?);
        locked(&self.sockets).insert(identity, Arc::clone(&socket));
        Ok(socket)
    }

    /// Reads one link with its addresses.
    fn read(
        &self,
        netns: &Netns,
        find: &dyn Fn(&Socket) -> Result<Option<Link>, Refused>,
    ) -> Result<Option<Link>, Refused> {
        let Some(socket) = self.socket(netns)? else { return Ok(None) };
        let Some(mut link) = find(&socket)? else { return Ok(None) };
        let addresses = match address::list(&socket, link.index) {
            // It went between the two reads: the namespace of its other end is gone.
            Err(refused) if refused.errno == Errno::ENODEV => return Ok(None),
            other => other?,
        };
        link.addresses = addresses.into_iter().map(|(_, address)| address).collect();
        Ok(Some(link))
    }

    fn change(&self, pod_netns: &Path, change: &PodChange) -> Result<(), Refused> {
        let socket = self.socket(&Netns::At(pod_netns.to_owned()))?.ok_or_else(gone)?;
        let find = |name: &IfName| link::by_name(&socket, name.as_str())?.ok_or_else(|| Refused::silent(Errno::ENODEV));
        match change {
            PodChange::LoopbackUp => link::bring_up(&socket, "lo", None),
            PodChange::Up(name) => link::bring_up(&socket, name.as_str(), Some(link::pod_arp_settings())),
            PodChange::AddRule(rule) => there_already_is_fine(policy_rule::add(&socket, &rule.message(PRIORITY, None))),
            PodChange::DeleteRule(rule) => {
                absent_is_fine(policy_rule::delete(&socket, &rule.message(PRIORITY, None)), Errno::ENOENT)
            }
            PodChange::Announce(name) => announce(&socket, &find(name)?),
            PodChange::ComputeChecksums(name) => offload::compute_checksums(&Netns::At(pod_netns.to_owned()), name),
            PodChange::Address(name, address, metric) => {
                there_already_is_fine(address::add(&socket, find(name)?.index, *address, *metric))
            }
            PodChange::Route(interface, route) => {
                // Of several networks that bring the same route, the first one wins, as with other plugins.
                let message = RouteRequest::unicast(route, find(interface)?.index).message();
                there_already_is_fine(route::add(&socket, &message, RoutePosition::Only))
            }
        }
    }

    fn make(&self, veth: &Veth) -> Result<(), Refused> {
        let pod = netns::open(&veth.pod_netns)?.ok_or_else(gone)?;
        let host = self.socket(&veth.host_netns)?.ok_or_else(gone)?;
        let created = match create_pair(&host, veth, &pod) {
            Err(refused) if refused.errno == Errno::EEXIST => {
                let pod = self.socket_in(&pod)?;
                let host_end = link::by_name(&host, veth.host_interface.as_str())?;
                let pod_end = link::by_name(&pod, veth.pod_interface.as_str())?;
                match (host_end, pod_end) {
                    (Some(host_end), Some(pod_end)) if is_pair_of(veth, &host_end, &pod_end) => Ok(()),
                    _ => Err(refused),
                }
            }
            other => other,
        };
        // The host end sends nothing of its own to the pod; a datapath in user space would take its address for a tunnel's end.
        created.and_then(|()| link::without_link_local(&host, host_index(&veth.host_interface)))
    }
}

impl Kernel for Linux {
    async fn kind(&self, path: &Path) -> Result<NetnsKind, KernelError> {
        let read = || {
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
        read().map_err(|error| failed(format!("read network namespace {}", path.display()), &error))
    }

    async fn inspect(&self, netns: &Netns, interface: &IfName) -> Result<Option<Link>, KernelError> {
        self.read(netns, &|socket| link::by_name(socket, interface.as_str()))
            .map_err(|refused| failed(format!("read interface {interface} in {netns}"), &refused))
    }

    async fn inspect_index(&self, netns: &Netns, index: u32) -> Result<Option<Link>, KernelError> {
        self.read(netns, &|socket| link::by_index(socket, index))
            .map_err(|refused| failed(format!("read link {index} in {netns}"), &refused))
    }

    async fn inspect_address(&self, netns: &Netns, address: IpAddr) -> Result<Option<Link>, KernelError> {
        let find = |socket: &Socket| match address::find(socket, address)? {
            Some(index) => link::by_index(socket, index),
            None => Ok(None),
        };
        self.read(netns, &find).map_err(|refused| failed(format!("find address {address} in {netns}"), &refused))
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
            let Some(found) = link::by_name(socket, name.as_str())? else { return Ok(()) };
            refuse_foreign(&found)?;
            absent_is_fine(link::delete(socket, found.index), Errno::ENODEV)
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
                let Some(found) = link::by_name(socket, name.as_str())? else { continue };
                refuse_foreign(&found)?;
                absent_is_fine(link::set_group(socket, found.index, DOOMED), Errno::ENODEV)?;
            }
            absent_is_fine(link::delete_group(socket, DOOMED), Errno::ENODEV)
        };
        let count = interfaces.len();
        elsewhere(netns, work)
            .await
            .map_err(|refused| failed(format!("delete {count} interfaces in {netns}"), &refused))
    }

    async fn routes(&self, netns: &Netns) -> Result<Vec<FoundRoute>, KernelError> {
        let read = || match self.socket(netns)? {
            Some(socket) => route::list_unicast(&socket),
            None => Ok(vec![]),
        };
        read().map_err(|refused| failed(format!("list routes in {netns}"), &refused))
    }

    async fn rules(&self, netns: &Netns) -> Result<Vec<PolicyRule>, KernelError> {
        let read = || match self.socket(netns)? {
            Some(socket) => policy_rule::list_by_address(&socket),
            None => Ok(vec![]),
        };
        read().map_err(|refused| failed(format!("list rules in {netns}"), &refused))
    }

    async fn is_same(&self, one: &Path, other: &Path) -> Result<bool, KernelError> {
        let read = |path: &Path| {
            let identity = netns::open(path).and_then(|file| file.map(|file| netns::identity(&file)).transpose());
            identity.map_err(|error| failed(format!("read network namespace {}", path.display()), &error))
        };
        Ok(read(one)?.is_some_and(|identity| read(other) == Ok(Some(identity))))
    }

    async fn change_host_to_pod(&self, side: &HostToPodSide, change: &HostToPodChange) -> Result<bool, KernelError> {
        self.change_side(side, change)
            .map_err(|refused| failed(format!("host to pod: {change} for port {}", side.id), &refused))
    }

    async fn host_to_pod(&self, side: &HostToPodSide) -> Result<HostToPodState, KernelError> {
        self.side(side).map_err(|refused| failed(format!("host to pod: read the side of port {}", side.id), &refused))
    }

    async fn host_to_pod_route(&self, to: IpAddr) -> Result<Option<HostToPodRoute>, KernelError> {
        self.route_in_pool(to).map_err(|refused| failed(format!("host to pod: find the route to {to}"), &refused))
    }

    async fn list(&self, netns: &Netns) -> Result<Vec<Link>, KernelError> {
        let read = || {
            let Some(socket) = self.socket(netns)? else { return Ok(vec![]) };
            let mut links = link::list(&socket)?;
            let addresses = address::list(&socket, 0)?;
            links.retain(Link::is_in_our_group);
            for link in &mut links {
                let of_link = addresses.iter().filter(|(of, _)| *of == link.index);
                link.addresses = of_link.map(|(_, address)| *address).collect();
            }
            Ok::<_, Refused>(links)
        };
        read().map_err(|refused| failed(format!("list interfaces in {netns}"), &refused))
    }
}

fn refuse_foreign(link: &Link) -> Result<(), Refused> {
    if link.is_in_our_group() {
        return Ok(());
    }
    Err(Refused { errno: Errno::EPERM, words: "the interface is not one of ours".to_owned() })
}

/// Runs `work`, which takes the kernel long, on a thread of its own with a socket of its own. If the namespace does not exist,
/// there is nothing to do.
async fn elsewhere(
    netns: &Netns,
    work: impl FnOnce(&Socket) -> Result<(), Refused> + Send + 'static,
) -> Result<(), Refused> {
    let at = netns.clone();
    let begin = move || Socket::within(&at)?.map_or(Ok(()), |socket| work(&socket));
    let (sender, done) = tokio::sync::oneshot::channel();
    // tokio's own threads panic where none can be started.
    let thread = std::thread::Builder::new().stack_size(256 * 1024).spawn(move || drop(sender.send(begin())));
    thread.map_err(|error| netns::cannot_start(&error))?;
    done.await.unwrap_or_else(|_| Err(Refused { errno: Errno::ECANCELED, words: "the thread died".to_owned() }))
}

fn absent_is_fine(answer: Result<(), Refused>, absent: Errno) -> Result<(), Refused> {
    answer.or_else(|refused| if refused.errno == absent { Ok(()) } else { Err(refused) })
}

fn gone() -> Refused {
    Refused { errno: Errno::ESTALE, words: "the network namespace is gone".to_owned() }
}

fn there_already_is_fine(answer: Result<(), Refused>) -> Result<(), Refused> {
    answer.or_else(|refused| if refused.errno == Errno::EEXIST { Ok(()) } else { Err(refused) })
}

/// Sets the MAC that the interface has, upon which the kernel announces its addresses. A packet socket of our own would do
/// the same, but closing one waits for the kernel's grace period, 16 ms.
fn announce(socket: &Socket, link: &Link) -> Result<(), Refused> {
    link.mac.map_or(Ok(()), |mac| link::set_mac(socket, link.index, mac))
}

/// Creates both ends, each in its final namespace.
fn create_pair(host: &Socket, veth: &Veth, pod_netns: &File) -> Result<(), Refused> {
    let common = VethEnd { mtu: Some(veth.mtu), group: GROUP, single_queue: true, ..VethEnd::default() };
    let (host_interface, pod_interface) = (veth.host_interface.as_str(), veth.pod_interface.as_str());
    let host_end = VethEnd { name: host_interface, index: host_index(&veth.host_interface), up: true, ..common };
    let pod_end = VethEnd { name: pod_interface, mac: Some(veth.mac), netns: Some(pod_netns), ..common };
    link::create_veth(host, &host_end, &pod_end)
}

fn is_pair_of(veth: &Veth, host_end: &Link, pod_end: &Link) -> bool {
    host_end.is_ours()
        && host_end.group != DOOMED
        && pod_end.kind == LinkKind::Veth
        && pod_end.mac == Some(veth.mac)
        && host_end.peer == Some(pod_end.index)
        && pod_end.peer == Some(host_end.index)
}

fn failed(what: String, reason: &impl ToString) -> KernelError {
    KernelError { what, reason: reason.to_string() }
}
