//! `atollctl doctor` on a cluster with OVN: a healthy one, and one broken thing at a time.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::ctl::Out;
use atoll_testkit::lab::ovn::{OvnLab, OvnMachine};
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::scratch::{Scratch, unique_name};
use atoll_testkit::lab::{programs, wait};
use atoll_testkit::ovn::{OvsdbServer, Schema};
use serde_json::{Value, json};

/// Limit for a condition, on a busy machine.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Checks of a container runtime and of its directories, which a lab does not have, and of its certificates and packages,
/// which may be short-lived and older than advised.
const OF_LAB: [&str; 6] = ["plugin", "conflist", "runtime", "claim", "certificate", "ovn-version"];

/// Findings that need an operator: check, level, object, what was found.
type Alarming = Vec<[String; 4]>;

fn doctor(chassis: &OvnMachine, settings: &Value) -> Result<Alarming> {
    let out = chassis.run_atollctl(&["doctor", "-o", "json"], settings)?;
    let report: Value = serde_json::from_str(&out.stdout).with_context(|| format!("{out:?}"))?;
    let checks = report["checks"].as_array().context("a list of checks")?;
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let alarming = checks.iter().filter(|finding| {
        let check = text(finding, "check");
        finding["level"] != "ok" && !OF_LAB.contains(&check.as_str())
    });
    Ok(alarming.map(|finding| ["check", "level", "object", "found"].map(|key| text(finding, key))).collect())
}

/// Waits until `doctor` finds exactly this: of each check the level, and a part of its object or of what was found.
fn finds(chassis: &OvnMachine, what: &str, settings: &Value, wanted: &[(&str, &str, &str)]) -> Result<()> {
    wait::until(&format!("doctor finds: {what}"), TIMEOUT, || {
        let found = doctor(chassis, settings)?;
        let all = wanted.iter().all(|(check, level, part)| {
            let is_it = |[c, l, object, text]: &[String; 4]| {
                c == check && l == level && (object.contains(part) || text.contains(part))
            };
            found.iter().any(is_it)
        });
        let only = found.iter().all(|[check, ..]| wanted.iter().any(|(wanted, ..)| wanted == check));
        ensure!(all && only, "{found:#?}");
        Ok(())
    })
}

#[test]
fn a_healthy_cluster_has_no_finding_and_each_daemon_that_stopped_has_one() -> Result<()> {
    let mut lab = OvnLab::start(3, &json!({}))?;
    let pods = [LabPod::new("red", "one")?, LabPod::new("blue", "two")?, LabPod::new("red", "three")?];
    for (pod, chassis) in pods.iter().zip(&lab.chassis) {
        chassis.cni()?.add(pod)?;
    }
    let (none, none_found) = (json!({}), &[][..]);
    let blind = json!({"ovn": {"southbound": []}});
    for chassis in &lab.chassis {
        finds(chassis, "nothing", &none, none_found)?;
    }
    let all = lab.chassis[0].run_atollctl(&["doctor"], &none)?.stdout;
    let is_asked = |line: &str| line.starts_with("ok ") && line.contains("on this machine, northd ");
    ensure!(all.lines().any(is_asked), "the version of this machine's ovn-controller is northd's: {all}");
    finds(&lab.chassis[0], "nothing without access to Southbound", &blind, none_found)?;
    let mut northd = lab.take_daemon("ovn-northd")?;
    northd.kill()?;
    let stopped = [("northd", "fail", "ovn-northd"), ("chassis", "skip", "ovn-controller")];
    finds(&lab.chassis[0], "northd is stopped", &none, &stopped)?;
    northd.restart()?;
    finds(&lab.chassis[0], "northd works again", &none, none_found)?;

    let mut controller = lab.chassis[1].take_daemon("ovn-controller")?;
    controller.kill()?;
    finds(&lab.chassis[0], "c2 is silent", &none, &[("chassis", "warn", "c2")])?;
    finds(&lab.chassis[1], "its own controller is silent", &none, &[("chassis", "fail", "c2 (this machine)")])?;
    finds(
        &lab.chassis[1],
        "the same without Southbound",
        &blind,
        &[("chassis", "fail", "c2 (this machine)"), ("chassis", "warn", "other machines")],
    )?;
    controller.restart()?;
    finds(&lab.chassis[0], "c2 confirms again", &none, none_found)?;

    for (pod, chassis) in pods.iter().zip(&lab.chassis) {
        chassis.cni()?.del(pod)?;
    }
    lab.finish_after_cleanup()
}

