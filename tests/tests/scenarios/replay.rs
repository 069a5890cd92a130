//! Replays recorded and reconstructed calls of runtimes against a real node: every call succeeds, and nothing is left.
//! The files are in `cni-plugin/tests/recorded` and `cni-plugin/tests/reconstructed`; each directory has a description
//! of their origin.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::cni::{CniAnswer, CniCall};
use atoll_testkit::lab::leftovers;
use atoll_testkit::lab::netns::LabNetns;
use atoll_testkit::lab::node::{LabNode, merge};
use atoll_testkit::lab::pod::LabPod;
use serde_json::{Value, json};

fn directories(kind: &str) -> Result<Vec<PathBuf>> {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cni-plugin/tests").join(kind);
    let entries = fs::read_dir(&base).with_context(|| format!("read {}", base.display()))?;
    let mut found: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    found.retain(|path| path.is_dir());
    found.sort();
    ensure!(!found.is_empty(), "{} is empty", base.display());
    Ok(found)
}

/// The calls of a runtime by scenario, in their order: `<what>-<number>-<verb>.json`.
fn scenarios(directory: &Path) -> Result<BTreeMap<String, BTreeMap<u32, Value>>> {
    let mut scenarios: BTreeMap<String, BTreeMap<u32, Value>> = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"))
        else {
            continue;
        };
        let mut parts = name.rsplitn(3, '-');
        let (_verb, number, what) = (parts.next(), parts.next().context("a number")?, parts.next().context("a name")?);
        let text = fs::read_to_string(&path)?;
        let call = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        scenarios.entry(what.to_owned()).or_default().insert(number.parse()?, call);
    }
    Ok(scenarios)
}

/// One run of a scenario: the namespaces in place of the recorded ones, and the results so far.
struct Replay<'a> {
    node: &'a LabNode,
    pods: BTreeMap<String, LabPod>,
    /// By network, container and interface.
    results: BTreeMap<String, Value>,
}

impl Replay<'_> {
    /// A recorded call, with this node's servers and directories and an existing namespace.
    fn call(&mut self, recorded: &Value) -> Result<(String, CniAnswer)> {
        let env = recorded["env"].as_object().context("env")?;
        let text = |name: &str| env.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let command = text("CNI_COMMAND");
        let cni = self.node.cni("1.0.0")?;
        let path = text("CNI_NETNS");
        if !path.is_empty() && command != "VERSION" && !self.pods.contains_key(&path) {
            self.pods.insert(path.clone(), LabPod::inside("unused", "unused", LabNetns::new()?));
        }
        let stand_in = LabPod::inside("unused", "unused", LabNetns::at("/nowhere"));
        let mut call: CniCall<'_> = cni.call(&command, self.pods.get(&path).unwrap_or(&stand_in));
        let netns = call.env.iter().find(|(name, _)| *name == "CNI_NETNS").map(|(_, value)| value.clone());
        call.env.clear();
        for name in ["CNI_ARGS", "CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_PATH", "TRACEPARENT"]
        {
            let Some(value) = env.get(name).and_then(Value::as_str) else { continue };
            let is_real = name == "CNI_NETNS" && !path.is_empty() && command != "VERSION";
            let value = if is_real { netns.clone().unwrap_or_default() } else { value.to_owned() };
            call = call.with(name, value);
        }
        if recorded["stdin"].is_object() {
            let mut stdin = recorded["stdin"].clone();
            let mut ours = self.node.config().clone();
            for key in ["name", "type", "tenant"] {
                ours.as_object_mut().context("an object")?.remove(key);
            }
            merge(&mut stdin, &ours);
            // The recordings were made without a tenant; the first subnet of a real one has the number 1.
            let subnet = "/runtimeConfig/io.kubernetes.cri.pod-annotations/atoll.dev~1subnet";
            if let Some(subnet) = stdin.pointer_mut(subnet).filter(|subnet| **subnet == "0") {
                *subnet = "1".into();
            }
            let key = format!("{} {} {}", stdin["name"], text("CNI_CONTAINERID"), text("CNI_IFNAME"));
            if command == "CHECK" {
                stdin["prevResult"] = self.results.get(&key).context("an ADD before this CHECK")?.clone();
            }
            // Requests in these recordings for capabilities of other plugins are refused, and then removed.
            let asked = stdin["runtimeConfig"].as_object();
            let unserved =
                ["portMappings", "bandwidth"].map(|key| (key, asked.is_some_and(|asked| asked.contains_key(key))));
            if let Some((key, _)) = unserved.iter().find(|(_, is_asked)| *is_asked).filter(|_| command == "ADD") {
                let refused = call.clone().reading(stdin.to_string()).run()?;
                ensure!(
                    refused.error_code()? == 2 && refused.stdout.contains("runtimeConfig."),
                    "{key}: {}",
                    refused.stdout
                );
                if let Some(asked) = stdin["runtimeConfig"].as_object_mut() {
                    asked.retain(|key, _| !["portMappings", "bandwidth"].contains(&key.as_str()));
                }
            }
            call = call.reading(stdin.to_string());
            let answer = call.run()?;
            if command == "ADD" {
                self.results.insert(key, answer.result()?);
            }
            return Ok((command, answer));
        }
        let answer = call.reading("").run()?;
        Ok((command, answer))
    }
}

#[test]
fn every_call_of_every_runtime_is_served() -> Result<()> {
    // Recordings and reconstructions set `tenant.default` for runtimes that pass no namespace.
    // The subnet is so large that a requested address is not assigned to another pod before.
    let node =
        LabNode::start_without_dataplane(json!({ "cluster": { "podCidr": "10.128.0.0/9", "subnetPrefix": 12 } }))?;
    let mut seen = BTreeSet::new();
    for directory in directories("recorded")?.into_iter().chain(directories("reconstructed")?) {
        let runtime = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for (what, calls) in scenarios(&directory)? {
            let mut replay = Replay { node: &node, pods: BTreeMap::new(), results: BTreeMap::new() };
            for (number, recorded) in &calls {
                let when = format!("{runtime}: {what}-{number}");
                let (command, answer) = replay.call(recorded).with_context(|| when.clone())?;
                ensure!(answer.code == Some(0), "{when}: {}", answer.stdout);
                ensure!(answer.stderr.is_empty(), "{when}: {}", answer.stderr);
                if !["ADD", "VERSION"].contains(&command.as_str()) {
                    ensure!(answer.stdout.is_empty(), "{when}: {}", answer.stdout);
                }
                seen.insert(command);
            }
            let requested = replay.results.values().any(|result| {
                let ips = result["ips"].as_array().into_iter().flatten();
                ips.filter_map(|ip| ip["address"].as_str()).any(|address| address.starts_with("10.128.0.9/"))
            });
            ensure!(
                requested == ["requests", "addresses"].contains(&what.as_str()),
                "{runtime}: {what}: {:?}",
                replay.results
            );
            leftovers::assert_none(&node).with_context(|| format!("{runtime}: {what}"))?;
        }
    }
    let all = ["ADD", "CHECK", "DEL", "GC", "STATUS", "VERSION"].map(str::to_owned);
    assert_eq!(seen, BTreeSet::from(all), "every verb is among them");
    node.finish()
}
