//! A kernel in memory: namespaces, veth pairs, addresses and routes, with the behaviour that the verbs rely on. It
//! passes the same test suite as the real kernel, `cni-plugin/tests/kernel.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use atoll_cni_plugin::kernel::{
    FoundRoute, GROUP, HostToPodChange, HostToPodEntry, HostToPodRoute, HostToPodSide, HostToPodState, Kernel,
    KernelError, Link, LinkKind, Netns, NetnsKind, PodChange, PolicyRule, Veth, host_index,
};
use atoll_model::attachment::Mac;
use atoll_model::ids::IfName;
use atoll_model::route::PodRoute;
use atoll_model::sync::locked;
use ipnetwork::IpNetwork;

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeLink {
    /// What the kernel shows.
    pub link: Link,
    /// The other end.
    pub peer: Option<(Netns, String)>,
    /// Routes through it.
    pub routes: Vec<PodRoute>,
    /// How often its addresses were announced.
    pub announced: u32,
}

type Links = BTreeMap<String, FakeLink>;

/// The kind of file at a path.
enum PathKind {
    Netns(Links),
    File,
    Own,
}

/// A kernel in memory.
pub struct FakeKernel(Mutex<FakeState>);

struct FakeState {
    own: Links,
    places: BTreeMap<PathBuf, PathKind>,
    /// Interfaces that cannot be deleted.
    stuck: BTreeSet<(Netns, String)>,
    /// Only default routes are added.
    refuses_routes: bool,
    rules: BTreeSet<(PathBuf, PolicyRule)>,
    sides: BTreeMap<HostToPodSide, FakeSide>,
    /// Networks that the machine routes elsewhere.
    elsewhere: Vec<IpNetwork>,
    /// The node's routes by host-to-pod sides: the destination, and the side or, for a dead end, the attachment.
    host_routes: BTreeSet<(IpAddr, Result<HostToPodSide, IfName>)>,
}

/// What stands behind a host-to-pod port.
#[derive(Clone, Debug, Default)]
struct FakeSide {
    has_rules: bool,
    has_switch_link: bool,
    has_node_link: bool,
    pods: BTreeMap<IpAddr, HostToPodEntry>,
}

impl Default for FakeKernel {
    fn default() -> Self {
        Self(Mutex::new(FakeState {
            own: fresh(),
            places: BTreeMap::new(),
            stuck: BTreeSet::new(),
            refuses_routes: false,
            rules: BTreeSet::new(),
            sides: BTreeMap::new(),
            elsewhere: Vec::new(),
            host_routes: BTreeSet::new(),
        }))
    }
}

/// A new namespace has `lo` and nothing else.
fn fresh() -> Links {
    let link = Link { name: "lo".to_owned(), index: 1, mac: Some(Mac([0; 6])), mtu: 65_536, ..Link::default() };
    BTreeMap::from([("lo".to_owned(), FakeLink { link, peer: None, routes: vec![], announced: 0 })])
}

impl FakeKernel {
    /// One namespace, our own, with `lo`.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new namespace at `path`.
    pub fn add_netns(&self, path: impl Into<PathBuf>) {
        locked(&self.0).places.insert(path.into(), PathKind::Netns(fresh()));
    }

    /// A file at `path` that is no namespace.
    pub fn add_file(&self, path: impl Into<PathBuf>) {
        locked(&self.0).places.insert(path.into(), PathKind::File);
    }

    /// Our own namespace, at `path`.
    pub fn add_own(&self, path: impl Into<PathBuf>) {
        locked(&self.0).places.insert(path.into(), PathKind::Own);
    }

    /// Deletes the namespace at `path` with its interfaces and their peers.
    pub fn remove_netns(&self, path: &Path) {
        let mut kernel = locked(&self.0);
        kernel.rules.retain(|(netns, _)| netns != path);
        if let Some(PathKind::Netns(links)) = kernel.places.remove(path) {
            for (netns, name) in links.into_values().filter_map(|link| link.peer) {
                if let Some(links) = kernel.links(&netns) {
                    links.remove(&name);
                }
            }
        }
    }

    /// An interface of another owner.
    pub fn add_foreign(&self, netns: &Netns, name: &str, veth: bool) {
        let link = Link {
            name: name.to_owned(),
            index: 77,
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            mtu: 1500,
            up: true,
            kind: if veth { LinkKind::Veth } else { LinkKind::Other },
            ..Link::default()
        };
        let mut kernel = locked(&self.0);
        let links = kernel.links(netns).expect("the namespace exists");
        links.insert(name.to_owned(), FakeLink { link, peer: None, routes: vec![], announced: 0 });
    }

