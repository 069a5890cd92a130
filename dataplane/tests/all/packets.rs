//! Packets through a real kernel: who reaches whom, and who does not.

use std::path::Path;
use std::sync::Arc;

use atoll_model::topology::*;
use atoll_testkit::plane::*;
use atoll_testkit::steps::Steps;
use uuid::Uuid;

#[test]
fn pods_of_a_tenant_reach_each_other_their_gateway_and_the_external_network() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let (a, b) = (lab.pod(red, 1), lab.pod(red, 2));
    assert_eq!(lab.plane().report().unsupported.len(), 0, "{:#?}", lab.plane().report());
    for to in ["10.9.0.102", "10.9.0.1", "100.64.0.6", "100.64.0.5", "203.0.113.2", "203.0.113.1"] {
        assert!(pings(&a, to), "{to}");
    }
    let seen = serve(&b, "b");
    assert_eq!(ask(&a, "10.9.0.102").as_deref(), Some("b"));
    assert_eq!(seen.lock().unwrap()[0], address(1), "pods of one bridge see each other untranslated");

    let seen = serve(&lab.external_network(), "external");
    assert_eq!(ask(&a, "203.0.113.1").as_deref(), Some("external"));
    assert_eq!(seen.lock().unwrap()[0].to_string(), red.transit(), "the external host sees the transit address");
}

#[test]
fn a_router_answers_echo_and_nothing_else() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let a = lab.pod(red, 1);
    let _seen = serve(&lab.namespace(red), "router");
    for to in ["10.9.0.1", "100.64.0.6"] {
        assert!(pings(&a, to), "{to}");
        assert_eq!(ask(&a, to), None, "{to}");
    }
    // From the other side too: what a router says itself passes no chain.
    assert!(pings(&lab.external_network(), red.transit()));
    assert_eq!(ask(&lab.external_network(), &red.transit()), None);
}

#[test]
fn a_tenant_with_the_same_addresses_never_answers() {
    let lab = Lab::start(provider());
    let (red, blue) = (lab.tenant(1), lab.tenant(2));
    let (red1, red2) = (lab.pod(red, 1), lab.pod(red, 2));
    let (blue1, blue2) = (lab.pod(blue, 1), lab.pod(blue, 2));
    let seen_by_red = serve(&red2, "red");
    let _ = serve(&blue2, "blue");
    for _ in 0..3 {
        assert_eq!(ask(&red1, "10.9.0.102").as_deref(), Some("red"));
        assert_eq!(ask(&blue1, "10.9.0.102").as_deref(), Some("blue"));
    }
    assert!(seen_by_red.lock().unwrap().iter().all(|peer| *peer == address(1)));
    // Only red has pod 3: blue asks in vain, also by way of red's transit address.
    let red3 = lab.pod(red, 3);
    let seen = serve(&red3, "red");
    assert_eq!(ask(&blue1, "10.9.0.103"), None);
    inside(&blue1, "ip", &["route", "add", "10.9.0.103/32", "via", "10.9.0.1"]);
    assert_eq!(ask(&blue1, "10.9.0.103"), None);
    assert_eq!(ask(&blue1, &red.transit()), None);
    assert!(!pings(&blue1, "10.9.0.103"));
    assert!(seen.lock().unwrap().is_empty());
}

#[test]
fn nothing_external_enters_a_translated_subnet_even_if_the_provider_routes_it_there() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let a = lab.pod(red, 1);
    let seen = serve(&a, "a");
    let external = lab.external_network();
    inside(&external, "ip", &["route", "add", "10.9.0.0/24", "via", "203.0.113.2"]);
    assert!(pings(&external, "203.0.113.2"));
    assert_eq!(ask(&external, "10.9.0.101"), None);
    // Now the provider has a route to the subnet.
    let leak = route(PROVIDER, "10.9.0.0/24", red.provider_port(), None);
    lab.submit(put([Object::Route(Uuid::from_u128(0x999), leak)]));
    assert!(inside(&lab.planes().join(PROVIDER.to_string()), "ip", &["route"]).contains("10.9.0.0/24"));
    assert_eq!(ask(&external, "10.9.0.101"), None);
    assert!(!pings(&external, "10.9.0.101"));
    assert!(seen.lock().unwrap().is_empty());
    assert!(pings(&a, "203.0.113.1"), "the tenant itself still reaches the external network");
}

