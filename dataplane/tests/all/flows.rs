//! Tracked flows are deleted with the port of a pod, in every namespace and in both directions: the next owner of its
//! address receives no packets for it and cannot answer in its name.

#![allow(clippy::unwrap_used, reason = "a laboratory that does not work is a failed test")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_model::topology::*;
use atoll_testkit::plane::*;
use uuid::Uuid;

const CHAIN: Uuid = Uuid::from_u128(0xc0);
const EXTERNAL: &str = "203.0.113.1";

/// A socket in `netns`, bound to `port`.
fn socket(netns: &Path, port: u16) -> UdpSocket {
    let socket = on_thread(netns, move || UdpSocket::bind(("0.0.0.0", port)).unwrap()).join().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

/// What comes in next, and from whom; none when nothing does within a second.
fn heard(socket: &UdpSocket) -> Option<(String, SocketAddr)> {
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut buffer = [0; 100];
    let (length, from) = socket.recv_from(&mut buffer).ok()?;
    Some((String::from_utf8_lossy(&buffer[..length]).into_owned(), from))
}

/// Sends from one to the other and back; answers under which address the first is known.
fn exchange(from: &UdpSocket, to: &UdpSocket, at: SocketAddr) -> SocketAddr {
    let mut buffer = [0; 100];
    from.send_to(b"question", at).unwrap();
    let (_, seen) = to.recv_from(&mut buffer).expect("the question arrives");
    to.send_to(b"answer", seen).unwrap();
    from.recv_from(&mut buffer).expect("the answer arrives");
    seen
}

/// Tracked flows of a namespace that have this text in them.
fn tracked(netns: &Path, text: &str) -> Vec<String> {
    let all = inside(netns, "cat", &["/proc/thread-self/net/nf_conntrack"]);
    all.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

fn at(address: impl std::fmt::Display, port: u16) -> SocketAddr {
    format!("{address}:{port}").parse().unwrap()
}

/// The pod `n` goes, as a runtime takes it: its port, then its interface and namespace.
fn end(lab: &Lab, tenant: TenantObjects, n: u8) {
    lab.submit(vec![TopologyChange::Remove(tenant.pod(n))]);
    take_away(lab, tenant, n);
}

fn take_away(lab: &Lab, tenant: TenantObjects, n: u8) {
    inside(&lab.namespace(tenant), "ip", &["link", "del", &interface(tenant, n)]);
    let pod = lab.directory.path().join("pods").join(interface(tenant, n));
    nix::mount::umount2(&pod, nix::mount::MntFlags::MNT_DETACH).unwrap();
}

/// Another pod with the same address, under another port.
fn successor(lab: &Lab, tenant: TenantObjects, n: u8) -> PathBuf {
    let pod = lab.wire(tenant, n, Some(&lab.namespace(tenant)));
    let Object::Port(_, port) = tenant.pod_port(n) else { unreachable!() };
    let id = Uuid::from_u128(0x50cc_0000 + u128::from(n));
    lab.submit(put([Object::Port(id, port)]));
    lab.wait_active(id, true);
    pod
}

#[test]
fn the_next_owner_of_an_address_gets_no_external_answer_for_the_earlier_owner() {
    let lab = Lab::start(provider());
    lab.track_flows_of_provider(CHAIN);
    let (red, blue) = (lab.tenant(1), lab.tenant(2));
    let (old, other, neighbour) = (lab.pod(red, 1), lab.pod(red, 2), lab.pod(blue, 1));
    let (server, echo) = (socket(&lab.external_network(), 7002), socket(&lab.external_network(), 7));
    let (client, others, neighbours) = (socket(&old, 6000), socket(&other, 6001), socket(&neighbour, 6000));
    let known = exchange(&client, &server, at(EXTERNAL, 7002));
    let [others_known, neighbours_known] = [&others, &neighbours].map(|it| exchange(it, &server, at(EXTERNAL, 7002)));
    // A ping is a flow too, also without an answer.
    assert!(pings(&old, EXTERNAL));
    client.send_to(b"no listener", at(EXTERNAL, 9)).unwrap();
    let provider = lab.planes().join(PROVIDER.to_string());
    assert!(tracked(&provider, &red.transit()).len() >= 4 && tracked(&lab.namespace(red), "10.9.0.101").len() >= 3);
    drop(client);
    end(&lab, red, 1);
    assert_eq!(tracked(&lab.namespace(red), "10.9.0.101"), Vec::<String>::new());
    let left = tracked(&provider, &format!("{} ", red.transit()));
    assert!(left.iter().all(|flow| flow.contains("port=6001")) && !left.is_empty(), "{left:#?}");
    let new = successor(&lab, red, 1);
    let listener = socket(&new, 6000);
    server.send_to(b"for the old pod", known).unwrap();
    assert_eq!(heard(&listener), None);
    // Flows of other pods, and of another tenant's pod with the same address, go on.
    for (socket, known) in [(&others, others_known), (&neighbours, neighbours_known)] {
        server.send_to(b"still here", known).unwrap();
        assert_eq!(heard(socket).map(|it| it.0).as_deref(), Some("still here"));
    }
    // And the new pod has flows of its own, from the very same port.
    exchange(&listener, &echo, at(EXTERNAL, 7));
}

#[test]
fn the_next_owner_of_an_address_answers_no_flow_of_the_earlier_owner() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let (a, old) = (lab.pod(red, 1), lab.pod(red, 2));
    // Pod 1 takes in answers only, and ARP; so the bridge tracks.
    let rule = |n, condition, action| Rule { id: Uuid::from_u128(n), condition, action };
    let answers = Condition { return_flow: true, ..Condition::default() };
    let ipv4 = Condition { ether_type: Some(Test::is(0x0800)), ..Condition::default() };
    let rules = vec![rule(0xd1, answers, RuleAction::Accept), rule(0xd2, ipv4, RuleAction::Drop)];
    let Object::Port(id, port) = red.pod_port(1) else { unreachable!() };
    let chain = Object::Chain(CHAIN, Chain { rules, ..Chain::default() });
    lab.submit(put([chain, Object::Port(id, Port { outbound: Some(CHAIN), ..port })]));
    lab.wait_active(id, true);
    let (asks, answers) = (socket(&a, 6000), socket(&old, 7000));
    exchange(&asks, &answers, at(address(2), 7000));
    // The node too: it accepts answers to its own flows.
    let side = lab.plane().report().host_to_pod[&red.pod(2)].address;
    let node_asks = socket(node(), 6100);
    let source = exchange(&node_asks, &answers, at(side, 7000));
    assert!(!tracked(node(), &side.to_string()).is_empty());
    drop(answers);
    end(&lab, red, 2);
    for (place, text) in [(lab.namespace(red), "10.9.0.102"), (node().to_owned(), &*side.to_string())] {
        assert_eq!(tracked(&place, text), Vec::<String>::new());
    }
    let new = successor(&lab, red, 2);
    let pretends = socket(&new, 7000);
    pretends.send_to(b"unsolicited", at(address(1), 6000)).unwrap();
    assert_eq!(heard(&asks), None);
    pretends.send_to(b"unsolicited", source).unwrap();
    assert_eq!(heard(&node_asks), None);
    // Its answers to flows of its own arrive.
    exchange(&asks, &pretends, at(address(2), 7000));
}

/// The interface behind a port that stays goes, and another comes under its name.
#[test]
fn an_interface_that_takes_the_place_of_another_has_none_of_its_flows() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let old = lab.pod(red, 1);
    let server = socket(&lab.external_network(), 7002);
    let known = exchange(&socket(&old, 6000), &server, at(EXTERNAL, 7002));
    take_away(&lab, red, 1);
    wait(|| "the flow is forgotten".to_owned(), || tracked(&lab.namespace(red), "10.9.0.101").is_empty());
    let new = lab.wire(red, 1, Some(&lab.namespace(red)));
    reaches(&new, EXTERNAL);
    let listener = socket(&new, 6000);
    server.send_to(b"for the old pod", known).unwrap();
    assert_eq!(heard(&listener), None);
}

