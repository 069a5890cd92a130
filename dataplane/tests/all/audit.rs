//! Every field of every object, and its effect: it changes the kernel objects, it is reported as unsupported, or it has
//! no meaning for packets. A new field does not compile here until its effect is declared.

#![allow(clippy::unwrap_used, clippy::unnecessary_wraps, reason = "a fixture that does not fit is a failed test")]

use std::collections::BTreeSet;
use std::fmt::Write;

use atoll_dataplane::Unsupported;
use atoll_dataplane::compile::{Compiled, compile};
use atoll_model::attachment::Mac;
use atoll_model::topology::*;
use atoll_testkit::plane::*;
use uuid::Uuid;

/// The names of a structure's fields. A field that is not listed does not compile.
macro_rules! fields {
    ($name:ident { $($field:ident),* $(,)? }) => {{
        let _ = |it: &$name| { let $name { $($field: _),* } = it; };
        vec![$((stringify!($name), stringify!($field))),*]
    }};
}

/// What becomes of a value in a field.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// The kernel gets something else.
    Expressed,
    /// The kernel gets the same: for people, or true of every packet that can come here anyway.
    Nothing,
    /// It is in the report under this name, and the rest is as it was.
    Reported(&'static str),
    /// It is in the report, and what it may have restricted is closed.
    Closed(&'static str),
}
use Fate::*;

const CHAIN: Uuid = Uuid::from_u128(0xc0);
const JUMPED: Uuid = Uuid::from_u128(0xc1);
const PORTS: Uuid = Uuid::from_u128(0xe0);
const ADDRESSES: Uuid = Uuid::from_u128(0xe1);
const ROUTE: Uuid = Uuid::from_u128(0xf0);

fn red() -> TenantObjects {
    TenantObjects(1)
}

fn drop_all() -> Vec<Rule> {
    vec![Rule { id: Uuid::from_u128(0xcc), condition: Condition::default(), action: RuleAction::Drop }]
}

/// A tenant with two pods, chains that drop, and a group of each kind.
fn world() -> Topology {
    let mut topology = provider();
    let objects = red().objects("10.9.0.0/24").into_iter().chain([red().pod_port(1), red().pod_port(2)]);
    for change in put(objects) {
        topology.apply(change);
    }
    for chain in [CHAIN, JUMPED] {
        topology.chains.insert(chain, Chain { rules: drop_all(), ..Chain::default() });
    }
    topology.port_groups.insert(PORTS, PortGroup { members: vec![red().pod(1)], ..PortGroup::default() });
    let members = vec!["10.9.0.101".parse().unwrap()];
    topology.address_groups.insert(ADDRESSES, AddressGroup { members, ..AddressGroup::default() });
    topology
}

/// Everything that the kernel gets, and what is reported.
fn becomes(topology: &Topology) -> (String, BTreeSet<Unsupported>) {
    reported(&Compiled::new(topology.clone(), HOST))
}

fn reported(compiled: &Compiled) -> (String, BTreeSet<Unsupported>) {
    let mut plan = compiled.plan().clone();
    let mut unsupported = BTreeSet::new();
    for namespace in plan.namespaces.values_mut() {
        unsupported.append(&mut namespace.unsupported);
    }
    let mut text = format!("{plan:#?}");
    for id in compiled.topology().ports.keys() {
        match compiled.pod(*id) {
            Ok(Some(mut pod)) => {
                unsupported.append(&mut pod.left);
                write!(text, "{id} {pod:#?}").unwrap();
            }
            Ok(None) => {}
            Err(error) => drop(unsupported.insert(error)),
        }
    }
    (text, unsupported)
}

fn check(what: &str, before: &Topology, after: &Topology, fate: Fate) {
    let ((old, before_reports), (new, reports)) = (becomes(before), becomes(after));
    let mut changed = Compiled::new(before.clone(), HOST);
    for change in changes(before, after) {
        changed.apply(change);
    }
    changed.update();
    assert_eq!(reported(&changed), (new.clone(), reports.clone()), "{what}: compiled change by change");
    let fresh: Vec<_> = reports.difference(&before_reports).map(|one| one.field.as_str()).collect();
    match fate {
        Expressed => assert!(old != new && fresh.is_empty(), "{what} is not expressed; reported: {fresh:?}"),
        Nothing => assert!(old == new && fresh.is_empty(), "{what} means something; reported: {fresh:?}"),
        Reported(field) => assert!(old == new && fresh.contains(&field), "{what}; reported: {fresh:?}"),
        Closed(field) => assert!(old != new && fresh.contains(&field), "{what}; reported: {fresh:?}"),
    }
}

type Spoil = fn(&mut Topology);

fn router(topology: &mut Topology) -> &mut Router {
    topology.routers.get_mut(&red().router()).unwrap()
}
fn bridge(topology: &mut Topology) -> &mut Bridge {
    topology.bridges.get_mut(&red().bridge()).unwrap()
}
fn pod_port(topology: &mut Topology) -> &mut Port {
    topology.ports.get_mut(&red().pod(1)).unwrap()
}
fn gateway(topology: &mut Topology) -> &mut Port {
    topology.ports.get_mut(&red().gateway()).unwrap()
}
fn uplink(topology: &mut Topology) -> &mut Binding {
    topology.ports.get_mut(&UPLINK).unwrap().binding.as_mut().unwrap()
}
fn own_route(topology: &mut Topology) -> &mut Route {
    topology.routes.get_mut(&red().default_route()).unwrap()
}
fn outbound(topology: &mut Topology) -> &mut Vec<Rule> {
    &mut topology.chains.get_mut(&red().outbound()).unwrap().rules
}
fn target(topology: &mut Topology) -> &mut NatTarget {
    match &mut outbound(topology)[1].action {
        RuleAction::Snat { targets, .. } => &mut targets[0],
        other => panic!("{other:?}"),
    }
}

/// Every field of every object but rules.
fn objects() -> Vec<(&'static str, &'static str, Spoil, Fate)> {
    vec![
        ("Router", "tenant", |t| router(t).tenant = "x".into(), Nothing),
        ("Router", "name", |t| router(t).name = "x".into(), Nothing),
        ("Router", "up", |t| router(t).up = false, Expressed),
        ("Router", "inbound", |t| router(t).inbound = Some(CHAIN), Expressed),
        ("Router", "outbound", |t| router(t).outbound = Some(CHAIN), Expressed),
        ("Router", "other", |t| router(t).other = vec!["asNumber".into()], Reported("asNumber")),
        ("Router", "other", |t| router(t).other = vec!["loadBalancerId".into()], Reported("loadBalancerId")),
        ("Router", "other", |t| router(t).other = vec!["inboundMirrorIds".into()], Reported("inboundMirrorIds")),
        ("Router", "other", |t| router(t).other = vec!["forwardChainId".into()], Closed("forwardChainId")),
        ("Router", "other", |t| router(t).other = vec!["localRedirectChainId".into()], Closed("localRedirectChainId")),
        ("Bridge", "tenant", |t| bridge(t).tenant = "x".into(), Nothing),
        ("Bridge", "name", |t| bridge(t).name = "x".into(), Nothing),
        ("Bridge", "up", |t| bridge(t).up = false, Closed("deviceId")),
        ("Bridge", "inbound", |t| bridge(t).inbound = Some(CHAIN), Expressed),
        ("Bridge", "outbound", |t| bridge(t).outbound = Some(CHAIN), Expressed),
        ("Bridge", "macs", |t| bridge(t).macs.extend([(mac(9), red().pod(1))]), Expressed),
        ("Bridge", "arp", |t| bridge(t).arp.extend([(address(9), mac(1))]), Expressed),
        ("Bridge", "other", |t| bridge(t).other = vec!["qosPolicyId".into()], Reported("qosPolicyId")),
        ("Bridge", "other", |t| bridge(t).other = vec!["vlans/mac_table".into()], Reported("vlans/mac_table")),
        ("Bridge", "other", |t| bridge(t).other = vec!["flavour".into()], Closed("flavour")),
        (
            "Port",
            "device",
            |t| pod_port(t).device = Device::Bridge { id: red().bridge(), vlan: Some(5) },
            Closed("vlanId"),
        ),
        ("Port", "up", |t| pod_port(t).up = false, Expressed),
        ("Port", "inbound", |t| pod_port(t).inbound = Some(CHAIN), Expressed),
        ("Port", "outbound", |t| pod_port(t).outbound = Some(CHAIN), Expressed),
        ("Port", "peer", |t| pod_port(t).peer = Some(red().pod(2)), Closed("peerId")),
        ("Port", "binding", |t| pod_port(t).binding = None, Expressed),
        ("Port", "vif_id", |t| pod_port(t).vif_id = None, Expressed),
        ("Port", "other", |t| pod_port(t).other = vec!["qosPolicyId".into()], Reported("qosPolicyId")),
        ("Port", "other", |t| pod_port(t).other = vec!["insertionIds".into()], Closed("insertionIds")),
        ("Port", "up", |t| gateway(t).up = false, Expressed),
        ("Port", "inbound", |t| gateway(t).inbound = Some(CHAIN), Expressed),
        ("Port", "outbound", |t| gateway(t).outbound = Some(CHAIN), Expressed),
        ("Port", "peer", |t| gateway(t).peer = None, Expressed),
        ("Port", "vif_id", |t| gateway(t).vif_id = Some(CHAIN), Nothing),
        (
            "Port",
            "binding",
            |t| gateway(t).binding = Some(Binding { host: HOST, interface: "x".into() }),
            Reported("interfaceName"),
        ),
        ("Port", "other", |t| gateway(t).other = vec!["outboundMirrorIds".into()], Reported("outboundMirrorIds")),
        ("Port", "other", |t| gateway(t).other = vec!["rtrPortVni".into()], Closed("rtrPortVni")),
        ("Binding", "host", |t| pod_port(t).binding.as_mut().unwrap().host = CHAIN, Expressed),
        ("Binding", "interface", |t| pod_port(t).binding.as_mut().unwrap().interface = "x".into(), Expressed),
        (
            "Binding",
            "interface",
            |t| pod_port(t).binding.as_mut().unwrap().interface = "at*".into(),
            Closed("interfaceName"),
        ),
        ("Binding", "interface", |t| uplink(t).interface = "up\"".into(), Closed("interfaceName")),
        ("Binding", "interface", |t| uplink(t).interface = "0123456789abcdef".into(), Closed("interfaceName")),
        ("Route", "router", |t| own_route(t).router = CHAIN, Expressed),
        ("Route", "source", |t| own_route(t).source = net("10.9.0.0/25"), Expressed),
        ("Route", "destination", |t| own_route(t).destination = net("10.0.0.0/8"), Expressed),
        ("Route", "action", |t| own_route(t).action = RouteAction::Reject, Expressed),
        ("Route", "weight", |t| own_route(t).weight = 7, Expressed),
        (
            "Route",
            "weight",
            |t| {
                let twin = Route { action: RouteAction::Reject, ..own_route(t).clone() };
                t.routes.insert(Uuid::from_u128(u128::MAX), twin);
            },
            Reported("weight"),
        ),
        ("Chain", "tenant", |t| t.chains.get_mut(&red().outbound()).unwrap().tenant = "x".into(), Nothing),
        ("Chain", "name", |t| t.chains.get_mut(&red().outbound()).unwrap().name = "x".into(), Nothing),
        ("Chain", "rules", |t| outbound(t).push(drop_all().remove(0)), Expressed),
        // The rule's counter is identified by its id.
        ("Rule", "id", |t| outbound(t)[0].id = CHAIN, Expressed),
        ("Rule", "condition", |t| outbound(t)[0].condition.return_flow = false, Expressed),
        ("Rule", "action", |t| outbound(t)[0].action = RuleAction::Drop, Expressed),
        ("NatTarget", "from", |t| target(t).from = "100.64.0.1".parse().unwrap(), Expressed),
        ("NatTarget", "to", |t| target(t).to = "100.64.0.9".parse().unwrap(), Expressed),
        ("NatTarget", "port_from", |t| target(t).port_from = 2000, Expressed),
        ("NatTarget", "port_to", |t| target(t).port_to = 2000, Expressed),
        ("NatTarget", "port_to", |t| target(t).port_to = 1, Closed("natTargets")),
        ("PortGroup", "name", |t| t.port_groups.get_mut(&PORTS).unwrap().name = "x".into(), Nothing),
        // One machine has one table of flows: there is nothing to share.
        ("PortGroup", "stateful", |t| t.port_groups.get_mut(&PORTS).unwrap().stateful = true, Nothing),
        ("PortGroup", "members", |t| t.port_groups.get_mut(&PORTS).unwrap().members.clear(), Expressed),
        ("AddressGroup", "name", |t| t.address_groups.get_mut(&ADDRESSES).unwrap().name = "x".into(), Nothing),
        ("AddressGroup", "members", |t| t.address_groups.get_mut(&ADDRESSES).unwrap().members.clear(), Expressed),
    ]
}

#[test]
fn every_field_of_every_object_is_expressed_or_reported_or_for_people() {
    let all = [
        fields!(Router { tenant, name, up, inbound, outbound, other }),
        fields!(Bridge { tenant, name, up, inbound, outbound, macs, arp, other }),
        fields!(Port { device, up, inbound, outbound, peer, binding, vif_id, other }),
        fields!(Binding { host, interface }),
        fields!(Route { router, source, destination, action, weight }),
        fields!(Chain { tenant, name, rules }),
        fields!(Rule { id, condition, action }),
        fields!(NatTarget { from, to, port_from, port_to }),
        fields!(PortGroup { name, stateful, members }),
        fields!(AddressGroup { name, members }),
    ];
    let _ = fields!(Topology { routers, bridges, ports, routes, chains, port_groups, address_groups });
    let cases = objects();
    let listed: BTreeSet<_> = cases.iter().map(|(object, field, ..)| (*object, *field)).collect();
    assert_eq!(listed, all.into_iter().flatten().collect());
    let mut world = world();
    // Something looks at the groups.
    let grouped = Condition {
        in_port_group: Some(Test::is(PORTS)),
        source_group: Some(Test::is(ADDRESSES)),
        ..Condition::default()
    };
    world.chains.get_mut(&JUMPED).unwrap().rules[0].condition = grouped;
    world.ports.get_mut(&red().pod(2)).unwrap().outbound = Some(JUMPED);
    assert_eq!(becomes(&world).1, BTreeSet::new());
    for (object, field, spoil, fate) in cases {
        let mut after = world.clone();
        spoil(&mut after);
        check(&format!("{object}.{field}"), &world, &after, fate);
    }
}

#[test]
fn every_kind_of_route_and_of_port_is_one_or_the_other() {
    let world = world();
    for (action, fate) in [
        (RouteAction::Forward { port: red().gateway(), gateway: None }, Expressed),
        (RouteAction::Forward { port: red().gateway(), gateway: Some(address(9)) }, Expressed),
        // The kernel has one for every address of its own.
        (RouteAction::Local { port: red().gateway() }, Nothing),
        (RouteAction::BlackHole, Expressed),
        (RouteAction::Reject, Expressed),
    ] {
        match &action {
            RouteAction::Forward { port: _, gateway: _ }
            | RouteAction::Local { port: _ }
            | RouteAction::BlackHole
            | RouteAction::Reject => {}
        }
        let mut after = world.clone();
        let (source, destination) = (net("0.0.0.0/0"), net("192.0.2.0/24"));
        let route = Route { router: red().router(), source, destination, action: action.clone(), weight: 0 };
        after.routes.insert(ROUTE, route);
        check(&format!("{action:?}"), &world, &after, fate);
    }
    let moved = Ipv4AndMac { address: "10.9.0.2/24", mac: Some(Mac([2, 0, 0, 0, 0, 7])) };
    for (device, fate) in [
        (Device::Router { id: red().router(), address: net(moved.address), mac: None }, Expressed),
        (Device::Router { id: red().router(), address: net("10.9.0.1/24"), mac: moved.mac }, Expressed),
        (Device::Bridge { id: red().bridge(), vlan: None }, Closed("peerId")),
    ] {
        match &device {
            Device::Router { id: _, address: _, mac: _ } | Device::Bridge { id: _, vlan: _ } => {}
        }
        let mut after = world.clone();
        gateway(&mut after).device = device.clone();
        check(&format!("{device:?}"), &world, &after, fate);
    }
}

struct Ipv4AndMac {
    address: &'static str,
    mac: Option<Mac>,
}

// ---- rules -------------------------------------------------------------------------------------------------------

/// The chains that a packet meets.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    RouterIn,
    RouterOut,
    RouterPortIn,
    RouterPortOut,
    BridgeIn,
    BridgeOut,
    PodIn,
    PodOut,
}
use Place::*;

