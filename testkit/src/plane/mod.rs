//! A data plane under test: a topology, pods as a CNI plugin would create them, and packets.
//!
//! The calling thread leaves the machine's network namespace first, so everything that a test creates, including the
//! plane's "own" namespace, is deleted with the test.

#![allow(clippy::unwrap_used, reason = "a laboratory that does not work is a failed test")]

pub mod frame;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::program::{command, located};
use crate::steps::Steps;
use atoll_dataplane::{BeforeChange, Handle, HostToPodPool, PlaneSettings};
use atoll_model::attachment::Mac;
use atoll_model::port_security::PortSecurity;
use atoll_model::topology::{
    Binding, Bridge, Chain, Condition, Device, FlowAction, Fragments, NatTarget, Object, Port, Route, RouteAction,
    Router, Rule, RuleAction, Test, Topology, TopologyChange,
};
use ipnetwork::Ipv4Network;
use nix::sched::{CloneFlags, unshare};
use uuid::Uuid;

/// The host of every binding.
pub const HOST: Uuid = Uuid::from_u128(0xa0);
/// The provider router.
pub const PROVIDER: Uuid = Uuid::from_u128(0x100);
/// Its uplink.
pub const UPLINK: Uuid = Uuid::from_u128(0x101);

/// The namespace of the test, which is the node.
pub fn node() -> &'static Path {
    Path::new("/proc/thread-self/ns/net")
}

/// A pod whose port declares that no other pod in the cluster has its address.
pub fn unique(lab: &Lab, tenant: TenantObjects, n: u8) -> PathBuf {
    let pod = lab.wire(tenant, n, Some(&lab.namespace(tenant)));
    let Object::Port(id, mut port) = tenant.pod_port(n) else { unreachable!() };
    port.vif_id = Some(PortSecurity { mac: mac(n), address: address(n), unique: true }.to_vif_id());
    lab.submit(put([Object::Port(id, port)]));
    lab.wait_active(id, true);
    pod
}

/// Parses a network.
pub fn net(text: &str) -> Ipv4Network {
    text.parse().unwrap()
}

/// A port that is up, with nothing else set.
pub fn port(device: Device) -> Port {
    let other = Vec::new();
    Port { device, up: true, inbound: None, outbound: None, peer: None, binding: None, vif_id: None, other }
}

/// A port of a router, with an address.
pub fn on_router(id: Uuid, address: &str) -> Port {
    port(Device::Router { id, address: net(address), mac: None })
}

/// A route for every source, with weight 0.
pub fn route(router: Uuid, destination: &str, via: Uuid, gateway: Option<&str>) -> Route {
    let gateway = gateway.map(|g| g.parse().unwrap());
    let action = RouteAction::Forward { port: via, gateway };
    Route { router, source: net("0.0.0.0/0"), destination: net(destination), action, weight: 0 }
}

/// The provider router with an uplink to an external network that does not exist yet.
pub fn provider() -> Topology {
    let mut t = Topology::default();
    let router = Router { tenant: "admin".into(), name: "provider".into(), up: true, ..Router::default() };
    t.routers.insert(PROVIDER, router);
    let mut uplink = on_router(PROVIDER, "203.0.113.2/24");
    uplink.binding = Some(Binding { host: HOST, interface: "uplink0".into() });
    t.ports.insert(UPLINK, uplink);
    t.routes.insert(Uuid::from_u128(0x102), route(PROVIDER, "0.0.0.0/0", UPLINK, Some("203.0.113.1")));
    t.routes.insert(Uuid::from_u128(0x103), route(PROVIDER, "203.0.113.0/24", UPLINK, None));
    t
}

/// The ids of a tenant's objects, from its number.
#[derive(Clone, Copy, Debug)]
pub struct TenantObjects(pub u128);