#[test]
fn a_pod_speaks_with_its_own_mac_and_address_only() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let (a, b) = (lab.pod(red, 1), lab.pod(red, 2));
    assert!(pings(&a, "10.9.0.102"));
    // ARP is known on both sides, so that only the address of the packet itself is at stake.
    inside(&a, "ip", &["neigh", "replace", "10.9.0.102", "lladdr", &mac(2).to_string(), "dev", "eth0"]);
    for foreign in ["10.9.0.150", "10.9.0.1", "192.0.2.9"] {
        inside(&b, "ip", &["neigh", "replace", foreign, "lladdr", &mac(1).to_string(), "dev", "eth0"]);
        inside(&a, "ip", &["addr", "add", &format!("{foreign}/32"), "dev", "eth0"]);
        let spoofed = attempt(&a, "ping", &["-c1", "-W1", "-I", foreign, "10.9.0.102"]);
        assert!(!spoofed.status.success(), "from {foreign}");
        inside(&a, "ip", &["addr", "del", &format!("{foreign}/32"), "dev", "eth0"]);
    }
    assert!(pings(&a, "10.9.0.102"));
    // A foreign MAC.
    inside(&a, "ip", &["link", "set", "eth0", "address", "02:00:00:00:09:77"]);
    inside(&a, "ip", &["neigh", "replace", "10.9.0.102", "lladdr", &mac(2).to_string(), "dev", "eth0"]);
    assert!(!pings(&a, "10.9.0.102"));
    inside(&a, "ip", &["link", "set", "eth0", "address", &mac(1).to_string()]);
    assert!(pings(&a, "10.9.0.102"));
}

#[test]
fn a_pod_cannot_announce_the_address_of_another() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let (a, b) = (lab.pod(red, 1), lab.pod(red, 2));
    let gateway_mac = |netns: &std::path::Path| {
        assert!(pings(netns, "10.9.0.1"));
        let table = inside(netns, "ip", &["neigh", "show", "10.9.0.1"]);
        table.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).unwrap().to_owned()
    };
    let honest = gateway_mac(&b);
    // Pod a takes the gateway's address and shouts it out: gratuitous ARP on every new address, and requests with it
    // as the sender.
    inside(&a, "sysctl", &["-qw", "net.ipv4.conf.eth0.arp_notify=1"]);
    inside(&a, "ip", &["addr", "add", "10.9.0.1/32", "dev", "eth0"]);
    inside(&a, "ip", &["link", "set", "eth0", "down"]);
    inside(&a, "ip", &["link", "set", "eth0", "up"]);
    let _ = attempt(&a, "ping", &["-c2", "-i0.2", "-W1", "-I", "10.9.0.1", "10.9.0.102"]);
    assert_eq!(gateway_mac(&b), honest);
    inside(&b, "ip", &["neigh", "flush", "all"]);
    for _ in 0..3 {
        assert_eq!(gateway_mac(&b), honest);
        inside(&b, "ip", &["neigh", "flush", "all"]);
    }
}

#[test]
fn ipv6_never_leaves_a_pod() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let (a, b) = (lab.pod(red, 1), lab.pod(red, 2));
    for (pod, address) in [(&a, "fd00::1/64"), (&b, "fd00::2/64")] {
        inside(pod, "sysctl", &["-qw", "net.ipv6.conf.all.disable_ipv6=0"]);
        inside(pod, "ip", &["addr", "add", address, "dev", "eth0", "nodad"]);
    }
    assert!(!pings(&a, "fd00::2"));
}

