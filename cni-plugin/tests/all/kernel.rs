//! One suite for both kernels: the one in memory and the real one. The real one works in namespaces of its own and needs
//! root; the test's own thread leaves the machine's namespace first.

use atoll_testkit::kernel::FakeKernel;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use atoll_cni_plugin::kernel::linux::Linux;
use atoll_cni_plugin::kernel::{
    HostToPodChange, HostToPodEntry, HostToPodRoute, HostToPodSide, HostToPodState, Kernel, Link, LinkKind, Netns,
    NetnsKind, PodChange, PolicyRule, Veth, host_index,
};
use atoll_model::attachment::{Attachment, Mac};
use atoll_model::ids::IfName;
use atoll_model::route::PodRoute;
use atoll_node::netlink::flows::{FlowDirection, FlowSocket};
use atoll_testkit::program::command;
use ipnetwork::IpNetwork;

/// Where a kernel is tested: what the kernel itself cannot make.
trait Ground {
    type Kernel: Kernel;
    fn kernel(&self) -> &Self::Kernel;
    /// A new namespace.
    fn netns(&self) -> PathBuf;
    fn remove_netns(&self, path: &Path);
    /// A file that is no namespace.
    fn file(&self) -> PathBuf;
    /// A path to our own namespace.
    fn own(&self) -> PathBuf;
    /// Where namespaces of ours may be pinned.
    fn directory(&self) -> PathBuf;
    /// An interface of another owner.
    fn foreign(&self, netns: &Netns, name: &IfName);
}

const MAC: Mac = Mac([0x46, 6, 9, 0xa9, 0xf6, 0xe4]);

fn name(name: &str) -> IfName {
    IfName::new(name).expect("valid")
}

fn network(text: &str) -> IpNetwork {
    text.parse().expect("valid")
}

fn veth(host_netns: Netns, pod_netns: &Path) -> Veth {
    Veth {
        host_netns,
        host_interface: name("at0123456789ab"),
        pod_netns: pod_netns.to_owned(),
        pod_interface: name("eth0"),
        mac: MAC,
        mtu: 1450,
    }
}

fn gateway(text: &str, gateway: Option<[u8; 4]>) -> PodChange {
    PodChange::Route(name("eth0"), PodRoute::plain(network(text), gateway.map(IpAddr::from)))
}

/// The kinds of files at a path are distinguished.
async fn kinds(ground: &impl Ground) {
    let kernel = ground.kernel();
    let netns = ground.netns();
    assert_eq!(kernel.kind(&netns).await, Ok(NetnsKind::Netns));
    assert_eq!(kernel.kind(&ground.file()).await, Ok(NetnsKind::NotANetns));
    assert_eq!(kernel.kind(&ground.own()).await, Ok(NetnsKind::OurOwn));
    ground.remove_netns(&netns);
    assert_eq!(kernel.kind(&netns).await, Ok(NetnsKind::Gone));
}

