//! The machine reaches every pod, whatever addresses tenants have, and no tenant reaches the machine by that way.

#![allow(clippy::unwrap_used, reason = "a laboratory that does not work is a failed test")]

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use atoll_dataplane::HostToPodPool;
use atoll_model::port_security::PortSecurity;
use atoll_model::topology::*;
use atoll_testkit::plane::*;
use uuid::Uuid;

fn side(lab: &Lab, port: Uuid) -> String {
    lab.plane().report().host_to_pod[&port].address.to_string()
}

/// Another machine on the node's network, which sends everything to the node; the node forwards, as nodes do.
fn neighbour(lab: &Lab) -> PathBuf {
    let path = lab.directory.path().join("pods/neighbour");
    std::fs::File::create(&path).unwrap();
    run("unshare", &[&format!("--net={}", path.display()), "true"]);
    run("ip", &["link", "add", "lan0", "type", "veth", "peer", "name", "eth0", "netns", &path.display().to_string()]);
    run("ip", &["addr", "add", "192.0.2.1/24", "dev", "lan0"]);
    run("ip", &["link", "set", "lan0", "up"]);
    run("sysctl", &["-qw", "net.ipv4.ip_forward=1"]);
    inside(&path, "ip", &["addr", "add", "192.0.2.9/24", "dev", "eth0"]);
    inside(&path, "ip", &["link", "set", "eth0", "up"]);
    inside(&path, "ip", &["route", "add", "default", "via", "192.0.2.1"]);
    wait(|| "the neighbour reaches the node".to_owned(), || pings(&path, "192.0.2.1"));
    path
}

#[test]
fn the_node_reaches_two_pods_with_the_very_same_address_and_each_sees_the_fixed_source() {
    let lab = Lab::start(provider());
    let (red, blue) = (lab.tenant(1), lab.tenant(2));
    let (red1, blue1) = (lab.pod(red, 1), lab.pod(blue, 1));
    let (to_red, to_blue) = (side(&lab, red.pod(1)), side(&lab, blue.pod(1)));
    assert_ne!(to_red, to_blue);
    let (seen_red, seen_blue) = (serve(&red1, "red"), serve(&blue1, "blue"));
    for _ in 0..3 {
        assert!(pings(node(), &to_red) && pings(node(), &to_blue));
        assert_eq!(ask(node(), &to_red).as_deref(), Some("red"));
        assert_eq!(ask(node(), &to_blue).as_deref(), Some("blue"));
    }
    for seen in [seen_red, seen_blue] {
        assert!(seen.lock().unwrap().iter().all(|peer| *peer == HostToPodPool::DEFAULT.source()), "{seen:?}");
    }
    // Neither address is declared unique: the node does not route it.
    assert_eq!(ask(node(), "10.9.0.101"), None);
    // A closed port is reported at once, and a big packet comes back whole.
    let refused = on_thread(node(), {
        let to = format!("{to_red}:7001").parse().unwrap();
        move || std::net::TcpStream::connect_timeout(&to, std::time::Duration::from_secs(2)).unwrap_err().kind()
    });
    assert_eq!(refused.join().unwrap(), std::io::ErrorKind::ConnectionRefused);
    assert!(attempt(node(), "ping", &["-c1", "-W1", "-n", "-s", "4000", &to_blue]).status.success());
    // It goes with its port.
    lab.submit(vec![TopologyChange::Remove(red.pod(1))]);
    assert!(!pings(node(), &to_red) && pings(node(), &to_blue));
    assert!(!lab.plane().report().host_to_pod.contains_key(&red.pod(1)));
    assert_eq!(lab.plane().report().errors.len(), 0, "{:#?}", lab.plane().report());
}

#[test]
fn an_address_that_is_unique_in_the_cluster_is_routed_by_the_node() {
    let lab = Lab::start(provider());
    let (red, blue) = (lab.tenant(1), lab.tenant(2));
    let red1 = unique(&lab, red, 1);
    let seen = serve(&red1, "red");
    assert_eq!(ask(node(), "10.9.0.101").as_deref(), Some("red"));
    assert_eq!(ask(node(), &side(&lab, red.pod(1))).as_deref(), Some("red"));
    assert!(seen.lock().unwrap().iter().all(|peer| *peer == HostToPodPool::DEFAULT.source()));
    // Another one claims the same: the first keeps it, and the conflict is reported.
    let blue1 = unique(&lab, blue, 1);
    let _seen = serve(&blue1, "blue");
    assert_eq!(ask(node(), "10.9.0.101").as_deref(), Some("red"));
    assert_eq!(ask(node(), &side(&lab, blue.pod(1))).as_deref(), Some("blue"));
    assert_eq!(lab.plane().report().unsupported.iter().map(|u| u.object).collect::<Vec<_>>(), [blue.pod(1)]);
    lab.submit(vec![TopologyChange::Remove(red.pod(1))]);
    assert_eq!(ask(node(), "10.9.0.101").as_deref(), Some("blue"));
    assert!(lab.plane().report().unsupported.is_empty());
}