impl TenantObjects {
    fn id(self, n: u128) -> Uuid {
        Uuid::from_u128((self.0 + 1) << 16 | n)
    }
    /// Its router.
    pub fn router(self) -> Uuid {
        self.id(1)
    }
    /// Its bridge.
    pub fn bridge(self) -> Uuid {
        self.id(2)
    }
    /// Its router's port towards the provider router.
    pub fn uplink(self) -> Uuid {
        self.id(3)
    }
    /// The provider router's port towards it.
    pub fn provider_port(self) -> Uuid {
        self.id(4)
    }
    /// Its router's port towards the bridge.
    pub fn gateway(self) -> Uuid {
        self.id(5)
    }
    /// The bridge's port towards the router.
    pub fn bridge_port(self) -> Uuid {
        self.id(6)
    }
    /// The inbound chain of its router.
    pub fn inbound(self) -> Uuid {
        self.id(7)
    }
    /// The outbound chain of its router.
    pub fn outbound(self) -> Uuid {
        self.id(8)
    }
    /// The bridge's interface.
    pub fn bridge_device(self) -> String {
        let mut topology = Topology::default();
        for change in put(self.objects("10.9.0.0/24")) {
            topology.apply(change);
        }
        atoll_dataplane::compile::compile(&topology, HOST).bridges[&self.bridge()].device.clone()
    }
    /// The default route of its router.
    pub fn default_route(self) -> Uuid {
        self.id(0x30)
    }
    /// The port of pod `n`.
    pub fn pod(self, n: u8) -> Uuid {
        self.id(0x100 + u128::from(n))
    }
    /// The tenant's side of its transit link.
    pub fn transit(self) -> String {
        format!("100.64.{}.{}", self.0 / 64, self.0 % 64 * 4 + 2)
    }
    fn provider_side(self) -> String {
        format!("100.64.{}.{}", self.0 / 64, self.0 % 64 * 4 + 1)
    }

    /// The objects of a tenant with one subnet, in the order in which a client creates them.
    pub fn objects(self, subnet: &str) -> Vec<Object> {
        let cidr = net(subnet);
        let gateway = Ipv4Addr::from(u32::from(cidr.network()) + 1);
        let mut left = on_router(PROVIDER, &format!("{}/30", self.provider_side()));
        left.peer = Some(self.uplink());
        let mut right = on_router(self.router(), &format!("{}/30", self.transit()));
        right.peer = Some(self.provider_port());
        let mut inside = on_router(self.router(), &format!("{gateway}/{}", cidr.prefix()));
        inside.peer = Some(self.bridge_port());
        let mut bridge_port = port(Device::Bridge { id: self.bridge(), vlan: None });
        bridge_port.peer = Some(self.gateway());
        let leaves = || Condition { out_ports: Some(Test::is(vec![self.uplink()])), ..Condition::default() };
        let own: Ipv4Addr = self.transit().parse().unwrap();
        let rule = |n, condition, action| Rule { id: self.id(n), condition, action };
        let outbound = vec![
            rule(0x20, Condition { return_flow: true, ..Condition::default() }, RuleAction::Accept),
            rule(
                0x21,
                Condition { fragments: Fragments::Unfragmented, ..leaves() },
                RuleAction::Snat {
                    targets: vec![NatTarget { from: own, to: own, port_from: 1024, port_to: 65535 }],
                    then: FlowAction::Accept,
                },
            ),
            rule(0x22, leaves(), RuleAction::Drop),
        ];
        let enters = Condition { in_ports: Some(Test::is(vec![self.uplink()])), ..Condition::default() };
        let inbound = vec![rule(0x23, enters, RuleAction::ReverseSnat { then: FlowAction::Continue })];
        let chain = |rules| Chain { tenant: "t".into(), name: "c".into(), rules };
        vec![
            Object::Chain(self.inbound(), chain(inbound)),
            Object::Chain(self.outbound(), chain(outbound)),
            Object::Router(
                self.router(),
                Router {
                    up: true,
                    inbound: Some(self.inbound()),
                    outbound: Some(self.outbound()),
                    ..Router::default()
                },
            ),
            Object::Port(self.provider_port(), left),
            Object::Port(self.uplink(), right),
            Object::Route(self.id(0x30), route(self.router(), "0.0.0.0/0", self.uplink(), Some(&self.provider_side()))),
            Object::Route(
                self.id(0x31),
                route(PROVIDER, &format!("{}/32", self.transit()), self.provider_port(), None),
            ),
            Object::Bridge(self.bridge(), Bridge { up: true, ..Bridge::default() }),
            Object::Port(self.gateway(), inside),
            Object::Port(self.bridge_port(), bridge_port),
            Object::Route(self.id(0x32), route(self.router(), subnet, self.gateway(), None)),
        ]
    }

