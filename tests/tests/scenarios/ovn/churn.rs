//! Pods that come and go while daemons die at random times: afterwards etcd, the databases and the kernels agree, and every pod that
//! is left has its packets.
//!
//! `ATOLL_CALLS` sets how many pods come; `AT_SEED` repeats a run's choices, though not its times.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::cni::{Cni, PodInterface};
use atoll_testkit::lab::daemon::Daemon;
use atoll_testkit::lab::ovn::{OvnLab, OvnMachine};
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use atoll_testkit::lab::wait;
use atoll_testkit::mutate::Mutator;
use serde_json::json;

use super::collect;

/// How many pods come.
const PODS: usize = 500;
const MACHINES: usize = 3;
const TENANTS: usize = 3;
/// How many runtimes call at once on each machine.
const RUNTIMES: usize = 2;
/// How many pods a runtime has at most.
const MOST: usize = 4;
/// Limit for a pod to become ready while daemons die.
const READY: Duration = Duration::from_mins(3);
/// Limit for everything to settle when no daemon dies any more.
const SETTLED: Duration = Duration::from_mins(3);
/// The first seed, a constant of this test.
const SEED: u64 = 1000;

/// A pod that has its interface.
type Running = (LabPod, PodInterface);

#[test]
#[ignore = "long: hundreds of pods while daemons die"]
fn whatever_dies_while_pods_come_and_go_everything_agrees_afterwards() -> Result<()> {
    let pods = std::env::var("ATOLL_CALLS").map_or(Ok(PODS), |count| count.parse())?;
    let mut lab = OvnLab::start(MACHINES, &json!({}))?;
    let mut daemons = BTreeMap::new();
    for name in ["nb", "sb", "ovn-northd", "etcd"] {
        daemons.insert(name.to_owned(), lab.take_daemon(name)?);
    }
    for machine in &mut lab.chassis {
        // A datapath in user space loses the addresses of its bridges with its daemon.
        for program in ["ovsdb-server", "ovn-controller"] {
            daemons.insert(format!("{program} of {}", machine.name), machine.take_daemon(program)?);
        }
    }
    let mut daemons: Vec<_> = daemons.into_iter().collect();
    let mut random = Mutator::seeded(SEED);
    let seeds: Vec<_> = (0..MACHINES * RUNTIMES).map(|_| random.below(usize::MAX)).collect();
    let begun = AtomicUsize::new(0);

    let running = std::thread::scope(|scope| {
        let runtimes: Vec<_> = seeds
            .iter()
            .zip(lab.chassis.iter().cycle())
            .map(|(seed, machine)| {
                let (next, seed) = (|| Some(begun.fetch_add(1, Ordering::Relaxed)).filter(|next| *next < pods), *seed);
                scope.spawn(move || runtime(machine, seed, next))
            })
            .collect();
        // Here, because a daemon ends with the thread that started it.
        let killed = kill_at_random(&mut daemons, &mut random, || runtimes.iter().all(ScopedJoinHandle::is_finished));
        let running: Result<Vec<Vec<Running>>> = runtimes
            .into_iter()
            .map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        println!("{pods} pods came; killed: {:?}", killed?);
        running
    })?;
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

/// Kills a daemon, and starts it again after a while, until `is_over`. Returns how often each was killed.
fn kill_at_random(
    daemons: &mut [(String, Daemon)],
    random: &mut Mutator,
    is_over: impl Fn() -> bool,
) -> Result<BTreeMap<String, usize>> {
    let mut killed = BTreeMap::new();
    while !is_over() {
        let pauses = [random.below(1500), random.below(800)].map(|pause| Duration::from_millis(pause as u64));
        let (name, daemon) = &mut daemons[random.below(daemons.len())];
        std::thread::sleep(pauses[0]);
        daemon.kill()?;
        std::thread::sleep(pauses[1]);
        daemon.restart()?;
        *killed.entry(name.clone()).or_insert(0) += 1;
    }
    Ok(killed)
}

/// What a kubelet does on one machine: pods come and go. Returns those that are left.
fn runtime(machine: &OvnMachine, seed: usize, next: impl Fn() -> Option<usize>) -> Result<Vec<Running>> {
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
    let mut running = None;
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
        cni.del(&pod)?;
        anyhow::bail!("ADD of {name} fails with {code}: {}", answer.stdout);
    })?;
    running.context("it is ready")
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
