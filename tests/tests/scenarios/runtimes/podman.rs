//! Debian's podman with its CNI backend, with private storage, locks and networks. It passes no Kubernetes namespace,
//! so its containers are in `tenant.default`.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use atoll_testkit::lab::netns::{LabNetns, output, run};
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::scratch::Scratch;
use serde_json::Value;

use super::networks::Networks;
use super::{image, remove_cgroup};

/// A private podman.
pub(crate) struct Podman {
    netns: LabNetns,
    directory: PathBuf,
    rootfs: PathBuf,
    cgroup: String,
}

/// A running container.
pub(crate) struct Container {
    /// Its network namespace.
    pub(crate) netns: LabNetns,
    /// The output of `podman inspect` for it.
    pub(crate) inspected: Value,
}

impl Container {
    /// Its address in a network.
    pub(crate) fn address(&self, network: &str) -> Result<Ipv4Addr> {
        let networks = &self.inspected["NetworkSettings"]["Networks"];
        let text = networks[network]["IPAddress"].as_str().with_context(|| format!("no address: {networks}"))?;
        text.parse().with_context(|| format!("address {text:?}"))
    }
}

/// The version of this podman, for example `4.3.1`.
pub(crate) fn version() -> Result<String> {
    let printed = run("podman", &["--version"]).context("Debian package podman")?;
    Ok(printed.split_whitespace().last().context("no version")?.to_owned())
}

impl Podman {
    /// Podman on a node, with these networks; a container that names none gets the first.
    pub(crate) fn new(node: &LabNode, networks: &Networks) -> Result<Self> {
        Self::new_in(node.netns(), node.scratch(), networks)
    }

    /// Podman in a namespace, with its files in a directory.
    pub(crate) fn new_in(netns: &LabNetns, scratch: &Scratch, networks: &Networks) -> Result<Self> {
        let directory = scratch.dir("podman")?;
        let rootfs = directory.join("rootfs");
        image::root_filesystem(&rootfs)?;
        fs::write(directory.join("containers.conf"), configuration(&directory.display().to_string(), networks))?;
        let below = directory.display();
        let storage =
            format!("[storage]\ndriver = \"vfs\"\nrunroot = \"{below}/run\"\ngraphroot = \"{below}/storage\"\n");
        fs::write(directory.join("storage.conf"), storage)?;
        let cgroup = format!("/{}", scratch.path().file_name().unwrap_or_default().to_string_lossy());
        Ok(Self { netns: LabNetns::at(netns.path()), directory, rootfs, cgroup })
    }

    /// Runs one command: what it prints.
    pub(crate) fn run(&self, args: &[&str]) -> Result<String> {
        let below = |name: &str| self.directory.join(name);
        let mut command = self.netns.command("podman");
        command.env("CONTAINERS_CONF", below("containers.conf")).env("CONTAINERS_STORAGE_CONF", below("storage.conf"));
        command.env("XDG_RUNTIME_DIR", &self.directory);
        output(command.args(args).stdin(Stdio::null())).map(|text| text.trim().to_owned())
    }

    /// Starts a container that sleeps, with further options.
    pub(crate) fn start(&self, name: &str, options: &[&str]) -> Result<Container> {
        let rootfs = self.rootfs.display().to_string();
        let mut args = vec!["run", "--cgroup-parent", &self.cgroup, "--detach", "--name", name];
        args.extend(options);
        args.extend(["--rootfs", &rootfs, "/bin/sleep", "100000"]);
        self.run(&args).with_context(|| format!("run {name}"))?;
        self.inspect(name)
    }

    /// Reads the data of a running container.
    pub(crate) fn inspect(&self, name: &str) -> Result<Container> {
        let mut inspected: Value = serde_json::from_str(&self.run(&["inspect", name])?)?;
        let inspected = inspected[0].take();
        let pid = inspected["State"]["Pid"].as_i64().context("a pid")?;
        Ok(Container { netns: LabNetns::at(format!("/proc/{pid}/ns/net")), inspected })
    }

    /// Removes containers, running or not.
    pub(crate) fn remove(&self, names: &[&str]) -> Result<()> {
        self.run(&[&["rm", "--force", "--time", "0"], names].concat()).map(drop)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Everything that is still running; there may be nothing.
        let _ = self.run(&["rm", "--force", "--time", "0", "--all"]);
        remove_cgroup(&self.cgroup);
    }
}

fn configuration(directory: &str, networks: &Networks) -> String {
    let (bin, conf) = (networks.bin.display(), networks.conf.display());
    let first = networks.names.first().map_or("", String::as_str);
    format!(
        r#"[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]

[network]
network_backend = "cni"
cni_plugin_dirs = ["{bin}"]
network_config_dir = "{conf}"
default_network = "{first}"

[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
lock_type = "file"
static_dir = "{directory}/static"
tmp_dir = "{directory}/tmp"
volume_path = "{directory}/volumes"
"#
    )
}
