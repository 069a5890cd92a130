//! The quickstart works, works a second time, and leaves nothing behind, also if it is killed half way.
//!
//! A binary of its own: a test sets the umask of its process.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::netns::output;
use atoll_testkit::lab::programs;
use nix::sys::stat::{Mode, umask};
use serde_json::Value;

/// A quickstart with a name of its own.
struct Quickstart {
    name: String,
}

impl Quickstart {
    fn new(kind: &str) -> Self {
        Self { name: format!("t{}{kind}", std::process::id()) }
    }

    fn script(&self, args: &[&str]) -> Command {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let mut command = Command::new(root.join("quickstart"));
        // Cargo's variables for a test must not reach the inner cargo: it would rebuild everything.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_")) {
            if !matches!(name.as_str(), "CARGO_HOME" | "CARGO_TARGET_DIR") {
                command.env_remove(name);
            }
        }
        command.args(args).args(["--name", &self.name]).stdin(Stdio::null());
        command
    }

    /// `up`, and its facts.
    fn up(&self, engine: &str) -> Result<Value> {
        // The modes must not depend on the umask.
        umask(Mode::empty());
        let text = output(&mut self.script(&["up", "--engine", engine, "--json"]))?;
        let facts: Value = serde_json::from_str(&text).context("standard output is the facts and nothing else")?;
        assert_eq!(facts["ok"], true, "{facts}");
        assert_eq!(facts["pods"].as_array().map(Vec::len), Some(6));
        let cells = facts["reach"].as_array().context("a list")?;
        // Each of six pods asks five others, the gateway and the external network.
        assert_eq!(cells.len(), 6 * 7);
        let tenant = |name: &Value| name.as_str().and_then(|name| name.split('-').next()).map(str::to_owned);
        let crossed = cells.iter().filter(|cell| !cell["tcp"].is_null() && cell["tcp"] != "outside");
        for cell in crossed {
            assert_eq!(tenant(&cell["tcp"]), tenant(&cell["from"]), "a pod of the other tenant answered: {cell}");
        }
        assert!(facts["addresses_in_common"].as_array().is_some_and(|list| !list.is_empty()), "nothing was proven");
        Ok(facts)
    }

    /// `down`, of something that runs and of nothing.
    fn down(&self) -> Result<()> {
        ensure!(!self.traces()?.is_empty(), "it runs, so there must be something to find");
        for directory in self.directories() {
            let mode = fs::metadata(&directory)?.permissions().mode() & 0o7777;
            ensure!(mode == 0o700, "{directory} has mode {mode:04o}: see the table in docs/operations.md");
        }
        output(&mut self.script(&["down"]))?;
        assert_eq!(self.traces()?, Vec::<String>::new());
        output(&mut self.script(&["down"])).context("down, when nothing is there")?;
        Ok(())
    }

    fn directories(&self) -> [String; 2] {
        ["/run", "/var/lib"].map(|parent| format!("{parent}/atoll-quickstart-{}", self.name))
    }

    /// Everything that it has created on this machine.
    fn traces(&self) -> Result<Vec<String>> {
        let prefix = format!("at-{}-", self.name);
        let mut traces: Vec<String> = Vec::new();
        for entry in fs::read_dir("/run/netns")? {
            traces.extend(entry?.file_name().into_string().ok().filter(|name| name.starts_with(&prefix)));
        }
        traces.extend(self.directories().into_iter().filter(|directory| Path::new(directory).exists()));
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        traces.extend(mounts.lines().filter(|line| line.contains(&self.name)).map(str::to_owned));
        for entry in fs::read_dir("/proc")?.flatten() {
            let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
            traces
                .extend(self.directories().iter().any(|directory| arguments.contains(directory)).then_some(arguments));
        }
        Ok(traces)
    }
}

impl Drop for Quickstart {
    fn drop(&mut self) {
        // Already done if the test passed.
        let _ = self.script(&["down"]).stderr(Stdio::null()).status();
    }
}

#[test]
fn up_and_again_and_down() -> Result<()> {
    let quickstart = Quickstart::new("a");
    for round in 1..=2 {
        quickstart.up("midonet").with_context(|| format!("round {round}"))?;
    }
    quickstart.down()
}

#[test]
fn with_ovn_up_and_down() -> Result<()> {
    let quickstart = Quickstart::new("d");
    let facts = quickstart.up("ovn")?;
    let pods = facts["pods"].as_array().context("a list")?;
    for tenant in ["red", "blue"] {
        let machines: BTreeSet<_> =
            pods.iter().filter(|pod| pod["tenant"] == tenant).filter_map(|pod| pod["machine"].as_str()).collect();
        ensure!(machines.len() == 3, "the pods of {tenant} are on {machines:?}");
    }
    // The commands that it prints work.
    let networks = printed(&facts["access"]["northbound"])?;
    let machines = printed(&facts["access"]["southbound"])?;
    let switch = printed(&facts["access"]["switch"])?;
    ensure!(networks.matches("switch ").count() >= 2, "a network for each tenant: {networks}");
    ensure!(machines.matches("Chassis ").count() == 3, "three machines: {machines}");
    ensure!(switch.contains("br-int"), "the bridge of a machine: {switch}");
    quickstart.down()
}

/// What a command of the facts prints with the argument `show`.
fn printed(command: &Value) -> Result<String> {
    let command = command.as_str().context("a text")?;
    output(Command::new("/bin/sh").args(["-c", &format!("{command} show")]))
}

#[test]
fn down_after_a_kill() -> Result<()> {
    killed(&Quickstart::new("b"), "midonet", &[20, 300, 900, 1500, 2500])
}

#[test]
fn with_ovn_down_after_a_kill() -> Result<()> {
    killed(&Quickstart::new("e"), "ovn", &[100, 700, 1500, 2500, 4000])
}

/// `down` after `up` was killed at these times leaves nothing.
fn killed(quickstart: &Quickstart, engine: &str, times: &[u64]) -> Result<()> {
    let program = programs::path("atoll-quickstart")?;
    let bin = program.parent().context("a directory")?;
    for milliseconds in times {
        let [run_dir, state_dir] = quickstart.directories();
        let mut up = Command::new(&program)
            .args(["--prefix", &format!("at-{}", quickstart.name), "--run-dir", &run_dir, "--state-dir", &state_dir])
            .args(["--engine", engine])
            .arg("--bin-dir")
            .arg(bin)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        std::thread::sleep(Duration::from_millis(*milliseconds));
        up.kill()?;
        up.wait()?;
        output(&mut quickstart.script(&["down"])).with_context(|| format!("after a kill at {milliseconds} ms"))?;
        assert_eq!(quickstart.traces()?, Vec::<String>::new(), "after a kill at {milliseconds} ms");
    }
    Ok(())
}

#[test]
fn a_wrong_argument_prints_the_usage() -> Result<()> {
    let out = Quickstart::new("c").script(&["sideways"]).output()?;
    let printed = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && printed.contains("usage: ./quickstart"), "{printed}");
    assert!(out.stdout.is_empty());
    Ok(())
}
