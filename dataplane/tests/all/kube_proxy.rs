//! Beside kube-proxy: its rules on the node translate what pods send to services, and host-to-pod addressing lets in to pods what
//! was published, and nothing that a pod has sent to an address that was not.

#![allow(clippy::unwrap_used, reason = "a laboratory that does not work is a failed test")]

use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use atoll_model::port_security::PortSecurity;
use atoll_model::topology::*;
use atoll_testkit::plane::*;

/// Addresses of services.
const SERVICES: &str = "10.96.0.0/16";
/// The service of tenant blue, and that of tenant red, whose only endpoints are `blue` and `red2`.
const OF_BLUE: &str = "10.96.0.2";
const OF_RED: &str = "10.96.0.1";
/// An external address of blue's service, which the node's neighbours send to the node.
const EXTERNAL: &str = "198.51.100.80";
/// The node itself, as its neighbours and as pods know it.
const NODE: [&str; 2] = ["192.0.2.1", "203.0.113.1"];

/// What kube-proxy makes of two services with one endpoint each: their own addresses, an external address, a port of the
/// node (30070, and 30071 for red's). `masquerade`: it marks every flow, so that the node's address takes the place of its
/// sender's.
fn kube_proxy(masquerade: bool) {
    let mark = if masquerade { "meta mark set meta mark or 0x4000" } else { "continue" };
    let (blue, red) = (address(2), address(3));
    run(
        "nft",
        &[&format!(
            "add table ip kube-proxy; delete table ip kube-proxy; table ip kube-proxy {{
chain hide {{ {mark}; }}
chain services {{
  ip daddr {{ {OF_BLUE}, {EXTERNAL} }} meta l4proto {{ tcp, udp }} th dport 7000 jump hide
  ip daddr {{ {OF_BLUE}, {EXTERNAL} }} meta l4proto {{ tcp, udp }} th dport 7000 dnat to {blue}
  ip daddr {OF_RED} tcp dport 7000 jump hide
  ip daddr {OF_RED} tcp dport 7000 dnat to {red}
  fib daddr type local meta l4proto {{ tcp, udp }} th dport 30070 jump hide
  fib daddr type local tcp dport 30070 dnat to {blue}:7000
  fib daddr type local udp dport 30070 dnat to {blue}:7000
  fib daddr type local tcp dport 30071 dnat to {red}:7000
}}
chain prerouting {{ type nat hook prerouting priority dstnat; jump services; }}
chain output {{ type nat hook output priority -100; jump services; }}
chain postrouting {{ type nat hook postrouting priority srcnat; meta mark and 0x4000 != 0 masquerade; }}
}}"
        )],
    );
}

/// What the server at `to` says to a client in `netns`; none when there is no answer within a second.
fn asked(netns: &Path, to: &str) -> Option<String> {
    tell(netns, to).ok()
}

fn tell(netns: &Path, to: &str) -> std::io::Result<String> {
    let to: SocketAddr = to.parse().unwrap();
    on_thread(netns, move || {
        use std::io::Read;
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    })
    .join()
    .unwrap()
}

/// A UDP server in `netns` on port 7000 that sends back what it gets.
fn echo(netns: &Path) {
    let socket = on_thread(netns, || UdpSocket::bind("0.0.0.0:7000").unwrap()).join().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
}

/// True when the UDP server at `to` answers a client in `netns` within a second.
fn echoed(netns: &Path, to: &str) -> bool {
    let to: SocketAddr = to.parse().unwrap();
    on_thread(netns, move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        // An error here or there is an answer of some router.
        socket.send_to(b"hello", to).is_ok() && socket.recv(&mut [0; 100]).is_ok()
    })
    .join()
    .unwrap()
}

/// A node that is the uplink of its pods, as `deploy/systemd/atoll-outside.service` makes it, with a neighbour.
struct Site {
    lab: Lab,
    neighbour: PathBuf,
    /// A pod of tenant red that asks, one of tenant blue with a service, and another of red with a service.
    red: PathBuf,
    blue: PathBuf,
}

