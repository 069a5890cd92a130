//! The output of `atollctl` arrives, or the exit code reports that it was lost; on a signal in the middle of a change
//! the command prints what was done and how to continue.

use std::fs::File;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::ctl::Ctl;
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

/// Every read-only command, and some that change nothing here.
const COMMANDS: [&[&str]; 20] = [
    &["--help"],
    &["--version"],
    &["tenant", "--help"],
    &["completion", "bash"],
    &["topology"],
    &["doctor"],
    &["tenant", "list"],
    &["tenant", "show", "red"],
    &["tenant", "plan", "red"],
    &["tenant", "prune"],
    &["tenant", "create", "green", "--dry-run"],
    &["tenant", "delete", "red", "--dry-run"],
    &["subnet", "list"],
    &["attachment", "list"],
    &["attachment", "show", "red/pod"],
    &["attachment", "evict-node", "node-1", "--dry-run"],
    &["address", "list"],
    &["address", "check", "--offline", "--pause", "1"],
    &["init", "--dry-run", "--ignore-routes"],
    &["gc", "--sandboxes", "/dev/null", "--empty-is-true", "--dry-run"],
];

/// A pipe whose reader has closed it.
fn closed() -> Result<Stdio> {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    Ok(writer.into())
}

#[test]
fn output_that_did_not_arrive_is_a_failure_of_every_command() -> Result<()> {
    let node = LabNode::start_without_dataplane(json!({}))?;
    let cni = node.cni("1.0.0")?;
    let pod = LabPod::new("red", "pod")?;
    cni.add(&pod)?;
    let ctl = Ctl::new(&node, json!({}))?;
    for arguments in COMMANDS {
        for format in ["table", "json"] {
            let arguments = [arguments, &["--output", format]].concat();
            let run = |out: Stdio| -> Result<(Option<i32>, String)> {
                let output = ctl.command(&arguments).stdout(out).stderr(Stdio::piped()).spawn()?.wait_with_output()?;
                Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
            };
            let (code, printed) = run(Stdio::null())?;
            ensure!(matches!(code, Some(0 | 7)), "{arguments:?}: {code:?}: {printed}");
            let full = File::options().write(true).open("/dev/full")?;
            for (out, what) in [(full.into(), "a full disk"), (closed()?, "a pipe without a reader")] {
                let (code, printed) = run(out)?;
                ensure!(
                    code == Some(1) && printed.contains("standard output"),
                    "{arguments:?}: {what}: {code:?}: {printed}"
                );
            }
        }
    }
    // The change is complete, and the message reports it.
    let full = File::options().write(true).open("/dev/full")?;
    let created = ctl.command(&["tenant", "create", "green"]).stdout(full).stderr(Stdio::piped()).spawn()?;
    let created = created.wait_with_output()?;
    let printed = String::from_utf8_lossy(&created.stderr);
    ensure!(created.status.code() == Some(1) && printed.contains("the command itself came to its end"), "{printed}");
    ensure!(ctl.json(&["tenant", "list"])?.to_string().contains("green"));
    ctl.json(&["tenant", "delete", "green"])?;
    cni.del(&pod)?;
    drop(ctl);
    node.finish()
}

#[test]
fn a_signal_in_the_middle_is_answered_with_what_was_done_and_how_to_go_on() -> Result<()> {
    let node = LabNode::start_without_dataplane(json!({}))?;
    // The maximum request lifetime is so long that the signal arrives during it.
    let ctl = Ctl::new(&node, json!({ "quietPeriodSeconds": 600 }))?;
    // A tenant for each signal: a second deletion of one tenant would start at its last step.
    let tenants = ["green", "blue", "grey"];
    let ends = [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)];
    for (tenant, (signal, code)) in tenants.into_iter().zip(ends) {
        ctl.json(&["tenant", "create", tenant])?;
        let child = ctl.command(&["tenant", "delete", tenant]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        wait::until("its objects are gone", std::time::Duration::from_secs(30), || {
            let routers = node.controller_get("/mock/dump")?["routers"].to_string();
            ensure!(!routers.contains(tenant), "{routers}");
            Ok(())
        })?;
        kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        let out = child.wait_with_output()?;
        let printed = String::from_utf8_lossy(&out.stderr);
        ensure!(out.status.code() == Some(code), "{signal}: {out:?}");
        for part in ["interrupted", "done: no new pods from now on", "the same command goes on from here"] {
            ensure!(printed.contains(part), "{signal}: {part}: {printed}");
        }
    }
    // Waiting for standard input.
    let mut child = ctl.command(&["gc", "--sandboxes", "-"]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let input = child.stdin.take().context("a pipe")?;
    wait::until("it receives signals", std::time::Duration::from_secs(30), || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).context("the mask")?;
        ensure!(u64::from_str_radix(mask.trim(), 16)? & 0b10 == 0b10, "no handler of SIGINT yet: {mask}");
        Ok(())
    })?;
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT)?;
    ensure!(child.wait()?.code() == Some(130));
    drop(input);
    let quick = Ctl::new(&node, json!({ "quietPeriodSeconds": 0 }))?;
    for tenant in tenants {
        quick.json(&["tenant", "delete", tenant])?;
    }
    drop((ctl, quick));
    node.finish()
}
