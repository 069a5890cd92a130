//! `atollctl doctor`: a healthy node, then one fault after the other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::ctl::{Ctl, private_file};
use atoll_testkit::lab::netns::run;
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::programs;
use atoll_testkit::lab::scratch::{Scratch, unique_name};
use atoll_testkit::lab::wait::until;
use serde_json::{Value, json};

const PASSWORD: &str = "not-to-be-shown-7";

/// The checks that are at `level`, with their objects.
fn at<'a>(report: &'a Value, level: &str) -> Vec<(&'a str, &'a str)> {
    let checks = report["checks"].as_array().into_iter().flatten();
    let here = checks.filter(|check| check["level"] == level);
    here.filter_map(|check| Some((check["check"].as_str()?, check["object"].as_str()?))).collect()
}

fn doctor_report(ctl: &Ctl<'_>, more: &[&str]) -> Result<(i32, Value)> {
    let (conf_dir, list) = (ctl.conf_dir.display().to_string(), containers(ctl).display().to_string());
    let begun = Instant::now();
    // The container runtimes of this machine do not belong to this node.
    let (code, report) = ctl.report(&[&["doctor", "--conf-dir", &conf_dir, "--sandboxes", &list], more].concat())?;
    // Every check ends: the sum of the timeouts, with a margin for a busy machine.
    ensure!(begun.elapsed() < Duration::from_mins(1), "it took {:?}", begun.elapsed());
    ensure!(!report.to_string().contains(PASSWORD), "a secret is shown: {report}");
    Ok((code, report))
}

/// The list of the node's containers.
fn containers(ctl: &Ctl<'_>) -> PathBuf {
    ctl.conf_dir.with_file_name("containers.list")
}

#[test]
fn what_is_wrong_is_found_with_servers_up_and_down() -> Result<()> {
    let mut node = LabNode::start(json!({}))?;
    let password = node.scratch().path().join("password");
    private_file(&password, "admin")?;
    let ctl = Ctl::new(&node, json!({ "controller": { "username": "admin", "passwordFile": password } }))?;
    let pod = LabPod::new("red", "pod")?;
    node.cni("1.0.0")?.add(&pod)?;
    fs::write(containers(&ctl), &pod.container)?;

    let (code, report) = doctor_report(&ctl, &[])?;
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
        "claim",
        "interface",
        "attachment-state",
        "tombstone",
    ] {
        ensure!(names.contains(&name), "{name} was not checked: {names:?}");
    }
    let list = containers(&ctl).display().to_string();
    let people = ctl.run(&["doctor", "--conf-dir", &ctl.conf_dir.display().to_string(), "--sandboxes", &list])?;
    ensure!(people.code == 0 && people.stdout.contains("0 failed"), "{}", people.stdout);

    // A claim whose container the runtime does not list; a claim younger than the deadline is not reported.
    fs::write(&list, "0123456789abcdef\n")?;
    let (_, report) = doctor_report(&ctl, &[])?;
    ensure!(!at(&report, "warn").iter().any(|(name, _)| *name == "claim"), "it may just start: {report:#}");
    let impatient = Ctl::new(&node, json!({ "timeoutSeconds": 1 }))?;
    until("the claim is older than a call may take", Duration::from_secs(30), || {
        let (code, report) = doctor_report(&impatient, &[])?;
        let checks = report["checks"].as_array().context("checks")?;
        let found = checks.iter().find(|check| check["check"] == "claim").context("no such check")?;
        ensure!(found["level"] == "warn" && code == 0, "{found:#}");
        ensure!(found["found"].as_str().is_some_and(|text| text.contains("red/pod")), "{found:#}");
        ensure!(found["hint"].as_str().is_some_and(|text| text.contains("atollctl gc")), "{found:#}");
        Ok(())
    })?;
    fs::write(&list, &pod.container)?;
    let ctl = Ctl::new(&node, json!({ "controller": { "username": "admin", "passwordFile": password } }))?;

    // A password file with a wrong mode; a wrong password.
    fs::write(&password, PASSWORD)?;
    let (code, report) = doctor_report(&ctl, &[])?;
    ensure!(
        code == 7 && at(&report, "fail").iter().any(|(name, _)| *name == "controller"),
        "wrong password: {report:#}"
    );
    fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    let (code, report) = doctor_report(&ctl, &[])?;
    ensure!(code == 7 && at(&report, "fail").iter().any(|(name, _)| *name == "secret"), "a wide mode: {report:#}");
    private_file(&password, "admin")?;

    // The remains of a claim that was deleted.
    node.netns().run("etcdctl", &["--endpoints=127.0.0.1:2379", "del", "--prefix", "/atoll/test/v2/claims/"])?;
    fs::remove_dir_all(node.run_dir().join("attachments"))?;
    let (code, report) = doctor_report(&ctl, &[])?;
    ensure!(
        code == 0 && at(&report, "warn").iter().any(|(name, _)| *name == "interface"),
        "an orphaned interface: {report:#}"
    );

    // A dead agent, and another conflist that sorts first.
    fs::write(
        ctl.conf_dir.join("05-other.conflist"),
        r#"{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"bridge"}]}"#,
    )?;
    let (code, report) = doctor_report(&ctl, &["--bin-dir", "/nowhere"])?;
    let failed: Vec<_> = at(&report, "fail").into_iter().map(|(name, _)| name).collect();
    assert_eq!((code, failed), (7, vec!["plugin", "conflist"]), "{report:#}");
    fs::remove_file(ctl.conf_dir.join("05-other.conflist"))?;
    drop(ctl);

    node.kill_controller()?;
    let ctl = Ctl::new(&node, json!({}))?;
    let (code, report) = doctor_report(&ctl, &[])?;
    ensure!(code == 7 && at(&report, "fail").iter().all(|(name, _)| *name == "controller"), "{report:#}");
    ensure!(at(&report, "skip").iter().any(|(name, _)| *name == "host"), "{report:#}");
    drop(ctl);
    node.kill_etcd()?;
    let ctl = Ctl::new(&node, json!({}))?;
    let (code, report) = doctor_report(&ctl, &[])?;
    let failed: Vec<_> = at(&report, "fail").into_iter().map(|(name, _)| name).collect();
    assert_eq!((code, failed), (7, vec!["etcd", "controller"]), "{report:#}");
    ensure!(at(&report, "ok").iter().any(|(name, _)| *name == "kernel"), "what can be checked is: {report:#}");

    // No configuration at all.
    fs::write(ctl.config(), "{")?;
    let (code, report) = doctor_report(&ctl, &[])?;
    ensure!(code == 7 && at(&report, "fail").iter().any(|(name, _)| *name == "config"), "{report:#}");
    let all = report["checks"].as_array().context("checks")?;
    ensure!(all.iter().all(|check| check["means"].is_string()), "each says what it means");
    drop(ctl);

    node.start_etcd()?;
    node.start_controller()?;
    // The claim was deleted, so DEL only checks the interface and the port with the derived names.
    node.scratch().passed();
    Ok(())
}