const PLACES: [Place; 8] = [RouterIn, RouterOut, RouterPortIn, RouterPortOut, BridgeIn, BridgeOut, PodIn, PodOut];

impl Place {
    fn bridged(self) -> bool {
        matches!(self, BridgeIn | BridgeOut | PodIn | PodOut)
    }

    /// After the decision where the packet goes.
    fn decided(self) -> bool {
        matches!(self, RouterOut | RouterPortOut | BridgeOut | PodOut)
    }

    /// The world with this rule here, and nothing else that filters.
    fn with(self, rule: Rule) -> Topology {
        let mut t = world();
        t.chains.insert(CHAIN, Chain { rules: vec![rule], ..Chain::default() });
        (router(&mut t).inbound, router(&mut t).outbound) = (None, None);
        let chain = Some(CHAIN);
        match self {
            RouterIn => router(&mut t).inbound = chain,
            RouterOut => router(&mut t).outbound = chain,
            RouterPortIn => gateway(&mut t).inbound = chain,
            RouterPortOut => gateway(&mut t).outbound = chain,
            BridgeIn => bridge(&mut t).inbound = chain,
            BridgeOut => bridge(&mut t).outbound = chain,
            PodIn => pod_port(&mut t).inbound = chain,
            PodOut => pod_port(&mut t).outbound = chain,
        }
        t
    }
}

