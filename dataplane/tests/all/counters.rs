//! What was counted is what happened: for each rule by itself, also after the filter was replaced.

#![allow(clippy::unwrap_used, reason = "a fixture that does not fit is a failed test")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::task::Poll;

use atoll_dataplane::{Count, Counters};
use atoll_model::topology::*;
use atoll_testkit::plane::*;
use uuid::Uuid;

const CHAIN: Uuid = Uuid::from_u128(0xc0);
/// A chain that is jumped to, with one rule.
const OTHER: Uuid = Uuid::from_u128(0xc1);
const ITS_RULE: Uuid = Uuid::from_u128(0xc2);
/// Of each datagram that is sent here, as IP.
const BYTES: u64 = 28 + 4;

fn counters(lab: &Lab) -> Counters {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(lab.plane().counters())
}

/// What rules of our two chains have counted, those with 0 left out.
fn met(lab: &Lab) -> BTreeMap<Uuid, Count> {
    let ours = |rule: &Uuid| rule.as_u128() < 0x100;
    counters(lab).rules.into_iter().filter(|(rule, count)| ours(rule) && *count != Count::default()).collect()
}

fn datagrams(packets: u64) -> Count {
    Count { packets, bytes: packets * BYTES }
}

fn id(n: usize) -> Uuid {
    Uuid::from_u128(n as u128 + 1)
}

fn rule(n: usize, condition: Condition, action: RuleAction) -> Rule {
    Rule { id: id(n), condition, action }
}

fn chain(id: Uuid, rules: &[Rule]) -> Object {
    Object::Chain(id, Chain { rules: rules.to_vec(), ..Chain::default() })
}

fn chains(rules: &[Rule]) -> Vec<TopologyChange> {
    let its = Rule { id: ITS_RULE, condition: Condition::default(), action: RuleAction::Accept };
    put([chain(OTHER, &[its]), chain(CHAIN, rules)])
}

/// A datagram: where it goes, from which port, to which.
type Datagram = (Ipv4Addr, u16, u16);

/// The one that meets rule `n`.
fn nth(n: u8) -> Datagram {
    (Ipv4Addr::new(198, 51, 100, 4 * n + 1), 5000 + u16::from(n), 7000 + 10 * u16::from(n))
}

fn send(pod: &Path, (to, from, port): Datagram, times: u64) {
    on_thread(pod, move || {
        let socket = UdpSocket::bind(("0.0.0.0", from)).unwrap();
        for _ in 0..times {
            // An error is that of the packet before.
            while socket.send_to(b"atol", (to, port)).is_err() {}
        }
    })
    .join()
    .unwrap();
}