#[test]
fn a_tenant_reaches_nothing_by_the_node_side() {
    let lab = Lab::start(provider());
    let (red, blue) = (lab.tenant(1), lab.tenant(2));
    let (red1, red2, blue1) = (lab.pod(red, 1), lab.pod(red, 2), lab.pod(blue, 1));
    let at_node = serve(node(), "node");
    let (at_blue, at_red2) = (serve(&blue1, "blue"), serve(&red2, "red"));
    run("ip", &["link", "set", "lo", "up"]);
    run("sysctl", &["-qw", "net.ipv4.ip_forward=1"]);
    let pool = HostToPodPool::DEFAULT;
    let (own, other) = (side(&lab, red.pod(1)), side(&lab, blue.pod(1)));
    let targets = [pool.source().to_string(), pool.node().to_string(), own.clone(), other, side(&lab, red.pod(2))];
    let tries = || {
        for to in &targets {
            assert!(!pings(&red1, to), "{to}");
            assert_eq!(ask(&red1, to), None, "{to}");
        }
    };
    tries();
    // Also not while the node talks to it, from the very port that the node talks to.
    let _served = serve(&red1, "red");
    assert_eq!(ask(node(), &own).as_deref(), Some("red"));
    tries();
    // Nor with addresses of host-to-pod addressing of its own, nor by sending to its neighbour's MAC what looks like an answer.
    inside(&red1, "ip", &["addr", "add", &format!("{}/32", pool.node()), "dev", "eth0"]);
    inside(&red2, "ip", &["addr", "add", &format!("{}/32", pool.source()), "dev", "eth0"]);
    inside(&red1, "ip", &["neigh", "replace", "10.9.0.102", "lladdr", &mac(2).to_string(), "dev", "eth0"]);
    for from in [pool.node(), pool.source()] {
        let _ = attempt(&red1, "ip", &["addr", "add", &format!("{from}/32"), "dev", "eth0"]);
        let spoofed = attempt(&red1, "ping", &["-c1", "-W1", "-I", &from.to_string(), "10.9.0.102"]);
        assert!(!spoofed.status.success(), "from {from}");
    }
    // No packet arrived.
    assert!(at_node.lock().unwrap().is_empty() && at_blue.lock().unwrap().is_empty());
    assert!(at_red2.lock().unwrap().is_empty());
    // A port that claims an address of host-to-pod addressing stays closed.
    let Object::Port(id, mut greedy) = red.pod_port(3) else { unreachable!() };
    greedy.vif_id = Some(PortSecurity { mac: mac(3), address: pool.source(), unique: false }.to_vif_id());
    lab.wire(red, 3, Some(&lab.namespace(red)));
    lab.submit(put([Object::Port(id, greedy)]));
    assert!(!lab.is_active(id));
    assert!(lab.plane().report().unsupported.iter().any(|u| u.object == id && u.why.contains("host-to-pod")));
}

