//! SIGKILL, as a runtime ends a plugin that is too slow, at many points of ADD and of DEL. A DEL and later calls remove
//! what the killed call left; a later ADD completes a partially created tenant.

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use serde_json::json;

/// Where a call is killed: at so many of the places at which its system calls stop it, in equal distances.
const POINTS: u64 = 24;

/// The stops of a call that has `whole` of them.
fn points(whole: u64) -> impl Iterator<Item = u64> {
    (0..POINTS).map(move |n| whole * n / POINTS)
}

#[test]
fn add_killed_anywhere() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let cni = node.cni("1.0.0")?;
    let pod = LabPod::new("whole", "pod")?;
    let whole = cni.call("ADD", &pod).count_stops()?;
    cni.del(&pod)?;
    let mut killed = 0;
    let mut victims = Vec::new();
    for (number, stop) in points(whole).enumerate() {
        for (tenant, add_again) in [("del", false), ("add", true)] {
            // A new tenant each time, so that the kill can also interrupt its creation.
            let pod = LabPod::new(&format!("{tenant}-{number}"), "pod")?;
            killed += u64::from(cni.call("ADD", &pod).kill_at(stop)?);
            victims.push((pod, stop, add_again));
        }
    }
    // Immediately: the call that finds the build lease of a dead holder has to wait until it expires.
    std::thread::scope(|scope| {
        let cni = &cni;
        let after = |(pod, stop, add_again): &(LabPod, u64, bool)| {
            if *add_again {
                let at = cni.add(pod).with_context(|| format!("ADD after a kill at {stop}"))?;
                ensure!(ping(&pod.netns, at.gateway)?, "killed at {stop}: the gateway does not answer");
            }
            cni.del(pod).with_context(|| format!("DEL after a kill at {stop}"))
        };
        let running: Vec<_> = victims.iter().map(|victim| scope.spawn(move || after(victim))).collect();
        running
            .into_iter()
            .try_for_each(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map(drop))
    })?;
    println!("{killed} of {} ADDs were killed before their end", 2 * POINTS);
    ensure!(killed >= POINTS, "only {killed} ADDs were still running when they were killed: the points are wrong");
    node.finish_after_cleanup()
}

#[test]
fn del_killed_anywhere() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let cni = node.cni("1.0.0")?;
    let pod = LabPod::new("red", "first")?;
    cni.add(&pod)?;
    let whole = cni.call("DEL", &pod).count_stops()?;
    let mut killed = 0;
    for stop in points(whole) {
        let pod = LabPod::new("red", "pod")?;
        cni.add(&pod)?;
        killed += u64::from(cni.call("DEL", &pod).kill_at(stop)?);
        cni.del(&pod).with_context(|| format!("DEL after a kill at {stop}"))?;
    }
    println!("{killed} of {POINTS} DELs were killed before their end, at most at {whole}");
    ensure!(killed >= POINTS / 2, "only {killed} DELs were still running when they were killed: the points are wrong");
    node.finish_after_cleanup()
}
