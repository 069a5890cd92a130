//! Pods that come and go while daemons die at random times: afterwards etcd, the databases and the kernels agree, and every pod that
//! is left has its packets.
//!
//! `ATOLL_CALLS` sets how many pods come; `AT_SEED` repeats a run's choices, though not its times.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use anyhow::Result;
use atoll_testkit::lab::daemon::Daemon;
use atoll_testkit::lab::ovn::OvnLab;
use atoll_testkit::mutate::Mutator;
use serde_json::json;

use super::kubelets::{Running, end, runtime};

/// How many pods come.
const PODS: usize = 500;
const MACHINES: usize = 3;
/// How many runtimes call at once on each machine.
const RUNTIMES: usize = 2;
/// The first seed, a constant of this test.
const SEED: u64 = 1000;

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
    end(lab, &running)
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