/// What belongs to no flow has no status of one, so a rule that asks for that lets it pass. Node and router each stop it.
#[test]
fn what_belongs_to_no_flow_comes_to_no_pod_by_the_node() {
    let mut lab = Lab::start(provider());
    let red = lab.tenant(1);
    let pod = unique(&lab, red, 1);
    let (host, namespace) = (neighbour(&lab), lab.namespace(red));
    let mut topology = provider();
    let Object::Port(id, mut port) = red.pod_port(1) else { unreachable!() };
    port.vif_id = Some(PortSecurity { mac: mac(1), address: address(1), unique: true }.to_vif_id());
    for change in put(red.objects("10.9.0.0/24").into_iter().chain([Object::Port(id, port)])) {
        topology.apply(change);
    }
    let (from, to) = ([192, 0, 2, 9], [10, 9, 0, 101]);
    let shown = run("ip", &["-o", "link", "show", "lan0"]);
    let node_mac = shown.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap().parse().unwrap();
    let sends = |what: &str| {
        let (out, sniffer) = (frame::tap(&host), frame::tap(&pod));
        // A reset out of nowhere.
        let reset = frame::ip_of(6, from, to, 0, &[], &frame::tcp(from, to, 7000, 4, b"out of nowhere"));
        frame::shoot(&out, &frame::ethernet(mac(9), node_mac, 0x0800, &reset), what);
        assert!(pings(node(), "10.9.0.101"), "{what}: the way is there");
        let heard: Vec<_> = std::iter::from_fn(|| frame::overhear(&sniffer)).collect();
        !frame::contains(&heard, b"out of nowhere")
    };
    assert!(sends("both"));
    lab.plane.take().unwrap().stop();
    run("nft", &["flush", "chain", "ip", "atoll_node", "passing"]);
    assert!(sends("the router alone"));
    let rules = inside(&namespace, "nft", &["-a", "list", "chain", "ip", "atoll", "host_arriving"]);
    let rule = rules.lines().find(|line| line.contains("iifname") && line.contains(" drop #")).unwrap();
    let handle = rule.rsplit(' ').next().unwrap();
    let remove = || inside(&namespace, "nft", &["delete", "rule", "ip", "atoll", "host_arriving", "handle", handle]);
    remove();
    assert!(!sends("neither: this is what they stop"));
    // The node's guard is repaired; the router's is not compared before that.
    run("nft", &["add rule ip atoll_node passing oifname atn* jump entering"]);
    assert!(sends("the node alone"));
    lab.restart(topology);
    assert!(sends("repaired"));
}

/// Whatever is routed there, the link to the node carries only answers of pods and of the router.
#[test]
fn nothing_but_answers_goes_by_the_link_to_the_node() {
    let mut lab = Lab::start(provider());
    let red = lab.tenant(1);
    let (pod, namespace) = (lab.pod(red, 1), lab.namespace(red));
    let to = side(&lab, red.pod(1));
    lab.plane.take().unwrap().stop();
    let links = inside(&namespace, "ip", &["-o", "link"]);
    let link = links.split_whitespace().find_map(|word| word.split('@').next().filter(|it| it.starts_with("atr")));
    let via = HostToPodPool::DEFAULT.source().to_string();
    inside(&namespace, "ip", &["route", "add", "198.51.100.9/32", "via", &via, "dev", link.unwrap(), "onlink"]);
    let sniffer = frame::sniff(node());
    assert!(!pings(&pod, "198.51.100.9"));
    assert!(!pings(&namespace, "198.51.100.9"), "the router itself");
    assert!(pings(node(), &to));
    let heard: Vec<_> = std::iter::from_fn(|| frame::overhear(&sniffer)).collect();
    assert!(frame::contains(&heard, &HostToPodPool::DEFAULT.node().octets()), "its own ping is heard");
    assert!(!frame::contains(&heard, &[198, 51, 100, 9]));
    // Should the router's guard be gone, the node's own stands.
    inside(&namespace, "nft", &["flush", "chain", "ip", "atoll", "host_passing"]);
    run("ip", &["link", "set", "lo", "up"]);
    run("ip", &["addr", "add", "198.51.100.9/32", "dev", "lo"]);
    let server = std::net::UdpSocket::bind("198.51.100.9:7000").unwrap();
    server.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
    let sniffer = frame::sniff(node());
    let client = on_thread(&pod, || std::net::UdpSocket::bind("0.0.0.0:0").unwrap()).join().unwrap();
    client.send_to(b"to the node", "198.51.100.9:7000").unwrap();
    frame::hear(&sniffer, b"to the node");
    assert!(server.recv(&mut [0; 100]).is_err(), "it came as far as the node, and no further");
}

/// Packets to the pool that are no answers are dropped. They do not reach the provider, which would send them to the external
/// network.
#[test]
fn what_a_pod_sends_to_the_host_to_pod_pool_does_not_leave_its_router() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let pod = lab.pod(red, 1);
    let sniffer = frame::sniff(&lab.planes().join(PROVIDER.to_string()));
    let (out, gateway) = (frame::tap(&pod), lab.mac_of(red, &red.bridge_device()));
    assert!(pings(&pod, "203.0.113.1"));
    for (to, says) in [([169, 254, 200, 200], &b"to the node"[..]), ([203, 0, 113, 1], b"external")] {
        let packet = frame::ip([10, 9, 0, 101], to, says);
        frame::shoot(&out, &frame::ethernet(mac(1), gateway, 0x0800, &packet), "from the pod");
    }
    assert!(!frame::contains(&frame::hear(&sniffer, b"external"), b"to the node"));
}

