//! The JSON in `docs/atollctl.md` has the format that the commands print: every printed key is documented, and every
//! documented key is printed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use atoll_testkit::lab::ctl::Ctl;
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::{http, servers};
use serde_json::{Value, json};

/// The blocks of JSON below the heading of a command.
fn documented(command: &str) -> Result<Vec<Value>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?.join("docs/atollctl.md");
    let text = fs::read_to_string(page)?;
    let heading = format!("\n### `atollctl {command}`\n");
    let (_, below) = text.split_once(&heading).with_context(|| format!("docs/atollctl.md has no heading{heading}"))?;
    let section = below.split("\n## ").next().and_then(|text| text.split("\n### ").next()).unwrap_or_default();
    let blocks = section.split("```json\n").skip(1).filter_map(|block| block.split("```").next());
    blocks.map(|block| serde_json::from_str(block).with_context(|| format!("{command}: {block}"))).collect()
}

/// The paths of all keys; `empty` gets the paths of empty lists and of nulls, below which any key is accepted.
fn paths(value: &Value, path: &str, all: &mut BTreeSet<String>, empty: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let path = format!("{path}.{key}");
                all.insert(path.clone());
                paths(value, &path, all, empty);
            }
        }
        Value::Array(list) if list.is_empty() => drop(empty.insert(format!("{path}[]"))),
        Value::Array(list) => list.iter().for_each(|value| paths(value, &format!("{path}[]"), all, empty)),
        Value::Null => drop(empty.insert(path.to_owned())),
        _ => {}
    }
}

/// The differences between a documented and a printed document.
fn differences(documented: &Value, printed: &Value) -> Vec<String> {
    let of = |value: &Value| {
        let (mut all, mut empty) = (BTreeSet::new(), BTreeSet::new());
        paths(value, "", &mut all, &mut empty);
        (all, empty)
    };
    let ((documented, elided), (printed, empty)) = (of(documented), of(printed));
    let below = |path: &String, holes: &BTreeSet<String>| holes.iter().any(|hole| path.starts_with(hole.as_str()));
    let missing = documented.difference(&printed).filter(|path| !below(path, &empty));
    let unknown = printed.difference(&documented).filter(|path| !below(path, &elided));
    missing
        .map(|path| format!("{path} is documented and not printed"))
        .chain(unknown.map(|path| format!("{path} is printed and not documented")))
        .collect()
}

