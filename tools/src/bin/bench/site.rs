//! One kind of plugin with a network of its own, and what one call of it costs.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::cni::{Cni, CniAnswer, CniCall, PodInterface};
use atoll_testkit::lab::http;
use atoll_testkit::lab::netns::LabNetns;
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::ovn::OvnMachine;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::programs;
use atoll_testkit::lab::scratch::{Scratch, unique_name};
use atoll_testkit::lab::servers;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde_json::{Value, json};

/// Debian's package containernetworking-plugins.
pub(crate) const STANDARD: &str = "/usr/lib/cni";
/// The tenant of every pod of a site.
pub(crate) const TENANT: &str = "bench";

/// A plugin and the network it works in.
pub(crate) enum BenchSite {
    /// Ours, on a node of the harness.
    Atoll(Box<LabNode>),
    /// Ours, on a machine of a lab that lives elsewhere.
    Ovn {
        /// The machine.
        netns: LabNetns,
        /// The plugin's configuration.
        config: Value,
        /// Files of this measurement.
        scratch: Scratch,
    },
    /// `bridge` with `host-local`.
    Standard {
        /// The runtime's side.
        netns: LabNetns,
        /// The addresses that `host-local` has given.
        scratch: Scratch,
    },
}

/// What a call cost, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// From before the start of the process to its end.
    pub(crate) wall: f64,
    /// CPU time of the process and of all children that it waited for.
    pub(crate) cpu: f64,
}

impl BenchSite {
    /// Our plugin. A log of each call is usual in production, one of each detail is not.
    pub(crate) fn atoll(dataplane: bool, cluster: &Value) -> Result<Self> {
        let settings = json!({ "log": { "level": "info" }, "timeoutSeconds": 60, "cluster": cluster });
        let node = if dataplane { LabNode::start(settings)? } else { LabNode::start_without_dataplane(settings)? };
        Ok(Self::Atoll(Box::new(node)))
    }

    /// Our plugin on a machine with OVN, with this configuration.
    pub(crate) fn ovn(machine: &OvnMachine, config: Value) -> Result<Self> {
        let netns = LabNetns::at(machine.netns.path());
        Ok(Self::Ovn { netns, config, scratch: Scratch::new(&unique_name())? })
    }

    /// The standard plugins.
    pub(crate) fn standard() -> Result<Self> {
        Ok(Self::Standard { netns: LabNetns::new()?, scratch: Scratch::new(&unique_name())? })
    }

