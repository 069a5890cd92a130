//! TCP between two pods of a tenant, with and without rules, through the tenant's router to another bridge, and through
//! two routers to the external network, against a plain bridge with connection tracking and two plain routers that masquerade.
//!
//! The variants take turns, so that the load of the machine hits all of them alike; printed are the median and the
//! spread of each, and how it compares, in rate and in rate for each second of processor: to the plain bridge, and a
//! thousand rules to ten. `cargo run -p atoll-tools --example throughput -- [rounds] [seconds] [part of a name]`, as
//! root; with a part of a name, only those variants and the plain bridge.

#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use atoll_model::topology::{Bridge, Chain, Condition, Device, Object, Rule, RuleAction, Test};
use atoll_testkit::plane::{self, Lab, TenantObjects, inside, provider, put, run};
use atoll_testkit::program::command;
use uuid::Uuid;

/// A server that ends with its owner.
struct Server(Child);

impl Server {
    fn start(netns: &Path) -> Self {
        let child = command("nsenter")
            .arg(format!("--net={}", netns.display()))
            .args(["iperf3", "-s"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("iperf3 is installed");
        Self(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A network namespace that goes with the laboratory.
fn netns(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join("pods").join(name);
    std::fs::File::create(&path).expect("the laboratory's directory is writable");
    run("unshare", &[&format!("--net={}", path.display()), "true"]);
    path
}

/// Two pods on a bridge whose packets pass connection tracking, and nothing else.
fn plain(directory: &Path) -> (PathBuf, PathBuf) {
    let netns = |name: &str| netns(directory, name);
    let (bridge, a, b) = (netns("plain"), netns("plain-a"), netns("plain-b"));
    inside(&bridge, "ip", &["link", "add", "br0", "type", "bridge"]);
    inside(&bridge, "ip", &["link", "set", "br0", "up"]);
    for (name, pod, address) in [("pa", &a, "10.9.0.101/24"), ("pb", &b, "10.9.0.102/24")] {
        let path = pod.display().to_string();
        inside(&bridge, "ip", &["link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", &path]);
        inside(&bridge, "ip", &["link", "set", name, "master", "br0", "up"]);
        inside(pod, "ip", &["addr", "add", address, "dev", "eth0"]);
        inside(pod, "ip", &["link", "set", "eth0", "up"]);
    }
    inside(&bridge, "sysctl", &["-qw", "net.bridge.bridge-nf-call-iptables=1"]);
    let rules = "add table ip f\nadd chain ip f forward { type filter hook forward priority 0; }\n\
                 add rule ip f forward ct state established,related accept";
    inside(&bridge, "sh", &["-c", &format!("echo '{rules}' | nft -f -")]);
    (a, b)
}

/// A pod, a bridge whose router masquerades, a second router, and an external host: made by hand, with one rule.
fn plain_routers(directory: &Path) -> (PathBuf, PathBuf) {
    let netns = |name: &str| netns(directory, name);
    let (pod, first, second, external) = (netns("hand-a"), netns("hand-1"), netns("hand-2"), netns("hand-o"));
    let veth = |from: &Path, name: &str, to: &Path, other: &str| {
        let path = to.display().to_string();
        inside(from, "ip", &["link", "add", name, "type", "veth", "peer", "name", other, "netns", &path]);
        inside(from, "ip", &["link", "set", name, "up"]);
        inside(to, "ip", &["link", "set", other, "up"]);
    };
    let address = |at: &Path, address: &str, device: &str| inside(at, "ip", &["addr", "add", address, "dev", device]);
    let default = |at: &Path, via: &str| inside(at, "ip", &["route", "add", "default", "via", via]);
    inside(&first, "ip", &["link", "add", "br0", "type", "bridge"]);
    inside(&first, "ip", &["link", "set", "br0", "up"]);
    veth(&first, "pa", &pod, "eth0");
    veth(&first, "up0", &second, "down0");
    veth(&second, "up0", &external, "eth0");
    inside(&first, "ip", &["link", "set", "pa", "master", "br0"]);
    for (at, ip, device) in [
        (&first, "10.9.0.1/24", "br0"),
        (&pod, "10.9.0.101/24", "eth0"),
        (&first, "100.64.0.2/30", "up0"),
        (&second, "100.64.0.1/30", "down0"),
        (&second, "203.0.113.2/24", "up0"),
        (&external, "203.0.113.1/24", "eth0"),
    ] {
        address(at, ip, device);
    }
    default(&pod, "10.9.0.1");
    default(&first, "100.64.0.1");
    default(&external, "203.0.113.2");
    for router in [&first, &second] {
        inside(router, "sysctl", &["-qw", "net.ipv4.ip_forward=1"]);
        inside(router, "sysctl", &["-qw", "net.bridge.bridge-nf-call-iptables=0"]);
    }
    let rules = "add table ip f\nadd chain ip f post { type nat hook postrouting priority 100; }\n\
                 add rule ip f post oifname up0 snat to 100.64.0.2";
    inside(&first, "sh", &["-c", &format!("echo '{rules}' | nft -f -")]);
    (pod, external)
}

/// A pod of another bridge of the tenant's router, with the address 10.10.0.2.
fn behind_router(lab: &Lab, tenant: TenantObjects) -> PathBuf {
    let id = |n: u128| Uuid::from_u128(0xb00 + n);
    let mut gateway = plane::on_router(tenant.router(), "10.10.0.1/24");
    gateway.peer = Some(id(2));
    let mut end = plane::port(Device::Bridge { id: id(3), vlan: None });
    end.peer = Some(id(1));
    lab.submit(put([
        Object::Bridge(id(3), Bridge { up: true, ..Bridge::default() }),
        Object::Port(id(1), gateway),
        Object::Port(id(2), end),
        Object::Route(id(4), plane::route(tenant.router(), "10.10.0.0/24", id(1), None)),
    ]));
    let pod = lab.wire(tenant, 6, Some(&lab.namespace(tenant)));
    inside(&pod, "ip", &["addr", "flush", "dev", "eth0"]);
    inside(&pod, "ip", &["addr", "add", "10.10.0.2/24", "dev", "eth0"]);
    inside(&pod, "ip", &["route", "add", "default", "via", "10.10.0.1"]);
    let Object::Port(port, mut it) = tenant.pod_port(6) else { unreachable!() };
    it.device = Device::Bridge { id: id(3), vlan: None };
    let address = std::net::Ipv4Addr::new(10, 10, 0, 2);
    it.vif_id =
        Some(atoll_model::port_security::PortSecurity { mac: plane::mac(6), address, unique: false }.to_vif_id());
    lab.submit(put([Object::Port(port, it)]));
    lab.wait_active(port, true);
    pod
}

/// A pod whose port has a chain of so many rules, none of which its packets meet. Mixed ones drop, accept and return.
fn filtered(lab: &Lab, tenant: TenantObjects, n: u8, rules: u32, mixed: bool) -> PathBuf {
    let actions =
        if mixed { vec![RuleAction::Drop, RuleAction::Accept, RuleAction::Return] } else { vec![RuleAction::Drop] };
    let rule = |n: u32| {
        let source = std::net::Ipv4Addr::from(0x0a08_0000 + n);
        let condition = Condition {
            ether_type: Some(Test::is(0x0800)),
            protocol: Some(Test::is(6)),
            source: Some(Test::is(source.into())),
            destination_port: Some(Test::is((7000, 7000))),
            ..Condition::default()
        };
        Rule { id: Uuid::from_u128(n.into()), condition, action: actions[n as usize % actions.len()].clone() }
    };
    let chain = Uuid::from_u128(0xc00 + u128::from(n));
    let pod = lab.pod(tenant, n);
    let Object::Port(id, mut port) = tenant.pod_port(n) else { return pod };
    port.inbound = Some(chain);
    let rules = (0..rules).map(rule).collect();
    lab.submit(put([Object::Chain(chain, Chain { rules, ..Chain::default() }), Object::Port(id, port)]));
    lab.wait_active(id, true);
    pod
}

/// Gbit/s, and Gbit for each second of processor that both ends have used: on a machine that is busy with other things,
/// the second says more.
fn measure(from: &Path, to: &str, seconds: &str) -> [f64; 2] {
    let json = inside(from, "iperf3", &["-c", to, "-t", seconds, "-J"]);
    let value: serde_json::Value = serde_json::from_str(&json).expect("iperf3 prints JSON");
    let end = &value["end"];
    let number =
        |part: &serde_json::Value| part.as_f64().unwrap_or_else(|| panic!("iperf3 to {to}: {}", value["error"]));
    let gigabits = number(&end["sum_received"]["bits_per_second"]) / 1e9;
    let cpu = &end["cpu_utilization_percent"];
    [gigabits, gigabits * 100.0 / (number(&cpu["host_total"]) + number(&cpu["remote_total"]))]
}

/// Median, lowest and highest.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    [values[values.len() / 2], values[0], values[values.len() - 1]]
}

/// Places of what others are compared with.
const PLAIN: usize = 0;
const TEN: usize = 2;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(10);
    let seconds = arguments.next().unwrap_or_else(|| "2".to_owned());
    let part = arguments.next().unwrap_or_default();
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let (a, b) = (lab.pod(red, 1), lab.pod(red, 2));
    let (ten, thousand) = (filtered(&lab, red, 3, 10, false), filtered(&lab, red, 4, 1000, false));
    let mixed = filtered(&lab, red, 5, 1000, true);
    let other = behind_router(&lab, red);
    let (plain_a, plain_b) = plain(lab.directory.path());
    let (hand_a, hand_external) = plain_routers(lab.directory.path());
    let servers = [&b, &plain_b, &lab.external_network(), &other, &hand_external];
    let _servers: Vec<_> = servers.into_iter().map(|netns| Server::start(netns)).collect();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let variants: [(&str, &Path, &str); 8] = [
        ("plain bridge with conntrack", &plain_a, "10.9.0.102"),
        ("same tenant", &a, "10.9.0.102"),
        ("same tenant, 10 rules", &ten, "10.9.0.102"),
        ("same tenant, 1000 rules", &thousand, "10.9.0.102"),
        ("same tenant, 1000 mixed rules", &mixed, "10.9.0.102"),
        ("to another bridge, its router", &a, "10.10.0.2"),
        ("to the external network, two routers", &a, "203.0.113.1"),
        ("two plain routers", &hand_a, "203.0.113.1"),
    ];
    let chosen = |place: usize| place == PLAIN || variants[place].0.contains(&part);
    let mut results = vec![Vec::new(); variants.len()];
    for round in 0..rounds {
        for place in 0..variants.len() {
            // Each round starts with another variant.
            let place = (place + round) % variants.len();
            if !chosen(place) {
                continue;
            }
            let (_, from, to) = variants[place];
            results[place].push(measure(from, to, &seconds));
        }
    }
    let median = |place: usize, what: usize| spread(results[place].iter().map(|result| result[what]))[0];
    for (place, (name, ..)) in variants.into_iter().enumerate().filter(|(place, _)| chosen(*place)) {
        let [rate, low, high] = spread(results[place].iter().map(|result| result[0]));
        let efficiency = median(place, 1);
        let ratios = |base: usize| format!("{:.2}x {:.2}x", rate / median(base, 0), efficiency / median(base, 1));
        let of_ten = if name.contains("1000") && chosen(TEN) {
            format!("  of ten rules {}", ratios(TEN))
        } else {
            String::new()
        };
        println!(
            "{name:30} {rate:6.2} Gbit/s ({low:.2} to {high:.2}), {efficiency:5.2} Gbit/CPU s  of the bridge {}{of_ten}",
            ratios(PLAIN)
        );
    }
}