/// The lifecycle of an attachment, every step twice; the host end in our own namespace or in another.
async fn lifecycle(ground: &impl Ground, host_netns: Netns) {
    let kernel = ground.kernel();
    let pod = ground.netns();
    let at_pod = Netns::At(pod.clone());
    let veth = veth(host_netns.clone(), &pod);
    for round in ["first", "again"] {
        kernel.create(&veth).await.expect(round);
    }
    let host_end = kernel.inspect(&host_netns, &veth.host_interface).await.expect("works").expect("there");
    assert!(host_end.up && host_end.is_ours() && host_end.mtu == 1450 && host_end.master.is_none(), "{host_end:?}");
    let pod_end = kernel.inspect(&at_pod, &veth.pod_interface).await.expect("works").expect("there");
    assert!(
        !pod_end.up && pod_end.kind == LinkKind::Veth && pod_end.mac == Some(MAC) && pod_end.mtu == 1450,
        "{pod_end:?}"
    );
    // Each end has the index of the other; that of the host end is derived.
    assert_eq!((host_end.index, pod_end.peer), (host_index(&veth.host_interface), Some(host_end.index)));
    assert_eq!(host_end.peer, Some(pod_end.index));
    assert_eq!(kernel.inspect_index(&host_netns, host_end.index).await, Ok(Some(host_end.clone())));
    assert_eq!(kernel.inspect_index(&host_netns, 0x0fff_ffff).await, Ok(None));
    assert_eq!(kernel.list(&host_netns).await.expect("works"), [host_end]);
    let own = IpAddr::from([10, 128, 0, 5]);
    assert_eq!(kernel.inspect_address(&at_pod, own).await, Ok(None), "it has no address yet");

    let changes = [
        PodChange::LoopbackUp,
        PodChange::Address(veth.pod_interface.clone(), network("10.128.0.5/24"), None),
        PodChange::Up(veth.pod_interface.clone()),
        gateway("0.0.0.0/0", Some([10, 128, 0, 1])),
        gateway("10.96.0.0/12", Some([10, 128, 0, 1])),
        gateway("10.200.0.0/16", None),
    ];
    for change in changes.iter().chain(&changes) {
        kernel.configure(&pod, change).await.expect("works");
    }
    let has_it = kernel.inspect_address(&at_pod, own).await.expect("works").expect("there");
    assert_eq!(has_it.index, pod_end.index, "it has the address");
    assert_eq!(kernel.inspect_address(&at_pod, [10, 128, 0, 1].into()).await, Ok(None), "the gateway is elsewhere");
    kernel.configure(&pod, &PodChange::Announce(veth.pod_interface.clone())).await.expect("works");
    kernel.configure(&pod, &PodChange::Announce(name("eth7"))).await.expect_err("there is no such interface");
    let pod_end = kernel.inspect(&at_pod, &veth.pod_interface).await.expect("works").expect("there");
    assert!(pod_end.up && pod_end.addresses == [network("10.128.0.5/24")], "{pod_end:?}");
    routes(kernel, &pod, &pod_end).await;
    let error = kernel.configure(&pod, &gateway("10.97.0.0/16", Some([192, 0, 2, 1]))).await.expect_err("no way there");
    assert!(error.to_string().contains("Nexthop has invalid gateway"), "{error}");

    for round in ["first", "again"] {
        kernel.delete(&host_netns, &veth.host_interface).await.expect(round);
    }
    assert_eq!(kernel.inspect(&host_netns, &veth.host_interface).await, Ok(None));
    assert_eq!(kernel.inspect(&at_pod, &veth.pod_interface).await, Ok(None));
    kernel.create(&veth).await.expect("the names are free");
    kernel.delete(&at_pod, &veth.pod_interface).await.expect("from the pod's end too");
    assert_eq!(kernel.list(&host_netns).await, Ok(vec![]));
}

/// Routes are read as they were made, with all that they have.
async fn routes(kernel: &impl Kernel, pod: &Path, pod_end: &Link) {
    let whole = PodRoute {
        mtu: Some(1400),
        advmss: Some(1360),
        priority: Some(50),
        table: Some(100),
        ..PodRoute::plain(network("10.201.0.0/16"), Some([10, 128, 0, 1].into()))
    };
    let local = PodRoute { scope: Some(253), ..PodRoute::plain(network("10.202.0.0/16"), None) };
    for route in [&whole, &whole, &local] {
        kernel
            .configure(pod, &PodChange::Route(pod_end.name.parse().expect("valid"), route.clone()))
            .await
            .expect("works");
    }
    let found = kernel.routes(&Netns::At(pod.to_owned())).await.expect("works");
    assert!(found.iter().all(|found| found.interfaces == [pod_end.index]), "{found:?}");
    let by = |text: &str| found.iter().find(|found| found.route.destination == network(text)).map(|found| &found.route);
    let default = by("0.0.0.0/0").expect("there");
    assert_eq!((default.gateway, default.table.unwrap_or(254)), (Some([10, 128, 0, 1].into()), 254));
    assert_eq!(by("10.200.0.0/16").expect("there").gateway, None);
    let found = by("10.201.0.0/16").expect("there");
    assert_eq!(PodRoute { scope: None, ..found.clone() }, whole);
    assert_eq!(by("10.202.0.0/16").expect("there").scope, Some(253));
    assert_eq!(kernel.routes(&Netns::At("/nowhere".into())).await, Ok(vec![]));
}

