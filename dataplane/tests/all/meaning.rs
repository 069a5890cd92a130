//! What rules and routes mean, by their effect on packets: every field of a condition, the order of chains, what is
//! translated to what, and which errors a sender gets.
//!
//! Each case of a table has a pod of its own, so that all of them wait for silence at the same time.

#![allow(clippy::unwrap_used, clippy::unnecessary_wraps, reason = "a fixture that does not fit is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atoll_model::attachment::Mac;
use atoll_model::topology::*;
use atoll_testkit::plane::*;
use uuid::Uuid;

/// Whom the pods of a table talk to.
const SERVER: u8 = 100;
const PODS: Uuid = Uuid::from_u128(0xe0);
const NAMES: Uuid = Uuid::from_u128(0xe1);

fn own_chain(n: u8) -> Uuid {
    Uuid::from_u128(0xc00 + u128::from(n))
}

fn chain(id: Uuid, rules: impl IntoIterator<Item = (Condition, RuleAction)>) -> Object {
    let rules = rules.into_iter().zip(1..).map(|((condition, action), n)| {
        let id = Uuid::new_v5(&id, &u32::to_be_bytes(n));
        Rule { id, condition, action }
    });
    Object::Chain(id, Chain { rules: rules.collect(), ..Chain::default() })
}

fn any() -> Condition {
    Condition::default()
}

fn ip() -> Condition {
    Condition { ether_type: Some(Test::is(0x0800)), ..any() }
}

/// What gets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Through {
    ping: bool,
    /// A ping in fragments.
    large: bool,
    /// A ping with type of service 8.
    urgent: bool,
    /// TCP to port 7000.
    high: bool,
    /// TCP to port 80.
    low: bool,
}

const ALL: Through = Through { ping: true, large: true, urgent: true, high: true, low: true };
const NONE: Through = Through { ping: false, large: false, urgent: false, high: false, low: false };
const TCP: Through = Through { high: true, low: true, ..NONE };
const ICMP: Through = Through { high: false, low: false, ..ALL };

/// A probe that may wait for silence.
fn ping(pod: &Path, to: &str, more: &'static [&'static str]) -> std::thread::JoinHandle<bool> {
    let (pod, to) = (pod.to_owned(), to.to_owned());
    std::thread::spawn(move || {
        let arguments = [&["-c1", "-W1", "-n"][..], more, &[&to]].concat();
        attempt(&pod, "ping", &arguments).status.success()
    })
}

fn connect(pod: &Path, to: &str, port: u16) -> std::thread::JoinHandle<bool> {
    let to: SocketAddr = format!("{to}:{port}").parse().unwrap();
    on_thread(pod, move || TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_ok())
}

/// What each pod gets through to `to`, all at once.
fn probe(pods: &[PathBuf], to: &str) -> Vec<Through> {
    let running: Vec<_> = pods
        .iter()
        .map(|pod| {
            let pings = [ping(pod, to, &[]), ping(pod, to, &["-s", "3000"]), ping(pod, to, &["-Q", "8"])];
            (pings, connect(pod, to, 7000), connect(pod, to, 80))
        })
        .collect();
    let done = |(pings, high, low): ([std::thread::JoinHandle<bool>; 3], _, _)| {
        let [ping, large, urgent] = pings.map(|ping| ping.join().unwrap());
        let finished = |tcp: std::thread::JoinHandle<bool>| tcp.join().unwrap();
        Through { ping, large, urgent, high: finished(high), low: finished(low) }
    };
    running.into_iter().map(done).collect()
}

fn listen(netns: &Path, port: u16) {
    let listener = on_thread(netns, move || TcpListener::bind(("0.0.0.0", port)).unwrap()).join().unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
}

