//! `atollctl gc` with a list of containers removes exactly the attachments of deleted containers.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::ctl::Ctl;
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::{leftovers, wait};
use serde_json::{Value, json};

/// The deadline of one call in `gc`'s configuration: after this a claim is old enough.
const DEADLINE: u64 = 1;

fn ctl(node: &LabNode) -> Result<Ctl<'_>> {
    Ctl::new(node, json!({ "timeoutSeconds": DEADLINE }))
}

/// A list of the existing containers.
fn list(node: &LabNode, pods: &[&LabPod]) -> Result<PathBuf> {
    let path = node.scratch().path().join("containers");
    let ids: Vec<_> = pods.iter().map(|pod| pod.container.as_str()).collect();
    fs::write(&path, ids.join("\n"))?;
    Ok(path)
}

/// The times of claims are in whole seconds.
fn grow_old() {
    std::thread::sleep(Duration::from_secs(DEADLINE + 1));
}

/// The containers that have claims.
fn claimed(node: &LabNode) -> Result<Vec<String>> {
    let claims = node.keys("claims/")?;
    let mut containers: Vec<_> =
        claims.iter().filter_map(|(_, claim)| Some(claim["attachment"]["container"].as_str()?.to_owned())).collect();
    containers.sort();
    Ok(containers)
}

fn sorted(pods: &[&LabPod]) -> Vec<String> {
    let mut containers: Vec<_> = pods.iter().map(|pod| pod.container.clone()).collect();
    containers.sort();
    containers
}

fn outcomes(report: &Value) -> Vec<(&str, &str)> {
    let items = report["items"].as_array().into_iter().flatten();
    items.filter_map(|item| Some((item["kind"].as_str()?, item["outcome"].as_str()?))).collect()
}

#[test]
fn dead_attachments_are_removed_and_live_or_foreign_ones_stay() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let (cni, mut elsewhere) = (node.cni("1.0.0")?, node.cni("1.0.0")?);
    elsewhere.config["name"] = "other".into();
    let pods = (0..4).map(|n| LabPod::new("red", &format!("pod-{n}"))).collect::<Result<Vec<_>>>()?;
    let [live, dead, rebooted, foreign] = pods.as_slice() else { unreachable!("four") };
    for pod in [live, dead, rebooted] {
        cni.add(pod)?;
    }
    elsewhere.add(foreign)?;
    // These two get no DEL; the namespace of one is deleted as well.
    let rebooted_netns = rebooted.netns.path().to_owned();
    atoll_testkit::lab::netns::run(
        "ip",
        &["netns", "delete", &rebooted_netns.file_name().context("a name")?.to_string_lossy()],
    )?;
    atoll_testkit::lab::netns::run(
        "ip",
        &["netns", "add", &rebooted_netns.file_name().context("a name")?.to_string_lossy()],
    )?;
    // An ADD that died earlier, before its claim, and an unknown host interface.
    let file = node.run_dir().join("attachments/0123456789abcdef0123456789abcdef");
    fs::write(&file, r#"{"phase":"adding","lateRequestsUntil":0}"#)?;
    fs::File::open(&file)?.set_modified(std::time::UNIX_EPOCH)?;
    node.netns()
        .run("ip", &["link", "add", "at0123456789ab", "group", "42753", "type", "veth", "peer", "name", "peer"])?;
    node.netns().run("ip", &["link", "add", "at-other", "group", "7", "type", "veth", "peer", "name", "at-peer"])?;
    let list = list(&node, &[live])?.display().to_string();
    let ctl = ctl(&node)?;

    let young = ctl.json(&["gc", "--sandboxes", &list, "--dry-run"])?;
    ensure!(!outcomes(&young).contains(&("attachment", "done")), "{young:#}");
    grow_old();
    let plan = ctl.json(&["gc", "--sandboxes", &list, "--dry-run"])?;
    let would = [("attachment", "would"), ("attachment", "would"), ("interface", "would"), ("file", "would")];
    assert_eq!(outcomes(&plan), would, "{plan:#}");
    assert_eq!(claimed(&node)?, sorted(&[live, dead, rebooted, foreign]), "a plan changes nothing");

    let done = ctl.json(&["gc", "--sandboxes", &list])?;
    let all = [("attachment", "done"), ("attachment", "done"), ("interface", "done"), ("file", "done")];
    assert_eq!(outcomes(&done), all, "{done:#}");
    assert_eq!(claimed(&node)?, sorted(&[live, foreign]));
    ensure!(!file.exists(), "the dead ADD's file");
    let links = LabNode::links(node.netns())?;
    ensure!(
        !links.iter().any(|name| name == "at0123456789ab") && links.iter().any(|name| name == "at-other"),
        "{links:?}"
    );
    let again = ctl.run(&["gc", "--sandboxes", &list])?;
    ensure!(again.code == 0 && again.stdout.contains("collected 0, 0 failed"), "{}{}", again.stdout, again.stderr);

    node.netns().run("ip", &["link", "delete", "at-other"])?;
    cni.del(live)?;
    elsewhere.del(foreign)?;
    drop((cni, elsewhere, ctl));
    node.finish()
}