    /// Makes the kernel refuse to delete this interface.
    pub fn refuse(&self, netns: &Netns, name: &str) {
        locked(&self.0).stuck.insert((netns.clone(), name.to_owned()));
    }

    /// Makes the kernel accept everything again.
    pub fn allow_all(&self) {
        locked(&self.0).stuck.clear();
    }

    /// Makes the kernel refuse all routes but default routes, or accept all again.
    pub fn refuse_routes(&self, refuses: bool) {
        locked(&self.0).refuses_routes = refuses;
    }

    /// Changes an interface from outside the plugin; `None` deletes it with its peer.
    pub fn damage(&self, netns: &Netns, name: &str, change: impl FnOnce(FakeLink) -> Option<FakeLink>) {
        let mut kernel = locked(&self.0);
        let link = kernel.links(netns).and_then(|links| links.remove(name)).expect("the interface is there");
        let peer = link.peer.clone();
        match (change(link), peer) {
            (Some(link), _) => {
                let links = kernel.links(netns).expect("the namespace exists");
                links.insert(link.link.name.clone(), link);
            }
            (None, Some((netns, name))) => {
                if let Some(links) = kernel.links(&netns) {
                    links.remove(&name);
                }
            }
            (None, None) => {}
        }
    }

    /// Every rule by source, with its namespace.
    pub fn all_rules(&self) -> Vec<(PathBuf, PolicyRule)> {
        locked(&self.0).rules.iter().cloned().collect()
    }

    /// What the node has of pods for host-to-pod addressing, in words.
    pub fn host_to_pod_pods(&self) -> Vec<String> {
        let kernel = locked(&self.0);
        let pods = kernel.sides.values().flat_map(|side| side.pods.values()).map(|entry| format!("{entry:?}"));
        pods.chain(kernel.host_routes.iter().map(|(to, by)| format!("route to {to} by {by:?}"))).collect()
    }

    /// The pods that the node reaches.
    pub fn host_to_pod_reached(&self) -> Vec<HostToPodEntry> {
        let kernel = locked(&self.0);
        let whole = kernel.sides.iter().filter(|(_, it)| it.has_rules && it.has_switch_link && it.has_node_link);
        let entries = whole.flat_map(|(side, it)| it.pods.values().map(move |entry| (side, entry)));
        let routed = entries.filter(|(side, entry)| kernel.host_routes.contains(&(entry.address, Ok((*side).clone()))));
        routed.map(|(_, entry)| entry.clone()).collect()
    }

    /// How many host-to-pod sides there are, complete or not.
    pub fn host_to_pod_sides(&self) -> usize {
        locked(&self.0).sides.len()
    }

    /// The machine routes a network elsewhere.
    pub fn route_elsewhere(&self, network: IpNetwork) {
        locked(&self.0).elsewhere.push(network);
    }

    /// A way to a pod loses its element or its routes.
    pub fn lose_host_to_pod(&self, entry: &HostToPodEntry, routes_only: bool) {
        let mut kernel = locked(&self.0);
        kernel.host_routes.retain(|(to, _)| *to != entry.address);
        if !routes_only {
            kernel.sides.values_mut().for_each(|side| side.pods.retain(|_, it| it != entry));
        }
    }

    /// The machine starts anew: what was in memory of host-to-pod addressing is gone.
    pub fn forget_host_to_pod(&self) {
        let mut kernel = locked(&self.0);
        kernel.sides.clear();
        kernel.host_routes.clear();
    }

    /// Every interface but `lo`, with its namespace.
    pub fn everything(&self) -> Vec<(Netns, FakeLink)> {
        let kernel = locked(&self.0);
        let pinned = kernel.places.iter().filter_map(|(path, place)| match place {
            PathKind::Netns(links) => Some((Netns::At(path.clone()), links)),
            _ => None,
        });
        std::iter::once((Netns::Own, &kernel.own))
            .chain(pinned)
            .flat_map(|(netns, links)| links.values().map(move |link| (netns.clone(), link.clone())))
            .filter(|(_, link)| link.link.name != "lo")
            .collect()
    }
}

