//! The quickstart works, works a second time, and leaves nothing behind, also if it is killed half way.
//!
//! A binary of its own: a test sets the umask of its process.

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
    // The modes must not depend on the umask.
    umask(Mode::empty());
    let quickstart = Quickstart::new("a");
    for round in 1..=2 {
        let text = output(&mut quickstart.script(&["up", "--json"])).with_context(|| format!("round {round}"))?;
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
    }
    ensure!(!quickstart.traces()?.is_empty(), "it runs, so there must be something to find");
    for directory in quickstart.directories() {
        let mode = fs::metadata(&directory)?.permissions().mode() & 0o7777;
        ensure!(mode == 0o700, "{directory} has mode {mode:04o}: see the table in docs/operations.md");
    }
    output(&mut quickstart.script(&["down"]))?;
    assert_eq!(quickstart.traces()?, Vec::<String>::new());
    output(&mut quickstart.script(&["down"])).context("down, when nothing is there")?;
    Ok(())
}

#[test]
fn down_after_a_kill() -> Result<()> {
    let quickstart = Quickstart::new("b");
    let program = programs::path("atoll-quickstart")?;
    let bin = program.parent().context("a directory")?;
    for milliseconds in [20, 300, 900, 1500, 2500] {
        let [run_dir, state_dir] = quickstart.directories();
        let mut up = Command::new(&program)
            .args(["--prefix", &format!("at-{}", quickstart.name), "--run-dir", &run_dir, "--state-dir", &state_dir])
            .arg("--bin-dir")
            .arg(bin)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        std::thread::sleep(Duration::from_millis(milliseconds));
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