#[test]
fn other_rules_leave_the_flows_of_a_port_alone_and_so_does_a_restart() {
    let mut lab = Lab::start(provider());
    let red = lab.tenant(1);
    let pod = lab.pod(red, 1);
    let server = socket(&lab.external_network(), 7002);
    let client = socket(&pod, 6000);
    let known = exchange(&client, &server, at(EXTERNAL, 7002));
    let Object::Port(id, port) = red.pod_port(1) else { unreachable!() };
    let port = Object::Port(id, Port { inbound: Some(CHAIN), ..port });
    let chain = Object::Chain(CHAIN, Chain::default());
    lab.submit(put([chain.clone(), port.clone()]));
    lab.wait_active(id, true);
    let goes_on = |what: &str| {
        server.send_to(b"still here", known).unwrap();
        assert_eq!(heard(&client).map(|it| it.0).as_deref(), Some("still here"), "{what}");
    };
    goes_on("other rules");
    let mut topology = provider();
    for change in put(red.objects("10.9.0.0/24").into_iter().chain([chain, port])) {
        topology.apply(change);
    }
    lab.restart(topology.clone());
    goes_on("a restart");
    // The port was removed while the data plane was not running.
    topology.apply(TopologyChange::Remove(id));
    lab.restart(topology);
    assert_eq!(tracked(&lab.namespace(red), "10.9.0.101"), Vec::<String>::new());
}