impl FakeState {
    fn links(&mut self, netns: &Netns) -> Option<&mut Links> {
        match netns {
            Netns::Own => Some(&mut self.own),
            Netns::At(path) => match self.places.get_mut(path) {
                Some(PathKind::Netns(links)) => Some(links),
                Some(PathKind::Own) => Some(&mut self.own),
                _ => None,
            },
        }
    }

    fn create(&mut self, veth: &Veth) -> Result<(), &'static str> {
        let pod_netns = Netns::At(veth.pod_netns.clone());
        let (host, pod) = (veth.host_interface.to_string(), veth.pod_interface.to_string());
        let pod_end = self.links(&pod_netns).ok_or("the network namespace is gone")?.get(&pod).cloned();
        let host_end = self.links(&veth.host_netns).ok_or("the network namespace is gone")?.get(&host).cloned();
        match (&host_end, &pod_end) {
            (None, None) => {}
            (Some(host_end), Some(pod_end))
                if host_end.link.group == GROUP
                    && pod_end.link.mac == Some(veth.mac)
                    && host_end.peer == Some((pod_netns.clone(), pod.clone())) =>
            {
                return Ok(());
            }
            _ => return Err("File exists"),
        }
        let index = host_index(&veth.host_interface);
        let count = self.links(&pod_netns).map_or(0, |links| links.len());
        let pod_index = u32::try_from(count + 1).unwrap_or(u32::MAX);
        let end = |name: &str, (index, peer_index), mac, up, peer| {
            let (name, peer_index) = (name.to_owned(), Some(peer_index));
            let (mtu, group, kind) = (veth.mtu, GROUP, LinkKind::Veth);
            let link = Link { name, index, peer: peer_index, mac, mtu, up, group, kind, ..Link::default() };
            FakeLink { link, peer: Some(peer), routes: vec![], announced: 0 }
        };
        let host_mac = Some(Mac([2, 0, 0, 0, 0, 2]));
        let host_end = end(&host, (index, pod_index), host_mac, true, (pod_netns.clone(), pod.clone()));
        let pod_end = end(&pod, (pod_index, index), Some(veth.mac), false, (veth.host_netns.clone(), host.clone()));
        for (netns, name, link) in [(&veth.host_netns, host, host_end), (&pod_netns, pod, pod_end)] {
            self.links(netns).expect("looked at above").insert(name, link);
        }
        Ok(())
    }

    fn configure(&mut self, pod_netns: &Path, change: &PodChange) -> Result<(), &'static str> {
        let refuses_routes = self.refuses_routes;
        let links = self.links(&Netns::At(pod_netns.to_owned())).ok_or("the network namespace is gone")?;
        let name = match change {
            PodChange::LoopbackUp | PodChange::AddRule(_) | PodChange::DeleteRule(_) => "lo",
            PodChange::Address(name, ..)
            | PodChange::Up(name)
            | PodChange::Route(name, _)
            | PodChange::Announce(name)
            | PodChange::ComputeChecksums(name) => name.as_str(),
        };
        let link = links.get_mut(name).ok_or("No such device")?;
        match change {
            PodChange::LoopbackUp | PodChange::Up(_) => link.link.up = true,
            PodChange::Address(_, address, _) if link.link.addresses.contains(address) => {}
            PodChange::Address(_, address, _) => link.link.addresses.push(*address),
            PodChange::AddRule(rule) => drop(self.rules.insert((pod_netns.to_owned(), rule.clone()))),
            PodChange::DeleteRule(rule) => drop(self.rules.remove(&(pod_netns.to_owned(), rule.clone()))),
            PodChange::Route(..) if !link.link.up => return Err("Network is down"),
            PodChange::ComputeChecksums(_) => {}
            PodChange::Announce(_) => link.announced += u32::from(link.link.up),
            PodChange::Route(_, route) if refuses_routes && route.destination.prefix() > 0 => {
                return Err("out of routes");
            }
            PodChange::Route(_, route) => {
                let reachable = |g: &IpAddr| {
                    link.link.addresses.iter().any(|a| a.contains(*g))
                        || link.routes.iter().any(|there| there.gateway.is_none() && there.destination.contains(*g))
                };
                if route.gateway.as_ref().is_some_and(|gateway| !reachable(gateway)) {
                    return Err("Nexthop has invalid gateway");
                }
                let is_same = |there: &PodRoute| {
                    (there.destination, there.table, there.priority) == (route.destination, route.table, route.priority)
                };
                if !link.routes.iter().any(is_same) {
                    link.routes.push(route.clone());
                }
            }
        }
        Ok(())
    }

    fn change_host_to_pod(&mut self, at: &HostToPodSide, change: &HostToPodChange) -> Result<bool, &'static str> {
        if *change == HostToPodChange::Namespace {
            self.sides.entry(at.clone()).or_default();
            return Ok(true);
        }
        match change {
            HostToPodChange::DeleteRoutes(entry) => {
                for to in [entry.address, entry.pod] {
                    self.host_routes.remove(&(to, Ok(at.clone())));
                }
                self.host_routes.remove(&(entry.pod, Err(entry.interface.clone())));
                return Ok(true);
            }
            HostToPodChange::DeletePod(entry) => {
                if let Some(side) = self.sides.get_mut(at) {
                    side.pods.remove(&entry.address);
                }
                return Ok(true);
            }
            HostToPodChange::Remove => {
                self.sides.remove(at);
                self.host_routes.retain(|(_, by)| *by != Ok(at.clone()));
                return Ok(true);
            }
            _ => {}
        }
        let side = self.sides.get_mut(at).ok_or("the network namespace is gone")?;
        match change {
            HostToPodChange::Rules => side.has_rules = true,
            HostToPodChange::SwitchLink(..) if !side.has_rules => return Err("pods reach a namespace without rules"),
            HostToPodChange::SwitchLink(..) => side.has_switch_link = true,
            HostToPodChange::ComputeChecksums | HostToPodChange::NodeLink(..) if !side.has_switch_link => {
                return Err("No such device");
            }
            HostToPodChange::NodeLink(..) => side.has_node_link = true,
            HostToPodChange::AddPod(entry) => {
                if !side.has_rules {
                    return Err("No such file or directory");
                }
                if side.pods.get(&entry.address).is_some_and(|there| there.pod != entry.pod) {
                    return Err("File exists");
                }
                side.pods.insert(entry.address, entry.clone());
            }
            HostToPodChange::AddRoutes(..) if !side.has_node_link => return Err("the network namespace is gone"),
            HostToPodChange::AddRoutes(entry, direct) => {
                let is_others = |(to, by): &(IpAddr, _)| *to == entry.address && *by != Ok(at.clone());
                if self.host_routes.iter().any(is_others) {
                    return Ok(false);
                }
                self.host_routes.insert((entry.address, Ok(at.clone())));
                let by = if *direct { Ok(at.clone()) } else { Err(entry.interface.clone()) };
                self.host_routes.insert((entry.pod, by));
            }
            _ => {}
        }
        Ok(true)
    }

    fn delete(&mut self, netns: &Netns, interface: &IfName) -> Result<(), &'static str> {
        if self.stuck.contains(&(netns.clone(), interface.to_string())) {
            return Err("Operation not permitted");
        }
        let Some(links) = self.links(netns) else { return Ok(()) };
        match links.get(interface.as_str()) {
            None => return Ok(()),
            Some(link) if link.link.group != GROUP => return Err("the interface is not one of ours"),
            Some(_) => {}
        }
        let peer = links.remove(interface.as_str()).and_then(|link| link.peer);
        if let Some((netns, name)) = peer
            && let Some(links) = self.links(&netns)
        {
            links.remove(&name);
        }
        Ok(())
    }
}