/// A port without port security may use any source except the node's.
#[test]
fn a_pod_cannot_use_an_address_of_host_to_pod_addressing() {
    let lab = Lab::start(provider());
    let (red, pool) = (lab.tenant(1), HostToPodPool::DEFAULT);
    let open = lab.wire(red, 1, Some(&lab.namespace(red)));
    let Object::Port(id, mut port) = red.pod_port(1) else { unreachable!() };
    port.vif_id = None;
    lab.submit(put([Object::Port(id, port)]));
    lab.wait_active(id, true);
    let sniffer = frame::sniff(&lab.external_network());
    let (out, gateway) = (frame::tap(&open), lab.mac_of(red, &red.bridge_device()));
    assert!(pings(&open, "203.0.113.1"));
    for from in [pool.source(), pool.node(), "169.254.200.200".parse().unwrap()] {
        let packet = frame::ip(from.octets(), [203, 0, 113, 1], b"as the node");
        frame::shoot(&out, &frame::ethernet(mac(1), gateway, 0x0800, &packet), "as the node");
    }
    let packet = frame::ip([10, 9, 0, 101], [203, 0, 113, 1], b"as itself");
    frame::shoot(&out, &frame::ethernet(mac(1), gateway, 0x0800, &packet), "as itself");
    let heard = frame::hear(&sniffer, b"as itself");
    assert!(!frame::contains(&heard, b"as the node"));
}

/// A kubelet probes `status.podIP`, which several tenants may have: no host on the node's network answers instead of them.
#[test]
fn what_the_node_sends_to_an_address_that_several_pods_may_have_does_not_leave_it() {
    let mut lab = Lab::start(provider());
    let (red, blue) = (lab.tenant(1), lab.tenant(2));
    let host = neighbour(&lab);
    inside(&host, "ip", &["addr", "add", "10.9.0.101/32", "dev", "eth0"]);
    run("ip", &["route", "add", "default", "via", "192.0.2.9"]);
    let _served = serve(&host, "a host");
    assert_eq!(ask(node(), "10.9.0.101").as_deref(), Some("a host"), "before any pod has it");
    let stopped = |what: &str| {
        let asked = on_thread(node(), || {
            let to = "10.9.0.101:7000".parse().unwrap();
            std::net::TcpStream::connect_timeout(&to, std::time::Duration::from_secs(1)).map(drop)
        });
        // At once, and with the right error.
        assert_eq!(asked.join().unwrap().unwrap_err().raw_os_error(), Some(nix::libc::EACCES), "{what}");
        assert!(!pings(node(), "10.9.0.101"), "{what}");
    };
    let (red1, blue1) = (lab.pod(red, 1), lab.pod(blue, 1));
    stopped("two tenants have it");
    // So is what kube-proxy or portmap translate to it.
    run(
        "nft",
        &[
            "add table ip t; add chain ip t o { type nat hook output priority -100; }; add rule ip t o ip daddr 10.96.0.1 dnat to 10.9.0.101",
        ],
    );
    assert_eq!(ask(node(), "10.96.0.1"), None);
    let _pods = [serve(&red1, "red"), serve(&blue1, "blue")];
    assert_eq!(ask(node(), &side(&lab, red.pod(1))).as_deref(), Some("red"));
    lab.submit(vec![TopologyChange::Remove(red.pod(1))]);
    stopped("one of them still has it");
    // The rules were flushed, and the data plane was restarted.
    let mut topology = provider();
    for change in put(blue.objects("10.9.0.0/24").into_iter().chain([blue.pod_port(1)])) {
        topology.apply(change);
    }
    lab.plane.take().unwrap().stop();
    run("ip", &["route", "flush", "type", "prohibit"]);
    lab.restart(topology);
    stopped("after a restart");
    // Now its port has the address alone.
    let Object::Port(id, mut port) = blue.pod_port(1) else { unreachable!() };
    port.vif_id = Some(PortSecurity { mac: mac(1), address: address(1), unique: true }.to_vif_id());
    lab.submit(put([Object::Port(id, port)]));
    lab.wait_active(id, true);
    assert_eq!(ask(node(), "10.9.0.101").as_deref(), Some("blue"));
    lab.submit(vec![TopologyChange::Remove(id)]);
    assert_eq!(ask(node(), "10.9.0.101").as_deref(), Some("a host"), "nothing is left of it");
}

