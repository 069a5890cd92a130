//! TCP between two pods of a tenant, and to the outside, against a plain bridge with connection tracking.
//!
//! The variants take turns, so that the load of the machine hits all of them alike; printed are the median and the
//! spread of each. `cargo run -p atoll-dataplane --example throughput -- [rounds] [seconds]`, as root.

#![allow(clippy::print_stdout, reason = "its output is its purpose")]

#[path = "../tests/lab/mod.rs"]
mod lab;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lab::{Lab, inside, provider, run};

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

fn gigabits(from: &Path, to: &str, seconds: &str) -> f64 {
    let json = inside(from, "iperf3", &["-c", to, "-t", seconds, "-J"]);
    let value: serde_json::Value = serde_json::from_str(&json).expect("iperf3 prints JSON");
    value["end"]["sum_received"]["bits_per_second"].as_f64().expect("iperf3 measured") / 1e9
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(10);
    let seconds = arguments.next().unwrap_or_else(|| "2".to_owned());
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let (a, b) = (lab.pod(red, 1), lab.pod(red, 2));
    let (plain_a, plain_b) = plain(lab.directory.path());
    let _servers = [Server::start(&b), Server::start(&plain_b), Server::start(&lab.outside())];
    std::thread::sleep(std::time::Duration::from_millis(300));
    let variants: [(&str, &Path, &str); 3] = [
        ("plain bridge with conntrack", &plain_a, "10.9.0.102"),
        ("same tenant", &a, "10.9.0.102"),
        ("to the outside, two routers", &a, "203.0.113.1"),
    ];
    let mut results = vec![Vec::new(); variants.len()];
    for round in 0..rounds {
        for place in 0..variants.len() {
            // Each round starts with another variant.
            let place = (place + round) % variants.len();
            let (_, from, to) = variants[place];
            results[place].push(gigabits(from, to, &seconds));
        }
    }
    let mut base = 0.0;
    for ((name, ..), mut values) in variants.into_iter().zip(results) {
        values.sort_by(f64::total_cmp);
        let median = values[values.len() / 2];
        if base == 0.0 {
            base = median;
        }
        let (low, high) = (values[0], values[values.len() - 1]);
        println!("{name:30} {median:6.2} Gbit/s (from {low:.2} to {high:.2})  {:.2}x", median / base);
    }
}
