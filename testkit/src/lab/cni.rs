//! The plugin, called as a runtime calls it: environment, one document on standard input, one on standard output.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ipnetwork::Ipv4Network;
use serde_json::Value;

use crate::lab::netns::LabNetns;
use crate::lab::pod::LabPod;
use crate::lab::traced;

/// A runtime with one network on one node.
#[derive(Clone, Debug)]
pub struct Cni<'a> {
    node: &'a LabNetns,
    program: PathBuf,
    /// What the plugin gets on standard input.
    pub config: Value,
}

/// One call. Change what should differ from what a well-behaved runtime sends.
#[derive(Clone, Debug)]
pub struct CniCall<'a> {
    node: &'a LabNetns,
    program: PathBuf,
    /// The environment, beside `PATH`.
    pub env: Vec<(&'static str, String)>,
    /// Standard input.
    pub stdin: String,
}

/// The result of a call.
#[derive(Clone, Debug)]
pub struct CniAnswer {
    /// The exit code; none means that a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// From before the start of the process to its end.
    pub took: Duration,
}

/// The pod's interface, from the result of ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodInterface {
    /// Its address with the prefix length of its subnet.
    pub address: Ipv4Network,
    /// Its gateway.
    pub gateway: Ipv4Addr,
    /// Its MAC; empty where the version of the result has none (before 0.3.0).
    pub mac: String,
    /// How long the ADD took.
    pub took: Duration,
}

impl<'a> Cni<'a> {
    /// A runtime in the namespace `node`, with this plugin and this network configuration.
    pub fn new(node: &'a LabNetns, program: PathBuf, config: Value) -> Self {
        Self { node, program, config }
    }

    /// A call for a pod's `eth0`.
    pub fn call(&self, command: &str, pod: &LabPod) -> CniCall<'a> {
        let netns = pod.netns.path().display().to_string();
        CniCall {
            node: self.node,
            program: self.program.clone(),
            env: vec![
                ("CNI_COMMAND", command.to_owned()),
                ("CNI_CONTAINERID", pod.container.clone()),
                ("CNI_NETNS", netns),
                ("CNI_IFNAME", "eth0".to_owned()),
                ("CNI_ARGS", pod.args()),
                ("CNI_PATH", "/opt/cni/bin".to_owned()),
            ],
            stdin: self.config.to_string(),
        }
    }

    /// ADD; its failure is an error.
    pub fn add(&self, pod: &LabPod) -> Result<PodInterface> {
        let answer = self.call("ADD", pod).run()?;
        answer.attached().with_context(|| format!("ADD {}/{}", pod.namespace, pod.name))
    }

    /// DEL; its failure is an error.
    pub fn del(&self, pod: &LabPod) -> Result<Duration> {
        let answer = self.call("DEL", pod).run()?;
        answer.done().with_context(|| format!("DEL {}/{}", pod.namespace, pod.name))?;
        Ok(answer.took)
    }
}

