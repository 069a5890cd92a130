//! OVN on several machines: real databases, real chassis, real packets.

mod churn;
mod cut_off;
mod daemons;
mod detach;
mod doctor;
mod drift;
mod families;
mod host_to_pod;
mod isolation;
mod killed;
mod kubelets;
mod late;
mod many;
mod names;
mod packets;
mod pods;
mod raft;
mod restarts;
mod verbs;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::ovn::{OUTSIDE, OvnMachine};
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::{Banner, ask};
use atoll_testkit::lab::wait;
use serde_json::json;

/// Limit for OVN to notice which machine is the gateway, on a busy machine.
const GATEWAY: Duration = Duration::from_mins(1);

/// Asks the server `outside` from a pod as soon as a machine is the gateway: at first, and after one is gone, the others take
/// seconds to notice.
fn ask_outside(pod: &LabPod) -> Result<Banner> {
    let mut answer = None;
    wait::until("a gateway forwards", GATEWAY, || {
        let banner = ask(&pod.netns, OUTSIDE.parse()?)?.with_context(|| format!("{} asks outside", pod.name))?;
        ensure!(banner.name == "outside", "{} is answered by {banner:?}", pod.name);
        answer = Some(banner);
        Ok(())
    })?;
    answer.context("it was asked")
}

/// GC of a runtime that knows these pods and no others.
fn collect<'a>(chassis: &OvnMachine, pods: impl IntoIterator<Item = &'a LabPod>) -> Result<()> {
    let cni = chassis.cni()?;
    let mut config = cni.config.clone();
    config["cniVersion"] = json!("1.1.0");
    let valid: Vec<_> = pods.into_iter().map(|pod| json!({ "containerID": pod.container, "ifname": "eth0" })).collect();
    config["cni.dev/valid-attachments"] = json!(valid);
    cni.call("GC", &LabPod::new("red", "none")?).reading(config.to_string()).run()?.done().context("GC")
}
