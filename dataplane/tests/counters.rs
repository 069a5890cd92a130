//! What was counted is what happened, also after the filter was replaced.

mod lab;

use atoll_dataplane::Counters;
use atoll_model::topology::*;
use lab::*;
use uuid::Uuid;

fn counters(lab: &Lab) -> Counters {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(lab.plane().counters())
}

fn rule(n: u128, condition: Condition, action: Action) -> Rule {
    Rule { id: Uuid::from_u128(n), condition, action }
}

fn tcp(port: u16) -> Condition {
    let port = Some(Test::is((port, port)));
    Condition {
        ether_type: Some(Test::is(0x0800)),
        protocol: Some(Test::is(6)),
        destination_port: port,
        ..Condition::default()
    }
}

#[test]
fn ports_and_rules_count_and_keep_their_counts() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let (a, b) = (lab.pod(red, 1), lab.pod(red, 2));
    for pod in [&a, &b] {
        // What it would say of itself is refused too.
        inside(pod, "sysctl", &["-qw", "net.ipv6.conf.all.disable_ipv6=1"]);
    }
    let icmp = Condition { ether_type: Some(Test::is(0x0800)), protocol: Some(Test::is(1)), ..Condition::default() };
    let mut rules = vec![rule(1, icmp, Action::Accept)];
    // A run of like rules is one line.
    rules.extend((0..5).map(|n| rule(10 + u128::from(n), tcp(7000 + n), Action::Drop)));
    let chain = Uuid::from_u128(0xc0);
    let put_chain = |rules: &[Rule]| put([Object::Chain(chain, Chain { rules: rules.to_vec(), ..Chain::default() })]);
    lab.submit(put_chain(&rules));
    let Object::Port(id, port) = red.pod_port(1) else { unreachable!() };
    lab.submit(put([Object::Port(id, Port { inbound: Some(chain), ..port })]));
    lab.wait_active(id, true);
    let ping = |count: &str| inside(&a, "ping", &["-q", "-n", &format!("-c{count}"), "-i0.01", "-W1", "10.9.0.102"]);
    ping("7");
    let before = counters(&lab);
    assert_eq!(before.rules[&Uuid::from_u128(1)].met.packets, 7, "{before:#?}");
    assert_eq!(before.rules[&Uuid::from_u128(1)].met.bytes, 7 * 84, "{before:#?}");
    let ports = before.ports[&red.pod(1)];
    assert!(ports.sent.packets >= 7 && ports.received.packets >= 7 && ports.sent.bytes >= 7 * 98, "{before:#?}");
    assert_eq!(ask(&a, "10.9.0.102"), None);
    let run = counters(&lab).rules[&Uuid::from_u128(10)];
    assert!(run.rules == 5 && run.met.packets > 0, "{run:?}");

    // Replaced: nothing starts over.
    rules.push(rule(99, tcp(9), Action::Drop));
    lab.submit(put_chain(&rules));
    ping("3");
    let after = counters(&lab);
    assert_eq!(after.rules[&Uuid::from_u128(1)].met.packets, 10, "{after:#?}");
    let longer = after.rules[&Uuid::from_u128(10)];
    assert!(longer.rules == 6 && longer.met.packets >= run.met.packets, "{after:#?}");

    // Spoofed: counted where they end, and only there.
    let refused = |lab: &Lab| counters(lab).ports[&red.pod(1)].refused.packets;
    let (honest, other) = (refused(&lab), counters(&lab).ports[&red.pod(2)].refused);
    inside(&a, "ip", &["addr", "add", "192.0.2.9/32", "dev", "eth0"]);
    inside(&a, "ip", &["neigh", "replace", "10.9.0.102", "lladdr", &mac(2).to_string(), "dev", "eth0"]);
    let _ = attempt(&a, "ping", &["-q", "-n", "-c4", "-i0.01", "-W0.2", "-I", "192.0.2.9", "10.9.0.102"]);
    assert!(refused(&lab) >= honest + 4, "{:#?}", counters(&lab));
    assert_eq!(counters(&lab).ports[&red.pod(2)].refused, other);
}
