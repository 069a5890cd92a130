//! Debian's containerd, through its CRI socket, as the kubelet drives it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::daemon::{Daemon, Life};
use atoll_tests::netns::{Netns, run};
use atoll_tests::node::Node;
use atoll_tests::programs;
use atoll_tests::reach::{Server, ask, ping};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::cri::{Client, Metadata, Running};
use crate::{image, remove_cgroup};

/// A containerd of its own; its containers and shims go with it.
struct Containerd {
    daemon: Option<Daemon>,
    directory: PathBuf,
    socket: PathBuf,
    cgroup: String,
}

impl Containerd {
    fn start(node: &Node) -> Result<Self> {
        let directory = node.scratch().dir("containerd")?;
        let (bin, conf) = (node.scratch().dir("cni-bin")?, node.scratch().dir("cni-conf")?);
        symlink(programs::path("atoll")?, bin.join("atoll"))?;
        symlink("/usr/lib/cni/loopback", bin.join("loopback"))?;
        let mut plugin = node.config().clone();
        // In a conflist name and version belong to the list.
        plugin.as_object_mut().context("an object")?.remove("name");
        let list = json!({ "cniVersion": "1.0.0", "name": "atoll", "plugins": [plugin] });
        fs::write(conf.join("10-atoll.conflist"), serde_json::to_string_pretty(&list)?)?;

        let socket = directory.join("sock");
        fs::write(directory.join("config.toml"), configuration(&directory, &socket, &bin, &conf))?;
        let args = ["--config".to_owned(), directory.join("config.toml").display().to_string()];
        let log = node.scratch().path().join("containerd.log");
        let mut daemon = Daemon::start(node.netns(), Life::Scoped, Path::new("containerd"), &args, &log)?;
        daemon.wait_until(Duration::from_secs(30), || Client::connect(&socket).map(drop))?;
        let this = Self { daemon: Some(daemon), directory, socket, cgroup: format!("/{}", node.name()) };
        let archive = image::archive(node.scratch().path())?;
        let (socket, archive) = (this.socket.display().to_string(), archive.display().to_string());
        run("ctr", &["--address", &socket, "--namespace", "k8s.io", "images", "import", &archive])?;
        Ok(this)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Through the runtime first: it knows best what belongs to a sandbox.
        if let Ok(client) = Client::connect(&self.socket) {
            for id in client.list().unwrap_or_default() {
                // What this cannot remove, the signals below will.
                let _ = client.stop(&id).and_then(|()| client.remove(&id));
            }
        }
        drop(self.daemon.take());
        // Shims outlive containerd by design; ours name its directory. A container's process ends with a signal of its
        // own: it is in the cgroup of its sandbox, and its root is below our directory.
        for process in processes_of(&self.directory) {
            // Gone already is fine.
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
        // The container sees its own root only, but the kernel says what it is made of.
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

fn configuration(directory: &Path, socket: &Path, bin: &Path, conf: &Path) -> String {
    let (directory, socket, bin, conf) = (directory.display(), socket.display(), bin.display(), conf.display());
    let sandbox_image = image::NAME;
    format!(
        r#"version = 2
root = "{directory}/root"
state = "{directory}/state"

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
max_conf_num = 1

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"#
    )
}

fn netns_of(sandbox: &Running) -> Netns {
    Netns::at(format!("/proc/{}/ns/net", sandbox.pid))
}

#[test]
fn pods_of_two_kubernetes_namespaces_reach_their_own_only() -> Result<()> {
    let node = Node::start(json!({ "cluster": { "podCidr": "10.128.0.0/16", "subnetPrefix": 29 } }))?;
    let containerd = Containerd::start(&node)?;
    let client = Client::connect(&containerd.socket)?;
    let run = |namespace: &str, name: &str| {
        let uid = uuid::Uuid::new_v4().to_string();
        let metadata = Metadata { name: name.to_owned(), uid, namespace: namespace.to_owned(), attempt: 0 };
        client.run(metadata, &containerd.cgroup).with_context(|| format!("run {namespace}/{name}"))
    };
    let pods = [run("red", "one")?, run("red", "two")?, run("blue", "one")?, run("blue", "two")?];
    let names = ["red-one", "red-two", "blue-one", "blue-two"];
    let _servers =
        pods.iter().zip(names).map(|(pod, name)| Server::start(&netns_of(pod), name)).collect::<Result<Vec<_>>>()?;
    for (from, to) in [(0, 1), (1, 0), (2, 3), (3, 2)] {
        let netns = netns_of(&pods[from]);
        let address = pods[to].ip.parse()?;
        ensure!(ping(&netns, address)?, "{} pings {}", names[from], names[to]);
        let banner = ask(&netns, address)?.with_context(|| format!("{} asks {}", names[from], names[to]))?;
        assert_eq!(banner.name, names[to]);
    }
    for (from, to) in [(0, 2), (0, 3), (1, 2), (1, 3), (2, 0), (2, 1), (3, 0), (3, 1)] {
        let answer = ask(&netns_of(&pods[from]), pods[to].ip.parse()?)?;
        let tenant = |name: &str| name.split('-').next().map(str::to_owned);
        // The same address may well be a pod of one's own tenant.
        assert!(
            answer.is_none_or(|banner| tenant(&banner.name) == tenant(names[from])),
            "{} reached {}",
            names[from],
            names[to]
        );
    }
    for pod in &pods {
        client.stop(&pod.id)?;
        client.remove(&pod.id)?;
    }
    drop(client);
    drop(containerd);
    node.finish()
}

#[test]
fn a_pod_whose_network_fails_does_not_run_and_leaves_nothing() -> Result<()> {
    let mut node = Node::start(json!({ "timeoutSeconds": 3 }))?;
    let containerd = Containerd::start(&node)?;
    let client = Client::connect(&containerd.socket)?;
    let metadata = |name: &str| Metadata {
        name: name.to_owned(),
        uid: uuid::Uuid::new_v4().to_string(),
        namespace: "red".to_owned(),
        attempt: 0,
    };
    node.kill_controller()?;
    let refused = client.run(metadata("early"), &containerd.cgroup).expect_err("there is no controller");
    ensure!(format!("{refused:#}").contains("controller"), "the runtime shows what is wrong: {refused:#}");
    node.start_controller()?;
    let pod = client.run(metadata("later"), &containerd.cgroup)?;
    client.stop(&pod.id)?;
    client.remove(&pod.id)?;
    drop(client);
    drop(containerd);
    node.finish()
}
