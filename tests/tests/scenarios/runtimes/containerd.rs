//! A private containerd, driven through its CRI socket as by the kubelet.
//!
//! Debian's by default. `ATOLL_CONTAINERD_DIR` names a directory with another one (`containerd`, `ctr`,
//! `containerd-shim-runc-v2`) for the same scenarios; `.ci/newer-containerd` downloads one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use atoll_testkit::lab::daemon::{Daemon, Lifetime};
use atoll_testkit::lab::netns::{LabNetns, run};
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::scratch::Scratch;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use uuid::Uuid;

use super::cri::{Client, Metadata, SandboxConfig, SandboxLinux};
use super::networks::Networks;
use super::{image, remove_cgroup};

/// A private containerd. Its containers and shims end with it.
pub(crate) struct Containerd {
    daemon: Option<Daemon>,
    netns: LabNetns,
    directory: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    cgroup: String,
}

/// One of containerd's programs.
fn program(name: &str) -> PathBuf {
    std::env::var_os("ATOLL_CONTAINERD_DIR").map_or_else(|| PathBuf::from(name), |dir| PathBuf::from(dir).join(name))
}

/// The version of the containerd that the scenarios run with, for example `1.6.20`.
pub(crate) fn version() -> Result<String> {
    let program = program("containerd").display().to_string();
    let printed = run(&program, &["--version"]).context("Debian package containerd")?;
    // containerd github.com/containerd/containerd 1.6.20~ds1 …
    let version = printed.split_whitespace().nth(2).context("no version")?;
    Ok(version.trim_start_matches('v').split(['~', '+']).next().unwrap_or(version).to_owned())
}

/// True for containerd 2 or later, which supports CNI 1.1 and calls STATUS.
pub(crate) fn knows_status() -> Result<bool> {
    let version = version()?;
    let major = version.split('.').next().unwrap_or("");
    Ok(major.parse::<u32>().with_context(|| format!("version {version}"))? >= 2)
}

impl Containerd {
    /// Starts it on a node, with these networks.
    pub(crate) fn start(node: &LabNode, networks: &Networks) -> Result<Self> {
        Self::start_in(node.netns(), node.scratch(), networks)
    }

    /// Starts it in a namespace, with its files in a directory, and gives it the test image.
    pub(crate) fn start_in(netns: &LabNetns, scratch: &Scratch, networks: &Networks) -> Result<Self> {
        let directory = scratch.dir("containerd")?;
        let socket = directory.join("sock");
        fs::write(directory.join("config.toml"), configuration(&directory, &socket, networks)?)?;
        let name = scratch.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut this = Self {
            daemon: None,
            netns: LabNetns::at(netns.path()),
            directory,
            socket,
            log: scratch.path().join("containerd.log"),
            cgroup: format!("/{name}"),
        };
        this.begin()?;
        let archive = image::archive(scratch.path())?.display().to_string();
        let (ctr, socket) = (program("ctr").display().to_string(), this.socket.display().to_string());
        run(&ctr, &["--address", &socket, "--namespace", "k8s.io", "images", "import", &archive])?;
        Ok(this)
    }

    /// Starts the daemon with its earlier state.
    pub(crate) fn begin(&mut self) -> Result<()> {
        let args = ["--config".to_owned(), self.directory.join("config.toml").display().to_string()];
        let mut daemon = Daemon::start(&self.netns, Lifetime::Scoped, &program("containerd"), &args, &self.log)?;
        // Its socket is there before its CRI is.
        daemon.wait_until(Duration::from_secs(30), || self.client()?.list().map(drop))?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Kills the daemon, as the kernel does if memory is short. Pods and their shims keep running.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.daemon.take().map_or(Ok(()), |daemon| daemon.end(Signal::SIGKILL))
    }

    /// The path of its socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Creates a client; each thread needs one of its own.
    pub(crate) fn client(&self) -> Result<Client> {
        Client::connect(&self.socket)
    }

    /// The configuration of a new pod, with a uid of its own.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> SandboxConfig {
        let uid = Uuid::new_v4().to_string();
        let metadata = Metadata { name: name.to_owned(), uid, namespace: namespace.to_owned(), attempt: 0 };
        let linux = SandboxLinux { cgroup_parent: self.cgroup.clone(), security: None };
        SandboxConfig { metadata: Some(metadata), linux: Some(linux), ..SandboxConfig::default() }
    }

    /// Ends a scenario: checks that it has removed its sandboxes.
    pub(crate) fn finish(self) -> Result<()> {
        let left = self.client()?.list()?;
        if !left.is_empty() {
            bail!("sandboxes that the scenario did not remove: {left:?}");
        }
        Ok(())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Through the runtime first: it knows all parts of a sandbox.
        if let Ok(client) = self.client() {
            for id in client.list().unwrap_or_default() {
                // The signals below end what this cannot remove.
                let _ = client.end(&id);
            }
        }
        drop(self.daemon.take());
        // Shims outlive containerd by design; their command lines name its directory. A container's process gets a
        // signal of its own: it is in the cgroup of its sandbox, and its root is below this directory.
        for process in processes_of(&self.directory) {
            // It may have ended already.
            let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
        }
        remove_cgroup(&self.cgroup);
    }
}

/// Processes whose command line or root names `directory`.
fn processes_of(directory: &Path) -> Vec<i32> {
    let ours = |pid: &i32| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        let text = directory.to_string_lossy();
        // The container sees only its own root; the kernel's mount information has the directories behind it.
        let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap_or("");
        String::from_utf8_lossy(&arguments).contains(&*text) || root.contains(&*text)
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own)
        .filter(ours)
        .collect()
}

/// Written in the second version of the format, which every containerd since 1.3 reads.
fn configuration(directory: &Path, socket: &Path, networks: &Networks) -> Result<String> {
    let (directory, socket) = (directory.display(), socket.display());
    let (bin, conf, count) = (networks.bin.display(), networks.conf.display(), networks.names.len());
    let sandbox_image = image::NAME;
    // Not in the directories where containerd looks for it.
    let shim = match std::env::var_os("ATOLL_CONTAINERD_DIR") {
        Some(_) => format!("runtime_path = \"{}\"", program("containerd-shim-runc-v2").canonicalize()?.display()),
        None => String::new(),
    };
    Ok(format!(
        r#"version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.nri.v1.nri"]

[grpc]
address = "{socket}"

[plugins."io.containerd.internal.v1.opt"]
path = "{directory}/opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{sandbox_image}"
netns_mounts_under_state_dir = true
restrict_oom_score_adj = true
disable_hugetlb_controller = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{bin}"
conf_dir = "{conf}"
max_conf_num = {count}

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
{shim}
"#
    ))
}