impl CniCall<'_> {
    /// The same call with a variable set; an empty value is what runtimes send for "none".
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.env.retain(|(known, _)| *known != name);
        self.env.push((name, value.into()));
        self
    }

    /// The same call without a variable.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.env.retain(|(known, _)| *known != name);
        self
    }

    /// The same call with other text on standard input.
    #[must_use]
    pub fn reading(mut self, stdin: impl Into<String>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Runs it to its end.
    pub fn run(&self) -> Result<CniAnswer> {
        self.node.within(|| {
            let begin = Instant::now();
            let mut child = self.spawn()?;
            self.give(&mut child);
            let out = child.wait_with_output().context("wait for the plugin")?;
            Ok(CniAnswer {
                code: out.status.code(),
                took: begin.elapsed(),
                stdout: String::from_utf8(out.stdout).context("standard output is not UTF-8")?,
                stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
            })
        })
    }

    /// Starts it and kills it (SIGKILL, as a runtime does) after `delay`, which may be after its end.
    pub fn kill_after(&self, delay: Duration) -> Result<()> {
        self.node.within(|| {
            let mut child = self.spawn()?;
            self.give(&mut child);
            std::thread::sleep(delay);
            child.kill()?;
            child.wait()?;
            Ok(())
        })
    }

    /// Kills it (SIGKILL) before or after one of its system calls: at stop number `stop`, counted from 0 as
    /// [`Self::count_stops`] does. False: it ended by itself before.
    pub fn kill_at(&self, stop: u64) -> Result<bool> {
        let ended = self.node.within(|| traced::run(self.spawn()?, Some(stop), |child| self.give(child)))?;
        Ok(ended.code.is_none())
    }

    /// Runs it to its end, which must be a success, and counts its stops: each system call has two.
    pub fn count_stops(&self) -> Result<u64> {
        let ended = self.node.within(|| traced::run(self.spawn()?, None, |child| self.give(child)))?;
        ensure!(ended.code == Some(0), "exit code {:?} of a call that is traced", ended.code);
        Ok(ended.stops)
    }

    fn spawn(&self) -> Result<Child> {
        let mut command = Command::new(&self.program);
        command.env_clear().env("PATH", crate::program::search_path()).envs(self.env.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().with_context(|| format!("start {}", self.program.display()))
    }

    /// Writes its standard input.
    fn give(&self, child: &mut Child) {
        // Dropped at once: the plugin sees the end. One that never reads (VERSION) closes the pipe, which is fine.
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(self.stdin.as_bytes()));
    }
}

impl CniAnswer {
    /// The result of a successful ADD.
    pub fn result(&self) -> Result<Value> {
        ensure!(self.code == Some(0), "exit code {:?}: {} {}", self.code, self.stdout.trim(), self.stderr.trim());
        serde_json::from_str(&self.stdout).with_context(|| format!("standard output: {}", self.stdout))
    }

    /// A successful DEL: nothing on standard output.
    pub fn done(&self) -> Result<()> {
        ensure!(self.code == Some(0), "exit code {:?}: {} {}", self.code, self.stdout.trim(), self.stderr.trim());
        ensure!(self.stdout.is_empty(), "standard output must be empty: {}", self.stdout);
        Ok(())
    }

    /// The CNI error code of a failure that kept the protocol: exactly one error object on standard output.
    pub fn error_code(&self) -> Result<u64> {
        ensure!(self.code.is_some_and(|code| code != 0), "it did not fail: {:?}: {}", self.code, self.stdout);
        let error: Value =
            serde_json::from_str(&self.stdout).with_context(|| format!("not one document: {}", self.stdout))?;
        ensure!(error["msg"].as_str().is_some_and(|msg| !msg.is_empty()), "no message: {error}");
        match error["code"].as_u64() {
            Some(code) => Ok(code),
            None => bail!("no code: {error}"),
        }
    }

    /// The result of a successful ADD for `eth0`.
    pub fn attached(&self) -> Result<PodInterface> {
        let result = self.result()?;
        if let Some(ip4) = result.get("ip4") {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (address, gateway) = (text(&ip4["ip"]).parse()?, text(&ip4["gateway"]).parse()?);
            return Ok(PodInterface { address, gateway, mac: String::new(), took: self.took });
        }
        let ip = &result["ips"][0];
        let index = usize::try_from(ip["interface"].as_u64().with_context(|| format!("no interface: {result}"))?)?;
        let interface = &result["interfaces"][index];
        ensure!(interface["name"] == "eth0", "ips[0].interface is not eth0: {result}");
        let text =
            |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("a text is missing: {result}"));
        Ok(PodInterface {
            address: text(&ip["address"])?.parse()?,
            gateway: text(&ip["gateway"])?.parse()?,
            mac: text(&interface["mac"])?,
            took: self.took,
        })
    }
}