/// A rule that drops everything.
fn nothing(n: u128) -> Object {
    let rule = Rule { id: Uuid::from_u128(n), condition: Condition::default(), action: RuleAction::Drop };
    Object::Chain(Uuid::from_u128(n), Chain { tenant: "t".into(), name: "nothing".into(), rules: vec![rule] })
}

#[test]
fn no_rule_and_no_route_of_a_tenant_stands_between_the_node_and_a_pod() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let pod = lab.pod(red, 1);
    let to = side(&lab, red.pod(1));
    let _seen = serve(&pod, "red");
    let chain = Some(Uuid::from_u128(0x900));
    let Object::Port(port_id, port) = red.pod_port(1) else { unreachable!() };
    let bridge = Bridge { up: true, inbound: chain, outbound: chain, ..Bridge::default() };
    let router = Router { up: true, inbound: chain, outbound: chain, ..Router::default() };
    let flows = Rule {
        id: Uuid::from_u128(0x901),
        condition: Condition { return_flow: true, ..Condition::default() },
        action: RuleAction::Drop,
    };
    let tracked = Chain { tenant: "t".into(), name: "nothing, statefully".into(), rules: vec![flows] };
    let Object::Chain(_, mut blocked) = nothing(0x900) else { unreachable!() };
    blocked.rules.splice(0..0, tracked.rules);
    let away = Route { action: RouteAction::BlackHole, ..route(red.router(), "10.9.0.101/32", red.uplink(), None) };
    let down = Router { up: false, ..Router::default() };
    let stages: [(&str, Vec<Object>); 7] = [
        ("port", vec![nothing(0x900), Object::Port(port_id, Port { inbound: chain, outbound: chain, ..port })]),
        ("bridge", vec![Object::Bridge(red.bridge(), bridge)]),
        ("router", vec![Object::Router(red.router(), router)]),
        ("pod's address", vec![Object::Route(Uuid::from_u128(0x902), away.clone())]),
        ("source", vec![Object::Route(Uuid::from_u128(0x903), Route { destination: net("169.254.0.0/16"), ..away })]),
        ("flows", vec![Object::Chain(Uuid::from_u128(0x900), blocked)]),
        ("a router that is down", vec![Object::Router(red.router(), down)]),
    ];
    for (what, objects) in stages {
        lab.submit(put(objects));
        lab.wait_active(red.pod(1), true);
        assert_eq!(lab.plane().report().unsupported.len(), 0, "{what}: {:#?}", lab.plane().report());
        // Not even ARP is known to the pod.
        inside(&pod, "ip", &["neigh", "flush", "all"]);
        assert!(!pings(&pod, "203.0.113.1") && !pings(&pod, "10.9.0.1"), "{what}: the tenant's rules hold");
        inside(&pod, "ip", &["neigh", "flush", "all"]);
        assert_eq!(ask(node(), &to).as_deref(), Some("red"), "{what}");
        assert!(pings(node(), &to), "{what}");
    }
}