/// A second interface in the subnet of the first: its subnet's route stands back, and what its address sends has a table.
async fn sources(ground: &impl Ground) {
    let kernel = ground.kernel();
    let (host, pod) = (Netns::At(ground.netns()), ground.netns());
    let at_pod = Netns::At(pod.clone());
    assert_eq!(kernel.rules(&at_pod).await, Ok(vec![]));
    let veth = Veth { pod_interface: name("eth1"), ..veth(host, &pod) };
    kernel.create(&veth).await.expect("works");
    let table = 0xa701_0001;
    let by = |route: PodRoute| PodChange::Route(name("eth1"), PodRoute { table: Some(table), ..route });
    let rule = PolicyRule::from_address([10, 128, 0, 6].into(), table);
    let changes = [
        PodChange::Address(name("eth1"), network("10.128.0.6/24"), Some(1)),
        PodChange::Up(name("eth1")),
        by(PodRoute::plain(network("10.128.0.0/24"), None)),
        by(PodRoute { priority: Some(1), ..PodRoute::plain(network("0.0.0.0/0"), Some([10, 128, 0, 1].into())) }),
        PodChange::AddRule(rule.clone()),
    ];
    for change in changes.iter().chain(&changes) {
        kernel.configure(&pod, change).await.expect("works, once and again");
    }
    assert_eq!(kernel.rules(&at_pod).await, Ok(vec![rule.clone()]));
    let routes = kernel.routes(&at_pod).await.expect("works");
    assert_eq!(routes.iter().filter(|found| found.route.table == Some(table)).count(), 2, "{routes:?}");
    for round in ["first", "again"] {
        kernel.configure(&pod, &PodChange::DeleteRule(rule.clone())).await.expect(round);
        assert_eq!(kernel.rules(&at_pod).await, Ok(vec![]), "{round}");
    }
    assert_eq!(kernel.rules(&Netns::At("/nowhere".into())).await, Ok(vec![]));
}

/// Several at once, whether they are there or not; the others of the namespace stay.
async fn many(ground: &impl Ground) {
    let kernel = ground.kernel();
    let (host, pod) = (Netns::At(ground.netns()), ground.netns());
    let pairs: Vec<_> = (0..4_u8)
        .map(|n| Veth {
            host_interface: name(&format!("at0000000000{n:02x}")),
            pod_interface: name(&format!("eth{n}")),
            mac: Mac([2, 0, 0, 0, 1, n]),
            ..veth(host.clone(), &pod)
        })
        .collect();
    for pair in &pairs {
        kernel.create(pair).await.expect("works");
    }
    let mut names: Vec<_> = pairs[..3].iter().map(|pair| pair.host_interface.clone()).collect();
    names.push(name("at00000000ffff"));
    for round in ["first", "again"] {
        kernel.delete_all(&host, &names).await.expect(round);
        let left: Vec<_> = kernel.list(&host).await.expect("works").into_iter().map(|link| link.name).collect();
        assert_eq!(left, [pairs[3].host_interface.to_string()], "{round}");
    }
    assert_eq!(kernel.list(&Netns::At(pod)).await.expect("works").len(), 1, "the other ends went along");
    kernel.delete_all(&host, &[]).await.expect("nothing to do");
    kernel.delete_all(&Netns::At("/nowhere".into()), &names).await.expect("nothing is there");
    let foreign = name("foreign");
    ground.foreign(&host, &foreign);
    kernel.delete_all(&host, &[foreign.clone(), pairs[3].host_interface.clone()]).await.expect_err("not ours");
    assert!(kernel.inspect(&host, &foreign).await.expect("works").is_some(), "it is still there");
}

/// The pod's end is known by its MAC, and by its other end when it has another MAC.
async fn whose(ground: &impl Ground) {
    let kernel = ground.kernel();
    let (host, pod) = (Netns::At(ground.netns()), ground.netns());
    let of = |container: &str| Attachment {
        node: "n1".parse().expect("valid"),
        network: "net".parse().expect("valid"),
        container: container.parse().expect("valid"),
        interface: name("eth0"),
    };
    let (ours, other) = (of("ours"), of("other"));
    for mac in [ours.mac(), Mac([2, 0, 0, 0, 0, 7])] {
        let veth = Veth { host_interface: ours.host_interface(), mac, ..veth(host.clone(), &pod) };
        kernel.create(&veth).await.expect("works");
        let link = kernel.inspect(&Netns::At(pod.clone()), &veth.pod_interface).await.expect("works").expect("there");
        assert!(link.is_pod_end(&ours) && !link.is_pod_end(&other), "{link:?}");
        kernel.delete(&host, &veth.host_interface).await.expect("works");
    }
}

/// Two paths to one namespace.
async fn same(ground: &impl Ground) {
    let kernel = ground.kernel();
    let (one, other) = (ground.netns(), ground.netns());
    for (left, right, is_same) in [(&one, &one, true), (&one, &other, false), (&one, &PathBuf::from("/nowhere"), false)]
    {
        assert_eq!(kernel.is_same(left, right).await, Ok(is_same));
    }
}