fn rule(condition: Condition, action: RuleAction) -> Rule {
    Rule { id: Uuid::from_u128(0xcc), condition, action }
}

type Ask = fn(bool) -> Condition;
type At = fn(Place, bool) -> Fate;

fn test<T>(value: T, inverted: bool) -> Option<Test<T>> {
    let test = Test { value, inverted };
    let Test { value: _, inverted: _ } = &test;
    Some(test)
}

const fn expressed(_: Place, _: bool) -> Fate {
    Expressed
}

/// Every field of a condition: a value, or its inverse. The fate is that of a rule that drops.
fn conditions() -> Vec<(&'static str, Ask, At)> {
    fn any() -> Condition {
        Condition::default()
    }
    // Where the way out is not known yet, no port is the one, and every port is another.
    const OUT: At = |place, inverted| if inverted && !place.decided() { Nothing } else { Expressed };
    vec![
        ("inverted", |inverted| Condition { inverted, protocol: test(6, false), ..any() }, expressed),
        ("forward_flow", |_| Condition { forward_flow: true, ..any() }, expressed),
        ("return_flow", |_| Condition { return_flow: true, ..any() }, expressed),
        ("in_ports", |not| Condition { in_ports: test(vec![red().pod(1), red().uplink()], not), ..any() }, expressed),
        ("out_ports", |not| Condition { out_ports: test(vec![red().pod(1), red().gateway()], not), ..any() }, OUT),
        (
            "in_port_group",
            |not| Condition { in_port_group: test(PORTS, not), ..any() },
            // The group has a port of the bridge only.
            |place, not| if not && !place.bridged() { Nothing } else { Expressed },
        ),
        (
            "out_port_group",
            |not| Condition { out_port_group: test(PORTS, not), ..any() },
            |place, not| if not && !(place.bridged() && place.decided()) { Nothing } else { Expressed },
        ),
        ("source_group", |not| Condition { source_group: test(ADDRESSES, not), ..any() }, expressed),
        ("destination_group", |not| Condition { destination_group: test(ADDRESSES, not), ..any() }, expressed),
        (
            "traversed",
            |not| Condition { traversed: test(red().router(), not), ..any() },
            |_, _| Closed("traversedDevice"),
        ),
        (
            "ether_type",
            |not| Condition { ether_type: test(0x0800, not), ..any() },
            // A router sees nothing but IPv4.
            |place, not| if place.bridged() || not { Expressed } else { Nothing },
        ),
        (
            "ether_source",
            |not| Condition { ether_source: test((mac(1), Mac([0xff; 6])), not), ..any() },
            |place, _| if matches!(place, RouterOut | RouterPortOut) { Closed("dlSrc") } else { Expressed },
        ),
        (
            "ether_destination",
            |not| Condition { ether_destination: test((mac(1), Mac([0xff; 6])), not), ..any() },
            |place, _| if matches!(place, RouterOut | RouterPortOut) { Closed("dlDst") } else { Expressed },
        ),
        // Tagged frames do not get here.
        (
            "vlan",
            |not| Condition { vlan: Some((!not).then_some(5)), ..any() },
            |_, not| if not { Nothing } else { Expressed },
        ),
        ("tos", |not| Condition { tos: test(8, not), ..any() }, expressed),
        ("protocol", |not| Condition { protocol: test(6, not), ..any() }, expressed),
        ("source", |not| Condition { source: test(net("10.9.0.0/25"), not), ..any() }, expressed),
        ("destination", |not| Condition { destination: test(net("10.9.0.0/25"), not), ..any() }, expressed),
        ("source_port", |not| Condition { source_port: test((8, 9), not), ..any() }, expressed),
        ("destination_port", |not| Condition { destination_port: test((8, 9), not), ..any() }, expressed),
        (
            "fragments",
            |not| Condition { fragments: if not { Fragments::NonHeader } else { Fragments::Unfragmented }, ..any() },
            expressed,
        ),
        ("other", |_| Condition { other: vec!["flowLabel".into()], ..any() }, |_, _| Closed("flowLabel")),
    ]
}

