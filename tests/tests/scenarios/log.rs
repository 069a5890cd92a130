//! The log of a call: its stages, its pod and tenant, its trace; and data that it never contains.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::node::{LabNode, merge};
use atoll_testkit::lab::pod::LabPod;
use serde_json::{Value, json};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn lines(node: &LabNode) -> Result<Vec<Value>> {
    let text = fs::read_to_string(node.scratch().path().join("cni.log")).context("the log")?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

#[test]
fn every_line_has_call_pod_tenant_trace_and_stages() -> Result<()> {
    let node = LabNode::start_without_dataplane(json!({ "log": { "level": "trace" } }))?;
    let cni = node.cni("1.1.0")?;
    let pod = LabPod::new("red", "logged")?;
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    for command in ["ADD", "DEL"] {
        let answer = cni.call(command, &pod).with("TRACEPARENT", &traceparent).run()?;
        ensure!(answer.code == Some(0) && answer.stderr.is_empty(), "{answer:?}");
    }
    // An invalid trace id is omitted, and a failure has its code.
    let call = cni.call("ADD", &pod).with("TRACEPARENT", "00-\n{}\"-x-y").with("CNI_NETNS", "/nowhere");
    ensure!(call.run()?.error_code()? == 8);

    let lines = lines(&node)?;
    let of = |command: &str, message: &str| {
        lines.iter().find(|l| l["command"] == command && l["message"] == message).cloned().context("the line")
    };
    let added = of("ADD", "done")?;
    for (key, expected) in [
        ("network", "atoll"),
        ("container", pod.container.as_str()),
        ("interface", "eth0"),
        ("namespace", "red"),
        ("pod", "logged"),
        ("tenant", "red"),
        ("trace", TRACE),
    ] {
        ensure!(added[key] == expected, "{key}: {added}");
    }
    for stage in ["lock", "tenant", "claim", "port", "interface", "packets"] {
        ensure!(added["stages"][stage].is_f64(), "{stage}: {added}");
    }
    for stage in ["lock", "port", "interface", "records", "tombstones"] {
        let deleted = of("DEL", "done")?;
        ensure!(deleted["stages"][stage].is_f64(), "{stage}: {deleted}");
    }
    let failed = of("ADD", "failed")?;
    ensure!(failed["code"] == 8 && failed.get("trace").is_none(), "{failed}");
    ensure!(lines.iter().all(|line| line["time"].is_string() && line["stages"].is_object()), "{lines:?}");
    let mode = fs::metadata(node.scratch().path().join("cni.log"))?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    node.finish()
}

/// At the most verbose level, with a login and with a confidential annotation.
#[test]
fn standard_input_and_secrets_are_not_in_it() -> Result<()> {
    let node = LabNode::start_without_dataplane(json!({ "log": { "level": "trace" } }))?;
    let cni = node.cni("1.0.0")?;
    let pod = LabPod::new("red", "silent")?;
    let password = node.scratch().path().join("password");
    fs::write(&password, "hunter2-secret")?;
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600))?;
    let mut config = cni.config.clone();
    merge(
        &mut config,
        &json!({
            "controller": { "username": "admin", "passwordFile": password },
            "colour": "input-that-is-not-logged",
            "runtimeConfig": { "io.kubernetes.cri.pod-annotations": { "token": "annotation-that-is-not-logged" } },
        }),
    );
    for command in ["ADD", "DEL"] {
        // The controller may refuse the login: that is logged, too.
        let answer = cni.call(command, &pod).reading(config.to_string()).run()?;
        ensure!(!answer.stdout.contains("hunter2") && answer.stderr.is_empty(), "{answer:?}");
    }
    let text = fs::read_to_string(node.scratch().path().join("cni.log"))?;
    ensure!(text.lines().count() >= 2, "something was logged: {text}");
    for secret in ["hunter2", "input-that-is-not-logged", "annotation-that-is-not-logged", "Bearer", "Basic "] {
        ensure!(!text.contains(secret), "{secret} is in the log");
    }
    node.finish()
}

/// Many concurrent calls, and a file that always needs rotation: every line is complete, and few files are kept.
#[test]
fn many_calls_share_it() -> Result<()> {
    // The smallest configurable size is a megabyte: start with a file of that size.
    let node = LabNode::start_without_dataplane(json!({ "log": { "maxMegabytes": 1, "keep": 2 } }))?;
    let log = node.scratch().path().join("cni.log");
    let old = format!("{}\n", json!({ "old": "x".repeat(1_000_000) }));
    fs::write(&log, &old)?;
    let cni = node.cni("1.1.0")?;
    let pod = LabPod::new("red", "many")?;
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..8).map(|_| scope.spawn(|| cni.call("DEL", &pod).run())).collect();
        calls.into_iter().try_for_each(|call| call.join().expect("it ends")?.done())
    })?;
    ensure!(
        fs::read_to_string(node.scratch().path().join("cni.log.1"))?.starts_with(&old),
        "the old file was put aside"
    );
    ensure!(!node.scratch().path().join("cni.log.2").exists(), "once");
    let mut done = 0;
    for name in ["cni.log", "cni.log.1"] {
        for line in fs::read_to_string(node.scratch().path().join(name))?.lines() {
            let line: Value = serde_json::from_str(line).with_context(|| line.chars().take(200).collect::<String>())?;
            done += usize::from(line["message"] == "done");
        }
    }
    ensure!(done == 8, "{done} of 8 lines");
    node.finish()
}
