//! Translations that change while their flows live: a flow keeps the translation that it began with as long as some rule
//! translates it, and ends with the last.

#![allow(clippy::unwrap_used, reason = "a fixture that does not fit is a failed test")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atoll_model::topology::{Chain, Condition, FlowAction, NatTarget, Object, Port, Rule, RuleAction, Test};
use atoll_testkit::plane::*;
use uuid::Uuid;

fn chain(id: Uuid, rules: impl IntoIterator<Item = (Condition, RuleAction)>) -> Object {
    let rules = rules.into_iter().zip(1..).map(|((condition, action), n)| {
        let id = Uuid::new_v5(&id, &u32::to_be_bytes(n));
        Rule { id, condition, action }
    });
    Object::Chain(id, Chain { rules: rules.collect(), ..Chain::default() })
}

/// Says everything back on port 7000, and remembers who asked.
fn echo(netns: &Path) -> Arc<Mutex<Vec<SocketAddr>>> {
    let callers = Arc::<Mutex<Vec<SocketAddr>>>::default();
    let listener = on_thread(netns, || TcpListener::bind("0.0.0.0:7000").unwrap()).join().unwrap();
    let seen = Arc::clone(&callers);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            seen.lock().unwrap().push(stream.peer_addr().unwrap());
            std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream).map(drop));
        }
    });
    callers
}

fn connect(netns: &Path, to: Ipv4Addr) -> Option<TcpStream> {
    let address = SocketAddr::from((to, 7000));
    on_thread(netns, move || TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()).join().unwrap()
}

/// True when the other end says it back within a second.
fn lives(stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut stream = stream;
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut [0]).is_ok()
}

fn to(address: Ipv4Addr) -> NatTarget {
    NatTarget { from: address, to: address, port_from: 0, port_to: 0 }
}

#[test]
fn a_flow_keeps_its_source_until_no_rule_translates_it() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let pod = lab.pod(red, 1);
    let external: Ipv4Addr = "203.0.113.1".parse().unwrap();
    let (first, second): (Ipv4Addr, Ipv4Addr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
    let callers = echo(&lab.external_network());
    let leaves = || Condition { out_ports: Some(Test::is(vec![red.uplink()])), ..Condition::default() };
    let snat = |address| RuleAction::Snat { targets: vec![to(address)], then: FlowAction::Accept };
    let back =
        |network: &str, n| Object::Route(Uuid::from_u128(n), route(PROVIDER, network, red.provider_port(), None));
    let become_ = |rules: Vec<(Condition, RuleAction)>| {
        lab.submit(put([chain(red.outbound(), rules)]));
        assert!(lab.plane().report().errors.is_empty(), "{:#?}", lab.plane().report());
    };
    lab.submit(put([back("192.0.2.0/24", 0x998), back("10.9.0.0/24", 0x999)]));
    become_(vec![(leaves(), snat(first))]);
    let old = connect(&pod, external).unwrap();
    assert!(lives(&old));
    become_(vec![(leaves(), snat(second))]);
    assert!(lives(&old), "it goes on as it began");
    let new = connect(&pod, external).unwrap();
    assert!(lives(&new));
    let seen: Vec<_> = callers.lock().unwrap().iter().map(SocketAddr::ip).collect();
    assert_eq!(seen, [first, second]);
    // Without the rule, the pod sends from its own address, and the translated flow has ended.
    become_(vec![]);
    assert!(!lives(&old));
    assert!(lives(&connect(&pod, external).unwrap()));
    assert_eq!(callers.lock().unwrap().last().unwrap().ip(), address(1));
    become_(vec![(leaves(), snat(second))]);
    assert!(lives(&new), "the rule is back, and so is the flow");
}

#[test]
fn flows_through_a_floating_address_end_with_it() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let pods = [lab.pod(red, 1), lab.pod(red, 2)];
    let external = lab.external_network();
    let floating: Ipv4Addr = "192.0.2.1".parse().unwrap();
    let callers = [echo(&pods[0]), echo(&pods[1])];
    let named = Condition { destination: Some(Test::is(floating.into())), ..Condition::default() };
    let dnat = |n| (named.clone(), RuleAction::Dnat { targets: vec![to(address(n))], then: FlowAction::Accept });
    let become_ = |rules: Vec<(Condition, RuleAction)>| {
        lab.submit(put([chain(red.inbound(), rules)]));
        assert!(lab.plane().report().errors.is_empty(), "{:#?}", lab.plane().report());
    };
    lab.submit(put([Object::Route(
        Uuid::from_u128(0x998),
        route(PROVIDER, "192.0.2.0/24", red.provider_port(), None),
    )]));
    become_(vec![dnat(1)]);
    let old = connect(&external, floating).unwrap();
    assert!(lives(&old));
    become_(vec![dnat(2)]);
    assert!(lives(&old), "it goes on as it began");
    let new = connect(&external, floating).unwrap();
    assert!(lives(&new));
    assert_eq!(callers.map(|callers| callers.lock().unwrap().len()), [1, 1]);
    become_(vec![]);
    assert_eq!([lives(&old), lives(&new)], [false, false]);
}

#[test]
fn flows_survive_an_uplink_that_was_down() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let pod = lab.pod(red, 1);
    let _callers = echo(&lab.external_network());
    let flow = connect(&pod, "203.0.113.1".parse().unwrap()).unwrap();
    assert!(lives(&flow));
    let uplink = provider().ports[&UPLINK].clone();
    let set = |up| lab.submit(put([Object::Port(UPLINK, Port { up, ..uplink.clone() })]));
    set(false);
    assert!(!pings(&pod, "203.0.113.1"));
    set(true);
    wait(|| "the flow is dead".to_owned(), || lives(&flow));
}