#[test]
fn neighbours_of_the_node_come_in_by_its_own_ports_only() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let pod = unique(&lab, red, 1);
    let to = side(&lab, red.pod(1));
    let neighbour = neighbour(&lab);
    let seen = serve(&pod, "red");
    assert_eq!(ask(node(), "10.9.0.101").as_deref(), Some("red"));
    for to in [to.as_str(), "10.9.0.101", "169.254.128.1", "169.254.128.2"] {
        assert!(!pings(&neighbour, to), "{to}");
        assert_eq!(ask(&neighbour, to), None, "{to}");
    }
    assert_eq!(seen.lock().unwrap().len(), 1);

    // hostPort, as containerd asks for it: Debian's plugin, chained behind.
    let configuration = format!(
        r#"{{"cniVersion":"1.0.0","name":"atoll","type":"portmap","capabilities":{{"portMappings":true}},
        "runtimeConfig":{{"portMappings":[{{"hostPort":7000,"containerPort":7000,"protocol":"tcp"}}]}},
        "prevResult":{{"cniVersion":"1.0.0","interfaces":[{{"name":"eth0","sandbox":"{}"}}],
        "ips":[{{"address":"10.9.0.101/24","gateway":"10.9.0.1","interface":0}}]}}}}"#,
        pod.display()
    );
    let portmap = |verb: &str| {
        let mut child = Command::new("/usr/lib/cni/portmap")
            .envs([("CNI_COMMAND", verb), ("CNI_CONTAINERID", "at1"), ("CNI_IFNAME", "eth0")])
            .env("CNI_NETNS", &pod)
            .env("CNI_PATH", "/usr/lib/cni")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Debian package containernetworking-plugins");
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), configuration.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{verb}: {}", String::from_utf8_lossy(&output.stdout));
    };
    portmap("ADD");
    assert_eq!(ask(&neighbour, "192.0.2.1").as_deref(), Some("red"), "the neighbour comes in by the host port");
    assert!(seen.lock().unwrap().iter().all(|peer| *peer == HostToPodPool::DEFAULT.source()));
    assert_eq!(ask(&neighbour, "10.9.0.101"), None, "and by no other way");
    portmap("DEL");
    assert_eq!(ask(&neighbour, "192.0.2.1"), None);
}

/// The machine's own networks, addresses and services of its cloud may lie within the pool: they stay what they were.
#[test]
fn what_the_machine_uses_of_the_pool_stays_the_machines() {
    let mut lab = Lab::start(Topology::default());
    lab.plane.take().unwrap().stop();
    let neighbour = neighbour(&lab);
    run("ip", &["addr", "add", "169.254.200.1/24", "dev", "lan0"]);
    run("ip", &["route", "add", "default", "via", "192.0.2.9"]);
    // Behind the default route, and with a route that is as narrow as one of ours to a pod.
    let elsewhere = ["169.254.169.254", "169.254.170.2", "169.254.200.9", "198.51.100.7", "10.9.0.101"];
    for address in elsewhere {
        inside(&neighbour, "ip", &["addr", "add", &format!("{address}/32"), "dev", "eth0"]);
    }
    inside(&neighbour, "ip", &["route", "add", "169.254.200.0/24", "dev", "eth0"]);
    run("ip", &["route", "add", "10.9.0.101/32", "via", "192.0.2.9"]);
    let whole = || {
        for address in elsewhere.iter().chain(&["192.0.2.9"]) {
            assert!(pings(node(), address), "{address}");
        }
        assert!(pings(&neighbour, "192.0.2.1") && pings(&neighbour, "169.254.200.1"));
    };
    whole();
    lab.restart(provider());
    let red = lab.tenant(1);
    let pod = unique(&lab, red, 1);
    let to = side(&lab, red.pod(1));
    assert!(pings(node(), &to));
    whole();
    // A network that the machine gets later.
    run("ip", &["route", "add", "169.254.210.0/24", "via", "192.0.2.9"]);
    inside(&neighbour, "ip", &["addr", "add", "169.254.210.9/32", "dev", "eth0"]);
    let guard = || run("nft", &["list", "table", "ip", "atoll_node"]);
    wait(guard, || guard().contains("169.254.211.0"));
    assert!(pings(&neighbour, "192.0.2.1") && pings(node(), "169.254.210.9"));
    whole();
    assert!(pings(node(), &to) && pings(&pod, "203.0.113.1"));
    // Packets to unassigned addresses do not use the default route.
    let unreached = attempt(node(), "ip", &["route", "get", "169.254.199.1"]);
    assert!(String::from_utf8_lossy(&unreached.stderr).contains("Permission denied"), "{unreached:?}");
    lab.plane.take().unwrap().stop();
    atoll_dataplane::purge(&lab.planes()).unwrap();
    whole();
    assert!(!run("ip", &["route"]).contains("proto 201"), "{}", run("ip", &["route"]));
}

