//! `atollctl install` and `doctor` beside a real containerd: the plugin is installed where this runtime searches, and
//! the runtime has loaded the installed configuration, or the output reports that it has not.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::ctl::Ctl;
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::programs;
use atoll_testkit::lab::wait::until;
use serde_json::{Value, json};

use super::containerd::{self, Containerd};
use super::networks::Networks;

/// A command on the node that finds the runtime only by its socket.
fn run(ctl: &Ctl<'_>, containerd: &Containerd, arguments: &[&str]) -> Result<(i32, Value)> {
    let socket = containerd.socket().display().to_string();
    let mut command = ctl.command(&[arguments, &["--runtime-endpoint", &socket, "-o", "json"]].concat());
    // Only the runtime's directories determine where the plugin is.
    let out = command.env_remove("CNI_PATH").output()?;
    let value = serde_json::from_slice(&out.stdout);
    let value = value.with_context(|| format!("{arguments:?}: {}", String::from_utf8_lossy(&out.stderr)))?;
    Ok((out.status.code().context("a signal ended it")?, value))
}

/// The finding of one check.
fn finding(report: &Value, check: &str) -> Result<(String, String)> {
    let checks = report["checks"].as_array().context("checks")?;
    let found =
        checks.iter().find(|found| found["check"] == check).with_context(|| format!("no {check}: {report:#}"))?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Ok((text("level"), text("found")))
}

/// The action of an installation on the network configuration.
fn action(report: &Value, file: &Path) -> Result<String> {
    let changes = report["changes"].as_array().context("changes")?;
    let path = file.display().to_string();
    let change = changes.iter().find(|change| change["path"] == path.as_str()).context("no change of it")?;
    Ok(change["action"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn what_is_installed_is_what_the_runtime_runs_with() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let mut networks = Networks::new(node.scratch(), &programs::path("atoll")?)?;
    networks.names.push("atoll".to_owned());
    // The runtime uses a directory of its own, and the plugin is not there yet.
    fs::remove_file(networks.bin.join("atoll"))?;
    let containerd = Containerd::start(&node, &networks)?;
    let ctl = Ctl::new(&node, json!({ "timeoutSeconds": 1 }))?;
    let (plugin, source) = (programs::path("atoll")?.display().to_string(), ctl.config().display().to_string());
    let conflist = networks.conf.join("10-atoll.conflist");

    let (code, report) = run(&ctl, &containerd, &["doctor"])?;
    ensure!(code == 7, "{report:#}");
    let (level, found) = finding(&report, "runtime")?;
    ensure!(level == "fail" && found.contains("not ready"), "{level}: {found}");
    let (level, found) = finding(&report, "plugin")?;
    let bin = networks.bin.display().to_string();
    ensure!(level == "fail" && found.contains(&bin), "{level}: {found}");

    let install = ["install", "--plugin", &plugin, "--conflist", &source];
    let (code, report) = run(&ctl, &containerd, &install)?;
    ensure!(code == 0 && report["notes"].to_string().contains("its network is ready"), "{report:#}");
    ensure!(networks.bin.join("atoll").is_file() && conflist.is_file(), "not where the runtime looks: {report:#}");
    let well = || -> Result<()> {
        let (code, report) = run(&ctl, &containerd, &["doctor"])?;
        ensure!(code == 0, "{report:#}");
        for check in ["runtime", "plugin", "conflist", "claim"] {
            let (level, found) = finding(&report, check)?;
            ensure!(level == "ok", "{check}: {level}: {found}");
        }
        let (_, found) = finding(&report, "runtime")?;
        ensure!(found.contains(&conflist.display().to_string()), "{found}");
        Ok(())
    };
    well()?;
    let (_, report) = run(&ctl, &containerd, &install)?;
    assert_eq!(action(&report, &conflist)?, "keep", "twice is once: {report:#}");

    // The file is moved away, and moved back from another directory.
    let aside = node.scratch().dir("aside")?.join("10-atoll.conflist");
    fs::rename(&conflist, &aside)?;
    let client = containerd.client()?;
    until("the runtime notices that it is gone", Duration::from_secs(20), || {
        ensure!(!client.condition("NetworkReady")?.good, "it is still ready");
        Ok(())
    })?;
    fs::rename(&aside, &conflist)?;
    let version = containerd::version()?;
    let missed = {
        let (_, report) = run(&ctl, &containerd, &["doctor"])?;
        finding(&report, "runtime")?
    };
    if version.starts_with("1.6.") {
        ensure!(missed.0 == "fail" && missed.1.contains("not ready"), "containerd {version} misses it: {missed:?}");
        let (_, report) = run(&ctl, &containerd, &["install", "--plugin", &plugin])?;
        assert_eq!(action(&report, &conflist)?, "renew", "{report:#}");
        ensure!(report["notes"].to_string().contains("its network is ready"), "{report:#}");
    } else {
        let (code, report) = run(&ctl, &containerd, &["install", "--plugin", &plugin])?;
        ensure!(code == 0, "{report:#}");
    }
    well()?;

    // Another text in the same way: the runtime still uses the old one.
    let mut changed: Value = serde_json::from_slice(&fs::read(&conflist)?)?;
    changed["plugins"][0]["mtu"] = 1400.into();
    fs::write(&aside, serde_json::to_string_pretty(&changed)?)?;
    fs::rename(&aside, &conflist)?;
    if version.starts_with("1.6.") {
        let (code, report) = run(&ctl, &containerd, &["doctor"])?;
        let (level, found) = finding(&report, "runtime")?;
        ensure!(code == 7 && level == "fail" && found.contains("older text"), "{level}: {found}");
    }
    let (_, report) = run(&ctl, &containerd, &["install", "--plugin", &plugin])?;
    ensure!(report["notes"].to_string().contains("its network is ready"), "{report:#}");
    well()?;

    // A claim without a container.
    let live = client.run(&containerd.pod("red", "live"))?;
    let dead = LabPod::new("red", "dead")?;
    let cni = node.cni("1.0.0")?;
    cni.add(&dead)?;
    until("doctor names the claim without a container", Duration::from_secs(30), || {
        let (code, report) = run(&ctl, &containerd, &["doctor"])?;
        let (level, found) = finding(&report, "claim")?;
        ensure!(code == 0 && level == "warn" && found.contains("red/dead"), "{level}: {found}");
        ensure!(found.starts_with("1 claim ") && !found.contains("red/live"), "{found}");
        Ok(())
    })?;
    let (code, report) = run(&ctl, &containerd, &["gc"])?;
    ensure!(code == 0 && report["items"].as_array().is_some_and(|items| items.len() == 1), "{report:#}");
    well()?;
    // A plugin that the runtime starts is missing.
    let (loopback, kept) = (networks.bin.join("loopback"), networks.bin.join("kept"));
    fs::rename(&loopback, &kept)?;
    let (code, report) = run(&ctl, &containerd, &["doctor"])?;
    let failed = report["checks"].as_array().into_iter().flatten().filter(|check| check["level"] == "fail");
    let failed: Vec<_> = failed.map(|check| check["object"].as_str().unwrap_or_default()).collect();
    if version.starts_with("1.") {
        assert_eq!((code, failed), (7, vec!["loopback"]), "containerd 1 runs it for every pod: {report:#}");
    }
    fs::rename(&kept, &loopback)?;

    client.end(&live.id)?;
    cni.del(&dead)?;
    drop((cni, ctl));
    containerd.finish()?;
    node.finish()
}