impl Kernel for FakeKernel {
    async fn kind(&self, path: &Path) -> Result<NetnsKind, KernelError> {
        Ok(match locked(&self.0).places.get(path) {
            None => NetnsKind::Gone,
            Some(PathKind::File) => NetnsKind::NotANetns,
            Some(PathKind::Own) => NetnsKind::OurOwn,
            Some(PathKind::Netns(_)) => NetnsKind::Netns,
        })
    }

    async fn inspect(&self, netns: &Netns, interface: &IfName) -> Result<Option<Link>, KernelError> {
        let mut kernel = locked(&self.0);
        Ok(kernel.links(netns).and_then(|links| links.get(interface.as_str())).map(|link| link.link.clone()))
    }

    async fn inspect_index(&self, netns: &Netns, index: u32) -> Result<Option<Link>, KernelError> {
        let mut kernel = locked(&self.0);
        let found =
            |links: &mut Links| links.values().find(|link| link.link.index == index).map(|link| link.link.clone());
        Ok(kernel.links(netns).and_then(found))
    }

    async fn inspect_address(&self, netns: &Netns, address: IpAddr) -> Result<Option<Link>, KernelError> {
        let mut kernel = locked(&self.0);
        let has = |link: &&FakeLink| link.link.addresses.iter().any(|there| there.ip() == address);
        Ok(kernel.links(netns).and_then(|links| links.values().find(has).map(|link| link.link.clone())))
    }