#[test]
fn every_field_of_a_condition_is_expressed_or_reported_in_every_chain() {
    let all = fields!(Condition {
        inverted,
        forward_flow,
        return_flow,
        in_ports,
        out_ports,
        in_port_group,
        out_port_group,
        source_group,
        destination_group,
        traversed,
        ether_type,
        ether_source,
        ether_destination,
        vlan,
        tos,
        protocol,
        source,
        destination,
        source_port,
        destination_port,
        fragments,
        other,
    });
    let cases = conditions();
    let listed: BTreeSet<_> = cases.iter().map(|(field, ..)| ("Condition", *field)).collect();
    assert_eq!(listed, all.into_iter().collect());
    let mut worlds = Vec::new();
    for place in PLACES {
        let plain = place.with(rule(Condition::default(), RuleAction::Drop));
        assert_eq!(becomes(&plain).1, BTreeSet::new());
        for (field, ask, fate) in &cases {
            for not in [false, true] {
                let asked = place.with(rule(ask(not), RuleAction::Drop));
                worlds.push(asked.clone());
                let what = format!("{field}, not: {not}, {place:?}");
                let Closed(name) = fate(place, not) else {
                    check(&what, &plain, &asked, fate(place, not));
                    continue;
                };
                check(&what, &place.with(rule(never(), RuleAction::Drop)), &asked, Closed(name));
                // What only lets pass is left out, and closes nothing.
                let permits = place.with(rule(ask(not), RuleAction::Accept));
                check(&what, &place.with(rule(never(), RuleAction::Accept)), &permits, Reported(name));
            }
        }
    }
    load(&worlds);
}

