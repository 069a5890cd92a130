//! A simulated machine: one namespace in which etcd, the controller and the plugin run.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::lab::cni::Cni;
use crate::lab::daemon::{Daemon, Lifetime};
use crate::lab::netns::LabNetns;
use crate::lab::scratch::{Scratch, unique_name};
use crate::lab::servers::{self, ControllerOptions};
use crate::lab::{http, programs};

/// The prefix of Atoll's keys in the node's etcd.
pub const PREFIX: &str = "/atoll/test";

/// A simulated machine.
#[derive(Debug)]
pub struct LabNode {
    // Dropped in this order: servers, their namespaces, their files.
    etcd: Option<Daemon>,
    controller: Option<Daemon>,
    netns: LabNetns,
    scratch: Scratch,
    host_id: Uuid,
    settings: Value,
    dataplane: bool,
}

impl LabNode {
    /// A node with both servers running. `settings` override keys of the plugin's configuration.
    #[expect(clippy::needless_pass_by_value, reason = "callers write json!({…})")]
    pub fn start(settings: Value) -> Result<Self> {
        Self::begin(&settings, true)
    }

    /// The same with a controller that has no data plane: a bound port is active at once, and no packet flows.
    #[expect(clippy::needless_pass_by_value, reason = "callers write json!({…})")]
    pub fn start_without_dataplane(settings: Value) -> Result<Self> {
        Self::begin(&settings, false)
    }

    fn begin(settings: &Value, dataplane: bool) -> Result<Self> {
        let scratch = Scratch::new(&unique_name())?;
        let netns = LabNetns::new()?;
        let mut node = Self {
            etcd: None,
            controller: None,
            netns,
            scratch,
            host_id: Uuid::new_v4(),
            settings: json!({}),
            dataplane,
        };
        node.settings = node.configuration(settings);
        // Concurrently: etcd needs a second to elect itself.
        node.start_etcd()?;
        node.start_controller()?;
        Ok(node)
    }

    fn configuration(&self, settings: &Value) -> Value {
        let mut config = json!({
            "name": "atoll", "type": "atoll",
            "nodeName": "node-1", "hostId": self.host_id, "runDir": self.run_dir(), "stateDir": self.state_dir(),
            "quietPeriodSeconds": 0, "timeoutSeconds": 20,
            "etcd": { "endpoints": [format!("http://{}", servers::ETCD)], "prefix": PREFIX },
            "controller": { "endpoints": [format!("http://{}{}", servers::CONTROLLER, servers::API)] },
            "cluster": { "addressing": "overlapping" },
            "log": { "file": self.scratch.path().join("cni.log"), "level": "debug" },
        });
        merge(&mut config, settings);
        config
    }

    /// A runtime on this node with this version of CNI.
    pub fn cni(&self, version: &str) -> Result<Cni<'_>> {
        let mut config = self.settings.clone();
        merge(&mut config, &json!({ "cniVersion": version }));
        Ok(Cni::new(&self.netns, programs::path("atoll")?, config))
    }

    /// The output of an operator's `atollctl` on this node; its failure is an error with its text.
    pub fn atollctl(&self, args: &[&str]) -> Result<String> {
        let file = self.scratch.path().join("atollctl.json");
        fs::write(&file, self.settings.to_string()).with_context(|| format!("write {}", file.display()))?;
        let (program, file) = (programs::path("atollctl")?.display().to_string(), file.display().to_string());
        self.netns.run(&program, &[&["--config", &file], args].concat())
    }

    /// The plugin's configuration.
    pub fn config(&self) -> &Value {
        &self.settings
    }

    /// The namespace of the node.
    pub fn netns(&self) -> &LabNetns {
        &self.netns
    }

    /// A name that is unique on this machine.
    pub fn name(&self) -> String {
        self.scratch.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Files of this node.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The plugin's `runDir`, and the controller's.
    pub fn run_dir(&self) -> PathBuf {
        self.scratch.path().join("run")
    }

    /// The plugin's `stateDir`.
    pub fn state_dir(&self) -> PathBuf {
        self.scratch.path().join("state")
    }

    /// The namespace of the external network.
    pub fn external_network(&self) -> LabNetns {
        LabNetns::at(self.run_dir().join("dataplane/outside"))
    }

    /// The id of the controller's agent on this node.
    pub fn host_id(&self) -> Uuid {
        self.host_id
    }

    /// Starts etcd with its earlier data.
    pub fn start_etcd(&mut self) -> Result<()> {
        let (data, log) = (self.scratch.path().join("etcd"), self.scratch.path().join("etcd.log"));
        self.etcd = Some(servers::etcd(&self.netns, Lifetime::Scoped, &data, &log)?);
        Ok(())
    }

    /// Ends etcd as a power failure would.
    pub fn kill_etcd(&mut self) -> Result<()> {
        self.etcd.take().map_or(Ok(()), |daemon| daemon.end(Signal::SIGKILL))
    }

    /// Starts the controller with its earlier objects.
    pub fn start_controller(&mut self) -> Result<()> {
        let options = ControllerOptions {
            run_dir: self.run_dir(),
            host_id: self.host_id,
            state: Some(self.scratch.path().join("controller.json")),
            dataplane: self.dataplane,
        };
        let log = self.scratch.path().join("controller.log");
        self.controller = Some(servers::controller(
            &self.netns,
            Lifetime::Scoped,
            &programs::path("mock-controller")?,
            &options,
            &log,
        )?);
        Ok(())
    }

    /// Ends the controller as a power failure would. Packets keep flowing.
    pub fn kill_controller(&mut self) -> Result<()> {
        self.controller.take().map_or(Ok(()), |daemon| daemon.end(Signal::SIGKILL))
    }

    /// Ends the controller as an operator would.
    pub fn stop_controller(&mut self) -> Result<()> {
        self.controller.take().map_or(Ok(()), |daemon| daemon.end(Signal::SIGTERM))
    }

    /// The keys of the installation that begin with `below`, with their values.
    pub fn keys(&self, below: &str) -> Result<Vec<(String, Value)>> {
        servers::keys(&self.netns, servers::ETCD, PREFIX, below)
    }

    /// A record is lost: deletes one key below `v2/` in etcd.
    pub fn lose(&self, key: &str) -> Result<()> {
        let endpoints = format!("--endpoints={}", servers::ETCD);
        self.netns.run("etcdctl", &[&endpoints, "del", &format!("{PREFIX}/v2/{key}")]).map(drop)
    }

    /// One GET of the controller, as JSON.
    pub fn controller_get(&self, path: &str) -> Result<Value> {
        let body = self.netns.within(|| http::get(servers::CONTROLLER, path))?;
        serde_json::from_str(&body).with_context(|| format!("the answer to GET {path}"))
    }

    /// The commands with which a person can examine this node.
    pub fn inspection_commands(&self) -> String {
        format!("nsenter --net={} bash; less {}/*.log", self.netns.path().display(), self.scratch.path().display())
    }

    /// Names of the network interfaces in a namespace, `lo` left out.
    pub fn links(netns: &LabNetns) -> Result<Vec<String>> {
        let links: Value = serde_json::from_str(&netns.run("ip", &["-json", "link", "show"])?)?;
        let names = links.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str());
        Ok(names.filter(|name| *name != "lo").map(str::to_owned).collect())
    }
}

/// Merges `over` into `base`, objects key by key.
pub fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}