#[test]
fn a_translation_that_is_gone_takes_its_flows_along() {
    let mut topology = provider();
    let red = TenantObjects(1);
    let floating = Ipv4Addr::new(203, 0, 113, 50);
    let rules = |to: Option<u8>| {
        let objects = red.objects("10.9.0.0/24").into_iter().map(move |object| match object {
            Object::Chain(id, mut chain) if id == red.inbound() => {
                let condition = Condition { destination: Some(Test::is(floating.into())), ..Condition::default() };
                let target = |n| NatTarget { from: address(n), to: address(n), port_from: 0, port_to: 0 };
                let rule = |n| Rule {
                    id: Uuid::from_u128(0xe0 + u128::from(n)),
                    condition: condition.clone(),
                    action: RuleAction::Dnat { targets: vec![target(n)], then: FlowAction::Accept },
                };
                chain.rules.splice(0..0, to.map(rule));
                Object::Chain(id, chain)
            }
            other => other,
        });
        objects.collect::<Vec<_>>()
    };
    topology.routes.insert(Uuid::from_u128(0x109), route(PROVIDER, "203.0.113.50/32", red.provider_port(), None));
    let lab = Lab::start(topology);
    lab.track_flows_of_provider(CHAIN);
    lab.submit(put(rules(Some(1))));
    let (first, second) = (lab.pod(red, 1), lab.pod(red, 2));
    let [servers, successors] = [&first, &second].map(|pod| socket(pod, 7000));
    let client = socket(&lab.external_network(), 7002);
    inside(&lab.external_network(), "ip", &["route", "add", "203.0.113.50/32", "via", "203.0.113.2"]);
    exchange(&client, &servers, at(floating, 7000));
    // Away, and back for another pod: the same flow is another one.
    lab.submit(put(rules(None)));
    let provider = lab.planes().join(PROVIDER.to_string());
    for place in [lab.namespace(red), provider] {
        assert_eq!(tracked(&place, "203.0.113.50"), Vec::<String>::new(), "{}", place.display());
    }
    lab.submit(put(rules(Some(2))));
    client.send_to(b"question", at(floating, 7000)).unwrap();
    assert_eq!(heard(&successors).map(|it| it.0).as_deref(), Some("question"));
    assert_eq!(heard(&servers), None);
}
