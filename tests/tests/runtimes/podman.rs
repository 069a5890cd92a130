//! Debian's podman with its CNI backend. It names no Kubernetes namespace, so `tenant.default` serves it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::netns::{Netns, output};
use atoll_tests::node::Node;
use atoll_tests::programs;
use atoll_tests::reach::{Server, ask, ping};
use serde_json::{Value, json};

/// Podman with storage, locks and networks of its own.
struct Podman<'a> {
    node: &'a Node,
    directory: PathBuf,
    rootfs: PathBuf,
}

impl<'a> Podman<'a> {
    fn new(node: &'a Node) -> Result<Self> {
        let directory = node.scratch().dir("podman")?;
        let (bin, conf) = (node.scratch().dir("cni-bin")?, node.scratch().dir("cni-conf")?);
        symlink(programs::path("atoll")?, bin.join("atoll"))?;
        let mut plugin = node.config().clone();
        plugin.as_object_mut().context("an object")?.remove("name");
        let list = json!({ "cniVersion": "1.0.0", "name": "island", "plugins": [plugin] });
        fs::write(conf.join("island.conflist"), serde_json::to_string_pretty(&list)?)?;
        let rootfs = directory.join("rootfs");
        crate::image::root_filesystem(&rootfs)?;
        fs::write(directory.join("containers.conf"), configuration(&directory.display().to_string(), &bin, &conf))?;
        let below = directory.display();
        let storage =
            format!("[storage]\ndriver = \"vfs\"\nrunroot = \"{below}/run\"\ngraphroot = \"{below}/storage\"\n");
        fs::write(directory.join("storage.conf"), storage)?;
        Ok(Self { node, directory, rootfs })
    }

    fn run(&self, args: &[&str]) -> Result<String> {
        let below = |name: &str| self.directory.join(name);
        let mut command = self.node.netns().command("podman");
        command.env("CONTAINERS_CONF", below("containers.conf")).env("CONTAINERS_STORAGE_CONF", below("storage.conf"));
        command.env("XDG_RUNTIME_DIR", &self.directory);
        output(command.args(args).stdin(std::process::Stdio::null())).map(|text| text.trim().to_owned())
    }

    /// Starts a container: its name, its address and its network namespace.
    fn start(&self, name: &str) -> Result<(std::net::Ipv4Addr, Netns)> {
        let (rootfs, cgroup) = (self.rootfs.display().to_string(), format!("/{}", self.node.name()));
        self.run(&[
            "run",
            "--cgroup-parent",
            &cgroup,
            "--detach",
            "--name",
            name,
            "--network",
            "island",
            "--rootfs",
            &rootfs,
            "/bin/sleep",
            "100000",
        ])?;
        let inspected: Value = serde_json::from_str(&self.run(&["inspect", name])?)?;
        let state = &inspected[0];
        let address = state["NetworkSettings"]["Networks"]["island"]["IPAddress"].as_str().context("an address")?;
        let pid = state["State"]["Pid"].as_i64().context("a pid")?;
        Ok((address.parse()?, Netns::at(format!("/proc/{pid}/ns/net"))))
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        // Whatever still runs; nothing is fine.
        let _ = self.run(&["rm", "--force", "--time", "0", "--all"]);
        crate::remove_cgroup(&format!("/{}", self.node.name()));
    }
}

fn configuration(directory: &str, bin: &std::path::Path, conf: &std::path::Path) -> String {
    let (bin, conf) = (bin.display(), conf.display());
    format!(
        r#"[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]

[network]
network_backend = "cni"
cni_plugin_dirs = ["{bin}"]
network_config_dir = "{conf}"
default_network = "island"

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

#[test]
fn containers_share_the_default_tenant() -> Result<()> {
    let node = Node::start(json!({ "tenant": { "default": "laptop" } }))?;
    let podman = Podman::new(&node)?;
    let ((one_address, one), (two_address, two)) = (podman.start("one")?, podman.start("two")?);
    let _server = Server::start(&one, "one")?;
    ensure!(ping(&one, two_address)? && ping(&two, one_address)?, "two containers of one tenant");
    assert_eq!(ask(&two, one_address)?.context("an answer")?.name, "one");
    let tenants: Vec<String> = node.keys("tenants/")?.into_iter().map(|(key, _)| key).collect();
    assert_eq!(tenants, ["tenants/laptop"]);

    // The namespace of a running container survives DEL: the interface has to go, and can come back.
    podman.run(&["network", "disconnect", "island", "two"])?;
    ensure!(!Node::links(&two)?.iter().any(|name| name == "eth0"), "the interface is still there");
    podman.run(&["network", "connect", "island", "two"])?;
    ensure!(ping(&two, one_address)?, "connected again");

    podman.run(&["rm", "--force", "--time", "0", "one", "two"])?;
    drop(podman);
    node.finish()
}