/// Loads the filters of these worlds into a kernel, each into tables of its own.
fn load(worlds: &[Topology]) {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("this test needs root");
    // A namespace has room for 1024 chains in one hook.
    for worlds in worlds.chunks(100) {
        let mut script = "flush ruleset\n".to_owned();
        for (n, world) in worlds.iter().enumerate() {
            let text = &compile(world, HOST).namespaces[&red().router()].ruleset.text;
            script.push_str(&text.replace(" atoll {", &format!(" atoll_{n} {{")));
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), script).unwrap();
        run("nft", &["-f", file.path().to_str().unwrap()]);
    }
}

/// A condition that no packet meets.
fn never() -> Condition {
    Condition { vlan: Some(Some(1)), ..Condition::default() }
}

/// Only a router translates.
const TRANSLATES: At = |place, _| if matches!(place, RouterIn | RouterOut) { Expressed } else { Closed("type") };

/// Every kind of rule. The fate is against a rule that no packet meets.
fn actions() -> Vec<(RuleAction, At)> {
    let targets = || vec![NatTarget { from: address(1), to: address(1), port_from: 0, port_to: 0 }];
    let mut actions: Vec<(RuleAction, At)> = vec![
        (RuleAction::Accept, expressed),
        (RuleAction::Drop, expressed),
        (
            RuleAction::Reject,
            // Packets from the router cannot be answered any more, and meet the chains of what they leave through.
            |place, _| if matches!(place, BridgeIn | BridgeOut | PodOut) { Closed("type") } else { Expressed },
        ),
        (RuleAction::Return, expressed),
        (RuleAction::Jump { chain: JUMPED }, expressed),
        (RuleAction::Jump { chain: Uuid::from_u128(0xdead) }, |_, _| Nothing),
        (RuleAction::Other { kind: "l2_transform".into() }, |_, _| Closed("type")),
        (RuleAction::Other { kind: "trace".into() }, |_, _| Reported("type")),
    ];
    for then in [FlowAction::Accept, FlowAction::Continue, FlowAction::Return] {
        match then {
            FlowAction::Accept | FlowAction::Continue | FlowAction::Return => {}
        }
        actions.push((RuleAction::ReverseSnat { then }, TRANSLATES));
        actions.push((RuleAction::ReverseDnat { then }, TRANSLATES));
        actions.push((RuleAction::Snat { targets: targets(), then }, |place, _| {
            if place == RouterOut { Expressed } else { Closed("type") }
        }));
        actions.push((RuleAction::Dnat { targets: targets(), then }, |place, _| {
            if place == RouterIn { Expressed } else { Closed("type") }
        }));
    }
    actions.push((RuleAction::Snat { targets: vec![], then: FlowAction::Accept }, |place, _| {
        Closed(if place == RouterOut { "natTargets" } else { "type" })
    }));
    actions
}

#[test]
fn every_kind_of_rule_is_expressed_or_reported_in_every_chain() {
    let mut worlds = Vec::new();
    for place in PLACES {
        let nothing = place.with(rule(never(), RuleAction::Drop));
        for (action, fate) in actions() {
            match &action {
                RuleAction::Accept
                | RuleAction::Drop
                | RuleAction::Reject
                | RuleAction::Return
                | RuleAction::Jump { chain: _ }
                | RuleAction::Snat { targets: _, then: _ }
                | RuleAction::Dnat { targets: _, then: _ }
                | RuleAction::ReverseSnat { then: _ }
                | RuleAction::ReverseDnat { then: _ }
                | RuleAction::Other { kind: _ } => {}
            }
            let asked = place.with(rule(Condition::default(), action.clone()));
            check(&format!("{action:?}, {place:?}"), &nothing, &asked, fate(place, false));
            worlds.push(asked);
        }
    }
    load(&worlds);
}