/// What a dropping rule with this condition leaves of a pod's traffic where the pod's port filters what is bridged, where
/// it filters what is bridged and tracked, and where the router filters.
struct Case(&'static str, Condition, [Through; 3]);

fn is<T>(value: T) -> Option<Test<T>> {
    Some(Test::is(value))
}

fn not<T>(value: T) -> Option<Test<T>> {
    Some(Test { value, inverted: true })
}

/// The same everywhere.
fn same(name: &'static str, condition: Condition, left: Through) -> Case {
    Case(name, condition, [left; 3])
}

/// On the bridge, and on the router.
fn apart(name: &'static str, condition: Condition, bridged: Through, routed: Through) -> Case {
    Case(name, condition, [bridged, bridged, routed])
}

fn cases(gateway: Mac) -> Vec<Case> {
    let red = TenantObjects(1);
    let tcp = || Condition { protocol: is(6), ..ip() };
    let echo = || Condition { protocol: is(1), ..ip() };
    let port = |range| Condition { destination_port: range, ..tcp() };
    let exactly = |mac| (mac, Mac([0xff; 6]));
    let ours = (Mac([2, 0, 0, 0, 9, 0]), Mac([0xff, 0xff, 0xff, 0xff, 0xff, 0]));
    let (no_low, no_high) = (Through { low: false, ..ALL }, Through { high: false, ..ALL });
    let only_low = Through { low: true, ..ICMP };
    let only_high = Through { high: true, ..NONE };
    let fragments = |fragments| Condition { fragments, ..ip() };
    let later = |protocol| Condition { protocol: is(protocol), ..fragments(Fragments::NonHeader) };
    let everything = net("0.0.0.0/0");
    vec![
        same("any IP", ip(), NONE),
        same("another type of Ethernet", Condition { ether_type: is(0x86dd), ..any() }, ALL),
        same("a protocol", tcp(), ICMP),
        same("another protocol", Condition { protocol: not(6), ..ip() }, TCP),
        same("a source elsewhere", Condition { source: is(net("10.9.0.0/26")), ..ip() }, ALL),
        same("a wide source", Condition { source: is(net("10.0.0.0/8")), ..ip() }, NONE),
        same("another source than its own", Condition { source: not(net("10.9.0.0/24")), ..ip() }, ALL),
        same("another source than this", Condition { source: not(net("192.0.2.0/24")), ..ip() }, NONE),
        same("any source", Condition { source: is(everything), ..ip() }, NONE),
        same("no source at all", Condition { source: not(everything), ..ip() }, ALL),
        apart("a destination", Condition { destination: is(net("10.9.0.200/32")), ..ip() }, NONE, ALL),
        apart("another destination", Condition { destination: not(net("128.0.0.0/1")), ..tcp() }, ICMP, ALL),
        same("a source of the group", Condition { source_group: is(NAMES), ..ip() }, NONE),
        same("a source outside the group", Condition { source_group: not(NAMES), ..ip() }, ALL),
        same("a destination of the group", Condition { destination_group: is(NAMES), ..ip() }, ALL),
        same("a destination outside the group", Condition { destination_group: not(NAMES), ..ip() }, NONE),
        same("a group that is not there", Condition { source_group: is(PODS), ..ip() }, ALL),
        same("a port", port(is((80, 80))), no_low),
        same("a range of ports", port(is((0, 1024))), no_low),
        same("all ports", port(is((0, 65535))), ICMP),
        same("another port", port(not((80, 80))), only_low),
        same("a source port", Condition { source_port: is((1, 1023)), ..tcp() }, ALL),
        same("another source port", Condition { source_port: not((1, 1023)), ..tcp() }, ICMP),
        same("a port that is no code of ICMP", Condition { destination_port: is((7000, 7000)), ..ip() }, no_high),
        same("a port that may be a code of ICMP", Condition { destination_port: is((0, 80)), ..ip() }, only_high),
        same("a type of ICMP", Condition { source_port: is((8, 8)), ..echo() }, TCP),
        same("type and code", Condition { source_port: is((8, 8)), destination_port: is((0, 0)), ..echo() }, TCP),
        same("another code", Condition { source_port: is((8, 8)), destination_port: not((0, 0)), ..echo() }, ALL),
        same("another type", Condition { source_port: not((0, 3)), ..echo() }, TCP),
        same("a type of service", Condition { tos: is(8), ..any() }, Through { urgent: false, ..ALL }),
        same("another type of service", Condition { tos: not(8), ..echo() }, Through { urgent: true, ..TCP }),
        same("the first bytes of ARP", Condition { tos: is(1), ..any() }, ALL),
        apart("a port of entry", Condition { in_ports: is(vec![red.gateway()]), ..ip() }, ALL, NONE),
        apart("another port of entry", Condition { in_ports: not(vec![red.gateway()]), ..ip() }, NONE, ALL),
        apart("a port of entry of the group", Condition { in_port_group: is(PODS), ..ip() }, NONE, ALL),
        apart("a port of entry outside the group", Condition { in_port_group: not(PODS), ..ip() }, ALL, NONE),
        same("a port of exit, not known yet", Condition { out_ports: is(vec![red.pod(SERVER)]), ..ip() }, ALL),
        same("no port of exit, not known yet", Condition { out_ports: not(vec![red.pod(SERVER)]), ..ip() }, NONE),
        same("untagged", Condition { vlan: Some(None), ..tcp() }, ICMP),
        same("tagged", Condition { vlan: Some(Some(5)), ..ip() }, ALL),
        // ARP is no IP, so the negation holds for it.
        apart("not IP of ours", Condition { inverted: true, source: is(net("10.9.0.0/24")), ..ip() }, NONE, ALL),
        same("not ARP", Condition { inverted: true, ether_type: is(0x0806), ..any() }, NONE),
        same("a source MAC", Condition { ether_source: is(ours), ..ip() }, NONE),
        same("another source MAC", Condition { ether_source: not(ours), ..ip() }, ALL),
        apart("a destination MAC", Condition { ether_destination: is(exactly(mac(SERVER))), ..tcp() }, ICMP, ALL),
        apart("another destination MAC", Condition { ether_destination: not(exactly(gateway)), ..tcp() }, ICMP, ALL),
        same("whole packets", fragments(Fragments::Unfragmented), Through { large: true, ..NONE }),
        same("whole packets and first fragments", fragments(Fragments::Header), NONE),
        same("later fragments", fragments(Fragments::NonHeader), Through { large: false, ..ALL }),
        same("not later ICMP", Condition { inverted: true, ..later(1) }, ALL),
        same("later fragments but of TCP", Condition { inverted: true, ..later(6) }, Through { large: false, ..ALL }),
    ]
}

/// Cases that need flows.
fn flows() -> Vec<Case> {
    let tcp = || Condition { protocol: is(6), ..ip() };
    vec![
        same("what opened a flow", Condition { forward_flow: true, ..tcp() }, ICMP),
        same("what answers", Condition { return_flow: true, ..ip() }, ALL),
    ]
}

#[test]
fn every_field_of_a_condition_and_its_inverse_means_what_it_says_bridged_and_routed() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let server = lab.pod(red, SERVER);
    for netns in [&server, &lab.external_network()] {
        listen(netns, 7000);
        listen(netns, 80);
    }
    let stateless = cases(lab.mac_of(red, &red.bridge_device()));
    let all: Vec<_> =
        stateless.into_iter().map(|case| (case, false)).chain(flows().into_iter().map(|c| (c, true))).collect();
    let numbers: Vec<u8> = (1..).take(all.len()).collect();
    assert!(all.len() < usize::from(SERVER));
    let pods: Vec<_> = numbers.iter().map(|n| lab.pod(red, *n)).collect();
    let members = numbers.iter().map(|n| red.pod(*n)).collect();
    let group = PortGroup { members, ..PortGroup::default() };
    let members = numbers.iter().map(|n| address(*n).into()).collect();
    let names = AddressGroup { members, ..AddressGroup::default() };
    lab.submit(put([Object::PortGroup(PODS, group), Object::AddressGroup(NAMES, names)]));
    let chains =
        || numbers.iter().zip(&all).map(|(n, (case, _))| chain(own_chain(*n), [(case.1.clone(), RuleAction::Drop)]));
    let filtered = |n: u8, filter: Option<Uuid>| {
        let Object::Port(id, mut port) = red.pod_port(n) else { unreachable!() };
        port.inbound = filter;
        Object::Port(id, port)
    };
    let check = |place: usize, name: &str, to: &str| {
        assert!(lab.plane().report().errors.is_empty(), "{:#?}", lab.plane().report());
        assert!(lab.plane().report().unsupported.is_empty(), "{:#?}", lab.plane().report());
        for n in &numbers {
            lab.wait_active(red.pod(*n), true);
        }
        let through = probe(&pods, to);
        let wrong: Vec<_> = all
            .iter()
            .zip(through)
            .filter(|((case, flows), through)| (place > 0 || !flows) && case.2[place] != *through)
            .map(|((case, _), through)| (case.0, "should leave", case.2[place], "left", through))
            .collect();
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
    };
    lab.submit(put(chains()));
    // Bridged: at each pod's port, first without those that need flows.
    let ports = |flows: bool| {
        let of = move |tracked: bool| flows || !tracked;
        numbers
            .iter()
            .zip(&all)
            .map(move |(n, (_, tracked))| filtered(*n, of(*tracked).then(|| own_chain(*n))))
            .collect::<Vec<_>>()
    };
    lab.submit(put(ports(false)));
    check(0, "bridged", "10.9.0.200");
    lab.submit(put(ports(true)));
    check(1, "bridged and tracked", "10.9.0.200");
    // Routed: the router checks every source and jumps.
    let jump =
        |n: &u8| (Condition { source: is(address(*n).into()), ..any() }, RuleAction::Jump { chain: own_chain(*n) });
    let free = numbers.iter().map(|n| filtered(*n, None));
    lab.submit(put(free.chain([chain(red.inbound(), numbers.iter().map(jump))])));
    check(2, "routed", "203.0.113.1");
}