    /// The runtime's side.
    pub(crate) fn cni(&self) -> Result<Cni<'_>> {
        match self {
            Self::Atoll(node) => node.cni("1.0.0"),
            Self::Ovn { netns, config, .. } => Ok(Cni::new(netns, self.program()?, config.clone())),
            Self::Standard { netns, scratch } => {
                let config = json!({
                    "cniVersion": "1.0.0", "name": "standard", "type": "bridge", "bridge": "cni0", "isGateway": true,
                    "ipam": {
                        "type": "host-local", "dataDir": scratch.path(), "routes": [{ "dst": "0.0.0.0/0" }],
                        "ranges": [[{ "subnet": "10.129.0.0/16" }]],
                    },
                });
                Ok(Cni::new(netns, self.program()?, config))
            }
        }
    }

    /// A call, as [`Cni::call`] makes it.
    pub(crate) fn call(&self, command: &str, pod: &LabPod) -> Result<CniCall<'_>> {
        Ok(self.cni()?.call(command, pod).with("CNI_PATH", STANDARD))
    }

    /// The program that is measured.
    pub(crate) fn program(&self) -> Result<PathBuf> {
        match self {
            Self::Atoll(_) | Self::Ovn { .. } => programs::path("atoll"),
            Self::Standard { .. } => Ok(PathBuf::from(STANDARD).join("bridge")),
        }
    }

    /// ADD, and what it cost.
    pub(crate) fn add(&self, pod: &LabPod) -> Result<(PodInterface, Cost)> {
        let (answer, cost) = measured(&self.call("ADD", pod)?)?;
        Ok((answer.attached().context("ADD")?, cost))
    }

    /// DEL, and what it cost.
    pub(crate) fn del(&self, pod: &LabPod) -> Result<Cost> {
        let (answer, cost) = measured(&self.call("DEL", pod)?)?;
        answer.done().context("DEL")?;
        Ok(cost)
    }

    /// VERSION, and what it cost.
    pub(crate) fn version(&self, pod: &LabPod) -> Result<Cost> {
        let (answer, cost) = measured(&self.call("VERSION", pod)?)?;
        answer.result().context("VERSION")?;
        Ok(cost)
    }

    /// A call under another program (`time`, `strace`) that starts the plugin; what that program wrote into the file
    /// that its last argument names.
    pub(crate) fn under(&self, tool: &[&str], command: &str, pod: &LabPod) -> Result<String> {
        let (netns, scratch) = match self {
            Self::Atoll(node) => (node.netns(), node.scratch()),
            Self::Ovn { netns, scratch, .. } | Self::Standard { netns, scratch } => (netns, scratch),
        };
        let file = scratch.path().join("tool.out");
        let call = self.call(command, pod)?;
        let mut outer = netns.command(tool[0]);
        outer.args(&tool[1..]).arg(&file).arg(self.program()?);
        outer.env_clear().env("PATH", atoll_testkit::program::search_path()).envs(call.env);
        outer.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = outer.spawn().with_context(|| format!("start {outer:?}"))?;
        child.stdin.take().context("a pipe")?.write_all(call.stdin.as_bytes())?;
        let out = child.wait_with_output()?;
        ensure!(out.status.success(), "{command} under {tool:?}: {}", String::from_utf8_lossy(&out.stderr));
        std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))
    }

    /// The largest resident set of a call, in megabytes. Measured by `time`, which is small: the kernel counts what the parent had
    /// at the exec too.
    pub(crate) fn peak_memory(&self, command: &str, pod: &LabPod) -> Result<f64> {
        let kibibytes = self.under(&["time", "-f", "%M", "-o"], command, pod)?;
        let kibibytes: f64 = kibibytes.trim().parse().with_context(|| format!("time printed {kibibytes:?}"))?;
        Ok(kibibytes * 1024.0 / 1e6)
    }

    /// Our node. The standard plugins have no servers; those of OVN are the lab's.
    pub(crate) fn node(&self) -> Option<&LabNode> {
        match self {
            Self::Atoll(node) => Some(node),
            Self::Ovn { .. } | Self::Standard { .. } => None,
        }
    }

    /// Ends the site. Remains of pods are an error.
    pub(crate) fn finish(self) -> Result<()> {
        match self {
            Self::Atoll(node) => node.finish(),
            Self::Ovn { scratch, .. } | Self::Standard { scratch, .. } => {
                scratch.passed();
                Ok(())
            }
        }
    }
}

/// A pod in the only tenant.
pub(crate) fn pod(name: &str) -> Result<LabPod> {
    LabPod::new(TENANT, name)
}

/// Requests that etcd has answered, by its own counter, without watches.
pub(crate) fn etcd_requests(node: &LabNode) -> Result<f64> {
    let metrics = node.netns().within(|| http::get(servers::ETCD, "/metrics"))?;
    let handled = metrics.lines().filter(|line| line.starts_with("grpc_server_handled_total{"));
    let numbers = handled.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    Ok(numbers.sum())
}

/// Runs a call. One at a time: the kernel counts all children of this process together.
fn measured(call: &CniCall<'_>) -> Result<(CniAnswer, Cost)> {
    let before = cpu_of_children()?;
    let answer = call.run()?;
    let cpu = milliseconds(cpu_of_children()?.saturating_sub(before));
    let wall = milliseconds(answer.took);
    Ok((answer, Cost { wall, cpu }))
}

fn cpu_of_children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?;
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(microseconds)?))
}

/// As the tables show it.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