/// Asks for one datagram, in words and as a condition.
type Shape = (&'static str, fn(Datagram) -> Condition);

/// Conditions of every shape that the kernel has another kind of set for.
const SHAPES: [Shape; 7] = [
    ("an address", |it| Condition { destination: Some(Test::is(it.0.into())), ..Condition::default() }),
    ("a network that touches the next", |it| Condition {
        destination: Some(Test::is(format!("{}/30", Ipv4Addr::from(u32::from(it.0) - 1)).parse().unwrap())),
        ..Condition::default()
    }),
    ("a port", |it| Condition { destination_port: Some(Test::is((it.2, it.2))), ..udp() }),
    ("ports", |it| Condition { destination_port: Some(Test::is((it.2, it.2 + 9))), ..udp() }),
    ("two ports", |it| Condition {
        source_port: Some(Test::is((it.1, it.1))),
        destination_port: Some(Test::is((it.2, it.2))),
        ..udp()
    }),
    ("a network and ports", |it| Condition {
        destination: Some(Test::is(format!("{}/30", Ipv4Addr::from(u32::from(it.0) - 1)).parse().unwrap())),
        source: Some(Test::is("10.9.0.0/24".parse().unwrap())),
        destination_port: Some(Test::is((it.2, it.2 + 9))),
        ..udp()
    }),
    ("an address and a port", |it| Condition {
        destination: Some(Test::is(it.0.into())),
        destination_port: Some(Test::is((it.2, it.2))),
        ..udp()
    }),
];

fn udp() -> Condition {
    Condition { protocol: Some(Test::is(17)), ..Condition::default() }
}

/// What rules do: all the same, or each something else.
fn actions() -> [(&'static str, Vec<RuleAction>); 4] {
    let jump = RuleAction::Jump { chain: OTHER };
    [
        ("accept", vec![RuleAction::Accept]),
        ("reject", vec![RuleAction::Reject]),
        ("jump", vec![jump.clone()]),
        ("mixed", vec![RuleAction::Accept, RuleAction::Drop, RuleAction::Reject, RuleAction::Return, jump]),
    ]
}

/// A tenant whose pod's datagrams pass the chain at the pod's port, or at the router's, with the pod.
fn tenant(lab: &Lab, at_router: bool) -> (TenantObjects, std::path::PathBuf) {
    let red = lab.tenant(1);
    let pod = lab.pod(red, 1);
    inside(&pod, "sysctl", &["-qw", "net.ipv6.conf.all.disable_ipv6=1"]);
    lab.submit(chains(&[]));
    let objects = red.objects("10.9.0.0/24").into_iter().chain([red.pod_port(1)]);
    let wanted = if at_router { red.gateway() } else { red.pod(1) };
    let changed = objects.filter_map(|object| match object {
        Object::Port(id, port) if id == wanted => Some(Object::Port(id, Port { inbound: Some(CHAIN), ..port })),
        _ => None,
    });
    lab.submit(put(changed));
    lab.wait_active(red.pod(1), true);
    (red, pod)
}

fn every_rule_counts_for_itself(at_router: bool) {
    let lab = Lab::start(provider());
    let (_, pod) = tenant(&lab, at_router);
    for (shape, condition) in SHAPES {
        for (name, actions) in actions() {
            let mut rules: Vec<_> = (0..5_u8)
                .map(|n| rule(n.into(), condition(nth(n)), actions[usize::from(n) % actions.len()].clone()))
                .collect();
            // It never gets its turn, unless the first one comes back from a jump.
            rules.push(rule(5, condition(nth(0)), RuleAction::Drop));
            // The rules of the case before have gone, and with them what they had counted.
            lab.submit(chains(&[]));
            let its = met(&lab).remove(&ITS_RULE).unwrap_or_default();
            lab.submit(chains(&rules));
            let mut wanted = BTreeMap::new();
            let mut jumped = its;
            for (n, rule) in (0..5_u8).zip(&rules) {
                let times = u64::from(n) + 2;
                send(&pod, nth(n), times);
                wanted.insert(rule.id, datagrams(times));
                if matches!(rule.action, RuleAction::Jump { .. }) {
                    jumped += datagrams(times);
                }
            }
            if jumped != Count::default() {
                wanted.insert(ITS_RULE, jumped);
            }
            assert_eq!(met(&lab), wanted, "{shape}, {name}");
            // Another rule, another filter: every count stays, and goes on.
            rules.push(rule(6, condition(nth(6)), RuleAction::Drop));
            lab.submit(chains(&rules));
            assert_eq!(met(&lab), wanted, "{shape}, {name}, replaced");
            send(&pod, nth(1), 1);
            *wanted.get_mut(&id(1)).unwrap() += datagrams(1);
            if matches!(rules[1].action, RuleAction::Jump { .. }) {
                *wanted.get_mut(&ITS_RULE).unwrap() += datagrams(1);
            }
            assert_eq!(met(&lab), wanted, "{shape}, {name}, replaced and going on");
        }
    }
}

#[test]
fn every_rule_of_a_port_of_a_bridge_counts_for_itself() {
    every_rule_counts_for_itself(false);
}

#[test]
fn every_rule_of_a_router_counts_for_itself() {
    every_rule_counts_for_itself(true);
}

#[test]
fn counts_outlive_the_process_and_go_with_the_rule() {
    let mut lab = Lab::start(provider());
    let (red, pod) = tenant(&lab, false);
    let port = |n| Condition { destination_port: Some(Test::is((nth(n).2, nth(n).2))), ..udp() };
    let mut rules: Vec<_> = (0..5_u8).map(|n| rule(n.into(), port(n), RuleAction::Drop)).collect();
    // By itself, of several lines.
    rules.push(rule(
        5,
        Condition { destination_port: Some(Test { value: (1, 7049), inverted: true }), ..Condition::default() },
        RuleAction::Drop,
    ));
    lab.submit(chains(&rules));
    for n in 0..6 {
        send(&pod, nth(n), u64::from(n) + 1);
    }
    let wanted: BTreeMap<_, _> = (0..6).map(|n| (id(n), datagrams(n as u64 + 1))).collect();
    assert_eq!(met(&lab), wanted);

    let mut topology = provider();
    let Object::Port(its, unfiltered) = red.pod_port(1) else { unreachable!() };
    let filtered = || Object::Port(its, Port { inbound: Some(CHAIN), ..unfiltered.clone() });
    for change in put(red.objects("10.9.0.0/24").into_iter().chain([filtered()])).into_iter().chain(chains(&rules)) {
        topology.apply(change);
    }
    lab.restart(topology.clone());
    assert_eq!(met(&lab), wanted, "the same filter");
    // What has changed meanwhile changes the filter, and the first rule goes.
    rules.push(rule(6, port(6), RuleAction::Drop));
    rules.remove(0);
    for change in chains(&rules) {
        topology.apply(change);
    }
    lab.restart(topology);
    let mut left = wanted;
    left.remove(&id(0));
    assert_eq!(met(&lab), left, "another filter");
    assert!(!counters(&lab).rules.contains_key(&id(0)), "it has gone");
    assert_eq!(counters(&lab).rules[&id(6)], Count::default(), "nothing has met it");

    // Without a port that they filter, rules have no line; what they had counted is theirs all the same.
    lab.submit(put([red.pod_port(1)]));
    assert_eq!(met(&lab), left, "no line");
    lab.submit(put([filtered()]));
    assert_eq!(met(&lab), left, "a line again");
}

#[test]
fn a_translation_counts_and_what_undoes_it() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let pod = lab.pod(red, 1);
    inside(&lab.external_network(), "ip", &["addr", "add", "192.0.2.1/32", "dev", "lo"]);
    inside(&pod, "ping", &["-q", "-n", "-c5", "-i0.01", "-W1", "192.0.2.1"]);
    let objects = red.objects("10.9.0.0/24");
    let rules = objects.iter().filter_map(|object| match object {
        Object::Chain(_, chain) => Some(&chain.rules),
        _ => None,
    });
    let count = counters(&lab).rules;
    let packets: Vec<_> = rules.flatten().map(|rule| (&rule.action, count[&rule.id].packets)).collect();
    let of =
        |wanted: fn(&RuleAction) -> bool| packets.iter().filter(|(it, _)| wanted(it)).map(|(_, n)| *n).sum::<u64>();
    assert_eq!(of(|action| matches!(action, RuleAction::ReverseSnat { .. })), 5, "{packets:?}");
    assert_eq!(of(|action| matches!(action, RuleAction::Snat { .. })), 5, "{packets:?}");
    assert_eq!(of(|action| matches!(action, RuleAction::Accept)), 5, "{packets:?}");
    assert_eq!(of(|action| matches!(action, RuleAction::Drop)), 0, "{packets:?}");
}

#[test]
fn ports_count_and_refused_frames_keep_their_counts() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let (a, b) = (lab.pod(red, 1), lab.pod(red, 2));
    for pod in [&a, &b] {
        // What it would say of itself is refused too.
        inside(pod, "sysctl", &["-qw", "net.ipv6.conf.all.disable_ipv6=1"]);
    }
    inside(&a, "ping", &["-q", "-n", "-c7", "-i0.01", "-W1", "10.9.0.102"]);
    let before = counters(&lab);
    let ports = before.ports[&red.pod(1)];
    assert!(ports.sent.packets >= 7 && ports.received.packets >= 7 && ports.sent.bytes >= 7 * 98, "{before:#?}");

    // Spoofed: counted where they end, and only there.
    let refused = |lab: &Lab| counters(lab).ports[&red.pod(1)].refused;
    let (honest, other) = (refused(&lab), counters(&lab).ports[&red.pod(2)].refused);
    inside(&a, "ip", &["addr", "add", "192.0.2.9/32", "dev", "eth0"]);
    inside(&a, "ip", &["neigh", "replace", "10.9.0.102", "lladdr", &mac(2).to_string(), "dev", "eth0"]);
    let _ = attempt(&a, "ping", &["-q", "-n", "-c4", "-i0.01", "-W0.2", "-I", "192.0.2.9", "10.9.0.102"]);
    let after = refused(&lab);
    assert!(after.packets >= honest.packets + 4, "{:#?}", counters(&lab));
    assert_eq!(counters(&lab).ports[&red.pod(2)].refused, other);

    // The filter is replaced.
    lab.submit(chains(&[rule(1, Condition::default(), RuleAction::Accept)]));
    let Object::Port(id, port) = red.pod_port(2) else { unreachable!() };
    lab.submit(put([Object::Port(id, Port { inbound: Some(CHAIN), ..port })]));
    assert_eq!(refused(&lab), after);
}