    /// Pod `n` of this tenant: address `.10n` of 10.9.0.0/24.
    pub fn pod_port(self, n: u8) -> Object {
        let mut it = port(Device::Bridge { id: self.bridge(), vlan: None });
        it.binding = Some(Binding { host: HOST, interface: interface(self, n) });
        it.vif_id = Some(PortSecurity { mac: mac(n), address: address(n), unique: false }.to_vif_id());
        Object::Port(self.pod(n), it)
    }
}

/// The host interface of pod `n`.
pub fn interface(tenant: TenantObjects, n: u8) -> String {
    format!("at{:x}p{n}", tenant.0)
}

/// The MAC of pod `n`.
pub fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 9, n])
}

/// The address of pod `n`.
pub fn address(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, 100 + n)
}

/// The changes that put these objects.
pub fn put(objects: impl IntoIterator<Item = Object>) -> Vec<TopologyChange> {
    objects.into_iter().map(TopologyChange::Put).collect()
}

/// A plane with its pods.
pub struct Lab {
    /// Its directory.
    pub directory: tempfile::TempDir,
    /// The ports that the plane reports as active.
    pub active: Arc<Mutex<BTreeMap<Uuid, bool>>>,
    /// The plane, while it runs.
    pub plane: Option<Handle>,
    /// The pool of host-to-pod addresses at the next start.
    pub pool: Option<HostToPodPool>,
    /// Addresses of services at the next start.
    pub services: Option<Ipv4Network>,
    /// The topology of the next start.
    pub steps: Option<Arc<Steps>>,
}

