//! Eviction of a machine that is cut off from Southbound alone and goes on sending.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::ovn::{OvnLab, OvnMachine};
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use atoll_testkit::lab::wait;
use atoll_testkit::plane::frame::{contains, ethernet, hear, ip, overhear, shoot, sniff, tap};
use nix::sys::signal::Signal;
use serde_json::json;

const IPV4: u16 = 0x0800;
/// Limit for a change to reach a chassis, on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);

/// No packet of this machine reaches Southbound any more. Northbound and etcd are still there.
fn cut_from_southbound(machine: &OvnMachine) -> Result<()> {
    machine.netns.run("ip", &["rule", "add", "ipproto", "tcp", "dport", "6642", "blackhole"]).map(drop)
}

#[test]
#[ignore = "long: an eviction waits for a silent chassis, and for requests on their way"]
fn addresses_of_a_machine_that_goes_on_sending_are_released_when_all_others_refuse_it() -> Result<()> {
    let settings = json!({ "timeoutSeconds": 10, "cooldownSeconds": 0 });
    let mut lab = OvnLab::start(3, &settings)?;
    let silent = lab.chassis[1].take_daemon("ovn-controller")?;
    let [first, second, third] = lab.chassis.as_slice() else { unreachable!("there are three") };
    let (near, far, lost) = (LabPod::new("red", "near")?, LabPod::new("red", "far")?, LabPod::new("red", "lost")?);
    let (near_at, far_at) = (first.cni()?.add(&near)?, second.cni()?.add(&far)?);
    let lost_at = third.cni()?.add(&lost)?;
    for at in [&near_at, &far_at] {
        ensure!(ping(&lost.netns, at.address.ip())?, "they reach each other");
    }
    let ears = [sniff(near.netns.path()), sniff(far.netns.path())];
    let sender = tap(lost.netns.path());
    let send = |mark: &str| -> Result<()> {
        for at in [&near_at, &far_at] {
            let packet = ip(lost_at.address.ip().octets(), at.address.ip().octets(), mark.as_bytes());
            shoot(&sender, &ethernet(lost_at.mac.parse()?, at.mac.parse()?, IPV4, &packet), mark);
        }
        Ok(())
    };
    cut_from_southbound(third)?;
    send("cut off")?;
    for ear in &ears {
        hear(ear, b"cut off");
    }

    // Another chassis does not confirm: nothing is released.
    silent.send(Signal::SIGSTOP)?;
    let refused = first.atollctl(&["attachment", "evict-node", "c3", "--force", "--yes"]).expect_err("c2 is silent");
    ensure!(format!("{refused:#}").contains("c2"), "it names the chassis: {refused:#}");
    let wished = format!("IP={}", lost_at.address.ip());
    let pod = LabPod::new("red", "new")?;
    let with_address = |machine: &OvnMachine| {
        let arguments = format!("{};{wished}", pod.args());
        machine.cni()?.call("ADD", &pod).with("CNI_ARGS", arguments).run()?.attached()
    };
    ensure!(with_address(first).is_err(), "the address is released although c2 did not confirm");
    first.cni()?.del(&pod)?;

    silent.send(Signal::SIGCONT)?;
    wait::until("the eviction ends", LIMIT, || {
        first.atollctl(&["attachment", "evict-node", "c3", "--force", "--yes"]).map(drop)
    })?;
    // At once: what the machine still sends reaches no pod.
    for ear in &ears {
        while overhear(ear).is_some() {}
    }
    let at = with_address(first).context("a new pod has the address")?;
    ensure!(at.address == lost_at.address, "{at:?}");
    for mark in ["evicted 1", "evicted 2", "evicted 3"] {
        send(mark)?;
        // Later frames of others arrive.
        ensure!(ping(&near.netns, far_at.address.ip())? && ping(&far.netns, at.address.ip())?, "the others are served");
    }
    for (ear, name) in ears.iter().zip(["near", "far"]) {
        let heard: Vec<_> = std::iter::from_fn(|| overhear(ear)).collect();
        ensure!(!contains(&heard, b"evicted"), "{name} received a frame of the evicted machine");
    }
    ensure!(!ping(&lost.netns, near_at.address.ip())?, "the lost pod is answered");

    first.cni()?.del(&pod)?;
    first.cni()?.del(&near)?;
    second.cni()?.del(&far)?;
    // The machine's own Open vSwitch still has the pod: its runtime deletes it.
    third.netns.run("ip", &["rule", "del", "ipproto", "tcp", "dport", "6642", "blackhole"])?;
    third.cni()?.del(&lost)?;
    lab.finish_after_cleanup()
}