#[test]
fn settings_and_rows_that_are_wrong_are_found() -> Result<()> {
    let lab = OvnLab::start(3, &json!({}))?;
    let [first, second, _] = lab.chassis.as_slice() else { unreachable!("there are three") };
    let pod = LabPod::new("red", "one")?;
    first.cni()?.add(&pod)?;
    let none = json!({});
    // Rows of other owners are not reported.
    lab.ctl(
        "ovn-nbctl",
        &["lr-add", "foreign", "--", "ls-add", "foreign", "--", "lsp-add", "foreign", "foreign-port"],
    )?;
    finds(first, "nothing beside foreign rows", &none, &[])?;

    let name = json!({"ovn": {"serverName": "other.example"}});
    let denied = [
        ("database", "fail", "ssl:172.20.1.1:6641"),
        ("database", "fail", "ssl:172.20.1.1:6642"),
        ("northd", "skip", ""),
        ("owner", "skip", ""),
    ];
    finds(first, "a certificate for another name", &name, &denied)?;
    let local = json!({"ovn": {"local": "unix:/nowhere/db.sock"}});
    finds(first, "no Open vSwitch", &local, &[("open-vswitch", "fail", "/nowhere/db.sock")])?;
    let bridge = json!({"ovn": {"bridge": "br-other"}});
    finds(first, "no such bridge", &bridge, &[("open-vswitch", "fail", "bridge")])?;
    let renamed = json!({"hostId": "c9"});
    finds(first, "another host id", &renamed, &[("open-vswitch", "fail", "c9"), ("node", "fail", "")])?;

    // In a larger cluster the usual probes are too short.
    let routers: Vec<_> =
        (0..100).flat_map(|number| ["--".to_owned(), "lr-add".to_owned(), format!("r{number}")]).collect();
    let routers: Vec<_> = routers.iter().skip(1).map(String::as_str).collect();
    lab.ctl("ovn-nbctl", &routers)?;
    finds(first, "the probe towards vswitchd", &none, &[("probe", "warn", "ovn-openflow-probe-interval")])?;
    for chassis in [first, second] {
        chassis.vsctl(&["set", "Open_vSwitch", ".", "external_ids:ovn-openflow-probe-interval=60"])?;
    }
    finds(first, "long probes", &none, &[])?;
    lab.ctl("ovn-nbctl", &["clear", "connection", ".", "inactivity_probe"])?;
    finds(first, "the probe of Northbound", &none, &[("probe", "warn", "Northbound pssl:6641")])?;
    lab.ctl("ovn-nbctl", &["set", "connection", ".", "inactivity_probe=60000"])?;

    // Rows that name this cluster and have no owner.
    let ids =
        lab.ctl("ovn-nbctl", &["--bare", "--columns=external_ids", "find", "Logical_Switch_Port", "type=localnet"])?;
    let cluster = ids.split_whitespace().find(|pair| pair.starts_with("atoll-cluster=")).context("a row of ours")?;
    let incarnation = "atoll-incarnation=00000000-0000-4000-8000-000000000001";
    let id = |pair: &str| format!("external_ids:{pair}");
    let [cluster, incarnation, tenant] = [id(cluster), id(incarnation), id("atoll-tenant=gone")];
    let set = |table, name| ["--", "set", table, name, &cluster, &incarnation, &tenant].map(str::to_owned);
    let mut router = vec!["lr-add".to_owned(), "left".to_owned()];
    router.extend(set("Logical_Router", "left"));
    lab.ctl("ovn-nbctl", &router.iter().map(String::as_str).collect::<Vec<_>>())?;
    finds(first, "a network without a record", &none, &[("owner", "warn", "tenant gone")])?;
    lab.ctl("ovn-nbctl", &["lr-del", "left"])?;
    let mut port = ["lsp-add", "foreign", "left"].map(str::to_owned).to_vec();
    port.extend(set("Logical_Switch_Port", "left"));
    port.extend([id("atoll-role=pod-port"), id("atoll-node=c2"), id("atoll-interface=atleft")]);
    lab.ctl("ovn-nbctl", &port.iter().map(String::as_str).collect::<Vec<_>>())?;
    finds(second, "a port without a claim", &none, &[("owner", "warn", "without a claim")])?;
    finds(first, "nothing on another node", &none, &[])?;
    lab.ctl("ovn-nbctl", &["lsp-del", "left"])?;
    let left = ["--timeout=10", "add-port", "br-int", "atleft", "--", "set", "Interface", "atleft"];
    second.vsctl(&[&left[..], &["type=internal", "external_ids:atoll=pod"]].concat())?;
    let unused = [("owner", "warn", "atleft"), ("port", "warn", "atleft")];
    finds(second, "an Interface without a claim", &none, &unused)?;
    second.vsctl(&["--timeout=10", "del-port", "atleft"])?;
    finds(second, "nothing any more", &none, &[])?;
    first.cni()?.del(&pod)?;
    lab.finish_after_cleanup()
}