// ---- the order of chains -----------------------------------------------------------------------------------------

/// Sets the chain of one stage.
type Stage = (&'static str, fn(&mut Topology, Option<Uuid>));

fn ports(t: &mut Topology, id: Uuid) -> &mut Port {
    t.ports.get_mut(&id).unwrap()
}

/// From pod 1 to pod 2, in order.
const BRIDGED: &[Stage] = &[
    ("pod 1 in", |t, chain| ports(t, TenantObjects(1).pod(1)).inbound = chain),
    ("bridge in", |t, chain| t.bridges.get_mut(&TenantObjects(1).bridge()).unwrap().inbound = chain),
    ("bridge out", |t, chain| t.bridges.get_mut(&TenantObjects(1).bridge()).unwrap().outbound = chain),
    ("pod 2 out", |t, chain| ports(t, TenantObjects(1).pod(2)).outbound = chain),
];

/// From pod 1 to the external network, in order.
const ROUTED: &[Stage] = &[
    ("pod in", |t, chain| ports(t, TenantObjects(1).pod(1)).inbound = chain),
    ("bridge in", |t, chain| t.bridges.get_mut(&TenantObjects(1).bridge()).unwrap().inbound = chain),
    ("bridge out", |t, chain| t.bridges.get_mut(&TenantObjects(1).bridge()).unwrap().outbound = chain),
    ("bridge's port out", |t, chain| ports(t, TenantObjects(1).bridge_port()).outbound = chain),
    ("gateway in", |t, chain| ports(t, TenantObjects(1).gateway()).inbound = chain),
    ("router in", |t, chain| t.routers.get_mut(&TenantObjects(1).router()).unwrap().inbound = chain),
    ("router out", |t, chain| t.routers.get_mut(&TenantObjects(1).router()).unwrap().outbound = chain),
    ("uplink out", |t, chain| ports(t, TenantObjects(1).uplink()).outbound = chain),
    ("provider's port in", |t, chain| ports(t, TenantObjects(1).provider_port()).inbound = chain),
    ("provider in", |t, chain| t.routers.get_mut(&PROVIDER).unwrap().inbound = chain),
    ("provider out", |t, chain| t.routers.get_mut(&PROVIDER).unwrap().outbound = chain),
    ("provider's uplink out", |t, chain| ports(t, UPLINK).outbound = chain),
];

#[test]
fn chains_are_met_in_order_and_the_first_one_that_rejects_answers() {
    let (rejects, drops) = (Uuid::from_u128(0xc1), Uuid::from_u128(0xc2));
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let pods = [lab.pod(red, 1), lab.pod(red, 2)];
    let mut world = provider();
    let back = route(PROVIDER, "10.9.0.0/24", red.provider_port(), None);
    let objects = red.objects("10.9.0.0/24").into_iter().chain([red.pod_port(1), red.pod_port(2)]);
    let echo = || Condition { source: is(address(1).into()), protocol: is(1), source_port: is((8, 8)), ..ip() };
    let more = [
        Object::Route(Uuid::from_u128(0x999), back),
        chain(rejects, [(echo(), RuleAction::Reject)]),
        chain(drops, [(echo(), RuleAction::Drop)]),
    ];
    for change in put(objects.chain(more)) {
        world.apply(change);
    }
    // Nothing is translated, so every hop sees the pod's address.
    let router = world.routers.get_mut(&red.router()).unwrap();
    (router.inbound, router.outbound) = (None, None);
    let become_ = |t: &Topology| {
        let routers = t.routers.iter().map(|(id, it)| Object::Router(*id, it.clone()));
        let bridges = t.bridges.iter().map(|(id, it)| Object::Bridge(*id, it.clone()));
        let ports = t.ports.iter().map(|(id, it)| Object::Port(*id, it.clone()));
        let chains = t.chains.iter().map(|(id, it)| Object::Chain(*id, it.clone()));
        let routes = t.routes.iter().map(|(id, it)| Object::Route(*id, it.clone()));
        lab.submit(put(routers.chain(bridges).chain(ports).chain(chains).chain(routes)));
        let report = lab.plane().report();
        assert!(report.errors.is_empty(), "{report:#?}");
        for n in [1, 2] {
            lab.wait_active(red.pod(n), true);
        }
    };
    let is_rejected = |to: &str, wait: &str| {
        let output = attempt(&pods[0], "ping", &["-c1", wait, "-n", to]);
        String::from_utf8_lossy(&output.stdout).contains("Packet filtered")
    };
    become_(&world);
    assert!(pings(&pods[0], "10.9.0.102") && !is_rejected("203.0.113.1", "-W0.3"));
    for (stages, to) in [(BRIDGED, "10.9.0.102"), (ROUTED, "203.0.113.1")] {
        for pair in stages.windows(2) {
            let ((first, set_first), (second, set_second)) = (pair[0], pair[1]);
            let mut t = world.clone();
            set_first(&mut t, Some(rejects));
            set_second(&mut t, Some(drops));
            become_(&t);
            assert!(is_rejected(to, "-W2"), "{first} rejects before {second} drops");
            set_first(&mut t, Some(drops));
            set_second(&mut t, Some(rejects));
            become_(&t);
            assert!(!is_rejected(to, "-W0.3"), "{first} drops before {second} rejects");
        }
    }
}

#[test]
fn what_a_router_port_filters_is_seen_before_it_is_translated_back_and_after_it_was_translated() {
    let id = Uuid::from_u128(0xc1);
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let a = lab.pod(red, 1);
    let objects = red.objects("10.9.0.0/24");
    let filtered = |id: Uuid, inbound, outbound| {
        let port = objects.iter().find_map(|object| match object {
            Object::Port(other, port) if *other == id => Some(port.clone()),
            _ => None,
        });
        Object::Port(id, Port { inbound, outbound, ..port.unwrap() })
    };
    let own: Ipv4Addr = red.transit().parse().unwrap();
    let from = |address: Ipv4Addr| Condition { source: is(address.into()), ..ip() };
    let to = |address: Ipv4Addr| Condition { destination: is(address.into()), ..ip() };
    let outcome = |condition, port, inbound: bool| {
        let (entering, leaving) = if inbound { (Some(id), None) } else { (None, Some(id)) };
        lab.submit(put([chain(id, [(condition, RuleAction::Drop)]), filtered(port, entering, leaving)]));
        assert!(lab.plane().report().errors.is_empty(), "{:#?}", lab.plane().report());
        let passes = pings(&a, "203.0.113.1");
        lab.submit(put([filtered(port, None, None)]));
        passes
    };
    assert!(!outcome(from(own), red.uplink(), false), "it leaves with the address of the translation");
    assert!(outcome(from(address(1)), red.uplink(), false), "and not with its own");
    assert!(!outcome(to(own), red.uplink(), true), "the answer comes to the address of the translation");
    assert!(outcome(to(address(1)), red.uplink(), true));
    assert!(!outcome(to(address(1)), red.gateway(), false), "and leaves to the pod");
    assert!(!outcome(from(address(1)), red.gateway(), true));
    // A port's chain translates nothing: the port is closed.
    let snat = RuleAction::Snat { targets: vec![target(own, own, 0, 0)], then: FlowAction::Accept };
    lab.submit(put([chain(id, [(any(), snat)]), filtered(red.uplink(), None, Some(id))]));
    assert!(!pings(&a, "203.0.113.1"));
    assert_eq!(lab.plane().report().unsupported.len(), 1);
}

// ---- translations ------------------------------------------------------------------------------------------------

fn target(from: Ipv4Addr, to: Ipv4Addr, port_from: u16, port_to: u16) -> NatTarget {
    NatTarget { from, to, port_from, port_to }
}

/// Remembers who connects to a port.
fn callers(netns: &Path, port: u16) -> Arc<Mutex<Vec<SocketAddr>>> {
    let seen = Arc::<Mutex<Vec<SocketAddr>>>::default();
    let remembered = Arc::clone(&seen);
    let listener = on_thread(netns, move || TcpListener::bind(("0.0.0.0", port)).unwrap()).join().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            remembered.lock().unwrap().push(stream.unwrap().peer_addr().unwrap());
        }
    });
    seen
}

