//! Many tenants with five pods each: how long a tenant and a port take, first against last, how much memory, and how
//! long it takes to read the counters.
//!
//! `cargo run -p atoll-tools --example scale -- [tenants]`, as root.

#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::time::{Duration, Instant};

use atoll_testkit::plane::{Lab, TenantObjects, inside, interface, provider, put};

/// Memory that this machine has left, MiB.
fn available() -> f64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("MemAvailable")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

/// Five pairs of interfaces, both ends in the namespace: what is measured is the plane, not the making of pods.
fn wires(lab: &Lab, tenant: TenantObjects, pods: std::ops::RangeInclusive<u8>) {
    let wire = |n| {
        let name = interface(tenant, n);
        [
            format!("link add {name} type veth peer name {name}x"),
            format!("link set {name} up"),
            format!("link set {name}x up"),
        ]
    };
    let script = pods.flat_map(wire).collect::<Vec<_>>().join("\n");
    inside(&lab.namespace(tenant), "sh", &["-c", &format!("echo '{script}' | ip -batch -")]);
}

/// From handing over a port to its being active.
fn port(lab: &Lab, tenant: TenantObjects, n: u8) -> Duration {
    let start = Instant::now();
    lab.plane().submit(put([tenant.pod_port(n)]));
    while !lab.is_active(tenant.pod(n)) {
        assert!(start.elapsed() < Duration::from_secs(10), "{:#?}", lab.plane().report());
        std::thread::sleep(Duration::from_micros(50));
    }
    start.elapsed()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

fn main() {
    let tenants: u128 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(200);
    let lab = Lab::start(provider());
    let before = available();
    let (mut built, mut ports) = (Vec::new(), Vec::new());
    for n in 1..=tenants {
        let start = Instant::now();
        let tenant = lab.tenant(n);
        built.push(start.elapsed());
        wires(&lab, tenant, 1..=5);
        ports.push((1..=5).map(|pod| port(&lab, tenant, pod)).collect::<Vec<_>>());
    }
    let at = |mut values: Vec<Duration>, tenths: usize| {
        values.sort();
        values.get(values.len() * tenths / 10).copied().unwrap_or_default()
    };
    let median = |values: Vec<Duration>| at(values, 5);
    let tenth = built.len().div_ceil(10);
    let last = built.len() - tenth;
    println!("tenants                 {tenants}, five pods each");
    println!(
        "build a tenant          {:?} (first tenth), {:?} (last tenth)",
        median(built[..tenth].to_vec()),
        median(built[last..].to_vec())
    );
    println!(
        "make a port active      {:?} (first tenth), {:?} (last tenth)",
        median(ports[..tenth].concat()),
        median(ports[last..].concat())
    );
    println!(
        "  nine of ten within     {:?} (first tenth), {:?} (last tenth)",
        at(ports[..tenth].concat(), 9),
        at(ports[last..].concat(), 9)
    );
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let each = (before - available()) / tenants as f64;
    println!("memory                  {each:.2} MiB for each tenant");
    let start = Instant::now();
    let counted = block_on(lab.plane().counters());
    println!(
        "read every counter      {:?} ({} ports, {} rules)",
        start.elapsed(),
        counted.ports.len(),
        counted.rules.len()
    );
    let report = lab.plane().report();
    assert!(report.errors.is_empty() && report.unsupported.is_empty(), "{report:#?}");
    let start = Instant::now();
    drop(lab);
    println!("remove everything       {:?}", start.elapsed());
}
