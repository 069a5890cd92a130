//! TCP between two pods of a tenant, with and without rules, and to the outside, against a plain bridge with connection
//! tracking.
//!
//! The variants take turns, so that the load of the machine hits all of them alike; printed are the median and the
//! spread of each, and how it compares, in rate and in rate for each second of processor: to the plain bridge, and a
//! thousand rules to ten. `cargo run -p atoll-dataplane --example throughput -- [rounds] [seconds]`, as root.

#![allow(clippy::print_stdout, reason = "its output is its purpose")]

#[path = "../tests/lab/mod.rs"]
mod lab;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use atoll_model::topology::{Action, Chain, Condition, Object, Rule, Test};
use lab::{Lab, Tenant, inside, provider, put, run};
use uuid::Uuid;

/// A server that ends with its owner.
struct Server(Child);

impl Server {
    fn start(netns: &Path) -> Self {
        let child = Command::new("nsenter")
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

/// Two pods on a bridge whose packets pass connection tracking, and nothing else.
fn plain(directory: &Path) -> (PathBuf, PathBuf) {
    let netns = |name: &str| {
        let path = directory.join("pods").join(name);
        std::fs::File::create(&path).expect("the laboratory's directory is writable");
        run("unshare", &[&format!("--net={}", path.display()), "true"]);
        path
    };
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

/// A pod whose port has a chain of so many rules, none of which its packets meet. Mixed ones drop, accept and return.
fn filtered(lab: &Lab, tenant: Tenant, n: u8, rules: u32, mixed: bool) -> PathBuf {
    let actions = if mixed { vec![Action::Drop, Action::Accept, Action::Return] } else { vec![Action::Drop] };
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
    let number = |part: &serde_json::Value| part.as_f64().unwrap_or_else(|| panic!("iperf3 measured nothing: {end}"));
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
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let (a, b) = (lab.pod(red, 1), lab.pod(red, 2));
    let (ten, thousand) = (filtered(&lab, red, 3, 10, false), filtered(&lab, red, 4, 1000, false));
    let mixed = filtered(&lab, red, 5, 1000, true);
    let (plain_a, plain_b) = plain(lab.directory.path());
    let _servers = [Server::start(&b), Server::start(&plain_b), Server::start(&lab.outside())];
    std::thread::sleep(std::time::Duration::from_millis(300));
    let variants: [(&str, &Path, &str); 6] = [
        ("plain bridge with conntrack", &plain_a, "10.9.0.102"),
        ("same tenant", &a, "10.9.0.102"),
        ("same tenant, 10 rules", &ten, "10.9.0.102"),
        ("same tenant, 1000 rules", &thousand, "10.9.0.102"),
        ("same tenant, 1000 mixed rules", &mixed, "10.9.0.102"),
        ("to the outside, two routers", &a, "203.0.113.1"),
    ];
    let mut results = vec![Vec::new(); variants.len()];
    for round in 0..rounds {
        for place in 0..variants.len() {
            // Each round starts with another variant.
            let place = (place + round) % variants.len();
            let (_, from, to) = variants[place];
            results[place].push(measure(from, to, &seconds));
        }
    }
    let median = |place: usize, what: usize| spread(results[place].iter().map(|result| result[what]))[0];
    for (place, (name, ..)) in variants.into_iter().enumerate() {
        let [rate, low, high] = spread(results[place].iter().map(|result| result[0]));
        let efficiency = median(place, 1);
        let ratios = |base: usize| format!("{:.2}x {:.2}x", rate / median(base, 0), efficiency / median(base, 1));
        let of_ten = if name.contains("1000") { format!("  of ten rules {}", ratios(TEN)) } else { String::new() };
        println!(
            "{name:30} {rate:6.2} Gbit/s ({low:.2} to {high:.2}), {efficiency:5.2} Gbit/CPU s  of the bridge {}{of_ten}",
            ratios(PLAIN)
        );
    }
}