/// Connects, and waits until the other side has seen it and closed.
fn call(netns: &Path, to: Ipv4Addr, port: u16) -> bool {
    on_thread(netns, move || {
        let Ok(mut stream) = TcpStream::connect_timeout(&(to, port).into(), Duration::from_secs(1)) else {
            return false;
        };
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.read_to_end(&mut Vec::new()).is_ok()
    })
    .join()
    .unwrap()
}

#[test]
fn sources_are_translated_to_several_targets_with_ranges_of_ports_and_floating_addresses_both_ways() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let pods = [lab.pod(red, 1), lab.pod(red, 2)];
    let external: Ipv4Addr = "203.0.113.1".parse().unwrap();
    let (own, more, floating): (Ipv4Addr, Ipv4Addr, Ipv4Addr) =
        (red.transit().parse().unwrap(), "192.0.2.16".parse().unwrap(), "192.0.2.99".parse().unwrap());
    let last = Ipv4Addr::from(u32::from(more) + 3);
    let leaves = || Condition { out_ports: is(vec![red.uplink()]), ..any() };
    let answers = Condition { return_flow: true, ..any() };
    let several = vec![target(own, own, 20_000, 20_100), target(more, last, 30_000, 30_100)];
    let single = |address| vec![target(address, address, 0, 0)];
    let to_floating = Condition { destination: is(floating.into()), ..any() };
    let of_pod = Condition { source: is(address(2).into()), ..leaves() };
    lab.submit(put([
        Object::Route(Uuid::from_u128(0x998), route(PROVIDER, "192.0.2.0/24", red.provider_port(), None)),
        chain(
            red.inbound(),
            [(to_floating, RuleAction::Dnat { targets: single(address(2)), then: FlowAction::Accept })],
        ),
        chain(
            red.outbound(),
            [
                (answers, RuleAction::Accept),
                (of_pod, RuleAction::Snat { targets: single(floating), then: FlowAction::Accept }),
                (leaves(), RuleAction::Snat { targets: several, then: FlowAction::Accept }),
            ],
        ),
    ]));
    assert_eq!(lab.plane().report().errors, BTreeMap::new());
    let seen = callers(&lab.external_network(), 7000);
    // Each flow takes one of two targets: that 40 flows all take the same is less likely than 1 in 2^39.
    for _ in 0..40 {
        assert!(call(&pods[0], external, 7000));
    }
    let seen_from: BTreeSet<_> = seen.lock().unwrap().drain(..).collect();
    for caller in &seen_from {
        let SocketAddr::V4(caller) = caller else { panic!("{caller}") };
        let ports = if *caller.ip() == own { 20_000..=20_100 } else { 30_000..=30_100 };
        assert!(*caller.ip() == own || (more..=last).contains(caller.ip()), "{caller}");
        assert!(ports.contains(&caller.port()), "{caller}");
    }
    let addresses: BTreeSet<_> = seen_from.iter().map(|caller| caller.ip() == std::net::IpAddr::V4(own)).collect();
    assert_eq!(addresses.len(), 2, "both targets are used: {seen_from:?}");
    assert!(pings(&pods[0], external));
    // A floating address, both ways, ports untouched.
    assert!(call(&pods[1], external, 7000) && pings(&pods[1], external));
    assert_eq!(seen.lock().unwrap().drain(..).map(|caller| caller.ip()).collect::<Vec<_>>(), [floating]);
    let calls = callers(&pods[1], 7000);
    assert!(call(&lab.external_network(), floating, 7000) && pings(&lab.external_network(), floating));
    assert_eq!(calls.lock().unwrap().drain(..).map(|caller| caller.ip()).collect::<Vec<_>>(), [external]);
}

