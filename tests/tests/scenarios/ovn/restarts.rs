//! Each daemon is killed and started again while pods are attached: packets flow again, an ADD meanwhile reports in time what is
//! missing, a DEL meanwhile is quick, and afterwards ADD works and everything settles.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::daemon::Daemon;
use atoll_testkit::lab::ovn::{OvnLab, OvnMachine};
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use atoll_testkit::lab::wait;
use serde_json::json;

use super::collect;

/// The daemons, and what an ADD reports without one. Those of a machine are those of the pods' machine.
const DAEMONS: [(&str, &str); 6] = [
    ("nb", "OVN Northbound"),
    ("sb", "did not become active"),
    ("ovn-northd", "did not become active"),
    ("ovsdb-server", "Open vSwitch"),
    ("ovs-vswitchd", "did not become active"),
    ("ovn-controller", "did not become active"),
];
/// The limit of an ADD that cannot succeed, in seconds.
const PATIENCE: u64 = 10;
/// The bound of such an ADD, including process start and a busy machine. Its limit without a setting is 60 s here.
const IN_TIME: Duration = Duration::from_secs(30);
/// The bound of a DEL during an outage, including process start and a busy machine.
const AT_MOST: Duration = Duration::from_secs(4);
/// Limit for what follows a start.
const LIMIT: Duration = Duration::from_mins(1);

/// A daemon of the central machine or of the first chassis.
fn take(lab: &mut OvnLab, name: &str) -> Result<Daemon> {
    match name {
        "nb" | "sb" | "ovn-northd" => lab.take_daemon(name),
        _ => lab.chassis[0].take_daemon(name),
    }
}

/// Starts a daemon again.
fn start(daemon: &mut Daemon, name: &str, machine: &OvnMachine) -> Result<()> {
    daemon.restart()?;
    if name == "ovs-vswitchd" {
        machine.restore_tunnel_address()?;
    }
    Ok(())
}

#[test]
#[ignore = "long: six daemons are killed and started, one after the other"]
fn each_daemon_is_killed_and_started_again_while_pods_are_attached() -> Result<()> {
    let mut lab = OvnLab::start(2, &json!({}))?;
    let (stays, peer) = (LabPod::new("red", "stays")?, LabPod::new("red", "peer")?);
    let at = lab.chassis[0].cni()?.add(&stays)?;
    let peer_at = lab.chassis[1].cni()?.add(&peer)?;
    // They end with their values.
    let mut started = Vec::new();
    for (name, missing) in DAEMONS {
        let goes = LabPod::new("red", "goes")?;
        lab.chassis[0].cni()?.add(&goes).with_context(|| format!("before {name} is killed"))?;
        let mut daemon = take(&mut lab, name)?;
        let (machine, when) = (&lab.chassis[0], format!("without {name}"));
        let cni = machine.cni()?;
        daemon.kill()?;

        let mut impatient = cni.clone();
        impatient.config["timeoutSeconds"] = json!(PATIENCE);
        let late = LabPod::new("red", "late")?;
        let refused = impatient.call("ADD", &late).run()?;
        println!("{when}: {:?} {}", refused.took, refused.stdout.trim());
        ensure!(refused.error_code()? == 11, "{when}: the runtime may try again: {}", refused.stdout);
        ensure!(refused.stdout.contains(missing), "{when}: an ADD reports {missing}: {}", refused.stdout);
        ensure!(refused.took < IN_TIME, "{when}: an ADD took {:?}", refused.took);
        for pod in [&goes, &late] {
            let took = cni.del(pod).with_context(|| when.clone())?;
            ensure!(took < AT_MOST, "{when}: DEL of {} took {took:?}", pod.name);
            let links = pod.netns.run("ip", &["-brief", "link"])?;
            ensure!(!links.contains("eth0"), "{when}: the interface of {} is still there: {links}", pod.name);
        }

        start(&mut daemon, name, machine)?;
        let when = format!("after {name} was started again");
        wait::until("packets flow", LIMIT, || {
            ensure!(ping(&stays.netns, peer_at.address.ip())?, "stays does not reach its peer");
            ensure!(ping(&peer.netns, at.address.ip())?, "the peer does not reach stays");
            Ok(())
        })
        .with_context(|| when.clone())?;
        let next = LabPod::new("red", "next")?;
        let next_at = cni.add(&next).with_context(|| when.clone())?;
        ensure!(ping(&peer.netns, next_at.address.ip())?, "{when}: the peer does not reach the new pod");
        cni.del(&next)?;
        wait::until("everything settles", LIMIT, || {
            collect(machine, [&stays])?;
            let left = lab.leftovers()?;
            let of = |what: &str| left.iter().filter(|line| line.contains(what)).count();
            let counts = [": claims/", "tombstone", "Northbound: port", "c1: Interface", "c1: Port"].map(of);
            ensure!(counts == [2, 0, 2, 1, 1], "{counts:?} for two pods:\n  {}", left.join("\n  "));
            Ok(())
        })
        .with_context(|| when.clone())?;
        started.push(daemon);
    }
    lab.chassis[0].cni()?.del(&stays)?;
    lab.chassis[1].cni()?.del(&peer)?;
    lab.finish_after_cleanup()
}
