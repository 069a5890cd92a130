//! DEL with OVN: it leaves nothing, and while a database is away or hangs it succeeds and the rest follows.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::cni::Cni;
use atoll_testkit::lab::ovn::OvnLab;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use atoll_testkit::lab::wait;
use nix::sys::signal::Signal;
use serde_json::json;

use super::collect;

/// The bound of a DEL during an outage, including process start and a busy machine. The engine alone would wait for 5 s.
const AT_MOST: Duration = Duration::from_secs(4);
/// Limit for a server that was started again.
const START: Duration = Duration::from_secs(30);

/// Adds a pod and sees that its packets flow.
fn attached(cni: &Cni<'_>, name: &str) -> Result<LabPod> {
    let pod = LabPod::new("red", name)?;
    let at = cni.add(&pod)?;
    ensure!(ping(&pod.netns, at.gateway)?, "{name} reaches its gateway");
    Ok(pod)
}

/// DEL during an outage: in time, and the interface is gone.
fn del_in_time(cni: &Cni<'_>, pod: &LabPod, when: &str) -> Result<()> {
    let took = cni.del(pod).with_context(|| when.to_owned())?;
    ensure!(took < AT_MOST, "{when}: DEL took {took:?}");
    let links = pod.netns.run("ip", &["-brief", "link"])?;
    ensure!(!links.contains("eth0"), "{when}: the interface is still there: {links}");
    Ok(())
}

/// DEL, which leaves nothing. On a busy machine Northbound may answer too late for one: the next one completes it.
fn settled(lab: &OvnLab, cni: &Cni<'_>, pod: &LabPod) -> Result<()> {
    wait::until("DEL leaves nothing", START, || {
        cni.del(pod)?;
        lab.assert_nothing_left()
    })
}

#[test]
fn del_leaves_nothing_and_is_settled_later_while_northbound_is_away() -> Result<()> {
    let mut lab = OvnLab::start(1, &json!({}))?;
    let northbound = &mut lab.take_daemon("nb")?;
    let [chassis] = lab.chassis.as_slice() else { unreachable!("there is one") };
    let cni = chassis.cni()?;

    let pod = attached(&cni, "plain")?;
    ensure!(lab.ports("")?.len() == 1 && chassis.plugged()?.len() == 2, "{:?}", lab.leftovers()?);
    settled(&lab, &cni, &pod)?;
    cni.del(&pod)?;
    lab.assert_nothing_left()?;

    let pods = ["hanging", "killed"].map(|name| attached(&cni, name));
    let [hanging, killed] = pods;
    let (hanging, killed) = (hanging?, killed?);
    northbound.send(Signal::SIGSTOP)?;
    del_in_time(&cni, &hanging, "Northbound hangs")?;
    northbound.send(Signal::SIGCONT)?;
    let left = lab.leftovers()?;
    ensure!(left.iter().any(|line| line.contains("tombstones/")), "the pending cleanup is recorded: {left:?}");
    ensure!(left.iter().any(|line| line.contains("\"claimed\"")), "the address stays taken: {left:?}");

    northbound.kill()?;
    del_in_time(&cni, &killed, "Northbound is away")?;
    cni.del(&killed)?;
    northbound.restart()?;
    wait::until("GC settles what is pending", START, || {
        collect(chassis, [])?;
        lab.assert_nothing_left()
    })?;
    lab.finish()
}

#[test]
fn del_without_open_vswitch_leaves_an_interface_that_gc_removes() -> Result<()> {
    // Without a host id in the configuration: Open vSwitch names it.
    let mut lab = OvnLab::start(1, &json!({ "hostId": null }))?;
    let [chassis] = lab.chassis.as_mut_slice() else { unreachable!("there is one") };
    let database = &mut chassis.take_daemon("ovsdb-server")?;
    let chassis = &lab.chassis[0];
    let cni = chassis.cni()?;
    for when in ["its database hangs", "its database is away"] {
        let pod = attached(&cni, "pod")?;
        if when.ends_with("hangs") {
            database.send(Signal::SIGSTOP)?;
            del_in_time(&cni, &pod, when)?;
            database.send(Signal::SIGCONT)?;
        } else {
            database.kill()?;
            // Also if this node does not remember its host id.
            fs::remove_file(chassis.config_file().with_file_name("state").join("node"))?;
            del_in_time(&cni, &pod, when)?;
            let refused = cni.call("ADD", &LabPod::new("red", "refused")?).run()?;
            refused.error_code()?;
            let text = refused.stdout;
            ensure!(text.contains("Open vSwitch") && text.contains("`ovn.local`"), "{when}: ADD: {text}");
            database.restart()?;
        }
        wait::until("the database answers", START, || chassis.plugged().map(drop))?;
        if when.ends_with("away") {
            let left = lab.leftovers()?;
            ensure!(
                left.len() == 2
                    && left == chassis.plugged()?.iter().map(|row| format!("c1: {row}")).collect::<Vec<_>>(),
                "only rows of Open vSwitch are left: {left:?}"
            );
        }
        wait::until("GC takes the rows away", START, || {
            collect(chassis, [])?;
            lab.assert_nothing_left()
        })
        .context(when)?;
    }
    let pod = attached(&cni, "afterwards")?;
    settled(&lab, &cni, &pod)?;
    lab.finish()
}