/// Namespaces are read one by one during changes: every caller gets all rules that existed at its request, also after another
/// caller gave up, and while a namespace is removed.
#[test]
fn reading_counters_delays_no_change() {
    let lab = Lab::start(provider());
    let tenants: Vec<_> = (1..6).map(|n| lab.tenant(n)).collect();
    let plane = lab.plane();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let rules = |counters: &Counters| counters.rules.keys().copied().collect::<Vec<_>>();
    runtime.block_on(async {
        let mut before = rules(&plane.counters().await);
        assert_eq!(before.len(), 5 * 4, "{before:?}");
        for n in 0..10_u8 {
            let tenant = tenants[usize::from(n) % tenants.len()];
            {
                // A caller asks and gives up.
                let mut asked = std::pin::pin!(plane.counters());
                let _ = std::future::poll_fn(|context| Poll::Ready(asked.as_mut().poll(context))).await;
            }
            let (one, other, ()) = tokio::join!(plane.counters(), plane.counters(), async {
                let rule = Rule { id: id(usize::from(n)), condition: Condition::default(), action: RuleAction::Accept };
                plane.submit(put([chain(tenant.outbound(), &[rule])]));
                plane.flush().await;
            });
            assert_eq!((rules(&one), rules(&other)), (before.clone(), before), "round {n}");
            before = rules(&plane.counters().await);
            assert!(before.contains(&id(n.into())), "round {n}: {before:?}");
        }
        let (counted, ()) = tokio::join!(plane.counters(), async {
            plane.submit(vec![TopologyChange::Remove(tenants[0].router())]);
            plane.flush().await;
        });
        assert_eq!(rules(&counted), before);
    });
    assert!(lab.plane().report().errors.is_empty(), "{:#?}", lab.plane().report());
}