#[test]
fn a_port_follows_its_interface_and_its_binding() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let b = lab.pod(red, 2);
    // Bound before the interface is there.
    lab.submit(put([red.pod_port(1)]));
    assert!(!lab.is_active(red.pod(1)));
    let a = lab.wire(red, 1, Some(&lab.namespace(red)));
    lab.wait_active(red.pod(1), true);
    assert!(pings(&a, "10.9.0.102"));
    // Unbound: no packet, and the interface stays with its owner.
    lab.submit(vec![TopologyChange::Remove(red.pod(1))]);
    lab.wait_active(red.pod(1), false);
    assert!(!pings(&a, "10.9.0.102"));
    assert!(!pings(&b, "10.9.0.101"));
    inside(&lab.namespace(red), "ip", &["link", "show", &interface(red, 1)]);
    // Bound again, and the interface goes.
    lab.submit(put([red.pod_port(1)]));
    lab.wait_active(red.pod(1), true);
    assert!(pings(&a, "10.9.0.102"));
    inside(&lab.namespace(red), "ip", &["link", "del", &interface(red, 1)]);
    lab.wait_active(red.pod(1), false);
}

#[test]
fn an_interface_in_our_own_namespace_is_moved_into_the_domain() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let b = lab.pod(red, 2);
    let early = lab.wire(red, 1, None);
    lab.submit(put([red.pod_port(1)]));
    lab.wait_active(red.pod(1), true);
    // Moving costs the pod its carrier for a moment, and the first packet may fall into that.
    wait(|| "the moved pod answers".to_owned(), || pings(&early, "10.9.0.102"));
    lab.submit(put([red.pod_port(3)]));
    let late = lab.wire(red, 3, None);
    lab.wait_active(red.pod(3), true);
    wait(|| "the late pod answers".to_owned(), || pings(&late, "10.9.0.102"));
    assert!(pings(&b, "10.9.0.103"));
}

#[test]
fn a_port_that_claims_the_gateway_is_refused() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let Object::Port(id, mut greedy) = red.pod_port(1) else { unreachable!() };
    let vif =
        atoll_model::port_security::PortSecurity { mac: mac(1), address: "10.9.0.1".parse().unwrap(), unique: false };
    greedy.vif_id = Some(vif.to_vif_id());
    lab.wire(red, 1, Some(&lab.namespace(red)));
    lab.submit(put([Object::Port(id, greedy)]));
    assert!(!lab.is_active(id));
    assert_eq!(lab.plane().report().unsupported.iter().map(|u| u.object).collect::<Vec<_>>(), [id]);
}

#[test]
fn the_first_packet_after_active_arrives() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let a = lab.pod(red, 1);
    ask_once(&a);
    for n in 2..30 {
        let pod = lab.wire(red, n, Some(&lab.namespace(red)));
        ask_once(&pod);
        lab.submit(put([red.pod_port(n)]));
        lab.wait_active(red.pod(n), true);
        assert!(arrives(&pod, "10.9.0.1") && arrives(&a, address(n)), "pod {n}");
    }
}

/// A host that has lost its first ARP request does not repeat it during the test.
fn ask_once(netns: &Path) {
    let all = "for file in /proc/sys/net/ipv4/neigh/*/retrans_time_ms; do echo 60000 >$file; done";
    inside(netns, "sh", &["-c", all]);
}

/// A single packet and its answer arrive, however long a busy machine takes.
fn arrives(netns: &Path, to: impl std::fmt::Display) -> bool {
    attempt(netns, "ping", &["-c1", "-W20", "-n", &to.to_string()]).status.success()
}

#[test]
fn a_rule_holds_for_a_port_that_is_bound_after_it_was_named() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let _server = serve(&lab.pod(red, 1), "one");
    let named = Condition { in_ports: Some(Test::is(vec![red.pod(2)])), ..Condition::default() };
    let (chain, rule) = (Uuid::from_u128(0xc1), Uuid::from_u128(0xc2));
    let rules = vec![Rule { id: rule, condition: named, action: RuleAction::Drop }];
    let inbound = Some(chain);
    lab.submit(put([
        Object::Chain(chain, Chain { rules, ..Chain::default() }),
        Object::Bridge(red.bridge(), Bridge { up: true, inbound, ..Bridge::default() }),
    ]));
    let (two, three) = (lab.pod(red, 2), lab.pod(red, 3));
    assert_eq!(ask(&two, "10.9.0.101"), None);
    assert_eq!(ask(&three, "10.9.0.101").as_deref(), Some("one"));
}

