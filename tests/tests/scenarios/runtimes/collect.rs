//! `atollctl gc` beside a real containerd: attachments that the runtime does not list are removed, its pods are kept.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::ctl::Ctl;
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use serde_json::{Value, json};

use super::containerd::Containerd;
use super::networks::Networks;

#[test]
fn what_the_runtime_does_not_know_is_collected_and_its_pods_are_not() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let containerd = Containerd::start(&node, &Networks::of(&node)?)?;
    let client = containerd.client()?;
    let live = client.run(&containerd.pod("red", "live"))?;
    // A stopped sandbox still exists: only its runtime may call DEL.
    let stopped = client.run(&containerd.pod("red", "stopped"))?;
    client.stop(&stopped.id)?;
    let (cni, mut elsewhere) = (node.cni("1.0.0")?, node.cni("1.0.0")?);
    let (dead, foreign) = (LabPod::new("red", "dead")?, LabPod::new("red", "foreign")?);
    cni.add(&dead)?;
    // A pod of another network, which this runtime does not list.
    elsewhere.config["name"] = "other".into();
    elsewhere.add(&foreign)?;

    let ctl = Ctl::new(&node, json!({ "timeoutSeconds": 1 }))?;
    // The times of claims are in whole seconds, and a claim must be older than the deadline.
    std::thread::sleep(Duration::from_secs(2));
    let socket = containerd.socket().display().to_string();
    let mut running = ctl.command(&["gc", "--runtime-endpoint", &socket, "--pause", "6", "-o", "json"]);
    let running = running.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // A pod that is created between the two comparisons and is older than the deadline at the second.
    std::thread::sleep(Duration::from_secs(1));
    let new = client.run(&containerd.pod("red", "new"))?;
    let out = running.wait_with_output()?;
    let printed = || String::from_utf8_lossy(&out.stderr).into_owned();
    let report: Value = serde_json::from_slice(&out.stdout).with_context(printed)?;
    let items = report["items"].as_array().context("items")?;
    ensure!(items.len() == 1 && items[0]["outcome"] == "done", "only the dead one: {report:#}");
    ensure!(items[0]["object"].as_str().is_some_and(|object| object.contains(&dead.container)), "{report:#}");
    ensure!(ping(&live.netns(), new.ip.parse::<std::net::IpAddr>()?)?, "the runtime's pods keep their network");
    let claims = node.keys("claims/")?;
    ensure!(claims.iter().any(|(key, _)| key.contains(&foreign.container)), "another network's pod: {claims:?}");

    // One of two runtimes does not answer: nothing is collected.
    cni.add(&dead)?;
    std::thread::sleep(Duration::from_secs(2));
    let refused = ctl.run(&["gc", "--runtime-endpoint", "/nowhere/sock", "--runtime-endpoint", &socket])?;
    assert_eq!(refused.code, 5, "{}{}", refused.stdout, refused.stderr);
    ensure!(node.keys("claims/")?.iter().any(|(key, _)| key.contains(&dead.container)), "it was collected");

    cni.del(&dead)?;
    elsewhere.del(&foreign)?;
    for pod in [&live, &stopped, &new] {
        client.end(&pod.id)?;
    }
    drop((cni, elsewhere, ctl));
    containerd.finish()?;
    node.finish()
}
