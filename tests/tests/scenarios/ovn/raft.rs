//! Northbound as a cluster of three members, whose leader dies or stands still while pods come and go: the runtime can repeat every
//! failure, no address is there twice, and afterwards etcd, the databases and the kernels agree.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::daemon::Daemon;
use atoll_testkit::lab::ovn::OvnLab;
use atoll_testkit::lab::wait;
use nix::sys::signal::Signal;
use serde_json::json;

use super::kubelets::{Running, end, runtime};

const MEMBERS: usize = 3;
const MACHINES: usize = 2;
/// How many runtimes call at once on each machine.
const RUNTIMES: usize = 2;
/// How often a leader goes.
const ROUNDS: usize = 4;
/// Limit for an election, and for a pod beside it.
const LIMIT: Duration = Duration::from_mins(2);

type Members = BTreeMap<&'static str, Daemon>;

/// The member that leads, other than this one.
fn leader(lab: &OvnLab, without: Option<&str>) -> Result<&'static str> {
    let mut leader = None;
    wait::until("a member leads", LIMIT, || {
        let others = lab.members().into_iter().filter(|member| Some(*member) != without);
        // One that was started a moment ago does not answer yet.
        leader = others.into_iter().find(|member| lab.leads(member).is_ok_and(|leads| leads));
        ensure!(leader.is_some(), "none does");
        Ok(())
    })?;
    leader.context("it leads")
}

/// In each round the leader goes, another one leads, and the leader comes back. `pods_come` waits until pods have come.
fn leaders_go(
    lab: &OvnLab,
    members: &mut Members,
    signal: Signal,
    pods_come: impl Fn(&str) -> Result<()>,
) -> Result<()> {
    for round in 0..ROUNDS {
        pods_come("with all members")?;
        let gone = leader(lab, None)?;
        let daemon = members.get_mut(gone).context("it is a member")?;
        if signal == Signal::SIGKILL { daemon.kill() } else { daemon.send(signal) }?;
        let next = leader(lab, Some(gone))?;
        pods_come(&format!("in round {round}, while {gone} is gone and {next} leads"))?;
        if signal == Signal::SIGKILL { daemon.restart() } else { daemon.send(Signal::SIGCONT) }?;
    }
    pods_come("at the end")
}

fn pods_come_and_go_while_leaders_go(signal: Signal) -> Result<()> {
    let mut lab = OvnLab::start_with_members(MEMBERS, MACHINES, &json!({}))?;
    let mut members = Members::new();
    for name in lab.members() {
        members.insert(name, lab.take_daemon(name)?);
    }
    let (begun, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let running = std::thread::scope(|scope| {
        let runtimes: Vec<_> = (0..MACHINES * RUNTIMES)
            .zip(lab.chassis.iter().cycle())
            .map(|(seed, machine)| {
                let next = || (!over.load(Ordering::Relaxed)).then(|| begun.fetch_add(1, Ordering::Relaxed));
                scope.spawn(move || runtime(machine, seed, next))
            })
            .collect();
        // Of more pods than runtimes, one has begun and is ready since the call.
        let pods_come = |when: &str| {
            let until = begun.load(Ordering::Relaxed) + runtimes.len() + 1;
            wait::until(&format!("pods get ready {when}"), LIMIT, || {
                let now = begun.load(Ordering::Relaxed);
                ensure!(
                    now >= until || runtimes.iter().any(ScopedJoinHandle::is_finished),
                    "{now} of {until} have begun"
                );
                Ok(())
            })
        };
        // Here, because a daemon ends with the thread that started it.
        let gone = leaders_go(&lab, &mut members, signal, pods_come);
        over.store(true, Ordering::Relaxed);
        let running: Result<Vec<Vec<Running>>> = runtimes
            .into_iter()
            .map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        gone?;
        running
    })?;
    end(lab, &running)
}

#[test]
#[ignore = "long: pods come and go over several elections"]
fn the_leader_is_killed_while_pods_come_and_go() -> Result<()> {
    pods_come_and_go_while_leaders_go(Signal::SIGKILL)
}

#[test]
#[ignore = "long: pods come and go over several elections"]
fn the_leader_stands_still_while_pods_come_and_go() -> Result<()> {
    pods_come_and_go_while_leaders_go(Signal::SIGSTOP)
}