#[test]
fn the_documented_shapes_are_what_programs_get() -> Result<()> {
    let node =
        LabNode::start_without_dataplane(json!({ "cluster": { "subnetPrefix": 28, "podCidr": "10.128.0.0/16" } }))?;
    let cni = node.cni("1.0.0")?;
    let (one, gone) = (LabPod::new("red", "web-0")?, LabPod::new("blue", "gone")?);
    let taken = cni.add(&one)?.address.ip().to_string();
    let free = ["10.128.0.6", "10.128.0.7"].into_iter().find(|address| *address != taken).context("another address")?;
    let ctl = Ctl::new(&node, json!({ "timeoutSeconds": 1 }))?;
    let (conf, bin) = (ctl.conf_dir.display().to_string(), ctl.bin_dir.display().to_string());
    let plugin = ctl.bin_dir.join("atoll").display().to_string();
    let containers = node.scratch().path().join("containers");
    fs::write(&containers, &one.container)?;
    let containers = containers.display().to_string();
    cni.add(&gone)?;
    std::thread::sleep(std::time::Duration::from_secs(2));

    let target = ["--bin-dir", &bin, "--conf-dir", &conf];
    let install = [["install", "--dry-run", "--plugin", &plugin].as_slice(), &target].concat();
    let uninstall = [["uninstall", "--dry-run", "--force"].as_slice(), &target].concat();
    let set = [
        ["tenant", "set", "red", "--max-subnets", "4", "--nameserver", "10.128.0.9"].as_slice(),
        &["--add-route", "10.9.0.0/16=reject"],
    ]
    .concat();
    let cases: Vec<(&str, usize, Vec<&str>)> = vec![
        ("init", 0, vec!["init", "--dry-run"]),
        ("init", 1, vec!["init"]),
        ("tenant set", 0, [set.as_slice(), &["--dry-run"]].concat()),
        ("tenant set", 1, set.clone()),
        ("topology", 0, vec!["topology"]),
        ("tenant list", 0, vec!["tenant", "list"]),
        ("tenant show", 0, vec!["tenant", "show", "red"]),
        ("tenant create", 0, vec!["tenant", "create", "shop", "--dry-run"]),
        ("tenant create", 1, vec!["tenant", "create", "shop"]),
        ("tenant join", 0, vec!["tenant", "join", "shop", "front", "--dry-run"]),
        ("tenant join", 1, vec!["tenant", "join", "shop", "front"]),
        ("tenant leave", 0, vec!["tenant", "leave", "shop", "front", "--dry-run"]),
        ("tenant leave", 1, vec!["tenant", "leave", "shop", "front"]),
        ("tenant plan", 0, vec!["tenant", "plan", "red"]),
        ("tenant repair", 0, vec!["tenant", "repair", "red"]),
        ("tenant prune", 0, vec!["tenant", "prune", "--dry-run"]),
        ("tenant delete", 0, vec!["tenant", "delete", "red", "--dry-run"]),
        ("subnet add", 0, vec!["subnet", "add", "shop", "--dry-run"]),
        ("subnet add", 1, vec!["subnet", "add", "shop"]),
        ("subnet delete", 0, vec!["subnet", "delete", "shop", "2", "--dry-run"]),
        ("subnet delete", 1, vec!["subnet", "delete", "shop", "2"]),
        ("tenant delete", 1, vec!["tenant", "delete", "shop"]),
        ("subnet list", 0, vec!["subnet", "list"]),
        ("attachment list", 0, vec!["attachment", "list"]),
        ("attachment show", 0, vec!["attachment", "show", "red/web-0"]),
        ("attachment evict-node", 0, vec!["attachment", "evict-node", "node-1", "--dry-run"]),
        ("address reserve", 0, vec!["address", "reserve", free, "--for", "red/db-0", "--dry-run"]),
        ("address reserve", 1, vec!["address", "reserve", free, "--for", "red/db-0"]),
        ("address list", 0, vec!["address", "list"]),
        ("address release", 0, vec!["address", "release", "--for", "red/db-0", "--dry-run"]),
        ("address release", 1, vec!["address", "release", "--for", "red/db-0"]),
        ("address check", 0, vec!["address", "check", "--pause", "1"]),
        ("doctor", 0, vec!["doctor", "--conf-dir", &conf, "--sandboxes", &containers]),
        ("gc", 0, vec!["gc", "--sandboxes", &containers]),
        ("install", 0, install),
        ("uninstall", 0, uninstall),
    ];
    let mut wrong = Vec::new();
    for (command, number, arguments) in cases {
        if command == "tenant plan" {
            // Gives `plan` and `repair` something to do.
            disturb(&node)?;
        }
        let printed = ctl.json(&arguments)?;
        let blocks = documented(command).map(|blocks| blocks.get(number).cloned());
        match blocks {
            Ok(Some(block)) => {
                let found = differences(&block, &printed);
                wrong.extend(found.into_iter().map(|text| format!("atollctl {command}: {text}")));
            }
            _ => wrong.push(format!("atollctl {command}: not documented: {printed:#}")),
        }
    }
    cni.del(&one)?;
    cni.del(&gone)?;
    drop((ctl, cni));
    if !wrong.is_empty() {
        bail!("docs/atollctl.md is not true:\n{}", wrong.join("\n"));
    }
    node.finish()
}

/// Changes the tenant's bridge in the controller.
fn disturb(node: &LabNode) -> Result<()> {
    let get = |path: &str| http::request("GET", servers::CONTROLLER, path, &[("Accept", "application/json")], "");
    let bridges = node.netns().within(|| get("/midonet-api/bridges?tenant_id=red"))?;
    let mut bridge = serde_json::from_str::<Value>(&bridges)?[0].clone();
    bridge["adminStateUp"] = false.into();
    let path = format!("/midonet-api/bridges/{}", bridge["id"].as_str().context("the tenant's bridge")?);
    let kind = ("Content-Type", "application/vnd.org.midonet.Bridge-v4+json");
    node.netns().within(|| http::request("PUT", servers::CONTROLLER, &path, &[kind], &bridge.to_string())).map(drop)
}