/// The pool is configuration: what it was before leaves nothing behind.
#[test]
fn another_pool_takes_the_place_of_the_one_before_and_none_takes_all_away() {
    let mut topology = provider();
    let red = TenantObjects(1);
    let mut lab = Lab::start(topology.clone());
    lab.submit(put(red.objects("10.9.0.0/24")));
    let pod = unique(&lab, red, 1);
    let Object::Port(id, mut port) = red.pod_port(1) else { unreachable!() };
    port.vif_id = Some(PortSecurity { mac: mac(1), address: address(1), unique: true }.to_vif_id());
    for change in put(red.objects("10.9.0.0/24").into_iter().chain([Object::Port(id, port)])) {
        topology.apply(change);
    }
    let _served = serve(&pod, "red");
    let shown = || run("ip", &["addr"]) + &run("ip", &["route"]) + &run("nft", &["list", "ruleset"]);
    let default = (Some(HostToPodPool::DEFAULT), "169.254.");
    let other = (HostToPodPool::new(net("10.200.0.0/24")), "10.200.");
    for ((pool, begins), (_, before)) in [(other, default), (default, other), (other, default)] {
        lab.pool = pool;
        lab.restart(topology.clone());
        let to = side(&lab, id);
        assert!(to.starts_with(begins) && ask(node(), &to).as_deref() == Some("red"), "{to}");
        assert_eq!(ask(node(), "10.9.0.101").as_deref(), Some("red"));
        assert!(!shown().contains(before), "{before}: {}", shown());
        assert!(pings(&pod, "203.0.113.1"));
        lab.restart(topology.clone());
        assert_eq!(lab.plane().report().changes, 0, "{begins}");
    }
    lab.pool = None;
    lab.restart(topology.clone());
    assert!(lab.plane().report().errors.is_empty(), "{:#?}", lab.plane().report());
    for gone in ["atn", "atoll_node", "10.200.", "10.9.0.101", "proto 201"] {
        assert!(!shown().contains(gone), "{gone}: {}", shown());
    }
    assert!(pings(&pod, "203.0.113.1"));
    lab.restart(topology);
    assert_eq!(lab.plane().report().changes, 0);
}

/// Without the two addresses that every pod and the node know each other by there is no host-to-pod addressing.
#[test]
fn a_pool_that_is_a_network_of_the_machine_is_refused() {
    let mut lab = Lab::start(Topology::default());
    lab.plane.take().unwrap().stop();
    let neighbour = neighbour(&lab);
    run("ip", &["addr", "add", "169.254.128.77/18", "dev", "lan0"]);
    let (routes, filter) = (run("ip", &["route"]), run("nft", &["list", "ruleset"]));
    lab.restart(provider());
    let red = lab.tenant(1);
    let pod = lab.pod(red, 1);
    let report = lab.plane().report();
    let error = report.errors.get(&Uuid::nil()).cloned().unwrap_or_default();
    assert!(error.contains("169.254.128.0/17") && error.contains("169.254.128.0/18"), "{report:#?}");
    assert!(report.host_to_pod.is_empty() && pings(&pod, "203.0.113.1") && pings(&neighbour, "192.0.2.1"));
    assert_eq!((run("ip", &["route"]), run("nft", &["list", "ruleset"])), (routes, filter));
}