impl Lab {
    /// A plane for `topology`, in a namespace of its own.
    pub fn start(topology: Topology) -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root");
        let directory = tempfile::Builder::new().prefix("at-").tempdir().unwrap();
        std::fs::create_dir(directory.path().join("pods")).unwrap();
        let (active, pool) = (Arc::default(), Some(HostToPodPool::DEFAULT));
        let mut lab = Self { directory, active, plane: None, pool, services: None, steps: None };
        lab.restart(topology);
        lab
    }

    /// The directory of the plane.
    pub fn planes(&self) -> PathBuf {
        self.directory.path().join("planes")
    }

    /// (Re)starts the plane.
    pub fn restart(&mut self, topology: Topology) {
        if let Some(plane) = self.plane.take() {
            plane.stop();
        }
        let active = Arc::clone(&self.active);
        let host_to_pod = self.pool;
        let services = self.services;
        let before_change = self.steps.clone().map(|steps| steps as Arc<dyn BeforeChange>);
        let settings = PlaneSettings { directory: self.planes(), host: HOST, host_to_pod, services, before_change };
        let plane = Handle::start(settings, topology, move |changes| active.lock().unwrap().extend(changes)).unwrap();
        self.plane = Some(plane);
        self.flush();
    }

    /// The plane.
    pub fn plane(&self) -> &Handle {
        self.plane.as_ref().unwrap()
    }

    /// Waits until all submitted changes are programmed.
    pub fn flush(&self) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(self.plane().flush());
    }

    /// Submits changes and waits until they are programmed.
    pub fn submit(&self, changes: Vec<TopologyChange>) {
        self.plane().submit(changes);
        self.flush();
    }

    /// Adds a tenant whose subnet is 10.9.0.0/24.
    pub fn tenant(&self, n: u128) -> TenantObjects {
        let tenant = TenantObjects(n);
        self.submit(put(tenant.objects("10.9.0.0/24")));
        tenant
    }

    /// The namespace of a tenant's router.
    pub fn namespace(&self, tenant: TenantObjects) -> PathBuf {
        self.planes().join(tenant.router().to_string())
    }

    /// The MAC of an interface in a tenant's namespace.
    pub fn mac_of(&self, tenant: TenantObjects, interface: &str) -> Mac {
        let shown = inside(&self.namespace(tenant), "ip", &["-o", "link", "show", interface]);
        shown.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap().parse().unwrap()
    }

    /// The namespace of the external network.
    pub fn external_network(&self) -> PathBuf {
        self.planes().join("outside")
    }

    /// Makes a pod's namespace and veth pair, as a CNI plugin would, with its host end in `host_end`.
    pub fn wire(&self, tenant: TenantObjects, n: u8, host_end: Option<&Path>) -> PathBuf {
        let pod = self.directory.path().join("pods").join(interface(tenant, n));
        std::fs::File::create(&pod).unwrap();
        run("unshare", &[&format!("--net={}", pod.display()), "true"]);
        let (name, mac, pod_path) = (interface(tenant, n), mac(n).to_string(), pod.display().to_string());
        let add = ["link", "add", &name, "type", "veth", "peer", "name", "eth0", "address", &mac, "netns", &pod_path];
        match host_end {
            Some(path) => inside(path, "ip", &add),
            None => run("ip", &add),
        };
        match host_end {
            Some(path) => inside(path, "ip", &["link", "set", &name, "up"]),
            // The plane may have moved it already; then the plane sets it up.
            None => String::new(),
        };
        inside(&pod, "ip", &["addr", "add", &format!("{}/24", address(n)), "dev", "eth0"]);
        inside(&pod, "ip", &["link", "set", "eth0", "up"]);
        inside(&pod, "ip", &["link", "set", "lo", "up"]);
        inside(&pod, "ip", &["route", "add", "default", "via", "10.9.0.1"]);
        pod
    }

    /// A pod with its veth pair and binding, whose port is active.
    pub fn pod(&self, tenant: TenantObjects, n: u8) -> PathBuf {
        let pod = self.wire(tenant, n, Some(&self.namespace(tenant)));
        self.submit(put([tenant.pod_port(n)]));
        self.wait_active(tenant.pod(n), true);
        pod
    }

    /// The provider matches on flows from now on, so it has a table of them. Its chain has the id `chain`.
    pub fn track_flows_of_provider(&self, chain: Uuid) {
        let condition = Condition { return_flow: true, ..Condition::default() };
        let rule = Rule { id: Uuid::new_v5(&chain, b"answers"), condition, action: RuleAction::Accept };
        let router = Router { up: true, inbound: Some(chain), ..Router::default() };
        let chain = Object::Chain(chain, Chain { rules: vec![rule], ..Chain::default() });
        self.submit(put([chain, Object::Router(PROVIDER, router)]));
    }

    /// Whether the plane reports a port as active.
    pub fn is_active(&self, port: Uuid) -> bool {
        self.active.lock().unwrap().get(&port).copied().unwrap_or_default()
    }

    /// Waits until the plane reports a port as active, or as inactive.
    pub fn wait_active(&self, port: Uuid, wanted: bool) {
        let report = || format!("port {port} should be active: {wanted}; {:#?}", self.plane().report());
        wait(report, || self.is_active(port) == wanted);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(plane) = self.plane.take() {
            plane.stop();
        }
        let purged = atoll_dataplane::purge(&self.planes());
        for pod in std::fs::read_dir(self.directory.path().join("pods")).into_iter().flatten().flatten() {
            let _ = nix::mount::umount2(&pod.path(), nix::mount::MntFlags::MNT_DETACH);
        }
        if !std::thread::panicking() {
            purged.unwrap();
        }
    }
}

/// A ruleset as `nft -y` lists it, without the parts that depend on how often a filter was replaced: the step in its name
/// and the id of its content.
pub fn at_first_step(ruleset: &str) -> String {
    let mut shown = String::new();
    for table in ruleset.split_inclusive("\n}\n") {
        let marker = table.split_once("chain gen_").and_then(|(_, rest)| rest.split_once(' ')?.0.split_once('_'));
        let step = marker.and_then(|(_, step)| step.parse::<i32>().ok());
        for line in table.lines() {
            let placed = step.zip(line.split_once(" priority ")).and_then(|(step, (head, tail))| {
                let (place, tail) = tail.split_once(';')?;
                Some(format!("{head} priority {};{tail}", place.parse::<i32>().ok()? - step))
            });
            let named =
                marker.filter(|_| line.contains("chain gen_")).map(|(generation, _)| format!("chain gen_{generation}"));
            let checksummed = line.contains("chain checksum_").then(|| "chain checksum".to_owned());
            shown += &placed.or(named).or(checksummed).unwrap_or_else(|| line.to_owned());
            shown.push('\n');
        }
    }
    shown
}

