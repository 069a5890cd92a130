//! Checks that a node has no remains after its last pod was deleted. Tenants remain; an operator deletes them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::lab::netns::LabNetns;
use crate::lab::node::LabNode;
use crate::lab::pod::LabPod;
use crate::lab::wait;

/// Remains of pods in etcd, in the controller, in the kernel and on disk, one line each; empty if there are none.
pub fn of_pods(node: &LabNode) -> Result<Vec<String>> {
    let mut left = records(|below| node.keys(below))?;
    let dump = node.controller_get("/mock/dump")?;
    for (id, port) in dump["ports"].as_object().context("the controller's dump has no ports")? {
        // A port of a pod on a bridge; the uplink of the provider router belongs to no pod.
        let carries_a_pod = !port["binding"].is_null() || !port["vif"].is_null();
        if carries_a_pod && port["kind"]["bridge"].is_object() {
            left.push(format!("controller: port {id}: {port}"));
        }
    }
    for (id, bridge) in dump["bridges"].as_object().context("the controller's dump has no bridges")? {
        for table in ["arp", "macs"] {
            let is_empty = match &bridge[table] {
                Value::Object(entries) => entries.is_empty(),
                Value::Array(entries) => entries.is_empty(),
                other => anyhow::bail!("the dump's {table} of bridge {id} is {other}"),
            };
            if !is_empty {
                left.push(format!("controller: {table} of bridge {id}: {}", bridge[table]));
            }
        }
    }
    for netns in pinned(&node.run_dir().join("dataplane"))? {
        left.extend(host_ends(&netns)?);
    }
    left.extend(of_machine(node.netns(), &node.state_dir())?);
    Ok(left)
}

/// Remains of pods in etcd. `keys` reads those below a key.
pub(crate) fn records(keys: impl Fn(&str) -> Result<Vec<(String, Value)>>) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for below in ["claims/", "tombstones/", "addresses/"] {
        let found = keys(below)?.into_iter();
        // An address in cool-down has a lease and no owner.
        left.extend(
            found
                .filter(|(_, value)| value["state"] != "cool-down")
                .map(|(key, value)| format!("etcd: {key}: {value}")),
        );
    }
    Ok(left)
}

/// Remains of pods in a machine's own namespace, and in its files.
pub(crate) fn of_machine(netns: &LabNetns, state_dir: &Path) -> Result<Vec<String>> {
    let mut left = host_ends(netns)?;
    left.extend(files(&state_dir.join("tombstones"))?.into_iter().map(|file| format!("file: {file}")));
    Ok(left)
}

fn host_ends(netns: &LabNetns) -> Result<Vec<String>> {
    let links = LabNode::links(netns)?.into_iter().filter(|name| is_host_end(name));
    Ok(links.map(|name| format!("{}: link {name}", netns.path().display())).collect())
}

/// Returns an error with the list if pods left anything.
pub fn assert_none(node: &LabNode) -> Result<()> {
    let left = of_pods(node)?;
    ensure!(left.is_empty(), "left behind:\n  {}\nexamine: {}", left.join("\n  "), node.inspection_commands());
    Ok(())
}

impl LabNode {
    /// Ends a scenario with pending cleanup: later calls complete it, a few items each. DEL of an unknown container is the
    /// cheapest call.
    pub fn finish_after_cleanup(self) -> Result<()> {
        wait::until("later calls complete the pending cleanup", Duration::from_mins(1), || {
            self.cni("1.0.0")?.del(&LabPod::new("cleanup", "missing")?)?;
            assert_none(&self)
        })?;
        self.finish()
    }

    /// The end of every scenario: its pods left nothing, and its files are not needed any more.
    pub fn finish(self) -> Result<()> {
        assert_none(&self)?;
        self.scratch().passed();
        Ok(())
    }
}

/// The host end of a pod's veth: `at` and 12 hexadecimal digits.
fn is_host_end(name: &str) -> bool {
    name.len() == 14 && name.strip_prefix("at").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn files(directory: &Path) -> Result<Vec<String>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path().display().to_string())).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("read {}", directory.display())),
    }
}

/// The network namespaces below a directory: those of the data plane.
fn pinned(directory: &Path) -> Result<Vec<LabNetns>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("read {}", directory.display())),
    };
    entries.map(|entry| Ok(LabNetns::at(entry?.path()))).collect()
}
