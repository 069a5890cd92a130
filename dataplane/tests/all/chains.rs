//! Chains of ports, bridges and routers, by their effect on packets.

use atoll_model::topology::{
    Chain, Condition, FlowAction, Fragments, NatTarget, Object, Route, RouteAction, Rule, RuleAction, Test,
};
use atoll_testkit::plane::*;
use uuid::Uuid;

const CHAIN: Uuid = Uuid::from_u128(0xc0);

fn rules(rules: impl IntoIterator<Item = (Condition, RuleAction)>) -> Object {
    chain(CHAIN, rules)
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

fn icmp() -> Condition {
    Condition { protocol: Some(Test::is(1)), ..ip() }
}

fn tcp(port: u16) -> Condition {
    Condition { protocol: Some(Test::is(6)), destination_port: Some(Test::is((port, port))), ..ip() }
}

/// A pod's port with these chains.
fn filtered(tenant: TenantObjects, n: u8, inbound: Option<Uuid>, outbound: Option<Uuid>) -> Object {
    let Object::Port(id, mut port) = tenant.pod_port(n) else { unreachable!() };
    (port.inbound, port.outbound) = (inbound, outbound);
    Object::Port(id, port)
}

struct Scene {
    lab: Lab,
    red: TenantObjects,
    pods: Vec<std::path::PathBuf>,
}

/// Three pods with servers.
fn scene() -> Scene {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let pods: Vec<_> = (1..=3).map(|n| lab.pod(red, n)).collect();
    for (pod, n) in pods.iter().zip(1..) {
        serve(pod, &n.to_string());
    }
    serve(&lab.external_network(), "external");
    Scene { lab, red, pods }
}

impl Scene {
    fn put(&self, objects: impl IntoIterator<Item = Object>) {
        self.lab.submit(put(objects));
        let report = self.lab.plane().report();
        assert!(report.errors.is_empty(), "{report:#?}");
        for n in 1..=3 {
            self.lab.wait_active(self.red.pod(n), true);
        }
    }

    /// Pod `from` gets an answer from pod `to`: to a ping, to TCP.
    fn reaches(&self, from: usize, to: u8) -> (bool, bool) {
        let address = address(to).to_string();
        (pings(&self.pods[from - 1], &address), ask(&self.pods[from - 1], &address).is_some())
    }

    fn external(&self, from: usize) -> (bool, bool) {
        let pod = &self.pods[from - 1];
        (pings(pod, "203.0.113.1"), ask(pod, "203.0.113.1").is_some())
    }
}

const ALL: (bool, bool) = (true, true);
const NONE: (bool, bool) = (false, false);
const PING: (bool, bool) = (true, false);
const TCP: (bool, bool) = (false, true);

#[test]
fn what_a_port_lets_in_is_what_its_pod_may_send() {
    let s = scene();
    s.put([rules([(tcp(7000), RuleAction::Drop)]), filtered(s.red, 1, Some(CHAIN), None)]);
    assert_eq!((s.reaches(1, 2), s.external(1)), (PING, PING));
    assert_eq!((s.reaches(2, 1), s.reaches(2, 3), s.external(2)), (ALL, ALL, ALL));
    // Edited, then taken away.
    s.put([rules([(icmp(), RuleAction::Drop)])]);
    assert_eq!((s.reaches(1, 2), s.external(1)), (TCP, TCP));
    s.put([filtered(s.red, 1, None, None)]);
    assert_eq!((s.reaches(1, 2), s.external(1)), (ALL, ALL));
}

#[test]
fn a_stateful_port_accepts_only_answers_to_its_own_flows() {
    let s = scene();
    let answers = Condition { return_flow: true, ..any() };
    s.put([rules([(answers, RuleAction::Accept), (ip(), RuleAction::Drop)]), filtered(s.red, 1, None, Some(CHAIN))]);
    assert_eq!((s.reaches(1, 2), s.external(1)), (ALL, ALL), "what it asks is answered, bridged and routed");
    assert_eq!((s.reaches(2, 1), s.reaches(2, 3), s.external(2)), (NONE, ALL, ALL));
    assert!(!pings(&s.lab.namespace(s.red), address(1)), "the router has no exception");
    // A bridge needs no router for that.
    let down = atoll_model::topology::Router { up: false, ..Default::default() };
    s.put([Object::Router(s.red.router(), down)]);
    assert_eq!((s.reaches(1, 2), s.reaches(2, 1)), (ALL, NONE));
}

#[test]
fn a_bridge_filters_what_passes_it_and_what_goes_to_its_router() {
    let s = scene();
    let bridge = |inbound, outbound| {
        let bridge = atoll_model::topology::Bridge { up: true, inbound, outbound, ..Default::default() };
        Object::Bridge(s.red.bridge(), bridge)
    };
    s.put([rules([(icmp(), RuleAction::Drop)]), bridge(Some(CHAIN), None)]);
    assert_eq!((s.reaches(1, 2), s.external(1)), (TCP, TCP));
    s.put([bridge(None, Some(CHAIN))]);
    assert_eq!((s.reaches(1, 2), s.external(1)), (TCP, TCP));
    // Only what leaves to the router, which is known once the frame was looked up.
    let to_router = Condition { out_ports: Some(Test::is(vec![s.red.bridge_port()])), ..ip() };
    s.put([rules([(to_router, RuleAction::Drop)])]);
    assert_eq!((s.reaches(1, 2), s.external(1)), (ALL, NONE));
    // Only what comes from the router.
    let from_router = Condition { in_ports: Some(Test::is(vec![s.red.bridge_port()])), ..ip() };
    s.put([rules([(from_router.clone(), RuleAction::Drop)])]);
    assert_eq!((s.reaches(1, 2), s.external(1)), (ALL, NONE));
    s.put([bridge(Some(CHAIN), None)]);
    assert_eq!((s.reaches(1, 2), s.external(1)), (ALL, NONE));
    // One pod to another.
    let pair = Condition {
        in_ports: Some(Test::is(vec![s.red.pod(1)])),
        out_ports: Some(Test::is(vec![s.red.pod(2)])),
        ..ip()
    };
    s.put([rules([(pair, RuleAction::Drop)]), bridge(None, Some(CHAIN))]);
    assert_eq!((s.reaches(1, 2), s.reaches(1, 3), s.reaches(3, 2), s.external(1)), (NONE, ALL, ALL, ALL));
}

#[test]
fn jumps_returns_and_negated_conditions_mean_what_they_say() {
    let s = scene();
    let inner = Uuid::from_u128(0xc1);
    let jump = |condition| (condition, RuleAction::Jump { chain: inner });
    s.put([
        chain(inner, [(tcp(7000), RuleAction::Return), (ip(), RuleAction::Drop)]),
        rules([jump(any())]),
        filtered(s.red, 1, Some(CHAIN), None),
    ]);
    assert_eq!(s.reaches(1, 2), TCP);
    s.put([chain(inner, [(tcp(7000), RuleAction::Accept)]), rules([jump(any()), (ip(), RuleAction::Drop)])]);
    assert_eq!(s.reaches(1, 2), TCP, "accept ends the chain that jumped, too");
    s.put([chain(inner, [(tcp(7000), RuleAction::Return)]), rules([jump(any()), (ip(), RuleAction::Drop)])]);
    assert_eq!(s.reaches(1, 2), NONE, "return goes on after the jump");
    let not_icmp = Condition { inverted: true, ..icmp() };
    let arp = Condition { ether_type: Some(Test::is(0x0806)), ..any() };
    s.put([rules([(arp.clone(), RuleAction::Accept), (not_icmp, RuleAction::Drop)])]);
    assert_eq!(s.reaches(1, 2), PING);
    let not_tcp = Condition { protocol: Some(Test { value: 6, inverted: true }), ..ip() };
    s.put([rules([(not_tcp, RuleAction::Drop)])]);
    assert_eq!(s.reaches(1, 2), TCP);
    // The top level returns: accepted.
    s.put([rules([(tcp(7000), RuleAction::Return), (ip(), RuleAction::Drop)])]);
    assert_eq!(s.reaches(1, 2), TCP);
}

#[test]
fn a_router_filters_what_it_routes_and_not_what_is_bridged() {
    let s = scene();
    let router = |inbound| {
        let router =
            atoll_model::topology::Router { up: true, inbound, outbound: Some(s.red.outbound()), ..Default::default() };
        Object::Router(s.red.router(), router)
    };
    let from_one = Condition { source: Some(Test::is(net("10.9.0.101/32"))), ..tcp(7000) };
    s.put([rules([(from_one, RuleAction::Drop)]), router(Some(CHAIN))]);
    assert_eq!((s.reaches(1, 2), s.external(1), s.external(2)), (ALL, PING, ALL));
    s.put([rules([(icmp(), RuleAction::Reject)])]);
    assert_eq!((s.reaches(1, 2), s.external(1)), (ALL, TCP));
    let output = attempt(&s.pods[0], "ping", &["-c1", "-W1", "-n", "203.0.113.1"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("Packet filtered"), "{output:?}");
}

#[test]
fn a_routers_port_filters_beside_a_router_that_filters_and_a_bridge_that_looks_at_flows() {
    let s = scene();
    let mut objects = s.red.objects("10.9.0.0/24").into_iter();
    let found = objects.find_map(|object| match object {
        Object::Port(id, port) if id == s.red.uplink() => Some((id, port)),
        _ => None,
    });
    let (id, mut uplink) = found.expect("it has one");
    uplink.outbound = Some(CHAIN);
    // Nothing is translated, so that the port's chain stands in the hook of the router's.
    let udp = Condition { protocol: Some(Test::is(17)), ..ip() };
    let back = Route { router: PROVIDER, ..route_to(s.red.provider_port(), "10.9.0.0/24") };
    let flows = Uuid::from_u128(0xc1);
    s.put([
        Object::Route(Uuid::from_u128(0x999), back),
        chain(s.red.outbound(), [(udp, RuleAction::Drop)]),
        rules([(tcp(7000), RuleAction::Drop)]),
        Object::Port(id, uplink),
    ]);
    assert_eq!((s.external(1), s.reaches(1, 2)), (PING, ALL));
    s.put([
        chain(flows, [(Condition { return_flow: true, ..any() }, RuleAction::Accept)]),
        filtered(s.red, 2, Some(flows), None),
    ]);
    assert_eq!((s.external(1), s.reaches(1, 2)), (PING, ALL));
}

fn route_to(port: Uuid, destination: &str) -> Route {
    let action = RouteAction::Forward { port, gateway: None };
    Route { router: Uuid::nil(), source: net("0.0.0.0/0"), destination: net(destination), action, weight: 0 }
}

#[test]
fn a_sender_gets_an_error_also_if_the_rejecting_rule_matches_all_icmp() {
    let s = scene();
    let bridge = atoll_model::topology::Bridge { up: true, outbound: Some(CHAIN), ..Default::default() };
    s.put([rules([(icmp(), RuleAction::Reject)]), Object::Bridge(s.red.bridge(), bridge)]);
    let output = attempt(&s.pods[0], "ping", &["-c1", "-W1", "-n", &address(2).to_string()]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("Packet filtered"), "{output:?}");
}

#[test]
fn a_rule_for_arp_means_the_addresses_in_it() {
    let s = scene();
    let arp = |from: u8| Condition {
        ether_type: Some(Test::is(0x0806)),
        protocol: Some(Test::is(1)),
        source: Some(Test::is(address(from).into())),
        ..any()
    };
    let asks = |from: usize| {
        let output = attempt(&s.pods[from - 1], "arping", &["-c1", "-w1", "-I", "eth0", &address(2).to_string()]);
        output.status.success()
    };
    // A run of them, too.
    for more in [0..0_u8, 10..20] {
        let list = more.chain([1]).map(|n| (arp(n), RuleAction::Drop));
        s.put([rules(list), filtered(s.red, 2, None, Some(CHAIN))]);
        assert_eq!((asks(1), asks(3)), (false, true));
    }
}

#[test]
fn fragments_are_judged_one_by_one_also_where_they_are_put_together() {
    let s = scene();
    let inner = Uuid::from_u128(0xc1);
    let large = |to: &str| attempt(&s.pods[0], "ping", &["-c1", "-W0.5", "-n", "-s", "3000", to]).status.success();
    let small = |to: &str| pings(&s.pods[0], to);
    // Only an echo's first fragment tells that it is one.
    let echo = Condition { source_port: Some(Test::is((8, 8))), fragments: Fragments::Header, ..icmp() };
    let mine = || Condition { source: Some(Test::is(address(1).into())), ..ip() };
    let later = Condition { fragments: Fragments::NonHeader, ..mine() };
    let first_only = [(echo, RuleAction::Accept), (mine(), RuleAction::Drop)];
    let flows = Uuid::from_u128(0xc2);
    let answers = Condition { return_flow: true, ..any() };
    let router = |inbound| {
        let router =
            atoll_model::topology::Router { up: true, inbound, outbound: Some(s.red.outbound()), ..Default::default() };
        Object::Router(s.red.router(), router)
    };
    s.put([chain(flows, [(answers, RuleAction::Accept)])]);
    // At the port, at the port where flows are looked at, and at the router; in a chain that is jumped to.
    for (tracked, routed) in [(false, false), (true, false), (false, true)] {
        let port = (!routed).then_some(CHAIN);
        let to = if routed { "203.0.113.1" } else { "10.9.0.102" };
        let second = filtered(s.red, 2, tracked.then_some(flows), None);
        let jump = (any(), RuleAction::Jump { chain: inner });
        s.put([
            chain(inner, first_only.clone()),
            rules([jump]),
            filtered(s.red, 1, port, None),
            second,
            router(routed.then_some(CHAIN)),
        ]);
        assert_eq!((small(to), large(to)), (true, false), "tracked: {tracked}, routed: {routed}");
        // Accepting later fragments in the inner chain accepts them, whatever follows.
        s.put([chain(inner, [(later.clone(), RuleAction::Accept)].into_iter().chain(first_only.clone()))]);
        assert_eq!((small(to), large(to)), (true, true), "tracked: {tracked}, routed: {routed}");
    }
}

#[test]
fn the_deepest_jumps_that_are_not_refused_are_followed_at_a_port_that_looks_at_flows_and_fragments() {
    let s = scene();
    let id = |n: u128| Uuid::from_u128(0xd00 + n);
    let last = 11;
    let nested = (0..last).map(|n| chain(id(n), [(any(), RuleAction::Jump { chain: id(n + 1) })]));
    // A map whose verdicts are chains of their own, at the very end.
    let from = |n: u8| Condition { source: Some(Test::is(address(n).into())), ..tcp(7000) };
    let verdicts = (1..=5).map(|n| (from(n), if n == 2 { RuleAction::Accept } else { RuleAction::Reject }));
    let answers = (Condition { return_flow: true, ..any() }, RuleAction::Accept);
    let later = (Condition { fragments: Fragments::NonHeader, ..ip() }, RuleAction::Drop);
    let end = chain(id(last), [answers, later].into_iter().chain(verdicts));
    let root = rules([(any(), RuleAction::Jump { chain: id(0) })]);
    let ports = [1, 2].map(|n| filtered(s.red, n, Some(CHAIN), None));
    s.put(nested.chain([end, root]).chain(ports));
    assert!(s.lab.plane().report().unsupported.is_empty(), "{:#?}", s.lab.plane().report());
    assert_eq!((s.reaches(1, 3), s.reaches(2, 3)), (PING, ALL));
    assert!(!attempt(&s.pods[0], "ping", &["-c1", "-W0.5", "-n", "-s", "3000", "10.9.0.103"]).status.success());
}

#[test]
fn a_floating_address_leads_to_its_pod_and_nowhere_else() {
    let s = scene();
    let own: std::net::Ipv4Addr = s.red.transit().parse().expect("an address");
    let target = |to, port| NatTarget { from: to, to, port_from: port, port_to: port };
    let dnat = RuleAction::Dnat { targets: vec![target(address(2), 7000)], then: FlowAction::Accept };
    let floating = Condition { destination: Some(Test::is(own.into())), ..tcp(80) };
    s.put([chain(s.red.inbound(), [(floating, dnat)])]);
    let external = s.lab.external_network();
    let answer = on_thread(&external, move || {
        let mut stream = std::net::TcpStream::connect_timeout(&(own, 80).into(), std::time::Duration::from_secs(1))?;
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).map(|_| answer)
    });
    assert_eq!(answer.join().expect("no panic").expect("an answer"), "2");
    assert_eq!(ask(&external, &own.to_string()), None);
    assert_eq!(s.external(2), ALL);
}

#[test]
fn routes_that_drop_drop_and_routes_that_refuse_say_so() {
    let s = scene();
    let no = |n: u128, destination: &str, action| {
        let source = net("0.0.0.0/0");
        let route = Route { router: s.red.router(), source, destination: net(destination), action, weight: 0 };
        Object::Route(Uuid::from_u128(0x500 + n), route)
    };
    s.put([no(1, "198.51.100.0/25", RouteAction::BlackHole), no(2, "198.51.100.128/25", RouteAction::Reject)]);
    let ping = |to: &str| {
        let output = attempt(&s.pods[0], "ping", &["-c1", "-W1", "-n", to]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(!ping("198.51.100.1").contains("From"));
    assert!(ping("198.51.100.200").contains("Packet filtered"));
    // The longest prefix wins.
    let single = RouteAction::BlackHole;
    s.put([no(3, "203.0.113.1/32", single)]);
    assert_eq!(s.external(1), NONE);
    // A router that is down refuses everything.
    s.lab.submit(vec![atoll_model::topology::TopologyChange::Remove(Uuid::from_u128(0x503))]);
    assert_eq!(s.external(1), ALL);
    let down = atoll_model::topology::Router { up: false, ..Default::default() };
    s.put([Object::Router(s.red.router(), down)]);
    assert_eq!((s.external(1), s.reaches(1, 2)), (NONE, ALL));
}

#[test]
fn a_thousand_rules_mean_what_each_of_them_says() {
    let s = scene();
    let from = |n: u32, port| Condition { source: Some(Test::is(std::net::Ipv4Addr::from(n).into())), ..tcp(port) };
    let filler = (0..1000).map(|n| (from(0x0a08_0000 + n, 7000), RuleAction::Drop));
    let mine = (from(address(1).into(), 7000), RuleAction::Drop);
    let half: Vec<_> = filler.clone().take(500).chain([mine]).chain(filler.clone().skip(500)).collect();
    s.put([rules(half), filtered(s.red, 1, Some(CHAIN), None), filtered(s.red, 2, Some(CHAIN), None)]);
    let text = inside(&s.lab.namespace(s.red), "nft", &["-t", "list", "table", "bridge", "atoll"]);
    assert!(text.lines().count() < 100, "{text}");
    assert_eq!((s.reaches(1, 2), s.reaches(2, 3)), (PING, ALL));
    s.put([rules(filler)]);
    assert_eq!(s.reaches(1, 2), ALL);
    // The same on the router, with networks and ranges.
    let wide = |n: u8| Condition {
        source: Some(Test::is(net(&format!("10.{n}.0.0/16")))),
        destination_port: Some(Test::is((6990, 7010))),
        ..tcp(7000)
    };
    let leaving = (0..=9).map(|n| (wide(n), RuleAction::Drop));
    let snat = rules_of(&s.red.objects("10.9.0.0/24"), s.red.outbound());
    s.put([chain(s.red.outbound(), leaving.chain(snat))]);
    assert_eq!((s.external(1), s.reaches(1, 2)), (PING, ALL));
}

#[test]
fn rules_that_do_different_things_are_one_map_and_mean_the_same() {
    let s = scene();
    let inner = Uuid::from_u128(0xc1);
    let from = |n: u32| Condition { source: Some(Test::is(std::net::Ipv4Addr::from(n).into())), ..tcp(7000) };
    let jump = || RuleAction::Jump { chain: inner };
    let actions = [RuleAction::Accept, RuleAction::Reject, RuleAction::Drop, RuleAction::Return, jump()];
    let filler = (0..500_u32).map(|n| (from(0x0a08_0000 + n), actions[n as usize % 5].clone()));
    let own = |n: u8| from(address(n).into());
    // Pod 1 is sent through the inner chain and back, pod 2 is refused, and pod 3 may, whatever follows.
    let mine =
        [(own(1), jump()), (own(2), RuleAction::Reject), (own(3), RuleAction::Accept), (own(3), RuleAction::Drop)];
    let list: Vec<_> =
        filler.clone().take(250).chain(mine).chain(filler.skip(250)).chain([(tcp(7000), RuleAction::Drop)]).collect();
    let ports = (1..=3).map(|n| filtered(s.red, n, Some(CHAIN), None));
    s.put([chain(inner, [(icmp(), RuleAction::Drop)]), rules(list)].into_iter().chain(ports));
    let text = inside(&s.lab.namespace(s.red), "nft", &["-t", "list", "table", "bridge", "atoll"]);
    assert!(text.lines().count() < 140, "{text}");
    assert_eq!((s.reaches(1, 2), s.reaches(3, 2)), (PING, ALL));
    let to = (address(1), 7000).into();
    let connect = move || std::net::TcpStream::connect_timeout(&to, std::time::Duration::from_secs(2));
    let refused = on_thread(&s.pods[1], connect).join().expect("no panic").expect_err("refused");
    assert_eq!(refused.kind(), std::io::ErrorKind::HostUnreachable, "its sender gets an error");
    // What the inner chain does not end comes back.
    s.put([chain(inner, [(tcp(7000), RuleAction::Accept)])]);
    assert_eq!(s.reaches(1, 2), ALL);
}

fn rules_of(objects: &[Object], id: Uuid) -> Vec<(Condition, RuleAction)> {
    let chain = objects.iter().find_map(|object| match object {
        Object::Chain(other, chain) if *other == id => Some(chain.clone()),
        _ => None,
    });
    chain.into_iter().flat_map(|chain| chain.rules).map(|rule| (rule.condition, rule.action)).collect()
}

#[test]
fn the_longest_destination_wins_among_routes_whose_source_fits() {
    let s = scene();
    let route = |n: u128, source: &str, destination: &str, action, weight| {
        let route =
            Route { router: s.red.router(), source: net(source), destination: net(destination), action, weight };
        Object::Route(Uuid::from_u128(0x600 + n), route)
    };
    // Pod 1 may not go out; pod 2 may, but not to 203.0.113.1; pods 1 and 2 both lie in the wider source.
    s.put([route(1, "10.9.0.101/32", "0.0.0.0/0", RouteAction::BlackHole, 0)]);
    assert_eq!((s.external(1), s.external(2), s.reaches(1, 2)), (NONE, ALL, ALL));
    let report = s.lab.plane().report();
    assert_eq!(report.unsupported.len(), 1, "the tenant's own route has the same weight: {report:#?}");
    let Object::Route(_, mut own) = s.red.objects("10.9.0.0/24").remove(5) else { unreachable!() };
    own.weight = 50;
    s.put([Object::Route(Uuid::from_u128(2 << 16 | 0x30), own)]);
    assert_eq!((s.external(1), s.external(2), s.reaches(1, 2)), (NONE, ALL, ALL));
    assert!(s.lab.plane().report().unsupported.is_empty());
    s.put([route(2, "10.9.0.100/30", "203.0.113.0/24", RouteAction::BlackHole, 0)]);
    assert_eq!((s.external(1), s.external(2), s.external(3)), (NONE, NONE, NONE));
    // A longer destination beats a longer source.
    let Object::Route(_, through) = s.red.objects("10.9.0.0/24").remove(5) else { unreachable!() };
    s.put([route(3, "0.0.0.0/0", "203.0.113.1/32", through.action, 0)]);
    assert_eq!((s.external(1), s.external(2), s.external(3)), (ALL, ALL, ALL));
}
