//! `atollctl doctor`: a node where all is well, and one thing after the other that is not.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atoll_tests::ctl::{Ctl, private_file};
use atoll_tests::node::Node;
use atoll_tests::pod::Pod;
use serde_json::{Value, json};

const PASSWORD: &str = "not-to-be-shown-7";

/// The checks that are at `level`, with their objects.
fn at<'a>(report: &'a Value, level: &str) -> Vec<(&'a str, &'a str)> {
    let checks = report["checks"].as_array().into_iter().flatten();
    let here = checks.filter(|check| check["level"] == level);
    here.filter_map(|check| Some((check["check"].as_str()?, check["object"].as_str()?))).collect()
}

fn look(ctl: &Ctl<'_>, more: &[&str]) -> Result<(i32, Value)> {
    let conf_dir = ctl.conf_dir.display().to_string();
    let begun = Instant::now();
    let (code, report) = ctl.looked(&[&["doctor", "--conf-dir", &conf_dir], more].concat())?;
    // Every look ends: the limits of the single looks together, with room for a busy machine.
    ensure!(begun.elapsed() < Duration::from_mins(1), "it took {:?}", begun.elapsed());
    ensure!(!report.to_string().contains(PASSWORD), "a secret is shown: {report}");
    Ok((code, report))
}

#[test]
fn what_is_wrong_is_found_with_servers_up_and_down() -> Result<()> {
    let mut node = Node::start(json!({}))?;
    let password = node.scratch().path().join("password");
    private_file(&password, "admin")?;
    let ctl = Ctl::new(&node, json!({ "controller": { "username": "admin", "passwordFile": password } }))?;
    let pod = Pod::new("red", "pod")?;
    node.cni("1.0.0")?.add(&pod)?;

    let (code, report) = look(&ctl, &[])?;
    assert_eq!(
        (code, at(&report, "fail"), at(&report, "warn"), at(&report, "skip")),
        (0, vec![], vec![], vec![]),
        "{report:#}"
    );
    let names: Vec<_> = at(&report, "ok").into_iter().map(|(name, _)| name).collect();
    for name in [
        "config",
        "machine",
        "secret",
        "etcd",
        "controller",
        "clock",
        "host",
        "tunnel-zone",
        "cluster",
        "node",
        "kernel",
        "plugin",
        "conflist",
        "interface",
        "progress",
        "tombstone",
    ] {
        ensure!(names.contains(&name), "{name} was not looked at: {names:?}");
    }
    let people = ctl.run(&["doctor", "--conf-dir", &ctl.conf_dir.display().to_string()])?;
    ensure!(people.code == 0 && people.stdout.contains("0 failed"), "{}", people.stdout);

    // A password that others can read; one that is wrong.
    fs::write(&password, PASSWORD)?;
    let (code, report) = look(&ctl, &[])?;
    ensure!(
        code == 7 && at(&report, "fail").iter().any(|(name, _)| *name == "controller"),
        "wrong password: {report:#}"
    );
    fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    let (code, report) = look(&ctl, &[])?;
    ensure!(code == 7 && at(&report, "fail").iter().any(|(name, _)| *name == "secret"), "a wide mode: {report:#}");
    private_file(&password, "admin")?;

    // What a claim that vanished leaves behind.
    node.netns().run("etcdctl", &["--endpoints=127.0.0.1:2379", "del", "--prefix", "/atoll/test/v1/attachments/"])?;
    fs::remove_dir_all(node.run_dir().join("attachments"))?;
    let (code, report) = look(&ctl, &[])?;
    ensure!(
        code == 0 && at(&report, "warn").iter().any(|(name, _)| *name == "interface"),
        "a stray interface: {report:#}"
    );

    // An agent that is gone, and another conflist in front.
    fs::write(
        ctl.conf_dir.join("05-other.conflist"),
        r#"{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"bridge"}]}"#,
    )?;
    let (code, report) = look(&ctl, &["--bin-dir", "/nowhere"])?;
    let failed: Vec<_> = at(&report, "fail").into_iter().map(|(name, _)| name).collect();
    assert_eq!((code, failed), (7, vec!["plugin", "conflist"]), "{report:#}");
    fs::remove_file(ctl.conf_dir.join("05-other.conflist"))?;
    drop(ctl);

    node.kill_controller()?;
    let ctl = Ctl::new(&node, json!({}))?;
    let (code, report) = look(&ctl, &[])?;
    ensure!(code == 7 && at(&report, "fail").iter().all(|(name, _)| *name == "controller"), "{report:#}");
    ensure!(at(&report, "skip").iter().any(|(name, _)| *name == "host"), "{report:#}");
    drop(ctl);
    node.kill_etcd()?;
    let ctl = Ctl::new(&node, json!({}))?;
    let (code, report) = look(&ctl, &[])?;
    let failed: Vec<_> = at(&report, "fail").into_iter().map(|(name, _)| name).collect();
    assert_eq!((code, failed), (7, vec!["etcd", "controller"]), "{report:#}");
    ensure!(at(&report, "ok").iter().any(|(name, _)| *name == "kernel"), "what can be looked at is: {report:#}");

    // No configuration at all.
    fs::write(ctl.config(), "{")?;
    let (code, report) = look(&ctl, &[])?;
    ensure!(code == 7 && at(&report, "fail").iter().any(|(name, _)| *name == "config"), "{report:#}");
    let all = report["checks"].as_array().context("checks")?;
    ensure!(all.iter().all(|check| check["means"].is_string()), "each says what it means");
    drop(ctl);

    node.start_etcd()?;
    node.start_controller()?;
    // The claim is gone, so DEL has no reason to look for anything but the interface and the port of its own names.
    node.scratch().passed();
    Ok(())
}