/// The findings of `doctor` about the members of a Northbound with these servers: level, and what was found.
fn members(servers: &[OvsdbServer]) -> Result<Vec<(String, String)>> {
    let scratch = Scratch::new(&unique_name())?;
    let endpoints: Vec<_> = servers.iter().map(OvsdbServer::tcp).collect();
    let config = json!({
        "cniVersion": "1.0.0", "name": "atoll", "type": "atoll", "nodeName": "n1", "hostId": "n1",
        "runDir": scratch.path().join("run"), "stateDir": scratch.path().join("state"),
        "etcd": { "endpoints": ["http://127.0.0.1:1"] },
        "ovn": { "northbound": endpoints, "local": "unix:/nowhere/db.sock" },
    });
    let file = scratch.path().join("atoll.json");
    fs::write(&file, config.to_string())?;
    let mut command = Command::new(programs::path("atollctl")?);
    let out = Out::of(&command.args(["doctor", "-o", "json", "--config"]).arg(&file).output()?)?;
    let report: Value = serde_json::from_str(&out.stdout).with_context(|| format!("{out:?}"))?;
    let checks = report["checks"].as_array().context("a list of checks")?;
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let databases = checks.iter().filter(|finding| finding["check"] == "database");
    let found = databases.map(|finding| (text(finding, "level"), text(finding, "found"))).collect();
    scratch.passed();
    Ok(found)
}

#[test]
fn members_of_a_cluster_that_stopped_and_that_lost_their_quorum_are_named() -> Result<()> {
    let mut servers = OvsdbServer::cluster(Schema::Northbound, 3);
    let expect = |servers: &[OvsdbServer], what: &str, wanted: [&str; 3]| {
        let mut found = Vec::new();
        wait::until(what, TIMEOUT, || {
            found = members(servers)?;
            let fits = found.iter().zip(wanted).all(|((level, _), wanted)| level == wanted);
            ensure!(fits && found.len() >= wanted.len(), "{found:#?}");
            Ok(())
        })?;
        anyhow::Ok(found)
    };
    let found = expect(&servers, "three members", ["ok", "ok", "ok"])?;
    let leaders = found.iter().filter(|(_, found)| found.contains("leader")).count();
    ensure!(leaders == 1 && found.len() == 3, "{found:#?}");
    servers[2].stop();
    expect(&servers, "one member is stopped", ["ok", "ok", "fail"])?;
    servers[1].stop();
    let found = expect(&servers, "one member is left", ["fail", "fail", "fail"])?;
    ensure!(found[0].1.contains("lost its cluster"), "{found:#?}");
    ensure!(found.iter().any(|(_, found)| found.contains("none of the 1 member that answer leads")), "{found:#?}");
    servers[1].restart();
    expect(&servers, "two members are a majority", ["ok", "ok", "fail"])?;
    Ok(())
}