/// Nothing that is not ours is touched.
async fn foreign(ground: &impl Ground) {
    let kernel = ground.kernel();
    let (host, pod) = (Netns::At(ground.netns()), ground.netns());
    let at_pod = Netns::At(pod.clone());
    let veth = veth(host.clone(), &pod);
    ground.foreign(&at_pod, &veth.pod_interface);
    kernel.create(&veth).await.expect_err("the pod has an interface of that name");
    assert_eq!(kernel.inspect(&host, &veth.host_interface).await, Ok(None), "nothing was made");
    kernel.delete(&at_pod, &veth.pod_interface).await.expect_err("not ours");
    assert!(kernel.inspect(&at_pod, &veth.pod_interface).await.expect("works").is_some(), "it is still there");

    let other = ground.netns();
    ground.foreign(&host, &veth.host_interface);
    kernel.create(&Veth { pod_netns: other.clone(), ..veth.clone() }).await.expect_err("the host end's name is taken");
    assert_eq!(kernel.inspect(&Netns::At(other), &veth.pod_interface).await, Ok(None), "nothing was made");
    assert_eq!(kernel.list(&host).await, Ok(vec![]), "it is not of our group");
}

/// The same attachment in another namespace is not the pair that is there.
async fn elsewhere(ground: &impl Ground) {
    let kernel = ground.kernel();
    let (host, first, second) = (Netns::At(ground.netns()), ground.netns(), ground.netns());
    kernel.create(&veth(host.clone(), &first)).await.expect("works");
    kernel.create(&veth(host.clone(), &second)).await.expect_err("it has its other end elsewhere");
    kernel.create(&Veth { mac: Mac([2, 0, 0, 0, 0, 9]), ..veth(host, &first) }).await.expect_err("it has another MAC");
}