#[test]
fn who_waits_for_an_interface_gets_it_when_it_is_free() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let pod = lab.pod(red, 1);
    let (Object::Port(_, port), second) = (red.pod_port(1), red.pod(7)) else { unreachable!() };
    lab.submit(put([Object::Port(second, port)]));
    let waits: Vec<_> = lab.plane().report().unsupported.into_iter().map(|one| (one.object, one.field)).collect();
    assert_eq!(waits, [(second, "interfaceName".to_owned())]);
    assert!(lab.is_active(red.pod(1)) && !lab.is_active(second));
    lab.submit(vec![TopologyChange::Remove(red.pod(1))]);
    lab.wait_active(second, true);
    assert!(lab.plane().report().unsupported.is_empty());
    assert!(pings(&pod, "10.9.0.1"));
}

#[test]
fn of_two_pods_with_one_address_the_second_is_reached_when_the_first_goes() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    lab.pod(red, 1);
    let second = lab.wire(red, 7, Some(&lab.namespace(red)));
    inside(&second, "ip", &["addr", "del", "10.9.0.107/24", "dev", "eth0"]);
    inside(&second, "ip", &["addr", "add", "10.9.0.101/24", "dev", "eth0"]);
    inside(&second, "ip", &["route", "replace", "default", "via", "10.9.0.1"]);
    let Object::Port(id, mut port) = red.pod_port(7) else { unreachable!() };
    port.vif_id =
        Some(atoll_model::port_security::PortSecurity { mac: mac(7), address: address(1), unique: false }.to_vif_id());
    lab.submit(put([Object::Port(id, port)]));
    lab.wait_active(id, true);
    lab.submit(vec![TopologyChange::Remove(red.pod(1))]);
    let third = lab.pod(red, 3);
    assert!(pings(&third, "10.9.0.101"));
    assert!(pings(&second, "203.0.113.1"));
    assert!(lab.plane().report().host_to_pod.contains_key(&id));
}

#[test]
fn a_router_that_comes_back_before_its_namespace_could_go_keeps_it() {
    let mut lab = Lab::start(provider());
    let steps = Steps::all();
    lab.steps = Some(Arc::clone(&steps));
    lab.restart(provider());
    let red = lab.tenant(1);
    run("ip", &["link", "add", "lan5", "type", "veth", "peer", "name", "lan6"]);
    let mut uplink = on_router(red.router(), "192.0.2.1/24");
    uplink.binding = Some(Binding { host: HOST, interface: "lan5".into() });
    let port = Uuid::from_u128(0xc5);
    lab.submit(put([Object::Port(port, uplink)]));
    lab.wait_active(port, true);
    // It cannot be given back: the machine has another one of that name by now.
    run("ip", &["link", "add", "lan5", "type", "veth", "peer", "name", "lan7"]);
    let objects = red.objects("10.9.0.0/24");
    let gone = objects.iter().map(|object| TopologyChange::Remove(object.id())).chain([TopologyChange::Remove(port)]);
    lab.submit(gone.collect());
    let errors = lab.plane().report().errors;
    assert!(errors.contains_key(&red.router()), "{errors:?}");
    lab.submit(put(objects));
    let pod = lab.pod(red, 1);
    let before = steps.made().len();
    run("ip", &["link", "del", "lan5"]);
    // Longer than what failed waits to be tried again.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let since = steps.made().split_off(before);
    assert!(since.is_empty() && lab.plane().report().errors.is_empty(), "{since:#?}");
    assert!(pings(&pod, "203.0.113.1"));
}
