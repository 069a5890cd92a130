//! `atollctl` on a node, as an operator runs it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::lab::node::{LabNode, merge};
use crate::lab::programs;

/// `atollctl` on a node.
#[derive(Clone, Debug)]
pub struct Ctl<'a> {
    node: &'a LabNode,
    program: PathBuf,
    /// The directory of network configurations.
    pub conf_dir: PathBuf,
    /// The directory with the plugin.
    pub bin_dir: PathBuf,
}

/// The result of a command.
#[derive(Clone, Debug)]
pub struct Out {
    /// Its exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Out {
    /// Of a program that has ended.
    pub fn of(out: &Output) -> Result<Self> {
        Ok(Self {
            code: out.status.code().context("a signal ended it")?,
            stdout: String::from_utf8(out.stdout.clone())?,
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        })
    }
}

impl<'a> Ctl<'a> {
    /// On a node where runtime and plugin are set up. `settings` override keys of the plugin's configuration.
    #[expect(clippy::needless_pass_by_value, reason = "callers write json!({…})")]
    pub fn new(node: &'a LabNode, settings: Value) -> Result<Self> {
        let (bin_dir, conf_dir) = (node.scratch().dir("ctl-bin")?, node.scratch().dir("ctl-conf")?);
        let plugin = bin_dir.join("atoll");
        if !plugin.exists() {
            symlink(programs::path("atoll")?, &plugin)?;
        }
        let mut entry = node.config().clone();
        merge(&mut entry, &settings);
        let name = entry["name"].clone();
        entry.as_object_mut().context("an object")?.remove("name");
        let list = json!({ "cniVersion": "1.0.0", "name": name, "plugins": [entry] });
        fs::write(conf_dir.join("10-atoll.conflist"), serde_json::to_string_pretty(&list)?)?;
        Ok(Self { node, program: programs::path("atollctl")?, conf_dir, bin_dir })
    }

    /// The configuration that is used.
    pub fn config(&self) -> PathBuf {
        self.conf_dir.join("10-atoll.conflist")
    }

    /// A command line, ready to run on the node.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.node.netns().command(&self.program);
        command.env_clear().env("PATH", crate::program::search_path()).env("ATOLL_CONFIG", self.config());
        command.env("CNI_PATH", &self.bin_dir).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &[&str]) -> Result<Out> {
        Out::of(&self.command(arguments).output().with_context(|| format!("start {}", self.program.display()))?)
    }

    /// Runs it with `-o json`; its failure is an error.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let out = self.run(&[arguments, &["-o", "json"]].concat())?;
        ensure!(out.code == 0, "{arguments:?}: exit code {}: {}{}", out.code, out.stderr, out.stdout);
        serde_json::from_str(&out.stdout).with_context(|| format!("{arguments:?}: {}", out.stdout))
    }

    /// The document that it printed, whatever its exit code.
    pub fn report(&self, arguments: &[&str]) -> Result<(i32, Value)> {
        let out = self.run(&[arguments, &["-o", "json"]].concat())?;
        let value = serde_json::from_str(&out.stdout);
        Ok((out.code, value.with_context(|| format!("{arguments:?}: {}{}", out.stdout, out.stderr))?))
    }
}

/// Writes a secret with the required mode: readable only by its owner.
pub fn private_file(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}