/// Runs a command that needs no node.
fn run_without_node(arguments: &[&str]) -> Result<(i32, String)> {
    let mut command = Command::new(programs::path("atollctl")?);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").args(arguments).stdin(Stdio::null());
    let out = command.output()?;
    let text = [out.stdout, out.stderr].concat();
    Ok((out.status.code().context("a signal ended it")?, String::from_utf8_lossy(&text).into_owned()))
}

/// The finding of one check.
fn found(report: &str, check: &str) -> Result<Vec<(String, String)>> {
    let report: Value = serde_json::from_str(report).context(report.to_owned())?;
    let checks = report["checks"].as_array().context("checks")?.iter().filter(|found| found["check"] == check);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(checks
        .map(|check| (text(&check["level"]), format!("{} {}", text(&check["object"]), text(&check["found"]))))
        .collect())
}

/// Names and contents of files.
type Files<'a> = &'a [(&'a str, &'a str)];

#[test]
fn absent_and_unreadable_files_are_distinguished() -> Result<()> {
    let scratch = Scratch::new(&unique_name())?;
    let conf = scratch.dir("net.d")?;
    let (list, socket) = (scratch.path().join("list"), scratch.path().join("no-socket").display().to_string());
    fs::write(&list, "")?;
    let (conf_dir, list) = (conf.display().to_string(), list.display().to_string());
    let ours = r#"{"cniVersion":"1.0.0","name":"atoll","plugins":[{"type":"atoll","etcd":{"endpoints":["http://127.0.0.1:1"]},
        "controller":{"endpoints":["http://127.0.0.1:1/api"]}}]}"#;
    let other = r#"{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"bridge"}]}"#;
    let doctor = |more: &[&str]| {
        let all = [&["doctor", "-o", "json", "--conf-dir", &conf_dir, "--bin-dir", "/nowhere"], more].concat();
        let begun = Instant::now();
        let (code, report) = run_without_node(&all)?;
        ensure!(code == 7 && begun.elapsed() < Duration::from_mins(1), "{code}: {report}");
        Ok(report)
    };
    // The file, and the expected finding: its level and a part of its text.
    let bom = format!("\u{feff}{ours}");
    let cases: [(&str, Files<'_>, &str, &str); 8] = [
        ("nothing", &[], "warn", "has a plugin of type"),
        ("a byte order mark", &[("10-atoll.conflist", &bom)], "fail", "byte order mark"),
        ("comments", &[("10-atoll.conflist", "{\n  // ours\n}")], "fail", "JSON has no comments"),
        ("another's first", &[("05-x.conflist", other), ("10-atoll.conflist", ours)], "fail", "takes"),
        ("a broken one first", &[("05-x.conflist", "{"), ("10-atoll.conflist", ours)], "fail", "cannot be used"),
        ("two of ours", &[("10-atoll.conflist", ours), ("20-atoll.conflist", ours)], "warn", "20-atoll.conflist"),
        ("an empty one", &[("10-atoll.conflist", "")], "fail", "not JSON"),
        ("a huge one", &[("10-atoll.conflist", &" ".repeat(2 << 20))], "fail", "larger than"),
    ];
    for (what, files, level, part) in cases {
        for (name, text) in files {
            fs::write(conf.join(name), text)?;
        }
        let findings = found(&doctor(&["--sandboxes", &list])?, "conflist")?;
        ensure!(findings.iter().any(|(at, text)| at == level && text.contains(part)), "{what}: {findings:?}");
        for (name, _) in files {
            fs::remove_file(conf.join(name))?;
        }
    }
    // A pipe does not block the command, and a directory of that name is no configuration.
    run("mkfifo", &[&conf.join("10-atoll.conflist").display().to_string()])?;
    fs::create_dir(conf.join("05-x.conflist"))?;
    let findings = found(&doctor(&["--sandboxes", &list])?, "conflist")?;
    ensure!(findings.iter().any(|(at, text)| at == "fail" && text.contains("no regular file")), "{findings:?}");
    let install = ["install", "--dry-run", "--bin-dir", "/nowhere", "--conf-dir", &conf_dir];
    let plugin = programs::path("atoll")?.display().to_string();
    let (code, printed) = run_without_node(&[install.as_slice(), &["--plugin", &plugin]].concat())?;
    ensure!(code == 6 && printed.contains("no regular file"), "{code}: {printed}");
    fs::remove_file(conf.join("10-atoll.conflist"))?;

    // No runtime at the named socket; an invalid list.
    let report = doctor(&["--runtime-endpoint", &socket])?;
    let findings = found(&report, "runtime")?;
    ensure!(findings.iter().any(|(at, text)| at == "warn" && text.contains("does not answer at")), "{findings:?}");
    let list = "/nowhere/list";
    let report = doctor(&["--sandboxes", list])?;
    ensure!(found(&report, "runtime")?.is_empty(), "no runtime was to be asked: {report}");

    // The same for commands that need a configuration.
    fs::write(conf.join("10-atoll.conflist"), ours)?;
    let config = conf.join("10-atoll.conflist").display().to_string();
    let plugin_dir = Path::new(&plugin).parent().context("a directory")?.display().to_string();
    for (arguments, code, part) in [
        (vec!["gc", "--config", "/nowhere/x.conflist"], 3, "/nowhere/x.conflist"),
        (vec!["gc", "--config", &config, "--bin-dir", "/nowhere"], 3, "the plugin is in none of /nowhere"),
        (vec!["gc", "--config", &config, "--bin-dir", &plugin_dir, "--runtime-endpoint", &socket], 5, "not available"),
        (vec!["attachment", "show", "red/x", "--config", "/nowhere/x.conflist"], 3, "/nowhere/x.conflist"),
        (
            vec!["install", "--plugin", "/nowhere/atoll", "--conf-dir", &conf_dir, "--bin-dir", "/nowhere"],
            3,
            "/nowhere/atoll",
        ),
    ] {
        let (found, printed) = run_without_node(&arguments)?;
        ensure!(found == code && printed.contains(part), "{arguments:?}: {found}: {printed}");
    }
    scratch.passed();
    Ok(())
}
