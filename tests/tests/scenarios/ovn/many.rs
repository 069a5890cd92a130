//! Many pods at once, from several machines, in tenants that do not exist yet.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use atoll_testkit::lab::cni::Cni;
use atoll_testkit::lab::ovn::{OvnLab, OvnMachine};
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use serde_json::json;

const TENANTS: usize = 5;
const PODS: usize = 40;
/// In the long test.
const MORE_PODS: usize = 200;
const MACHINES: usize = 3;

#[test]
fn pods_that_come_at_once_on_three_machines_get_addresses_and_ports_of_their_own() -> Result<()> {
    come_at_once(PODS, TENANTS)
}

#[test]
#[ignore = "long: 200 calls at once"]
fn two_hundred_pods_that_come_at_once_get_addresses_and_ports_of_their_own() -> Result<()> {
    come_at_once(MORE_PODS, MORE_PODS - TENANTS)
}

/// So many pods come, over TLS. The first of them, so many, reach the next one of their tenant, on another machine.
fn come_at_once(count: usize, asking: usize) -> Result<()> {
    let lab = OvnLab::start(MACHINES, &json!({}))?;
    let runtimes = lab.chassis.iter().map(OvnMachine::cni).collect::<Result<Vec<_>>>()?;
    let pods = (0..count)
        .map(|number| LabPod::new(&format!("tenant-{}", number % TENANTS), &format!("pod-{number}")))
        .collect::<Result<Vec<_>>>()?;
    // The numbers of machines and tenants have no common divisor: each tenant has pods on every machine.
    let placed: Vec<_> = pods.iter().zip(runtimes.iter().cycle()).collect();
    let attached = at_once(&placed, Cni::add)?;

    for tenant in 0..TENANTS {
        let addresses: Vec<_> = attached.iter().skip(tenant).step_by(TENANTS).map(|at| at.address.ip()).collect();
        let distinct: BTreeSet<_> = addresses.iter().collect();
        ensure!(distinct.len() == count / TENANTS, "an address twice in tenant {tenant}: {addresses:?}");
    }
    for (pod, next) in pods.iter().zip(TENANTS..).take(asking) {
        let reached = ping(&pod.netns, attached[next].address.ip())?;
        ensure!(reached, "{} does not reach pod-{next} on another machine", pod.name);
    }
    let macs: BTreeSet<_> = attached.iter().map(|at| &at.mac).collect();
    ensure!(macs.len() == count, "a MAC twice");
    let ports: BTreeSet<_> = lab.ports("")?.into_iter().collect();
    ensure!(ports.len() == count, "{} ports in Northbound", ports.len());
    for chassis in &lab.chassis {
        let expected = lab.ports(&format!("external_ids:atoll-node={}", chassis.name))?.len();
        let rows = chassis.plugged()?;
        ensure!(rows.len() == 2 * expected, "{}: {expected} ports, and {rows:?}", chassis.name);
    }

    at_once(&placed, Cni::del)?;
    lab.finish_after_cleanup()
}

fn at_once<'a, T: Send>(
    placed: &[(&LabPod, &Cni<'a>)],
    work: impl Fn(&Cni<'a>, &LabPod) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = placed.iter().map(|(pod, cni)| scope.spawn(move || work(cni, pod))).collect();
        running.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}
