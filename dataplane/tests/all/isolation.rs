//! What a tenant cannot do: reach other tenants, send packets without an owner, exhaust shared resources.

#![allow(clippy::unwrap_used, reason = "a laboratory that does not work is a failed test")]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atoll_model::attachment::Mac;
use atoll_model::port_security::PortSecurity;
use atoll_model::topology::*;
use atoll_testkit::plane::frame::*;
use atoll_testkit::plane::*;
use uuid::Uuid;

const A: [u8; 4] = [10, 9, 0, 101];
const B: [u8; 4] = [10, 9, 0, 102];
const EXTERNAL: [u8; 4] = [203, 0, 113, 1];
const MORE: u16 = 0x2000;

fn rules(id: Uuid, rules: impl IntoIterator<Item = (Condition, RuleAction)>) -> Object {
    let rules = rules.into_iter().zip(1..).map(|((condition, action), n)| Rule {
        id: Uuid::new_v5(&id, &u32::to_be_bytes(n)),
        condition,
        action,
    });
    Object::Chain(id, Chain { rules: rules.collect(), ..Chain::default() })
}

/// Sniffers in several namespaces, with the frames that they captured.
struct Sniffers(Vec<(&'static str, OwnedFd, Vec<Vec<u8>>)>);

impl Sniffers {
    fn new(places: &[(&'static str, &Path)]) -> Self {
        Self(places.iter().map(|(name, netns)| (*name, sniff(netns), Vec::new())).collect())
    }

    /// Captures all frames that have arrived.
    fn capture(&mut self) {
        for (_, socket, captured) in &mut self.0 {
            while let Some(frame) = overhear(socket) {
                captured.push(frame);
            }
        }
    }

    /// The sniffers that captured a frame with this mark.
    fn with(&self, mark: &[u8]) -> Vec<&'static str> {
        self.0.iter().filter(|(_, _, captured)| contains(captured, mark)).map(|(name, ..)| *name).collect()
    }
}

/// A pod of a tenant with a subnet of its own.
fn pod_in_subnet(lab: &Lab, tenant: TenantObjects, subnet: &str, address: Ipv4Addr, gateway: &str) -> PathBuf {
    lab.submit(put(tenant.objects(subnet)));
    let pod = lab.wire(tenant, 1, Some(&lab.namespace(tenant)));
    inside(&pod, "ip", &["addr", "flush", "dev", "eth0"]);
    inside(&pod, "ip", &["addr", "add", &format!("{address}/24"), "dev", "eth0"]);
    inside(&pod, "ip", &["route", "replace", "default", "via", gateway]);
    let Object::Port(id, mut port) = tenant.pod_port(1) else { unreachable!() };
    port.vif_id = Some(PortSecurity { mac: mac(1), address, unique: false }.to_vif_id());
    lab.submit(put([Object::Port(id, port)]));
    lab.wait_active(id, true);
    pod
}

#[test]
fn a_tenant_reaches_neither_pods_of_another_nor_the_machine() {
    let lab = Lab::start(provider());
    let (red, green) = (lab.tenant(1), TenantObjects(2));
    let (red1, red2) = (lab.pod(red, 1), lab.pod(red, 2));
    let green1 = pod_in_subnet(&lab, green, "10.6.0.0/24", "10.6.0.5".parse().unwrap(), "10.6.0.1");
    let seen = serve(&green1, "green");
    // The provider has routes to both subnets, by mistake or by malice.
    let leak = |n, subnet, port| Object::Route(Uuid::from_u128(n), route(PROVIDER, subnet, port, None));
    lab.submit(put([
        leak(0x990, "10.6.0.0/24", green.provider_port()),
        leak(0x991, "10.9.0.0/24", red.provider_port()),
    ]));
    assert!(pings(&red1, "203.0.113.1") && pings(&green1, "203.0.113.1"), "both work");
    let provider = lab.planes().join(PROVIDER.to_string());
    let _ = serve(&provider, "provider");
    let own = PathBuf::from("/proc/thread-self/ns/net");
    // There is no listener on the other tenant's router, on the provider's, or here.
    for to in ["10.6.0.5", "10.6.0.1", &green.transit(), "100.64.0.9", "100.64.0.5", "203.0.113.2"] {
        assert_eq!(ask(&red1, to), None, "{to}");
    }
    assert!(!pings(&red1, "10.6.0.5"));
    assert!(pings(&red1, "203.0.113.2") && pings(&red1, "10.6.0.1"), "routers answer pings to their own addresses");
    assert!(seen.lock().unwrap().is_empty());

    // Crafted packets: broadcast, unassigned and machine addresses, and source routes.
    let gateway = lab.mac_of(red, &red.bridge_device());
    let out = tap(&red1);
    let mut sniffers = Sniffers::new(&[
        ("green", &green1),
        ("provider", &provider),
        ("external", &lab.external_network()),
        ("machine", &own),
    ]);
    let all = Mac([0xff; 6]);
    let mut shots: Vec<(String, Vec<u8>)> = Vec::new();
    for to in [
        [127, 0, 0, 1],
        [0, 0, 0, 0],
        [255, 255, 255, 255],
        [10, 9, 0, 255],
        [10, 6, 0, 255],
        [224, 0, 0, 1],
        [239, 1, 2, 3],
    ] {
        for (mac, name) in [(gateway, "gateway"), (all, "all")] {
            let mark = format!("<{to:?} to {name}>");
            let packet = ip_of(17, A, to, 0, &[], &udp(7000, mark.as_bytes()));
            shots.push((mark, ethernet(mac_of_pod(), mac, 0x0800, &packet)));
        }
    }
    // Loose and strict source routes by the provider to the other tenant's pod, and to the external host.
    for (kind, name) in [(131, "loose"), (137, "strict")] {
        for (n, to) in [[10, 6, 0, 5], EXTERNAL].into_iter().enumerate() {
            let mark = format!("<{name} route {n}>");
            let options = [&[kind, 11, 4][..], &[100, 64, 0, 5], &to, &[0]].concat();
            let packet = ip_of(17, A, [10, 9, 0, 1], 0, &options, &udp(7000, mark.as_bytes()));
            shots.push((mark, ethernet(mac_of_pod(), gateway, 0x0800, &packet)));
            let mark = format!("<{name} route {n} on its way>");
            let packet = ip_of(17, A, to, 0, &options, &udp(7000, mark.as_bytes()));
            shots.push((mark, ethernet(mac_of_pod(), gateway, 0x0800, &packet)));
        }
    }
    // Malformed: the router forwards none of them.
    let malform = |change: fn(&mut Vec<u8>), name: &str, shots: &mut Vec<(String, Vec<u8>)>| {
        let mark = format!("<{name}>");
        let mut packet = ip_of(17, A, EXTERNAL, 0, &[], &udp(7000, mark.as_bytes()));
        change(&mut packet);
        shots.push((mark, ethernet(mac_of_pod(), gateway, 0x0800, &packet)));
    };
    malform(|packet| packet[10] ^= 1, "bad checksum", &mut shots);
    malform(|packet| packet[0] = 0x44, "header of four words", &mut shots);
    malform(|packet| packet[0] = 0x4f, "header longer than the packet", &mut shots);
    malform(|packet| packet[2] = 0x40, "length beyond the frame", &mut shots);
    malform(|packet| packet[0] = 0x65, "version 6", &mut shots);
    for (name, frame) in &shots {
        shoot(&out, frame, name);
    }
    // A correct packet arrives at the external host, and everything before it has been through.
    let last = ip_of(17, A, EXTERNAL, 0, &[], &udp(7000, b"<last>"));
    shoot(&out, &ethernet(mac_of_pod(), gateway, 0x0800, &last), "last");
    wait(
        || "the external host captures the last packet".to_owned(),
        || {
            sniffers.capture();
            sniffers.with(b"<last>").contains(&"external")
        },
    );
    for (mark, _) in &shots {
        // The provider has a route to the other's subnet; the frame comes as far as the provider.
        let routed: &[&str] = if mark == "<[10, 6, 0, 255] to gateway>" { &["provider"] } else { &[] };
        assert_eq!(sniffers.with(mark.as_bytes()), routed, "{mark}");
    }
    assert_eq!(sniffers.with(b"<last>"), ["provider", "external"]);
    assert!(pings(&red1, "10.9.0.102") && pings(&red2, "203.0.113.1"));
}

/// The interface of a pod whose port is closed, or not bound yet, is in the router's namespace but in no bridge: there is
/// no port security, and it must not be routed.
#[test]
fn an_interface_that_is_no_port_of_a_bridge_reaches_no_host() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let (closed, b) = (lab.pod(red, 1), lab.pod(red, 2));
    let unbound = lab.wire(red, 3, Some(&lab.namespace(red)));
    let Object::Port(id, port) = red.pod_port(1) else { unreachable!() };
    lab.submit(put([Object::Port(id, Port { up: false, ..port })]));
    lab.wait_active(id, false);
    let mut sniffers = Sniffers::new(&[("pod", &b), ("external", &lab.external_network())]);
    let node = lab.plane().report().host_to_pod[&red.pod(2)].address.octets();
    for (n, pod) in [(1, &closed), (3, &unbound)] {
        let out = tap(pod);
        let next = lab.mac_of(red, &interface(red, n));
        for from in [address(n).octets(), [10, 9, 0, 77], B, EXTERNAL] {
            for to in [B, EXTERNAL, [10, 9, 0, 1], node] {
                let packet = ip_of(17, from, to, 0, &[], &udp(7000, b"<uninvited>"));
                shoot(&out, &ethernet(mac(n), next, 0x0800, &packet), "unknown_interfaces");
            }
        }
        let echo = ip_of(1, address(n).octets(), [10, 9, 0, 1], 0, &[], &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
        shoot(&out, &ethernet(mac(n), next, 0x0800, &echo), "echo");
    }
    // Everything before has been through.
    assert!(pings(&b, "203.0.113.1"));
    sniffers.capture();
    assert!(sniffers.with(b"<uninvited>").is_empty(), "{:?}", sniffers.with(b"<uninvited>"));
    lab.submit(put([red.pod_port(1)]));
    lab.wait_active(id, true);
    assert!(pings(&closed, "203.0.113.1"));
}

fn to_port_9999() -> Condition {
    Condition {
        ether_type: Some(Test::is(0x0800)),
        protocol: Some(Test::is(17)),
        destination_port: Some(Test::is((9999, 9999))),
        ..Condition::default()
    }
}

/// A bridge accepts frames for the MAC of any of its ports. If bridged packets also pass the router's hooks, such a
/// frame has no destination there: it must not be routed around the router's chains.
#[test]
fn a_router_is_asked_by_its_own_mac_only() {
    let (chain, flows) = (Uuid::from_u128(0xc0), Uuid::from_u128(0xc1));
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let (a, b) = (lab.pod(red, 1), lab.pod(red, 2));
    let forbidden = to_port_9999();
    let answers = Condition { return_flow: true, ..Condition::default() };
    let Object::Port(id, mut port) = red.pod_port(1) else { unreachable!() };
    port.outbound = Some(flows);
    let router = Router { up: true, inbound: Some(chain), outbound: Some(red.outbound()), ..Router::default() };
    lab.submit(put([
        rules(chain, [(forbidden, RuleAction::Drop)]),
        rules(flows, [(answers, RuleAction::Accept)]),
        Object::Port(id, port),
        Object::Router(red.router(), router),
    ]));
    lab.wait_active(id, true);
    let own = ["net.bridge.bridge-nf-call-iptables"];
    assert!(inside(&lab.namespace(red), "sysctl", &own).contains("= 1"), "bridged packets are tracked");
    let mut sniffers = Sniffers::new(&[("external", &lab.external_network())]);
    let out = tap(&a);
    let ports = [1, 2].map(|n| lab.mac_of(red, &interface(red, n)));
    for to in [lab.mac_of(red, &red.bridge_device())].into_iter().chain(ports) {
        for (port, mark) in [(9999, &b"<forbidden>"[..]), (9998, b"<allowed>")] {
            let packet = ip_of(17, A, EXTERNAL, 0, &[], &udp(port, mark));
            shoot(&out, &ethernet(mac(1), to, 0x0800, &packet), "to a port");
        }
    }
    assert!(pings(&b, "203.0.113.1"));
    sniffers.capture();
    assert!(sniffers.with(b"<forbidden>").is_empty());
    // There is no listener: the external host returns an ICMP error that contains the packet.
    let heard = sniffers.0[0].2.iter().filter(|frame| frame[23] == 17).cloned();
    let allowed = heard.filter(|frame| contains(std::slice::from_ref(frame), b"<allowed>")).count();
    assert_eq!(allowed, 1, "by the router's MAC, and no other");
}

fn mac_of_pod() -> Mac {
    mac(1)
}

/// A filter is complete while it is replaced and while its namespace is removed, and replacing it loses no packet.
#[test]
fn nothing_passes_while_a_filter_is_replaced_or_goes_that_does_not_pass_before_and_after() {
    let chain = Uuid::from_u128(0xc0);
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let (a, b) = (lab.pod(red, 1), lab.pod(red, 2));
    let filter = |n: u16| {
        let forbidden = |port: u16| Condition {
            ether_type: Some(Test::is(0x0800)),
            protocol: Some(Test::is(17)),
            destination_port: Some(Test::is((port, port))),
            fragments: Fragments::Header,
            ..Condition::default()
        };
        // Every other one looks at flows, so that bridged packets come to pass the router's hooks, or cease to.
        let flows = Condition { return_flow: n.is_multiple_of(2), source_port: Some(Test::is((n, n))), ..forbidden(1) };
        rules(chain, [(forbidden(9999), RuleAction::Drop), (flows, RuleAction::Accept)])
    };
    let bridge = Bridge { up: true, inbound: Some(chain), ..Bridge::default() };
    let router = Router { up: true, inbound: Some(chain), outbound: Some(red.outbound()), ..Router::default() };
    lab.submit(put([filter(0), Object::Bridge(red.bridge(), bridge), Object::Router(red.router(), router)]));
    for n in [1, 2] {
        lab.wait_active(red.pod(n), true);
    }
    let gateway = lab.mac_of(red, &red.bridge_device());
    let bad =
        |to, from, to_ip, port| ethernet(mac(1), to, 0x0800, &ip_of(17, from, to_ip, 0, &[], &udp(port, b"<bad>")));
    let strange = [10, 9, 0, 77];
    let mut frames = vec![
        bad(mac(2), A, B, 9999),
        bad(mac(2), strange, B, 7000),
        bad(gateway, A, EXTERNAL, 9999),
        bad(gateway, strange, EXTERNAL, 7000),
    ];
    frames.push(ethernet(mac(1), mac(2), 0x86dd, &icmp6(134, b"<bad>")));

    let (out, stop) = (tap(&a), Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&stop);
    let flood = std::thread::spawn(move || {
        let mut sent = 0_u32;
        while !stopped.load(Ordering::Relaxed) {
            let number = [&b"<good "[..], &sent.to_be_bytes()].concat();
            let good = ethernet(mac(1), mac(2), 0x0800, &ip_of(17, A, B, 0, &[], &udp(7000, &number)));
            let send =
                |frame: &[u8]| nix::sys::socket::send(out.as_raw_fd(), frame, nix::sys::socket::MsgFlags::empty());
            // In the end the port goes.
            for frame in &frames {
                let _ = send(frame);
            }
            sent += u32::from(send(&good).is_ok());
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    // A reader drains the sockets all the time, otherwise they would overflow.
    let mut sniffers = Sniffers::new(&[("pod", &b), ("external", &lab.external_network())]);
    let (good, done) = (Arc::<Mutex<BTreeSet<u32>>>::default(), Arc::new(AtomicBool::new(false)));
    let (heard, over) = (Arc::clone(&good), Arc::clone(&done));
    let listen = std::thread::spawn(move || {
        let mut bad = Vec::new();
        while !over.load(Ordering::Relaxed) {
            sniffers.capture();
            for (name, _, frames) in &mut sniffers.0 {
                for frame in frames.drain(..) {
                    if contains(std::slice::from_ref(&frame), b"<bad>") {
                        bad.push((*name, frame));
                    } else if frame.get(42..48) == Some(b"<good ") {
                        heard.lock().unwrap().insert(u32::from_be_bytes(frame[48..52].try_into().unwrap()));
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        bad
    });
    for n in 1..40 {
        lab.submit(put([filter(n)]));
    }
    let last = || good.lock().unwrap().last().copied().unwrap_or_default();
    let until = last() + 20;
    wait(|| "what is good arrives".to_owned(), || last() >= until);
    let whole: Vec<_> = (*good.lock().unwrap().first().unwrap()..until).collect();
    let missing: Vec<_> = whole.iter().filter(|number| !good.lock().unwrap().contains(number)).copied().collect();
    // The whole tenant goes, its router first.
    lab.submit(vec![TopologyChange::Remove(red.router()), TopologyChange::Remove(red.bridge())]);
    wait(|| "the namespace is gone".to_owned(), || !lab.namespace(red).exists());
    let gone = || attempt(&a, "ip", &["link", "show", "eth0"]);
    wait(|| "the pod's interface goes along".to_owned(), || !gone().status.success());
    stop.store(true, Ordering::Relaxed);
    flood.join().unwrap();
    done.store(true, Ordering::Relaxed);
    let bad = listen.join().unwrap();
    assert!(bad.is_empty(), "{} forbidden frames: {:?}", bad.len(), bad.first());
    assert!(missing.is_empty(), "of {} frames were lost: {missing:?}", whole.len());
}

/// A frame between two filters has to meet the new one last, whose rules are there by then; now and then the filters begin
/// again at the first step.
#[test]
fn a_filter_stands_behind_the_one_that_it_replaces() {
    let chain = Uuid::from_u128(0xc0);
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let bridge = Bridge { up: true, inbound: Some(chain), ..Bridge::default() };
    lab.submit(put([rules(chain, [(to_port_9999(), RuleAction::Drop)]), Object::Bridge(red.bridge(), bridge)]));
    let places = || {
        let shown = inside(&lab.namespace(red), "nft", &["-y", "list", "ruleset"]);
        let places = shown.lines().filter_map(|line| line.split_once(" priority ")?.1.split_once(';')?.0.parse().ok());
        (places.collect::<Vec<i32>>(), shown.matches("table ").count())
    };
    let (mut before, tables) = places();
    let mut began_again = 0;
    for n in 1..30 {
        let condition = Condition { destination_port: Some(Test::is((n, n))), ..to_port_9999() };
        lab.submit(put([rules(chain, [(condition, RuleAction::Drop)])]));
        let (now, of_now) = places();
        assert_eq!((now.len(), of_now), (before.len(), tables), "no copy stays");
        let steps: BTreeSet<_> = now.iter().zip(&before).map(|(now, before)| now - before).collect();
        began_again += usize::from(steps != BTreeSet::from([1]));
        assert!(steps == BTreeSet::from([1]) || steps == BTreeSet::from([-10]), "{steps:?}");
        before = now;
    }
    assert_eq!(began_again, 2);
}

#[test]
fn what_belongs_to_no_flow_neither_leaves_untranslated_nor_enters() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let a = lab.pod(red, 1);
    let leak = route(PROVIDER, "10.9.0.0/24", red.provider_port(), None);
    lab.submit(put([Object::Route(Uuid::from_u128(0x999), leak)]));
    let external = lab.external_network();
    inside(&external, "ip", &["route", "add", "10.9.0.0/24", "via", "203.0.113.2"]);
    let gateway = lab.mac_of(red, &red.bridge_device());
    let mut sniffers = Sniffers::new(&[("pod", &a), ("external", &external)]);
    let out = tap(&a);
    let (rst, syn_fin, nothing) = (0x04, 0x03, 0x00);
    for (flags, mark) in [(rst, "<reset out>"), (syn_fin, "<impossible out>"), (nothing, "<no flags out>")] {
        let packet = ip_of(6, A, EXTERNAL, 0, &[], &tcp(A, EXTERNAL, 80, flags, mark.as_bytes()));
        shoot(&out, &ethernet(mac(1), gateway, 0x0800, &packet), mark);
    }
    let last = ip_of(17, A, EXTERNAL, 0, &[], &udp(7000, b"<last out>"));
    shoot(&out, &ethernet(mac(1), gateway, 0x0800, &last), "last");
    wait(
        || "the external host captures the last packet".to_owned(),
        || {
            sniffers.capture();
            sniffers.with(b"<last out>").contains(&"external")
        },
    );
    for mark in ["<reset out>", "<impossible out>", "<no flags out>"] {
        assert_eq!(sniffers.with(mark.as_bytes()), ["pod"], "{mark}");
    }
    // From the external network, as an upstream router would send them.
    let (wire, provider) = external_socket(&lab);
    for (flags, mark) in [(rst, "<reset in>"), (syn_fin, "<impossible in>"), (nothing, "<no flags in>")] {
        let packet = ip_of(6, EXTERNAL, A, 0, &[], &tcp(EXTERNAL, A, 80, flags, mark.as_bytes()));
        shoot(&wire, &ethernet(provider.0, provider.1, 0x0800, &packet), mark);
    }
    // Answers come in, and everything before them has been through.
    assert!(pings(&a, "203.0.113.1"));
    sniffers.capture();
    for mark in ["<reset in>", "<impossible in>", "<no flags in>"] {
        assert_eq!(sniffers.with(mark.as_bytes()), ["external"], "{mark}");
    }
}

/// A socket on the interface of the external host, its MAC and that of the provider's uplink.
fn external_socket(lab: &Lab) -> (OwnedFd, (Mac, Mac)) {
    let external = lab.external_network();
    let shown = inside(&external, "ip", &["-o", "link", "show", "type", "veth"]);
    let name = shown.split_whitespace().nth(1).unwrap().split(['@', ':']).next().unwrap().to_owned();
    let mac = |netns: &Path, name: &str| -> Mac {
        let shown = inside(netns, "ip", &["-o", "link", "show", name]);
        shown.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap().parse().unwrap()
    };
    let own = mac(&external, &name);
    let uplink = mac(&lab.planes().join(PROVIDER.to_string()), "uplink0");
    (tap_on(&external, &name), (own, uplink))
}

#[test]
fn fragments_carry_nothing_past_a_filter() {
    let chain = Uuid::from_u128(0xc0);
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let (a, b) = (lab.pod(red, 1), lab.pod(red, 2));
    let forbidden = Condition { fragments: Fragments::Header, ..to_port_9999() };
    let Object::Port(id, mut port) = red.pod_port(1) else { unreachable!() };
    port.inbound = Some(chain);
    let router = Router { up: true, inbound: Some(chain), outbound: Some(red.outbound()), ..Router::default() };
    lab.submit(put([
        rules(chain, [(forbidden, RuleAction::Drop)]),
        Object::Port(id, port),
        Object::Router(red.router(), router),
    ]));
    lab.wait_active(id, true);
    let gateway = lab.mac_of(red, &red.bridge_device());
    let out = tap(&a);
    for (netns, to, next) in [(&b, B, mac(2)), (&lab.external_network(), EXTERNAL, gateway)] {
        let listen = |port: u16| {
            let socket = on_thread(netns, move || UdpSocket::bind(("0.0.0.0", port)).unwrap()).join().unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket
        };
        let (allowed, refused) = (listen(7001), listen(9999));
        refused.set_nonblocking(true).unwrap();
        let mut number = 0_u16;
        let mut datagram = |pieces: &[(u16, &[u8])]| {
            number += 1;
            for (fragment, payload) in pieces {
                let mut packet = ip_of(17, A, to, *fragment, &[], payload);
                packet[4..6].copy_from_slice(&number.to_be_bytes());
                packet[10..12].copy_from_slice(&[0, 0]);
                let sum = header_sum(&packet[..20]);
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
                shoot(&out, &ethernet(mac(1), next, 0x0800, &packet), "fragment");
            }
        };
        let (good, bad) = (udp(7001, &[0x61; 24]), udp(9999, &[0x62; 24]));
        // Whole and in pieces.
        datagram(&[(0, &bad)]);
        datagram(&[(MORE, &bad[..16]), (2, &bad[16..])]);
        datagram(&[(2, &bad[16..]), (MORE, &bad[..16])]);
        // A first piece that is too small for a header, with the header behind it or over it.
        datagram(&[(MORE, &bad[..8]), (1, &bad[8..])]);
        datagram(&[(MORE, &[]), (0, &bad)]);
        // A second piece over the first, and the other way round.
        datagram(&[(MORE, &good[..16]), (MORE, &bad[..16]), (2, &bad[16..])]);
        datagram(&[(MORE, &good[..16]), (0, &bad)]);
        datagram(&[(2, &bad[16..]), (MORE, &good[..24]), (MORE, &bad[..16])]);
        // What is allowed arrives in pieces, in any order.
        datagram(&[(2, &good[16..]), (MORE, &good[..16])]);
        datagram(&[(MORE, &good[..8]), (MORE | 1, &good[8..24]), (3, &good[24..])]);
        let mut buffer = [0; 64];
        for _ in 0..2 {
            // A first piece of a good one and a later piece of a bad one make a datagram for the allowed port.
            while allowed.recv(&mut buffer).expect("what is allowed arrives") != 24 || buffer[8] != 0x61 {}
        }
        assert!(refused.recv(&mut buffer).is_err(), "nothing reaches the forbidden port");
    }
}

fn header_sum(header: &[u8]) -> u16 {
    let sum: u32 = header.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1])).sum();
    !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()
}

/// Opens 10 000 flows.
fn open_flows(from: &Path, to: Ipv4Addr) {
    let open = move || {
        for n in 0..10_000_u16 {
            let socket = UdpSocket::bind(("0.0.0.0", 1024 + n)).unwrap();
            let _ = socket.send_to(b"x", (to, 9));
        }
    };
    on_thread(from, open).join().unwrap();
}

/// The number of flows in the provider's table.
fn flows_of_provider(lab: &Lab) -> u32 {
    let provider = lab.planes().join(PROVIDER.to_string());
    inside(&provider, "cat", &["/proc/sys/net/netfilter/nf_conntrack_count"]).trim().parse().unwrap()
}

#[test]
fn a_tenant_that_fills_the_providers_table_of_flows_fills_its_own_part_only() {
    let lab = Lab::start(provider());
    let (red, blue) = (lab.tenant(1), lab.tenant(2));
    let (red1, blue1) = (lab.pod(red, 1), lab.pod(blue, 1));
    serve(&lab.external_network(), "external");
    lab.track_flows_of_provider(Uuid::from_u128(0xc0));
    assert_eq!(ask(&red1, "203.0.113.1").as_deref(), Some("external"));
    open_flows(&red1, EXTERNAL.into());
    let count = flows_of_provider(&lab);
    assert!((8192..8400).contains(&count), "{count}");
    assert_eq!(ask(&red1, "203.0.113.1"), None, "its part is full");
    assert_eq!(ask(&blue1, "203.0.113.1").as_deref(), Some("external"), "others have theirs");
    assert!(pings(&red1, "10.9.0.1"), "and its own network is as it was");
}

/// A flood from the external network to one tenant uses only that tenant's part of the provider's table.
#[test]
fn a_tenant_that_is_flooded_takes_no_more_of_the_providers_table_of_flows_than_its_part() {
    let lab = Lab::start(provider());
    let (red, blue) = (lab.tenant(1), lab.tenant(2));
    let blue1 = lab.pod(blue, 1);
    serve(&lab.external_network(), "external");
    lab.track_flows_of_provider(Uuid::from_u128(0xc0));
    let to: Ipv4Addr = red.transit().parse().unwrap();
    inside(&lab.external_network(), "ip", &["route", "add", &format!("{to}/32"), "via", "203.0.113.2"]);
    open_flows(&lab.external_network(), to);
    let count = flows_of_provider(&lab);
    assert!((8192..8400).contains(&count), "{count}");
    assert_eq!(ask(&blue1, "203.0.113.1").as_deref(), Some("external"), "others have theirs");
}

/// A pod whose port has no port security.
fn unrestricted_pod(lab: &Lab, tenant: TenantObjects, n: u8) -> PathBuf {
    let pod = lab.wire(tenant, n, Some(&lab.namespace(tenant)));
    let Object::Port(id, mut port) = tenant.pod_port(n) else { unreachable!() };
    port.vif_id = None;
    lab.submit(put([Object::Port(id, port)]));
    lab.wait_active(id, true);
    pod
}

#[test]
fn a_port_without_port_security_can_show_a_bounded_number_of_macs_and_addresses() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let (a, b) = (unrestricted_pod(&lab, red, 1), lab.pod(red, 2));
    assert!(pings(&a, "10.9.0.102"));
    let namespace = lab.namespace(red);
    let out = tap(&a);
    let gateway = lab.mac_of(red, &red.bridge_device());
    for n in 0..2000_u16 {
        let [high, low] = n.to_be_bytes();
        let strange = Mac([2, 0, 0, 1, high, low]);
        shoot(&out, &ethernet(strange, Mac([0xff; 6]), 0x0800, &ip([10, 9, high, low], B, b"flood")), "mac");
        let question = arp(1, (mac(1), [10, 9, high, low]), [10, 9, 0, 1], b"");
        shoot(&out, &ethernet(mac(1), gateway, 0x0806, &question), "arp");
    }
    assert!(pings(&a, "10.9.0.102"), "those that were known before go on");
    let lines = |program: &str, arguments: &[&str]| inside(&namespace, program, arguments).lines().count();
    let (fdb, neighbours) = (lines("bridge", &["fdb", "show"]), lines("ip", &["neigh", "show"]));
    assert!(fdb < 300 && neighbours < 300, "{fdb} fdb, {neighbours} neighbours");
    assert!(pings(&b, "10.9.0.1"));
}

/// It may use any source except that of a router port of its bridge: neither its MAC nor its address, in packets and in
/// ARP.
#[test]
fn a_port_without_port_security_cannot_use_a_gateways_addresses() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let (a, b) = (unrestricted_pod(&lab, red, 1), lab.pod(red, 2));
    let (gateway, own, router) = (lab.mac_of(red, &red.bridge_device()), A, [10, 9, 0, 1]);
    let (out, sniffer) = (tap(&a), sniff(&b));
    let refused = [
        ("a MAC", ethernet(gateway, mac(2), 0x0800, &ip(own, B, b"as a MAC"))),
        ("an address", ethernet(mac(1), mac(2), 0x0800, &ip(router, B, b"as an address"))),
        ("a MAC in ARP", ethernet(mac(1), mac(2), 0x0806, &arp(1, (gateway, own), B, b"as a MAC in ARP"))),
        ("an address in ARP", ethernet(mac(1), mac(2), 0x0806, &arp(1, (mac(1), router), B, b"as an address in ARP"))),
    ];
    for (what, frame) in &refused {
        shoot(&out, frame, what);
    }
    let own_frame = b"as itself";
    shoot(&out, &ethernet(mac(1), mac(2), 0x0806, &arp(1, (mac(1), own), B, own_frame)), "ARP as itself");
    let last = b"the last one";
    shoot(&out, &ethernet(mac(1), mac(2), 0x0800, &ip(own, B, last)), "itself");
    let heard = hear(&sniffer, last);
    assert!(contains(&heard, own_frame) && contains(&heard, last), "its own frames arrive");
    for (what, _) in &refused {
        assert!(!contains(&heard, format!("as {what}").as_bytes()), "it sends as the gateway by {what}");
    }
}

#[test]
fn unassigned_addresses_take_no_room_in_the_machines_table_of_neighbours() {
    let lab = Lab::start(provider());
    let red = TenantObjects(1);
    lab.submit(put(red.objects("10.9.0.0/16")));
    let (a, b) = (lab.pod(red, 1), lab.pod(red, 2));
    assert!(pings(&a, "203.0.113.1") && pings(&b, "10.9.0.101"));
    on_thread(&a, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for n in 0..500_u16 {
            let _ = socket.send_to(b"x", (Ipv4Addr::new(10, 9, 1 + n.to_be_bytes()[0], n.to_be_bytes()[1]), 9));
        }
    })
    .join()
    .unwrap();
    let known = inside(&lab.namespace(red), "ip", &["neigh", "show"]);
    assert!(known.lines().count() < 20, "{known}");
    let output = attempt(&a, "ping", &["-c1", "-W1", "-n", "10.9.1.1"]);
    let output = String::from_utf8_lossy(&output.stdout);
    assert!(output.contains("From 10.9.0.1 ") && output.contains("Destination Host Unreachable"), "{output}");
    // Existing hosts are found: a pod, and a host behind a port without port security.
    assert!(pings(&lab.external_network(), "203.0.113.2") && pings(&a, "10.9.0.102"));
}