impl Site {
    /// `bridged`: the node's end of the uplink is a port of a bridge of the node, not a link of its own.
    fn new(bridged: bool, services: Option<&str>) -> Self {
        let mut lab = Lab::start(Topology::default());
        lab.plane.take().unwrap().stop();
        run("ip", &["link", "set", "lo", "up"]);
        run("sysctl", &["-qw", "net.ipv4.ip_forward=1"]);
        run("ip", &["link", "add", "uplink0", "type", "veth", "peer", "name", "atoll-out"]);
        run("ip", &["link", "set", "atoll-out", "up"]);
        let way = if bridged {
            run("ip", &["link", "add", "name", "outside0", "type", "bridge"]);
            run("ip", &["link", "set", "atoll-out", "master", "outside0"]);
            run("ip", &["link", "set", "outside0", "up"]);
            "outside0"
        } else {
            "atoll-out"
        };
        run("ip", &["addr", "add", "203.0.113.1/24", "dev", way]);
        run("ip", &["route", "add", "100.64.0.0/16", "via", "203.0.113.2", "dev", way]);
        let neighbour = lab.directory.path().join("pods/neighbour");
        std::fs::File::create(&neighbour).unwrap();
        run("unshare", &[&format!("--net={}", neighbour.display()), "true"]);
        let path = neighbour.display().to_string();
        run("ip", &["link", "add", "lan0", "type", "veth", "peer", "name", "eth0", "netns", &path]);
        run("ip", &["addr", "add", "192.0.2.1/24", "dev", "lan0"]);
        run("ip", &["link", "set", "lan0", "up"]);
        run("ip", &["route", "add", "default", "via", "192.0.2.9"]);
        inside(&neighbour, "ip", &["addr", "add", "192.0.2.9/24", "dev", "eth0"]);
        inside(&neighbour, "ip", &["link", "set", "eth0", "up"]);
        inside(&neighbour, "ip", &["route", "add", "default", "via", "192.0.2.1"]);
        lab.services = services.map(net);
        lab.restart(provider());
        let (red, blue) = (lab.tenant(1), lab.tenant(2));
        let (red1, blue2, red3) = (unique(&lab, red, 1), unique(&lab, blue, 2), unique(&lab, red, 3));
        serve(&blue2, "blue");
        serve(&red3, "red");
        echo(&blue2);
        Self { lab, neighbour, red: red1, blue: blue2 }
    }

    /// What the node itself reaches, and its neighbours.
    fn works(&self, what: &str) {
        for (to, who) in [
            (format!("{}:7000", address(2)), "blue"),
            (format!("{OF_BLUE}:7000"), "blue"),
            (format!("{OF_RED}:7000"), "red"),
            (format!("{}:30070", NODE[0]), "blue"),
            (format!("{}:30071", NODE[1]), "red"),
        ] {
            assert_eq!(asked(node(), &to).as_deref(), Some(who), "{what}: the node, {to}");
        }
        assert!(echoed(node(), &format!("{OF_BLUE}:7000")), "{what}: the node, UDP");
        for (to, who) in [
            (format!("{}:30070", NODE[0]), "blue"),
            (format!("{}:30071", NODE[0]), "red"),
            (format!("{EXTERNAL}:7000"), "blue"),
        ] {
            assert_eq!(asked(&self.neighbour, &to).as_deref(), Some(who), "{what}: a neighbour, {to}");
        }
        assert!(echoed(&self.neighbour, &format!("{}:30070", NODE[0])), "{what}: a neighbour, UDP");
        assert!(pings(&self.red, NODE[1]), "{what}: the pod reaches the external network");
    }

    /// What a pod reaches through the rules of kube-proxy.
    fn published_only(&self, what: &str) {
        for node in NODE {
            assert_eq!(asked(&self.red, &format!("{node}:30070")).as_deref(), Some("blue"), "{what}: {node}");
            // Of its own tenant too, and the very pod itself.
            assert_eq!(asked(&self.red, &format!("{node}:30071")).as_deref(), Some("red"), "{what}: {node}");
            assert_eq!(asked(&self.blue, &format!("{node}:30070")).as_deref(), Some("blue"), "{what}: hairpin, {node}");
            assert!(echoed(&self.red, &format!("{node}:30070")), "{what}: {node}, UDP");
        }
        for from in [&self.red, &self.blue] {
            for to in [OF_BLUE, OF_RED] {
                assert_eq!(asked(from, &format!("{to}:7000")), None, "{what}: {to}");
            }
            assert!(!echoed(from, &format!("{OF_BLUE}:7000")), "{what}: UDP");
        }
        // Nor without a translation.
        assert_eq!(asked(&self.red, &format!("{}:7000", address(2))), None, "{what}");
    }
}

