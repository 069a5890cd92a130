//! A runtime that dies while it creates a pod.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::reach::ping;
use atoll_testkit::lab::{programs, wait};
use serde_json::json;

use super::containerd::Containerd;
use super::networks::{self, Networks};

/// Wraps the plugin and delays every ADD at one point while the file of that point exists, for at most half a minute.
const GATE: &str = r#"#!/bin/sh
hold() {
    [ "$CNI_COMMAND" = ADD ] && [ -e "@/$1" ] || return 0
    : >"@/held"
    for _ in $(seq 300); do [ -e "@/$1" ] || return 0; sleep 0.1; done
}
# All of it, before the runtime dies.
input=$(cat)
hold before
printf %s "$input" | "@/atoll"
code=$?
hold after
[ "$CNI_COMMAND" = ADD ] && : >"@/passed"
exit $code
"#;

struct Gate {
    directory: PathBuf,
}

impl Gate {
    fn new(node: &LabNode) -> Result<Self> {
        let directory = node.scratch().dir("gate")?;
        std::os::unix::fs::symlink(programs::path("atoll")?, directory.join("atoll"))?;
        let this = Self { directory };
        fs::write(this.program(), GATE.replace('@', &this.directory.display().to_string()))?;
        fs::set_permissions(this.program(), fs::Permissions::from_mode(0o755))?;
        Ok(this)
    }

    /// The program that the runtime starts as the plugin.
    fn program(&self) -> PathBuf {
        self.directory.join("gate")
    }

    fn close(&self, point: &str) -> Result<()> {
        fs::write(self.directory.join(point), "").context("close the gate")
    }

    fn open(&self, point: &str) -> Result<()> {
        fs::remove_file(self.directory.join(point)).context("open the gate")
    }

    /// Waits until an ADD is delayed there.
    fn wait(&self) -> Result<()> {
        let held = self.directory.join("held");
        wait::until("an ADD is held", Duration::from_secs(30), || {
            ensure!(held.exists(), "none");
            Ok(())
        })?;
        fs::remove_file(held).context("the next time")
    }

    /// Waits until no ADD is running.
    fn wait_until_add_ends(&self) -> Result<()> {
        wait::until("the ADD ends", Duration::from_secs(30), || {
            ensure!(self.directory.join("passed").exists(), "it runs");
            Ok(())
        })?;
        fs::remove_file(self.directory.join("passed")).context("the next time")
    }
}

/// The runtime dies when the plugin starts, or after the plugin has finished.
#[test]
fn a_runtime_dies_while_it_makes_a_pod() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let gate = Gate::new(&node)?;
    let mut networks = Networks::new(node.scratch(), &gate.program())?;
    networks.add("atoll", &[networks::plugin(&node, json!({}))?])?;
    let mut containerd = Containerd::start(&node, &networks)?;
    let survivor = containerd.client()?.run(&containerd.pod("red", "survivor"))?;
    gate.wait_until_add_ends()?;
    // Where the runtime dies, and whether it cleans up before the plugin continues.
    for (point, cleaned) in [("before", false), ("before", true), ("after", false)] {
        gate.close(point)?;
        let (client, pod) = (containerd.client()?, containerd.pod("red", point));
        std::thread::scope(|scope| {
            // It fails: its runtime dies.
            scope.spawn(move || drop(client.create(&pod)));
            gate.wait()?;
            containerd.kill()
        })?;
        containerd.begin()?;
        let client = containerd.client()?;
        let end = || {
            let all = client.list()?;
            let dead: Vec<_> = all.iter().filter(|id| **id != survivor.id).collect();
            ensure!(dead.len() == 1, "{point}: the runtime remembers what it began: {all:?}");
            client.end(dead[0])
        };
        if cleaned {
            end().with_context(|| format!("{point}, at once"))?;
            gate.open(point)?;
            gate.wait_until_add_ends()?;
        } else {
            gate.open(point)?;
            gate.wait_until_add_ends()?;
            assert_eq!(node.keys("claims/")?.len(), 2, "{point}: attached without a caller");
            end().with_context(|| format!("{point}, afterwards"))?;
        }
        let left = node.keys("claims/")?;
        ensure!(left.len() == 1, "{point}, cleaned {cleaned}: {left:?}");
    }
    let client = containerd.client()?;
    let peer = client.run(&containerd.pod("red", "peer"))?;
    ensure!(ping(&peer.netns(), survivor.ip.parse::<std::net::IpAddr>()?)?, "the survivor was not touched");
    client.end(&peer.id)?;
    client.end(&survivor.id)?;
    containerd.finish()?;
    node.finish()
}