#[test]
fn an_answer_that_fails_or_is_empty_collects_nothing() -> Result<()> {
    let node = LabNode::start_without_dataplane(json!({}))?;
    let pod = LabPod::new("red", "pod")?;
    node.cni("1.0.0")?.add(&pod)?;
    grow_old();
    let ctl = ctl(&node)?;
    let list = list(&node, &[])?.display().to_string();
    for (arguments, code) in [
        (vec!["gc", "--sandboxes", "/nowhere/list"], 5),
        (vec!["gc", "--runtime-endpoint", "/nowhere/socket"], 5),
        (vec!["gc", "--sandboxes", &list], 6),
        // Standard input is empty.
        (vec!["gc", "--sandboxes", "-"], 6),
        (vec!["gc", "--bin-dir", "/nowhere", "--sandboxes", &list], 3),
    ] {
        let out = ctl.run(&arguments)?;
        assert_eq!(out.code, code, "{arguments:?}: {}{}", out.stdout, out.stderr);
        ensure!(
            code != 6 || out.stderr.contains("names no container at all"),
            "at the first comparison: {}",
            out.stderr
        );
        assert_eq!(claimed(&node)?, sorted(&[&pod]), "{arguments:?}");
    }
    let done = ctl.json(&["gc", "--sandboxes", &list, "--empty-is-true"])?;
    assert_eq!(outcomes(&done), [("attachment", "done")], "{done:#}");
    // A node without pods and an empty list: `gc` succeeds and does nothing.
    ctl.json(&["gc", "--sandboxes", &list])?;
    drop(ctl);
    node.finish()
}

#[test]
fn a_pod_added_between_the_two_observations_stays() -> Result<()> {
    let node = LabNode::start_without_dataplane(json!({}))?;
    let cni = node.cni("1.0.0")?;
    let pods = (0..4).map(|n| LabPod::new("red", &format!("pod-{n}"))).collect::<Result<Vec<_>>>()?;
    let [live, dead, again, new] = pods.as_slice() else { unreachable!("four") };
    for pod in [live, dead, again] {
        cni.add(pod)?;
    }
    grow_old();
    let list = list(&node, &[live])?.display().to_string();
    let ctl = ctl(&node)?;
    let mut running = ctl.command(&["gc", "--sandboxes", &list, "--pause", "6"]);
    let running = running.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn()?;
    // The first comparison takes a fraction of a second. At the second one, the following is older than the deadline.
    std::thread::sleep(Duration::from_secs(1));
    cni.add(new)?;
    cni.del(again)?;
    cni.add(again)?;
    let out = running.wait_with_output()?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(claimed(&node)?, sorted(&[live, again, new]), "{}", String::from_utf8_lossy(&out.stdout));
    for pod in [live, again, new] {
        cni.del(pod)?;
    }
    drop((cni, ctl));
    node.finish()
}

#[test]
fn pending_cleanup_is_finished_when_the_controller_is_back() -> Result<()> {
    let mut node = LabNode::start_without_dataplane(json!({}))?;
    let pods = (0..6).map(|n| LabPod::new("red", &format!("pod-{n}"))).collect::<Result<Vec<_>>>()?;
    for pod in &pods {
        node.cni("1.0.0")?.add(pod)?;
    }
    let [unlisted, listed @ ..] = pods.as_slice() else { unreachable!("six") };
    node.kill_controller()?;
    node.kill_etcd()?;
    for pod in listed {
        node.cni("1.0.0")?.del(pod)?;
    }
    node.start_etcd()?;
    grow_old();
    let list = list(&node, &[])?.display().to_string();
    let arguments = ["gc", "--sandboxes", &list, "--empty-is-true"];
    let (code, report) = ctl(&node)?.report(&arguments)?;
    ensure!(code == 0 && outcomes(&report).contains(&("attachment", "pending")), "{unlisted:?}: {report:#}");
    ensure!(report["tombstones"] == pods.len(), "no cleanup can be finished without a controller: {report:#}");
    node.start_controller()?;
    wait::until("the tombstones are gone", Duration::from_secs(30), || {
        let report = ctl(&node)?.json(&arguments)?;
        ensure!(report["tombstones"] == 0, "{report:#}");
        leftovers::assert_none(&node)
    })?;
    node.finish()
}

/// The configuration has another `etcd.prefix`: DEL, `gc` and `doctor` find attachments below the earlier one.
#[test]
fn what_was_made_under_an_earlier_prefix_is_found() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let cni = node.cni("1.0.0")?;
    let pods = (0..3).map(|n| LabPod::new("red", &format!("pod-{n}"))).collect::<Result<Vec<_>>>()?;
    let [live, dead, deleted] = pods.as_slice() else { unreachable!("three") };
    for pod in &pods {
        cni.add(pod)?;
    }
    let other = json!({ "timeoutSeconds": DEADLINE, "etcd": { "prefix": "/atoll/other" } });
    let mut moved = node.cni("1.0.0")?;
    atoll_testkit::lab::node::merge(&mut moved.config, &other);
    moved.del(deleted)?;
    assert_eq!(claimed(&node)?, sorted(&[live, dead]));

    let ctl = Ctl::new(&node, other)?;
    let list = list(&node, &[live])?.display().to_string();
    let (_, report) = ctl.report(&["doctor", "--sandboxes", &list])?;
    let checks = report["checks"].as_array().context("checks")?;
    let prefix = checks.iter().find(|check| check["check"] == "prefix").context("the prefix is checked")?;
    ensure!(
        prefix["object"] == atoll_testkit::lab::node::PREFIX && prefix.to_string().contains("2 claims"),
        "{prefix:#}"
    );

    // As after a reboot: no file has their location.
    fs::remove_dir_all(node.run_dir().join("attachments"))?;
    grow_old();
    let done = ctl.json(&["gc", "--sandboxes", &list])?;
    assert_eq!(outcomes(&done), [("attachment", "done")], "{done:#}");
    assert_eq!(claimed(&node)?, sorted(&[live]), "and its interface is no leftover");
    moved.del(live)?;
    drop((cni, moved, ctl));
    node.finish()
}