#[test]
fn a_pod_reaches_through_kube_proxy_what_was_published_and_no_service_of_any_tenant() {
    for bridged in [false, true] {
        let site = Site::new(bridged, None);
        for masquerade in [false, true] {
            kube_proxy(masquerade);
            let what = format!("bridged {bridged}, masquerade {masquerade}");
            site.works(&what);
            site.published_only(&what);
            // Without a service CIDR, an external address may be a service.
            assert_eq!(asked(&site.red, &format!("{EXTERNAL}:7000")), None, "{what}");
        }
        // Addresses of the node come and go.
        run("ip", &["addr", "add", "192.0.2.77/32", "dev", "lo"]);
        wait(
            || run("nft", &["list", "table", "ip", "atoll_node"]),
            || asked(&site.red, "192.0.2.77:30070").as_deref() == Some("blue"),
        );
        run("ip", &["addr", "del", "192.0.2.77/32", "dev", "lo"]);
        wait(
            || run("nft", &["list", "table", "ip", "atoll_node"]),
            || !run("nft", &["list", "table", "ip", "atoll_node"]).contains("192.0.2.77"),
        );
    }
}

#[test]
fn if_services_are_known_external_addresses_are_open_to_pods_and_services_to_the_node_only() {
    let site = Site::new(false, Some(SERVICES));
    for masquerade in [false, true] {
        kube_proxy(masquerade);
        let what = format!("masquerade {masquerade}");
        site.works(&what);
        site.published_only(&what);
        assert_eq!(asked(&site.red, &format!("{EXTERNAL}:7000")).as_deref(), Some("blue"), "{what}");
        // A neighbour may use the node as a router, but not to get at services.
        assert_eq!(asked(&site.neighbour, &format!("{OF_BLUE}:7000")), None, "{what}");
    }
    // The sender gets an error at once: nothing leaves.
    let began = Instant::now();
    let refused = tell(&site.red, "10.96.200.200:7000").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::HostUnreachable, "{refused}");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let ear = frame::tap_on(node(), "atoll-out");
    for to in ["10.96.0.1", "10.96.200.200"] {
        assert!(!pings(&site.red, to), "{to}");
    }
    assert!(pings(&site.red, NODE[1]));
    let services = net(SERVICES);
    let destination = |frame: &Vec<u8>| Some(Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(30..34)?).ok()?));
    let heard: Vec<_> = std::iter::from_fn(|| frame::overhear(&ear)).filter_map(|frame| destination(&frame)).collect();
    let leaked: Vec<_> = heard.iter().filter(|it| services.contains(**it)).collect();
    assert!(heard.iter().any(|it| it.to_string() == NODE[1]), "{heard:?}");
    assert!(leaked.is_empty(), "{leaked:?}");
}

/// IPVS sends what it translates past the hook "forward". It is not in every kernel, so the hook's chain is taken away
/// instead.
#[test]
fn what_passes_the_hook_forward_by_is_stopped_behind_it() {
    let mut site = Site::new(false, None);
    kube_proxy(true);
    site.lab.plane.take().unwrap().stop();
    run("nft", &["flush", "chain", "ip", "atoll_node", "passing"]);
    site.works("without the hook");
    site.published_only("without the hook");
    run("nft", &["flush", "chain", "ip", "atoll_node", "leaving"]);
    assert_eq!(asked(&site.red, &format!("{OF_BLUE}:7000")).as_deref(), Some("blue"), "this is what it stops");
}

/// Before the guard knew of published addresses a pod may have opened what it would not let in: the answers stop too.
#[test]
fn what_was_opened_under_an_earlier_guard_ends() {
    let mut site = Site::new(false, None);
    kube_proxy(true);
    let mut topology = provider();
    let objects = [TenantObjects(1), TenantObjects(2)].into_iter().flat_map(|tenant| tenant.objects("10.9.0.0/24"));
    for change in put(objects) {
        topology.apply(change);
    }
    for (tenant, n) in [(TenantObjects(1), 1), (TenantObjects(2), 2), (TenantObjects(1), 3)] {
        let Object::Port(id, mut port) = tenant.pod_port(n) else { unreachable!() };
        port.vif_id = Some(PortSecurity { mac: mac(n), address: address(n), unique: true }.to_vif_id());
        topology.apply(TopologyChange::Put(Object::Port(id, port)));
    }
    site.lab.plane.take().unwrap().stop();
    for chain in ["passing", "leaving"] {
        run("nft", &["flush", "chain", "ip", "atoll_node", chain]);
    }
    assert_eq!(asked(&site.red, &format!("{OF_BLUE}:7000")).as_deref(), Some("blue"));
    assert_eq!(asked(&site.red, &format!("{}:30070", NODE[0])).as_deref(), Some("blue"));
    let tracked = |to: &str| run("cat", &["/proc/thread-self/net/nf_conntrack"]).contains(&format!("dst={to} "));
    assert!(tracked(OF_BLUE) && tracked(NODE[0]));
    site.lab.restart(topology);
    assert!(!tracked(OF_BLUE) && tracked(NODE[0]), "what is published goes on");
    site.works("after the restart");
    site.published_only("after the restart");
}
