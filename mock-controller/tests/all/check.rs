//! `dataplane check`: the result of a topology, from a state file and from a dump, as a table and as JSON.

use std::path::Path;
use std::process::{Command, Output};

use atoll_mock_controller::{Dialect, StateFile};
use serde_json::{Value, json};

use crate::fixture::{Fixture, id};

fn check(file: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mock-controller"))
        .args(["dataplane", "check", "--topology"])
        .arg(file)
        .args(more)
        .output()
        .expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// A tenant with a pod, and a file with its dump.
fn fixture() -> (Fixture, tempfile::TempDir) {
    let fixture = Fixture::new(Dialect::V5);
    let tenant = fixture.tenant(0x10, "acme");
    let pod = fixture.bridge_port(0x40, tenant.bridge);
    assert_eq!(fixture.bind(fixture.host(), pod, "veth-web").status, 201);
    (fixture, tempfile::tempdir().expect("a directory"))
}

fn dump(fixture: &Fixture, directory: &tempfile::TempDir) -> std::path::PathBuf {
    let path = directory.path().join("dump.json");
    std::fs::write(&path, serde_json::to_vec(&fixture.mock.dump()).expect("JSON")).expect("written");
    path
}

#[test]
fn the_table_shows_namespaces_filters_and_that_everything_can_be_expressed() {
    let (fixture, directory) = fixture();
    let shown = check(&dump(&fixture, &directory), &[]);
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    insta::assert_snapshot!(text(&shown.stdout));
    // A state file of either dialect has the same result.
    let path = directory.path().join("state.json");
    drop(StateFile::create(&path, Dialect::V5, &fixture.mock.dump()).expect("written"));
    assert_eq!(text(&check(&path, &[]).stdout), text(&shown.stdout));
}

#[test]
fn objects_that_cannot_be_expressed_are_named_and_change_the_exit_code() {
    let (fixture, directory) = fixture();
    let chain = fixture.chain(0x50, "acme");
    let rule = |number: u128, kind: &str| {
        let body = json!({ "id": id(number), "type": kind, "traversedDevice": id(1) });
        assert_eq!(fixture.post(&format!("/chains/{chain}/rules"), &body).status, 201);
    };
    let mut port = fixture.port(id(0x40));
    port["inboundFilterId"] = json!(chain);
    assert_eq!(fixture.put(&format!("/ports/{}", id(0x40)), &port).status, 204);
    rule(0x51, "accept");
    let left = check(&dump(&fixture, &directory), &[]);
    assert_eq!(left.status.code(), Some(0), "what only permits closes nothing");
    let printed = text(&left.stdout);
    insta::assert_snapshot!(&printed[printed.find("cannot be expressed").expect("it says so")..]);
    rule(0x52, "drop");
    let closed = check(&dump(&fixture, &directory), &["--json"]);
    assert_eq!(closed.status.code(), Some(3));
    let value: Value = serde_json::from_slice(&closed.stdout).expect("JSON");
    let fields: Vec<_> = value["unsupported"].as_array().expect("a list").iter().map(|one| &one["field"]).collect();
    assert_eq!((&value["closed"], fields.len()), (&json!(2), 3), "the rule and the port: {fields:?}");
    let ports: Vec<_> = value["ports"].as_object().expect("a map").keys().collect();
    assert_eq!(ports, [&id(0x1b).to_string()], "the other port is closed");
    assert!(value["plan"]["namespaces"].as_object().is_some_and(|namespaces| namespaces.len() == 2));
}

#[test]
fn a_file_that_is_none_or_has_several_hosts_is_an_error() {
    let (fixture, directory) = fixture();
    let path = directory.path().join("file");
    for content in ["", "{}", "[]", "text", "{\"routers\": 7}"] {
        std::fs::write(&path, content).expect("written");
        let refused = check(&path, &[]);
        assert_eq!(refused.status.code(), Some(1), "{content:?}");
        assert!(text(&refused.stderr).contains(&path.display().to_string()), "{}", text(&refused.stderr));
    }
    assert_eq!(check(&directory.path().join("none"), &[]).status.code(), Some(1));
    fixture.admin(http::Method::POST, "/hosts", &json!({ "id": id(0x99), "name": "h", "address": "10.0.0.9" }));
    let path = dump(&fixture, &directory);
    let refused = check(&path, &[]);
    assert!(refused.status.code() == Some(1) && text(&refused.stderr).contains("--host-id"), "{refused:?}");
    let host = fixture.host().to_string();
    assert_eq!(check(&path, &["--host-id", &host]).status.code(), Some(0));
}
