//! What kubelets do: pods come and go on several machines. At the end etcd, the databases and the kernels agree.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::cni::{Cni, PodInterface};
use atoll_testkit::lab::ovn::{OvnLab, OvnMachine};
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use atoll_testkit::lab::wait;
use atoll_testkit::mutate::Mutator;

use super::collect;

const TENANTS: usize = 3;
/// CNI's code of a failure after which the runtime should try again.
const TRY_AGAIN: u64 = 11;
/// How many pods a runtime has at most.
const MOST: usize = 4;
/// Limit for a pod to become ready while daemons die.
const READY: Duration = Duration::from_mins(3);
/// Limit for everything to settle when no daemon dies any more.
const SETTLED: Duration = Duration::from_mins(3);

/// A pod that has its interface.
pub(super) type Running = (LabPod, PodInterface);

/// What a kubelet does on one machine: pods come and go. Returns those that are left.
pub(super) fn runtime(machine: &OvnMachine, seed: usize, next: impl Fn() -> Option<usize>) -> Result<Vec<Running>> {
    let cni = machine.cni()?;
    let mut random = Mutator::seeded(seed as u64);
    let mut running: Vec<Running> = Vec::new();
    while let Some(number) = next() {
        let tenant = format!("tenant-{}", random.below(TENANTS));
        running.push(run_pod(&cni, &tenant, &format!("pod-{number}"), &mut random)?);
        while running.len() > MOST || (!running.is_empty() && random.below(2) == 0) {
            let (pod, _) = running.swap_remove(random.below(running.len()));
            // Whatever is away, DEL succeeds: what it could not do is done later.
            cni.del(&pod).with_context(|| machine.name.clone())?;
        }
    }
    Ok(running)
}

/// Adds a pod, some of them after a call that was killed. After a failure the sandbox is taken down, and another one follows.
fn run_pod(cni: &Cni<'_>, tenant: &str, name: &str, random: &mut Mutator) -> Result<Running> {
    let (mut running, mut refused) = (None, None);
    wait::until("the pod gets ready", READY, || {
        let pod = LabPod::new(tenant, name)?;
        if random.below(8) == 0 {
            cni.call("ADD", &pod).kill_after(Duration::from_millis(random.below(150) as u64))?;
        }
        let answer = cni.call("ADD", &pod).run()?;
        if answer.code == Some(0) {
            let at = answer.attached()?;
            running = Some((pod, at));
            return Ok(());
        }
        let code = answer.error_code()?;
        if code != TRY_AGAIN {
            refused = Some(answer.stdout.clone());
        }
        cni.del(&pod)?;
        anyhow::bail!("ADD of {name} fails with {code}: {}", answer.stdout);
    })?;
    ensure!(refused.is_none(), "ADD of {name} fails, and does not ask for a repetition: {refused:?}");
    running.context("it is ready")
}

/// The end, when the runtimes of the machines, in turn, have these pods: everything agrees, packets flow, DEL leaves nothing.
pub(super) fn end(lab: OvnLab, running: &[Vec<Running>]) -> Result<()> {
    let placed: Vec<_> = running.iter().zip(lab.chassis.iter().cycle()).collect();
    wait::until("everything agrees", SETTLED, || {
        for machine in &lab.chassis {
            let valid = placed.iter().filter(|(_, at)| at.name == machine.name).flat_map(|(pods, _)| *pods);
            collect(machine, valid.map(|(pod, _)| pod))?;
        }
        agree(&lab, &placed)
    })?;
    wait::until("packets flow", SETTLED, || {
        for (pod, at) in placed.iter().flat_map(|(pods, _)| *pods) {
            ensure!(ping(&pod.netns, at.gateway)?, "{}/{} does not reach its gateway", pod.namespace, pod.name);
        }
        Ok(())
    })?;
    for (pods, machine) in placed {
        for (pod, _) in pods {
            machine.cni()?.del(pod)?;
        }
    }
    lab.finish_after_cleanup()
}

/// The pods have an address each, and records, ports, interfaces and links are theirs alone.
fn agree(lab: &OvnLab, placed: &[(&Vec<Running>, &OvnMachine)]) -> Result<()> {
    let expected: BTreeSet<_> =
        placed.iter().flat_map(|(pods, _)| *pods).map(|(_, at)| format!("{} {}", at.mac, at.address.ip())).collect();
    let count = placed.iter().map(|(pods, _)| pods.len()).sum::<usize>();
    ensure!(expected.len() == count, "a MAC twice: {expected:?}");
    let mut used = BTreeSet::new();
    for (pod, at) in placed.iter().flat_map(|(pods, _)| *pods) {
        ensure!(used.insert((&pod.namespace, at.address)), "{} twice in tenant {}", at.address, pod.namespace);
    }
    let find = ["--format=csv", "--data=bare", "--no-headings", "--columns=addresses", "find", "Logical_Switch_Port"];
    let addresses = lab.ctl("ovn-nbctl", &[&find[..], &["external_ids:atoll-role=pod-port"]].concat())?;
    let addresses: BTreeSet<_> = addresses.lines().map(str::to_owned).collect();
    ensure!(addresses == expected, "ports in Northbound: {addresses:?}, pods: {expected:?}");
    let ports: BTreeSet<_> = lab.ports("")?.into_iter().collect();
    let find = ["--bare", "--columns=logical_port", "find", "Port_Binding", "external_ids:atoll-role=pod-port"];
    for condition in [&[][..], &["up=true"]] {
        let found = lab.ctl("ovn-sbctl", &[&find, condition].concat())?;
        let found: BTreeSet<_> = found.split_whitespace().map(str::to_owned).collect();
        ensure!(found == ports, "ports in Southbound {condition:?}: {found:?}, in Northbound: {ports:?}");
    }
    for machine in &lab.chassis {
        let pods: usize = placed.iter().filter(|(_, at)| at.name == machine.name).map(|(pods, _)| pods.len()).sum();
        let rows = machine.plugged()?;
        ensure!(rows.len() == 2 * pods, "{}: {pods} pods, and {rows:?}", machine.name);
    }
    let left = lab.leftovers()?;
    let of = |what: &str| left.iter().filter(|line| line.contains(what)).count();
    let counts = [": claims/", "\"claimed\"", "tombstone", ": link at"].map(of);
    ensure!(counts == [count, count, 0, count], "{counts:?} for {count} pods:\n  {}", left.join("\n  "));
    Ok(())
}