// ---- routes, and the errors that senders get ---------------------------------------------------------------------

#[test]
fn senders_get_the_errors_that_midonet_sends() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let a = lab.pod(red, 1);
    let no = |n: u128, destination: &str, action| {
        let (source, destination) = (net("0.0.0.0/0"), net(destination));
        Object::Route(Uuid::from_u128(n), Route { router: red.router(), source, destination, action, weight: 0 })
    };
    let ping = |arguments: &[&str]| {
        let output = attempt(&a, "ping", &[&["-c1", "-W1", "-n"], arguments].concat());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let gets = |arguments: &[&str], error: &str| {
        let output = ping(arguments);
        assert!(output.contains("From 10.9.0.1 ") && output.contains(error), "{arguments:?}: {output}");
    };
    gets(&["-t1", "203.0.113.1"], "Time to live exceeded");
    assert!(ping(&["-t2", "203.0.113.1"]).contains("Time to live exceeded"), "so does the next router");
    assert!(ping(&["-t1", "10.9.0.1"]).contains("1 received"), "a router's own address costs nothing");
    lab.submit(put([
        no(0x501, "198.51.100.0/25", RouteAction::BlackHole),
        no(0x502, "198.51.100.128/25", RouteAction::Reject),
    ]));
    assert!(!ping(&["198.51.100.1"]).contains("From"), "a black hole is silent");
    gets(&["198.51.100.200"], "Packet filtered");
    // Without a route.
    lab.submit(vec![TopologyChange::Remove(red.default_route())]);
    gets(&["203.0.113.1"], "Destination Net Unreachable");
    // A router that is down.
    let router = Router { up: false, ..Router::default() };
    lab.submit(put([Object::Router(red.router(), router)]));
    let output = ping(&["203.0.113.1"]);
    assert!(output.contains("Packet filtered"), "{output}");
}