/// A namespace that is gone takes its end along, and everything about it is done already.
async fn gone(ground: &impl Ground) {
    let kernel = ground.kernel();
    let (host, pod) = (Netns::At(ground.netns()), ground.netns());
    let veth = veth(host.clone(), &pod);
    kernel.create(&veth).await.expect("works");
    ground.remove_netns(&pod);
    let at_pod = Netns::At(pod.clone());
    assert_eq!(kernel.inspect(&at_pod, &veth.pod_interface).await, Ok(None));
    assert_eq!(kernel.list(&at_pod).await, Ok(vec![]));
    kernel.delete(&at_pod, &veth.pod_interface).await.expect("done already");
    kernel.configure(&pod, &PodChange::LoopbackUp).await.expect_err("there is nothing to change");
    kernel.create(&Veth { host_interface: name("at2"), ..veth.clone() }).await.expect_err("there is no place for it");
    let file = ground.file();
    assert_eq!(kernel.inspect(&Netns::At(file.clone()), &veth.pod_interface).await, Ok(None), "as good as gone");
    kernel.delete(&Netns::At(file), &veth.pod_interface).await.expect("as good as gone");
    // The kernel takes a dead namespace down in its own time.
    for _ in 0..500 {
        if kernel.inspect(&host, &veth.host_interface).await == Ok(None) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("the host end outlived the pod's namespace");
}

async fn all(ground: &impl Ground) {
    kinds(ground).await;
    lifecycle(ground, Netns::Own).await;
    lifecycle(ground, Netns::At(ground.netns())).await;
    sources(ground).await;
    many(ground).await;
    whose(ground).await;
    same(ground).await;
    foreign(ground).await;
    host_to_pod(ground).await;
    elsewhere(ground).await;
    gone(ground).await;
}

/// What makes a host-to-pod side of both families.
fn side_changes() -> [HostToPodChange; 5] {
    let networks = ["10.128.0.1/24", "fd00::1/64"].map(|network| network.parse().expect("valid"));
    [
        HostToPodChange::Namespace,
        HostToPodChange::Rules,
        HostToPodChange::SwitchLink(MAC, 1442),
        HostToPodChange::ComputeChecksums,
        HostToPodChange::NodeLink(networks.to_vec(), 1442),
    ]
}

/// A pod of a side, by the last part of the address for its node.
fn entry(n: u8, last: u8, is_ipv6: bool) -> HostToPodEntry {
    let (address, pod) = if is_ipv6 {
        (format!("fd61:746f:6c6c::{last}"), format!("fd00::5{n}"))
    } else {
        (format!("169.254.130.{last}"), format!("10.128.0.5{n}"))
    };
    let [address, pod] = [address, pod].map(|text| text.parse().expect("an address"));
    HostToPodEntry { address, pod, interface: name(&format!("at0123456789a{n}")) }
}

/// The lifecycle of a host-to-pod side, every step twice. Two sides want one address: the second does not get it.
async fn host_to_pod(ground: &impl Ground) {
    let kernel = ground.kernel();
    let directory = ground.directory();
    let sides = [1_u128, 2].map(|n| HostToPodSide::of(uuid::Uuid::from_u128(n << 96), &directory));
    for (n, side) in sides.iter().enumerate() {
        assert_eq!(kernel.host_to_pod(side).await, Ok(HostToPodState::default()));
        for round in ["first", "again"] {
            for change in side_changes() {
                let is_complete = kernel.host_to_pod(side).await.expect("works").is_complete;
                assert_eq!(is_complete, round == "again", "{round}, before: {change}");
                assert_eq!(kernel.change_host_to_pod(side, &change).await, Ok(true), "{round}: {change}");
            }
        }
        assert_eq!(kernel.host_to_pod(side).await, Ok(HostToPodState { is_complete: true, pods: vec![] }), "{n}");
    }
    // The same address of pods, and the same address of the node for the second one.
    for is_ipv6 in [false, true] {
        let [first, second] = [entry(0, 9, is_ipv6), entry(1, 9, is_ipv6)];
        assert_eq!(kernel.host_to_pod_route(first.address).await, Ok(None));
        for (side, entry, is_free) in [(&sides[0], &first, true), (&sides[1], &second, false)] {
            for round in ["first", "again"] {
                let [add, routes] =
                    [HostToPodChange::AddPod(entry.clone()), HostToPodChange::AddRoutes(entry.clone(), false)];
                assert_eq!(kernel.change_host_to_pod(side, &add).await, Ok(true), "{round}");
                assert_eq!(kernel.change_host_to_pod(side, &routes).await, Ok(is_free), "{round}");
                let route = Ok(Some(HostToPodRoute::Side(sides[0].node_end())));
                assert_eq!(kernel.host_to_pod_route(first.address).await, route, "{round}");
            }
            let state = HostToPodState { is_complete: true, pods: vec![entry.clone()] };
            assert_eq!(kernel.host_to_pod(side).await, Ok(state));
        }
        for (side, entry) in [(&sides[0], &first), (&sides[1], &second)] {
            for round in ["first", "again"] {
                for change in [HostToPodChange::DeleteRoutes(entry.clone()), HostToPodChange::DeletePod(entry.clone())]
                {
                    assert_eq!(kernel.change_host_to_pod(side, &change).await, Ok(true), "{round}: {change}");
                }
            }
            let routes = HostToPodChange::AddRoutes(second.clone(), true);
            assert_eq!(kernel.change_host_to_pod(&sides[1], &routes).await, Ok(true), "it is free by now");
        }
    }
    let first = entry(0, 9, false);
    for side in &sides {
        for round in ["first", "again"] {
            assert_eq!(kernel.change_host_to_pod(side, &HostToPodChange::Remove).await, Ok(true), "{round}");
            assert_eq!(kernel.host_to_pod(side).await, Ok(HostToPodState::default()), "{round}");
        }
        let gone = HostToPodChange::DeletePod(first.clone());
        assert_eq!(kernel.change_host_to_pod(side, &gone).await, Ok(true), "with its namespace");
        kernel.change_host_to_pod(side, &HostToPodChange::AddPod(first.clone())).await.expect_err("nowhere");
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test);
}

/// The kernel in memory.
#[derive(Default)]
struct Memory {
    fake: FakeKernel,
    made: std::cell::Cell<u32>,
}

impl Memory {
    fn path(&self) -> PathBuf {
        self.made.set(self.made.get() + 1);
        format!("/netns/{}", self.made.get()).into()
    }
}

impl Ground for Memory {
    type Kernel = FakeKernel;

    fn kernel(&self) -> &FakeKernel {
        &self.fake
    }

    fn netns(&self) -> PathBuf {
        let path = self.path();
        self.fake.add_netns(&path);
        path
    }

    fn remove_netns(&self, path: &Path) {
        self.fake.remove_netns(path);
    }

    fn file(&self) -> PathBuf {
        let path = self.path();
        self.fake.add_file(&path);
        path
    }

    fn own(&self) -> PathBuf {
        let path = self.path();
        self.fake.add_own(&path);
        path
    }

    fn directory(&self) -> PathBuf {
        "/run/host-to-pod".into()
    }

    fn foreign(&self, netns: &Netns, name: &IfName) {
        self.fake.add_foreign(netns, name.as_str(), true);
    }
}

/// The real kernel; what was made goes when this goes.
struct Real {
    kernel: Linux,
    scratch: tempfile::TempDir,
    made: std::cell::RefCell<Vec<String>>,
}

impl Real {
    fn new() -> Self {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
            .expect("a namespace of our own; this test needs root");
        let scratch = tempfile::tempdir().expect("a directory");
        Self { kernel: Linux::new(), scratch, made: std::cell::RefCell::default() }
    }

    fn ip(arguments: &[&str]) {
        let output = command("ip").args(arguments).output().expect("iproute2 is installed");
        assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        for netns in self.made.borrow().iter() {
            let _ = command("ip").args(["netns", "del", netns]).output();
        }
    }
}

impl Ground for Real {
    type Kernel = Linux;

    fn kernel(&self) -> &Linux {
        &self.kernel
    }

    fn netns(&self) -> PathBuf {
        let netns = format!("at-{}", uuid::Uuid::new_v4().simple());
        Self::ip(&["netns", "add", &netns]);
        self.made.borrow_mut().push(netns.clone());
        Path::new("/run/netns").join(netns)
    }

    fn remove_netns(&self, path: &Path) {
        let netns = path.file_name().and_then(|n| n.to_str()).expect("one of ours");
        Self::ip(&["netns", "del", netns]);
        self.made.borrow_mut().retain(|made| made != netns);
    }

    fn file(&self) -> PathBuf {
        let path = self.scratch.path().join("file");
        std::fs::write(&path, "").expect("a file");
        path
    }

    fn own(&self) -> PathBuf {
        "/proc/thread-self/ns/net".into()
    }

    fn directory(&self) -> PathBuf {
        self.scratch.path().join("host-to-pod")
    }

    fn foreign(&self, netns: &Netns, name: &IfName) {
        let Netns::At(path) = netns else { panic!("never in our own") };
        let netns = path.file_name().and_then(|n| n.to_str()).expect("one of ours");
        Self::ip(&["-n", netns, "link", "add", name.as_str(), "type", "bridge"]);
    }
}

#[test]
fn the_kernel_in_memory_passes() {
    run(all(&Memory::default()));
}

#[test]
fn the_real_kernel_passes() {
    run(all(&Real::new()));
}

/// What the kernel in memory has not: tracked flows, and what the machine has or routes itself.
#[test]
fn flows_of_a_pod_go_with_its_element_and_what_the_machine_routes_is_found() {
    let ground = Real::new();
    let side = HostToPodSide::of(uuid::Uuid::from_u128(1 << 96), &ground.directory());
    // What the kernel counts includes flows that a queued packet still holds.
    let count = |pods: &[HostToPodEntry]| {
        let netns = std::fs::File::open(&side.netns).expect("the side is there");
        let mut flows = atoll_node::netns::open_inside(&netns, FlowSocket::here).expect("a socket");
        let of = pods.iter().map(|pod| flows.of(pod.pod, FlowDirection::Reply).expect("a list").len());
        of.sum::<usize>()
    };
    run(async {
        let kernel = ground.kernel();
        let change = async |change| assert_eq!(kernel.change_host_to_pod(&side, &change).await, Ok(true), "{change}");
        for step in side_changes() {
            change(step).await;
        }
        let pods = [(0, 9, false), (1, 10, false), (0, 9, true), (1, 10, true)].map(|(n, last, v6)| entry(n, last, v6));
        for pod in &pods {
            change(HostToPodChange::AddPod(pod.clone())).await;
            change(HostToPodChange::AddRoutes(pod.clone(), false)).await;
            let any = if pod.address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = std::net::UdpSocket::bind(any).expect("a socket");
            socket.send_to(b"probe", (pod.address, 9)).expect("a route");
        }
        let mut flows = pods.len();
        assert_eq!(count(&pods), flows, "each datagram begins a flow");
        for pod in &pods {
            change(HostToPodChange::DeleteRoutes(pod.clone())).await;
            change(HostToPodChange::DeletePod(pod.clone())).await;
            flows -= 1;
            assert_eq!(count(&pods), flows, "{pod:?} is gone");
        }
        Real::ip(&["link", "set", "lo", "up"]);
        Real::ip(&["address", "add", "169.254.129.7/32", "dev", "lo"]);
        for route in ["169.254.0.0/16", "169.254.200.0/24"] {
            Real::ip(&["route", "add", route, "dev", "lo"]);
        }
        for (address, found) in [
            ("169.254.131.1", None),
            ("169.254.128.2", None),
            ("169.254.129.7", Some("169.254.129.7/32")),
            ("169.254.200.5", Some("169.254.200.0/24")),
        ] {
            let found = found.map(|network| HostToPodRoute::Elsewhere(network.parse().expect("a network")));
            let address = address.parse().expect("an address");
            assert_eq!(kernel.host_to_pod_route(address).await, Ok(found), "{address}");
        }
        change(HostToPodChange::Remove).await;
    });
}

/// A neighbour that has cached another MAC gets the new one, and the interface keeps its own.
#[test]
fn an_announcement_changes_what_a_neighbour_remembers() {
    let ground = Real::new();
    let (host, pod) = (ground.netns(), ground.netns());
    let veth = veth(Netns::At(host.clone()), &pod);
    let at = host.file_name().and_then(|name| name.to_str()).expect("one of ours").to_owned();
    let end = veth.host_interface.to_string();
    run(async {
        ground.kernel.create(&veth).await.expect("works");
        for address in ["10.128.0.5/24", "10.128.0.6/24"] {
            let change = PodChange::Address(veth.pod_interface.clone(), network(address), None);
            ground.kernel.configure(&pod, &change).await.expect("works");
        }
        Real::ip(&["-n", &at, "address", "add", "10.128.0.1/24", "dev", &end]);
        for address in ["10.128.0.5", "10.128.0.6"] {
            let entry = ["neigh", "replace", address, "lladdr", "02:00:00:00:00:99", "dev", &end, "nud", "stale"];
            Real::ip(&[&["-n", at.as_str()][..], &entry].concat());
        }
        for change in [PodChange::Up(veth.pod_interface.clone()), PodChange::Announce(veth.pod_interface.clone())] {
            ground.kernel.configure(&pod, &change).await.expect("works");
        }
        let link = ground.kernel.inspect(&Netns::At(pod.clone()), &veth.pod_interface).await.expect("works");
        assert_eq!(link.and_then(|link| link.mac), Some(MAC));
    });
    let known = || {
        let shown = command("ip").args(["-n", &at, "neigh", "show"]).output().expect("iproute2 is installed");
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        shown.lines().filter(|line| line.contains(&MAC.to_string())).count()
    };
    // The kernel hands a frame over in its own time.
    for _ in 0..500 {
        if known() == 2 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the neighbour got no announcement");
}

/// The kernel gives the host end no address, and the pod's end its own.
#[test]
fn a_host_end_has_no_address_of_its_own() {
    let ground = Real::new();
    let (host, pod) = (ground.netns(), ground.netns());
    let veth = veth(Netns::At(host.clone()), &pod);
    let addresses = |netns: &Path, link: &str| {
        let at = netns.file_name().and_then(|name| name.to_str()).expect("one of ours");
        let shown = command("ip").args(["-n", at, "-6", "-brief", "address", "show", link]).output().expect("it runs");
        String::from_utf8(shown.stdout).expect("text")
    };
    run(async {
        for _ in 0..2 {
            ground.kernel.create(&veth).await.expect("works");
        }
        ground.kernel.configure(&pod, &PodChange::Up(veth.pod_interface.clone())).await.expect("works");
    });
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !addresses(&pod, "eth0").contains("fe80:") {
        assert!(std::time::Instant::now() < deadline, "the pod's end is up and has a link-local address");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    // Both ends came up at once.
    assert_eq!(addresses(&host, veth.host_interface.as_str()), "");
}

#[test]
fn an_interface_is_found_by_an_address_of_either_family() {
    let ground = Real::new();
    let netns = ground.netns();
    let at = netns.file_name().and_then(|name| name.to_str()).expect("one of ours").to_owned();
    for link in ["x0", "y0"] {
        let peer = format!("{link}-peer");
        Real::ip(&["-n", &at, "link", "add", link, "type", "veth", "peer", "name", &peer]);
    }
    Real::ip(&["-n", &at, "address", "add", "192.0.2.1/24", "dev", "x0"]);
    Real::ip(&["-n", &at, "address", "add", "198.51.100.1", "peer", "198.51.100.2/32", "dev", "y0"]);
    Real::ip(&["-n", &at, "-6", "address", "add", "2001:db8::1/64", "dev", "y0"]);
    run(async {
        let netns = Netns::At(netns);
        for (address, expected) in [
            ("192.0.2.1", Some("x0")),
            ("198.51.100.1", Some("y0")),
            ("2001:db8::1", Some("y0")),
            // The other end of a link between two points is another host.
            ("198.51.100.2", None),
            ("192.0.2.2", None),
            ("2001:db8::2", None),
        ] {
            let found = ground.kernel.inspect_address(&netns, address.parse().expect("valid")).await.expect("works");
            assert_eq!(found.map(|link| link.name), expected.map(str::to_owned), "{address}");
        }
    });
}

/// A route of several next hops goes through all of their interfaces.
#[test]
fn a_route_with_several_next_hops_names_their_interfaces() {
    let ground = Real::new();
    let netns = ground.netns();
    let at = netns.file_name().and_then(|name| name.to_str()).expect("one of ours").to_owned();
    for (link, address) in [("x0", "192.0.2.1/25"), ("y0", "192.0.2.129/25")] {
        let peer = format!("{link}-peer");
        Real::ip(&["-n", &at, "link", "add", link, "type", "veth", "peer", "name", &peer]);
        for end in [link, &peer] {
            Real::ip(&["-n", &at, "link", "set", end, "up"]);
        }
        Real::ip(&["-n", &at, "address", "add", address, "dev", link]);
    }
    let hops = ["nexthop", "via", "192.0.2.2", "dev", "x0", "nexthop", "via", "192.0.2.130", "dev", "y0"];
    Real::ip(&[&["-n", at.as_str(), "route", "add", "default"][..], &hops].concat());
    run(async {
        let netns = Netns::At(netns);
        let mut indexes = Vec::new();
        for link in ["x0", "y0"] {
            indexes.push(ground.kernel.inspect(&netns, &name(link)).await.expect("works").expect("there").index);
        }
        let routes = ground.kernel.routes(&netns).await.expect("works");
        let default = routes.iter().find(|found| found.route.destination.prefix() == 0).expect("there");
        assert_eq!((&default.interfaces, default.route.gateway), (&indexes, None));
    });
}

/// If no thread can be started, which a call needs to enter a namespace, the error has that cause. Root has no such limit.
#[test]
fn a_call_that_may_start_no_thread_reports_it() {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    let ground = Real::new();
    let netns = ground.netns();
    let directory = ground.scratch.path();
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).expect("works");
    let program = directory.join("atoll");
    std::fs::copy(env!("CARGO_BIN_EXE_atoll"), &program).expect("works");
    let unprivileged = ["--reuid=65534", "--regid=65534", "--clear-groups", "prlimit", "--nproc=0"];
    let mut child = command("setpriv")
        .args(unprivileged)
        .arg(&program)
        .env_clear()
        .env("PATH", atoll_testkit::program::search_path())
        .envs([("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "a"), ("CNI_IFNAME", "eth0")])
        .env("CNI_NETNS", &netns)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let input = br#"{"cniVersion":"0.4.0","name":"net","etcd":{"endpoints":["http://127.0.0.1:9"]},"nodeName":"n1",
        "hostId":"3f5e1b9a-0c5b-4f1e-9d2a-6a1f5e0c7b11","controller":{"endpoints":["http://127.0.0.1:9/x"]}}"#;
    child.stdin.take().expect("a pipe").write_all(input).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("\"cniVersion\":\"0.4.0\",\"code\":11,"), "{text}");
    assert!(text.contains("lets no thread or process start") && !text.contains("report"), "{text}");
}

/// What only a real file system has.
#[test]
fn nothing_but_a_network_namespace_is_taken_for_one() {
    let ground = Real::new();
    let pipe = ground.scratch.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    run(async {
        for path in [ground.scratch.path(), &pipe, Path::new("/dev/zero"), Path::new("/proc/self/ns/mnt")] {
            assert_eq!(ground.kernel.kind(path).await, Ok(NetnsKind::NotANetns), "{}", path.display());
        }
        for path in ["", "/nowhere", "/dev/null/x"] {
            assert_eq!(ground.kernel.kind(Path::new(path)).await, Ok(NetnsKind::Gone), "{path}");
        }
    });
}
