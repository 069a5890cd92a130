//! Two controllers would revert each other's changes: the second is refused with a reason; a killed one does not
//! prevent a restart.

use std::path::Path;
use std::process::{Command, Output};

use atoll_testkit::program::command;
use serde_json::{Value, json};

use crate::http_life::{PROGRAM, Running};
use crate::plane::{Netns, ROUTER, Traces, network};

/// A program that ends by itself; what it printed to standard error.
fn refused(mut command: Command, parts: &[&str]) {
    let Output { status, stderr, .. } = command.output().expect("it runs");
    let stderr = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(parts.iter().all(|part| stderr.contains(part)), "{parts:?} in {stderr}");
    assert!(!stderr.contains("listening"), "{stderr}");
}

fn second(netns: Option<&Netns>, args: &[&str]) -> Command {
    let mut command = command("timeout");
    command.arg("20");
    if let Some(netns) = netns {
        command.args(["nsenter", &format!("--net={}", netns.path().display())]);
    }
    command.arg(PROGRAM).args(args);
    command
}

fn routers(server: &Running) -> usize {
    server.dump()["routers"].as_object().map_or(0, serde_json::Map::len)
}

#[test]
fn a_state_file_has_one_writer() {
    let directory = tempfile::tempdir().expect("a directory");
    let (file, lock) = (directory.path().join("state.json"), directory.path().join("state.json.lock"));
    let path = file.to_str().expect("a path");
    let args = ["--listen", "127.0.0.1:0", "--state", path];
    let create = |server: &Running, name: &str| {
        let body = json!({ "name": name, "tenantId": "t" });
        assert_eq!(server.send("POST", "/midonet-api/routers", "application/json", &body).0, 201);
    };
    let first = Running::start(&args[2..]);
    create(&first, "one");
    let holder = format!("process {}", first.id());
    let words = [path, holder.as_str(), "in use", "name another file"];
    refused(second(None, &args), &words);
    // Also by another path of the same file.
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(directory.path(), &link).expect("linked");
    let other = link.join("state.json");
    refused(second(None, &["--listen", "127.0.0.1:0", "--state", other.to_str().expect("a path")]), &words[1..]);
    create(&first, "two");
    assert_eq!(routers(&first), 3, "the first goes on");

    first.end("-KILL");
    assert!(lock.exists(), "a killed process removes nothing");
    let again = Running::start(&args[2..]);
    assert_eq!(routers(&again), 3);
    create(&again, "three");
    assert!(again.end("-TERM").success());
    assert!(!lock.exists(), "an orderly end does");
    assert_eq!(routers(&Running::start(&args[2..])), 4);
}

#[test]
fn a_run_directory_has_one_data_plane() {
    let (netns, directory) = (Netns::new(), tempfile::tempdir().expect("a directory"));
    let traces = Traces(directory.path().to_owned());
    let run_dir = directory.path().to_str().expect("a path");
    let args = ["--listen", "127.0.0.1:0", "--dataplane", "--run-dir", run_dir];
    let first = Running::start_in(Some(&netns.path()), &args[2..]);
    network(&first);
    let pinned = directory.path().join("dataplane").join(ROUTER.to_string());
    assert!(pinned.exists());
    let holder = format!("process {}", first.id());
    let words = ["a data plane runs for", run_dir, holder.as_str(), "a run directory of its own"];
    refused(second(Some(&netns), &args), &words);
    let purge = ["dataplane", "purge", "--run-dir", run_dir];
    refused(second(None, &purge), &words);
    assert!(pinned.exists(), "nothing was touched");
    let (_, _, report) = first.send("GET", "/mock/dataplane", "*/*", &Value::Null);
    assert_eq!(report["errors"], json!({}), "{report}");
    // Without a data plane the directory has no owner.
    assert!(Running::start(&["--run-dir", run_dir]).end("-TERM").success());

    first.end("-KILL");
    let again = Running::start_in(Some(&netns.path()), &args[2..]);
    again.end("-KILL");
    assert!(second(Some(&netns), &purge).status().expect("it runs").success(), "no other process runs");
    assert!(is_empty(directory.path()), "every trace is gone");
    // There is nothing to remove, and nothing is created.
    let nowhere = directory.path().join("no/where");
    let purge = ["dataplane", "purge", "--run-dir", nowhere.to_str().expect("a path")];
    assert!(second(Some(&netns), &purge).status().expect("it runs").success());
    assert!(is_empty(directory.path()));
    drop(traces);
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).expect("it is there").next().is_none()
}
