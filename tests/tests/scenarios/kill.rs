//! SIGKILL, as a runtime ends a plugin that is too slow, at many points of ADD and of DEL. A DEL and later calls remove
//! what the killed call left; a later ADD completes a partially created tenant.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use serde_json::json;

/// At each tenth of the duration of an undisturbed call, and shortly after its end.
const POINTS: u32 = 24;

fn points(whole: Duration) -> impl Iterator<Item = Duration> {
    (0..POINTS).map(move |n| whole * n / (POINTS - 4))
}

#[test]
fn add_killed_anywhere() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let cni = node.cni("1.0.0")?;
    // Twice: the first fills whatever caches there are.
    let mut whole = Duration::ZERO;
    for name in ["first", "cold"] {
        let pod = LabPod::new(name, "pod")?;
        whole = cni.add(&pod)?.took;
        cni.del(&pod)?;
    }
    let mut killed = 0;
    let mut victims = Vec::new();
    for (number, delay) in points(whole).enumerate() {
        for (tenant, add_again) in [("del", false), ("add", true)] {
            // A new tenant each time, so that the kill can also interrupt its creation.
            let pod = LabPod::new(&format!("{tenant}-{number}"), "pod")?;
            killed += u32::from(cni.call("ADD", &pod).kill_after(delay)?);
            victims.push((pod, delay, add_again));
        }
    }
    // Immediately: the call that finds the build lease of a dead holder has to wait until it expires.
    std::thread::scope(|scope| {
        let cni = &cni;
        let after = |(pod, delay, add_again): &(LabPod, Duration, bool)| {
            if *add_again {
                let at = cni.add(pod).with_context(|| format!("ADD after a kill at {delay:?}"))?;
                ensure!(ping(&pod.netns, at.gateway)?, "killed at {delay:?}: the gateway does not answer");
            }
            cni.del(pod).with_context(|| format!("DEL after a kill at {delay:?}"))
        };
        let running: Vec<_> = victims.iter().map(|victim| scope.spawn(move || after(victim))).collect();
        running
            .into_iter()
            .try_for_each(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map(drop))
    })?;
    println!("{killed} of {} ADDs were killed before their end", 2 * POINTS);
    ensure!(killed >= POINTS / 2, "only {killed} ADDs were still running when they were killed: the points are wrong");
    node.finish_after_cleanup()
}

#[test]
fn del_killed_anywhere() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let cni = node.cni("1.0.0")?;
    let pod = LabPod::new("red", "first")?;
    cni.add(&pod)?;
    let whole = cni.del(&pod)?;
    let mut killed = 0;
    for delay in points(whole) {
        let pod = LabPod::new("red", "pod")?;
        cni.add(&pod)?;
        killed += u32::from(cni.call("DEL", &pod).kill_after(delay)?);
        cni.del(&pod).with_context(|| format!("DEL after a kill at {delay:?}"))?;
    }
    println!("{killed} of {POINTS} DELs were killed before their end");
    ensure!(killed >= POINTS / 4, "only {killed} DELs were still running when they were killed: the points are wrong");
    node.finish_after_cleanup()
}