#[test]
fn what_is_administratively_down_carries_nothing() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let pods = [lab.pod(red, 1), lab.pod(red, 2)];
    let all: Vec<Object> = red.objects("10.9.0.0/24").into_iter().chain([red.pod_port(2)]).collect();
    let down = |id: Uuid| {
        let found = all.iter().find_map(|object| match object.clone() {
            Object::Port(other, port) if other == id => Some(Object::Port(id, Port { up: false, ..port })),
            Object::Bridge(other, bridge) if other == id => Some(Object::Bridge(id, Bridge { up: false, ..bridge })),
            _ => None,
        });
        found.unwrap()
    };
    let up = || {
        lab.submit(put(all.clone()));
        for n in [1, 2] {
            lab.wait_active(red.pod(n), true);
        }
        // The kernel notices a carrier that came back once a second, and only pods' ports are waited for above.
        let flows = || pings(&pods[0], "203.0.113.1") && pings(&pods[0], "10.9.0.102");
        wait(|| "nothing flows although everything is up".to_owned(), flows);
    };
    for (name, id, external, other) in [
        ("the gateway", red.gateway(), false, true),
        ("the bridge's port", red.bridge_port(), false, true),
        ("the uplink", red.uplink(), false, true),
        ("the provider's port", red.provider_port(), false, true),
        ("the other pod's port", red.pod(2), true, false),
        ("the bridge", red.bridge(), false, false),
    ] {
        up();
        lab.submit(put([down(id)]));
        let outcomes = [ping(&pods[0], "203.0.113.1", &[]), ping(&pods[0], "10.9.0.102", &[])];
        assert_eq!(outcomes.map(|ping| ping.join().unwrap()), [external, other], "{name} is down");
    }
    up();
}

