//! Output for operators: why a pod has no network, the pods of a tenant, the owner of an address, the effect of a
//! deletion. A pipe that is closed early is an error without a panic.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::ctl::Ctl;
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::{leftovers, wait};
use serde_json::json;

/// The command reports the fault with its exit code and this text.
fn prints(ctl: &Ctl<'_>, arguments: &[&str], code: i32, words: &[&str]) -> Result<()> {
    let out = ctl.run(arguments)?;
    ensure!(out.code == code, "{arguments:?}: exit code {}, not {code}: {}{}", out.code, out.stdout, out.stderr);
    let printed = out.stdout + &out.stderr;
    let missing: Vec<_> = words.iter().filter(|word| !printed.contains(**word)).collect();
    ensure!(missing.is_empty(), "{arguments:?} does not say {missing:?}: {printed}");
    Ok(())
}

#[test]
fn why_a_pod_has_no_network() -> Result<()> {
    let mut node = LabNode::start(json!({}))?;
    let pods = (0..3).map(|n| LabPod::new("red", &format!("web-{n}"))).collect::<Result<Vec<_>>>()?;
    let [well, unplugged, deleted] = pods.as_slice() else { unreachable!("three") };
    let address = node.cni("1.0.0")?.add(well)?.address.ip().to_string();
    node.cni("1.0.0")?.add(unplugged)?;
    let taken = node.cni("1.0.0")?.add(deleted)?.address.ip().to_string();
    let show = |node: &LabNode, what: &str, code: i32, words: &[&str]| {
        prints(&Ctl::new(node, json!({}))?, &["attachment", "show", what], code, words)
    };

    for what in ["red/web-0", "web-0", &well.container, &well.container[..12], &address] {
        show(&node, what, 0, &[&address, "red/web-0", "active", "nothing that can be seen from here is wrong"])?;
    }
    show(&node, "red/web-7", 4, &["nothing is known"]).or_else(|_| show(&node, "red/web-7", 7, &["no ADD of it"]))?;
    show(&node, "192.0.2.1", 4, &["in no subnet"]).or_else(|_| show(&node, "192.0.2.1", 4, &["nothing is known"]))?;

    // The pod's end is down; then its interface is gone.
    unplugged.netns.run("ip", &["link", "set", "eth0", "down"])?;
    show(&node, "red/web-1", 7, &["has no carrier", "eth0 is down"])?;
    unplugged.netns.run("ip", &["link", "delete", "eth0"])?;
    show(&node, "red/web-1", 7, &["is not there", "delete the pod"])?;

    // Its DEL could not reach the controller, and an ADD failed; both are reported without a controller.
    node.kill_controller()?;
    node.cni("1.0.0")?.del(deleted)?;
    let failed = LabPod::new("red", "late")?;
    let refused = node.cni("1.0.0")?.call("ADD", &failed).run()?;
    ensure!(refused.code != Some(0), "there is no controller");
    show(&node, "red/web-2", 7, &["its DEL could not finish", "atollctl gc"])?;
    show(&node, &taken, 7, &["its DEL could not finish"])?;
    show(&node, &failed.container, 7, &["its last call failed", "controller"])?;
    show(&node, "red/web-0", 0, &["the engine did not return"])?;
    node.start_controller()?;

    let mine = "node-1";
    let elsewhere = Ctl::new(&node, json!({ "nodeName": "node-2" }))?;
    prints(&elsewhere, &["attachment", "show", "red/web-0"], 0, &["only be read on node", mine])?;
    drop(elsewhere);
    for pod in &pods {
        node.cni("1.0.0")?.del(pod)?;
    }
    wait::until("later calls finish the pending cleanup", std::time::Duration::from_secs(30), || {
        node.cni("1.0.0")?.del(&LabPod::new("red", "missing")?)?;
        leftovers::assert_none(&node)
    })?;
    show(&node, &address, 0, &["is in cool-down"])?;
    node.finish()
}

#[test]
fn the_help_leads_to_the_answers() -> Result<()> {
    let node = LabNode::start_without_dataplane(json!({}))?;
    let cni = node.cni("1.0.0")?;
    let pods = [LabPod::new("red", "web-0")?, LabPod::new("red", "web-1")?, LabPod::new("blue", "db-0")?];
    let address = cni.add(&pods[0])?.address.ip().to_string();
    cni.add(&pods[1])?;
    cni.add(&pods[2])?;
    let ctl = Ctl::new(&node, json!({}))?;

    // An operator finds the command from the help texts: each contains the words of the question.
    prints(&ctl, &["--help"], 0, &["attachment", "tenant", "doctor", "Why has this pod no network", "Exit codes"])?;
    prints(&ctl, &["attachment", "--help"], 0, &["show", "list"])?;
    prints(&ctl, &["attachment", "show", "--help"], 0, &["why has this pod no network", "red/web-0"])?;
    prints(&ctl, &["attachment", "list", "--help"], 0, &["who holds"])?;
    prints(&ctl, &["tenant", "delete", "--help"], 0, &["what would deleting"])?;

    prints(&ctl, &["tenant", "show", "red"], 0, &["red/web-0", "red/web-1", &address])?;
    prints(&ctl, &["attachment", "list", "--address", &address], 0, &["web-0", "red", "node-1"])?;
    prints(&ctl, &["tenant", "delete", "red", "--dry-run"], 0, &["2 pods in the way", "red/web-0", "red/web-1"])?;
    prints(&ctl, &["tenant", "delete", "red"], 6, &["web-0", "try:"])?;
    prints(&ctl, &["tenant", "show", "green"], 4, &["green", "try:"])?;

    // The reader has closed the pipe: an error that says so, and no panic.
    for arguments in [["address", "list"], ["topology", "--offline"], ["doctor", "--output=table"]] {
        let mut child = ctl.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        drop(child.stdout.take().context("a pipe")?);
        let out = child.wait_with_output()?;
        let printed = String::from_utf8_lossy(&out.stderr).into_owned();
        ensure!(
            out.status.code() == Some(1) && printed.contains("standard output could not be written"),
            "{arguments:?}: {printed}"
        );
    }
    for pod in &pods {
        cni.del(pod)?;
    }
    drop((cni, ctl));
    node.finish()
}