#[test]
fn host_to_pod_addressing_survives_restarts_and_is_repaired() {
    let mut topology = provider();
    let red = TenantObjects(1);
    let all = |n| red.objects("10.9.0.0/24").into_iter().chain((1..=n).map(|n| red.pod_port(n)));
    for change in put(all(0)) {
        topology.apply(change);
    }
    let mut lab = Lab::start(topology.clone());
    let pods: Vec<_> = (1..=3).map(|n| lab.pod(red, n)).collect();
    let sides = lab.plane().report().host_to_pod;
    for change in put(all(3)) {
        topology.apply(change);
    }

    // What the kernel has wins over what would be derived: swapped by hand, as after a collision long gone.
    let address = |n| sides[&red.pod(n)].address;
    let element = |n, of| format!("{} : {}", address(n), atoll_testkit::plane::address(of));
    lab.plane.take().unwrap().stop();
    let script = format!(
        "delete element ip atoll host_to_pod {{ {}, {} }}; add element ip atoll host_to_pod {{ {}, {} }}",
        element(1, 1),
        element(2, 2),
        element(1, 2),
        element(2, 1)
    );
    inside(&lab.namespace(red), "nft", &[&script]);
    lab.restart(topology.clone());
    let swapped = lab.plane().report().host_to_pod;
    assert_eq!((swapped[&red.pod(1)].address, swapped[&red.pod(2)].address), (address(2), address(1)));
    lab.restart(topology.clone());
    let report = lab.plane().report();
    assert_eq!((report.changes, &report.host_to_pod), (0, &swapped), "{report:#?}");
    let _servers: Vec<_> = pods.iter().zip(["1", "2", "3"]).map(|(pod, name)| serve(pod, name)).collect();
    let whole = |lab: &Lab| (1..=3).all(|n: u8| ask(node(), &side(lab, red.pod(n))) == Some(n.to_string()));
    assert!(whole(&lab));

    let links = run("ip", &["-o", "link"]);
    let end =
        links.split_whitespace().find_map(|word| word.split('@').next().filter(|w| w.starts_with("atn"))).unwrap();
    let router_end = end.replace("atn", "atr");
    let namespace = lab.namespace(red);
    let elsewhere = pods[0].display().to_string();
    let damages: &[(&Path, &[&str])] = &[
        (node(), &["ip", "route", "flush", "proto", "201"]),
        (node(), &["ip", "route", "flush", "type", "prohibit"]),
        (node(), &["sh", "-c", &format!("ip link set {end} down; ip link set {end} name foreign0")]),
        (node(), &["ip", "link", "set", end, "netns", &elsewhere]),
        (&namespace, &["ip", "link", "set", &router_end, "netns", &elsewhere]),
        (node(), &["ip", "addr", "flush", "dev", end]),
        (node(), &["ip", "addr", "add", "198.51.100.1/24", "dev", end]),
        (node(), &["ip", "neigh", "flush", "dev", end, "nud", "permanent"]),
        (node(), &["ip", "link", "set", end, "down"]),
        (node(), &["ip", "link", "del", end]),
        (node(), &["nft", "delete", "table", "ip", "atoll_node"]),
        (node(), &["nft", "flush", "chain", "ip", "atoll_node", "passing"]),
        (node(), &["nft", "add", "rule", "ip", "atoll_node", "arriving", "drop"]),
        (&namespace, &["ip", "link", "del", &router_end]),
        (&namespace, &["ip", "link", "set", &router_end, "down"]),
        (&namespace, &["ip", "rule", "del", "priority", "100"]),
        (&namespace, &["ip", "rule", "del", "priority", "101"]),
        (&namespace, &["ip", "route", "flush", "table", "901"]),
        (&namespace, &["ip", "route", "flush", "table", "902"]),
        (&namespace, &["ip", "neigh", "flush", "dev", &router_end, "nud", "permanent"]),
        (&namespace, &["sysctl", "-qw", "net.ipv4.fwmark_reflect=0"]),
        // Forgotten: derived again.
        (&namespace, &["nft", "flush", "map", "ip", "atoll", "host_to_pod"]),
    ];
    for (where_, damage) in damages {
        lab.plane.take().unwrap().stop();
        inside(where_, damage[0], &damage[1..]);
        lab.restart(topology.clone());
        let report = lab.plane().report();
        assert!(report.changes > 0 && report.errors.is_empty(), "{damage:?}: {report:#?}");
        let expected = if damage.contains(&"map") { &sides } else { &swapped };
        assert_eq!(&report.host_to_pod, expected, "{damage:?}");
        wait(|| format!("{damage:?}: {:#?}", lab.plane().report()), || whole(&lab));
        lab.restart(topology.clone());
        assert_eq!(lab.plane().report().changes, 0, "{damage:?}");
    }
    let address: Ipv4Addr = "198.51.100.1".parse().unwrap();
    assert!(!run("ip", &["addr"]).contains(&address.to_string()));
}

#[test]
fn purge_removes_host_to_pod_addressing_and_nothing_else() {
    let mut lab = Lab::start(provider());
    let red = lab.tenant(1);
    unique(&lab, red, 1);
    let _neighbour = neighbour(&lab);
    run("nft", &["add table ip foreign; add chain ip foreign input"]);
    run("ip", &["route", "add", "198.51.100.0/24", "dev", "lan0", "proto", "201"]);
    lab.plane.take().unwrap().stop();
    atoll_dataplane::purge(&lab.planes()).unwrap();
    let left = run("ip", &["-o", "link"]) + &run("nft", &["list", "ruleset"]) + &run("ip", &["route"]);
    for gone in ["atn", "atoll_node", "169.254.", "10.9.0.101"] {
        assert!(!left.contains(gone), "{gone}: {left}");
    }
    for stays in ["lan0", "table ip foreign", "198.51.100.0/24"] {
        assert!(left.contains(stays), "{stays}: {left}");
    }
}