#[test]
fn seeds_of_mac_and_arp_tables_hold_for_bridge_and_router() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let a = lab.pod(red, 1);
    // Pod 2 has no vif: the tables say who it is. It never answers ARP.
    let b = lab.wire(red, 2, Some(&lab.namespace(red)));
    let Object::Port(id, mut port) = red.pod_port(2) else { unreachable!() };
    port.vif_id = None;
    let tables = |macs: &[(Mac, Uuid)], arp: &[(Ipv4Addr, Mac)]| {
        let (macs, arp) = (macs.iter().copied().collect(), arp.iter().copied().collect());
        Object::Bridge(red.bridge(), Bridge { up: true, macs, arp, ..Bridge::default() })
    };
    lab.submit(put([tables(&[(mac(2), id)], &[(address(2), mac(2))]), Object::Port(id, port)]));
    lab.wait_active(id, true);
    inside(&b, "sysctl", &["-qw", "net.ipv4.conf.all.arp_ignore=8"]);
    let namespace = lab.namespace(red);
    assert!(inside(&namespace, "ip", &["neigh"]).contains(&format!(
        "{} dev {} lladdr {} PERMANENT",
        address(2),
        red.bridge_device(),
        mac(2)
    )));
    let fdb = inside(&namespace, "bridge", &["fdb", "show"]);
    assert!(
        fdb.lines()
            .any(|line| line.starts_with(&format!("{} dev {}", mac(2), interface(red, 2))) && line.contains("static")),
        "{fdb}"
    );
    // It is held to them.
    inside(&b, "ip", &["addr", "add", "10.9.0.77/32", "dev", "eth0"]);
    assert!(pings(&b, "10.9.0.1") && pings(&b, "203.0.113.1"), "the router need not ask");
    assert!(!attempt(&b, "ping", &["-c1", "-W0.5", "-I", "10.9.0.77", "10.9.0.1"]).status.success());
    // A seed of the ARP table alone tells the router whom to send to, wherever that is.
    lab.submit(put([tables(&[], &[("10.9.0.55".parse().unwrap(), mac(1))])]));
    inside(&a, "ip", &["addr", "add", "10.9.0.55/32", "dev", "eth0"]);
    inside(&a, "sysctl", &["-qw", "net.ipv4.conf.all.arp_ignore=8"]);
    assert!(inside(&namespace, "ip", &["neigh"]).contains("10.9.0.55 "));
}

/// Nothing answers for such a next hop, and the kernel refuses the route.
#[test]
fn a_route_by_an_address_that_no_host_can_have_leads_nowhere_and_leaves_the_rest_alone() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let (id, b) = (Uuid::from_u128(0x9a), lab.pod(red, 2));
    let own = red.transit();
    for (n, hop) in (3..).zip(["10.9.0.1", &own, "0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"]) {
        let odd = route(red.router(), "203.0.113.0/24", red.gateway(), Some(hop));
        lab.submit(put([Object::Route(id, odd)]));
        let a = lab.pod(red, n);
        assert!(pings(&a, "10.9.0.102") && pings(&b, "10.9.0.1"), "{hop}");
        assert!(!pings(&a, "203.0.113.1"), "the route takes what it names, by {hop}");
        let report = lab.plane().report();
        assert!(report.errors.is_empty(), "{hop}: {report:#?}");
        lab.submit(vec![TopologyChange::Remove(id)]);
        reaches(&a, "203.0.113.1");
    }
}