    async fn create(&self, veth: &Veth) -> Result<(), KernelError> {
        let what = || format!("create veth {} in {}", veth.host_interface, veth.host_netns);
        locked(&self.0).create(veth).map_err(|reason| KernelError { what: what(), reason: reason.to_owned() })
    }

    async fn configure(&self, pod_netns: &Path, change: &PodChange) -> Result<(), KernelError> {
        let what = || format!("{change} in network namespace {}", pod_netns.display());
        let changed = locked(&self.0).configure(pod_netns, change);
        changed.map_err(|reason| KernelError { what: what(), reason: reason.to_owned() })
    }

    async fn delete(&self, netns: &Netns, interface: &IfName) -> Result<(), KernelError> {
        let what = || format!("delete interface {interface} in {netns}");
        let deleted = locked(&self.0).delete(netns, interface);
        deleted.map_err(|reason| KernelError { what: what(), reason: reason.to_owned() })
    }

    async fn delete_all(&self, netns: &Netns, interfaces: &[IfName]) -> Result<(), KernelError> {
        for interface in interfaces {
            self.delete(netns, interface).await?;
        }
        Ok(())
    }

    async fn routes(&self, netns: &Netns) -> Result<Vec<FoundRoute>, KernelError> {
        let mut kernel = locked(&self.0);
        let all = |links: &mut Links| {
            let of = |link: &FakeLink| {
                let found = |route: &PodRoute| FoundRoute { route: route.clone(), interfaces: vec![link.link.index] };
                link.routes.iter().map(found).collect::<Vec<_>>()
            };
            links.values().flat_map(of).collect()
        };
        Ok(kernel.links(netns).map(all).unwrap_or_default())
    }

    async fn rules(&self, netns: &Netns) -> Result<Vec<PolicyRule>, KernelError> {
        let kernel = locked(&self.0);
        let here = kernel.rules.iter().filter(|(path, _)| Netns::At(path.clone()) == *netns);
        Ok(here.map(|(_, rule)| rule.clone()).collect())
    }

    async fn is_same(&self, one: &Path, other: &Path) -> Result<bool, KernelError> {
        Ok(one == other)
    }

    async fn change_host_to_pod(&self, side: &HostToPodSide, change: &HostToPodChange) -> Result<bool, KernelError> {
        let what = || format!("host to pod: {change} for port {}", side.id);
        let changed = locked(&self.0).change_host_to_pod(side, change);
        changed.map_err(|reason| KernelError { what: what(), reason: reason.to_owned() })
    }

    async fn host_to_pod(&self, side: &HostToPodSide) -> Result<HostToPodState, KernelError> {
        let kernel = locked(&self.0);
        let state = |side: &FakeSide| HostToPodState {
            is_complete: side.has_rules && side.has_node_link,
            pods: side.pods.values().cloned().collect(),
        };
        Ok(kernel.sides.get(side).map(state).unwrap_or_default())
    }

    async fn host_to_pod_route(&self, to: IpAddr) -> Result<Option<HostToPodRoute>, KernelError> {
        let kernel = locked(&self.0);
        let side = kernel.host_routes.iter().find(|(by, _)| *by == to).and_then(|(_, by)| by.as_ref().ok());
        let side = side.map(|side| HostToPodRoute::Side(side.node_end()));
        let elsewhere = || kernel.elsewhere.iter().find(|network| network.contains(to)).copied();
        Ok(side.or_else(|| elsewhere().map(HostToPodRoute::Elsewhere)))
    }

    async fn list(&self, netns: &Netns) -> Result<Vec<Link>, KernelError> {
        let mut kernel = locked(&self.0);
        let links = kernel.links(netns).map(|links| links.values().map(|link| link.link.clone()).collect::<Vec<_>>());
        Ok(links.unwrap_or_default().into_iter().filter(|link| link.group == GROUP).collect())
    }
}