/// Waits up to ten seconds for `done`.
pub fn wait(what: impl Fn() -> String, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{}", what());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a program that must succeed; returns its output.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = command(program).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {error}", arguments.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a program in a namespace.
pub fn attempt(netns: &Path, program: &str, arguments: &[&str]) -> Output {
    command("nsenter").arg(format!("--net={}", netns.display())).arg(located(program)).args(arguments).output().unwrap()
}

/// Runs a program in a namespace; it must succeed.
pub fn inside(netns: &Path, program: &str, arguments: &[&str]) -> String {
    let output = attempt(netns, program, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {} in {}: {error}", arguments.join(" "), netns.display());
    String::from_utf8(output.stdout).unwrap()
}

/// True when `to` answers a ping from `netns` within a second.
pub fn pings(netns: &Path, to: impl std::fmt::Display) -> bool {
    attempt(netns, "ping", &["-c1", "-W1", "-n", &to.to_string()]).status.success()
}

/// Waits until `to` answers a ping from `netns`: after a move, or after a repair by the plane.
pub fn reaches(netns: &Path, to: impl std::fmt::Display) {
    wait(|| format!("{to} answers {}", netns.display()), || pings(netns, &to));
}

/// Runs `work` on a thread inside `netns`.
pub fn on_thread<T: Send + 'static>(netns: &Path, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let file = std::fs::File::open(netns).unwrap();
    std::thread::spawn(move || {
        nix::sched::setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
}

/// A TCP server in `netns` on port 7000 that sends `name` and records its clients.
pub fn serve(netns: &Path, name: &str) -> Arc<Mutex<Vec<IpAddr>>> {
    let peers = Arc::<Mutex<Vec<IpAddr>>>::default();
    let (seen, name) = (Arc::clone(&peers), name.to_owned());
    let listener = on_thread(netns, || TcpListener::bind("0.0.0.0:7000").unwrap()).join().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            seen.lock().unwrap().push(stream.peer_addr().unwrap().ip());
            let _ = stream.write_all(name.as_bytes());
        }
    });
    peers
}

/// What the server at `to` sends to a client in `netns`; none when there is no answer within a second.
pub fn ask(netns: &Path, to: &str) -> Option<String> {
    let to: SocketAddr = format!("{to}:7000").parse().unwrap();
    on_thread(netns, move || {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(1)).ok()?;
        // An established connection is answered as soon as the server is scheduled.
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok().map(|_| answer)
    })
    .join()
    .unwrap()
}

/// The changes from one topology to another.
pub fn changes(from: &Topology, to: &Topology) -> Vec<TopologyChange> {
    fn part<T: Clone + PartialEq>(
        changes: &mut Vec<TopologyChange>,
        from: &BTreeMap<Uuid, T>,
        to: &BTreeMap<Uuid, T>,
        object: fn(Uuid, T) -> Object,
    ) {
        let gone = from.keys().filter(|id| !to.contains_key(id)).map(|id| TopologyChange::Remove(*id));
        let new = to.iter().filter(|(id, it)| from.get(id) != Some(it)).map(|(id, it)| object(*id, it.clone()));
        changes.extend(gone.chain(new.map(TopologyChange::Put)));
    }
    let mut all = Vec::new();
    let Topology { routers, bridges, ports, routes, chains, port_groups, address_groups } = from;
    part(&mut all, routers, &to.routers, Object::Router);
    part(&mut all, bridges, &to.bridges, Object::Bridge);
    part(&mut all, ports, &to.ports, Object::Port);
    part(&mut all, routes, &to.routes, Object::Route);
    part(&mut all, chains, &to.chains, Object::Chain);
    part(&mut all, port_groups, &to.port_groups, Object::PortGroup);
    part(&mut all, address_groups, &to.address_groups, Object::AddressGroup);
    all
}
