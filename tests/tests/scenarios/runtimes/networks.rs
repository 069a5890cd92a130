//! The directories of a runtime on a node: plugins, and network configuration lists.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use atoll_testkit::lab::node::{LabNode, merge};
use atoll_testkit::lab::programs;
use atoll_testkit::lab::scratch::Scratch;
use serde_json::{Value, json};

/// Debian's `containernetworking-plugins`; containerd needs `loopback` for every pod.
const STANDARD: &str = "/usr/lib/cni";

/// The directories of a runtime.
#[derive(Debug)]
pub(crate) struct Networks {
    /// The plugins.
    pub(crate) bin: PathBuf,
    /// The lists.
    pub(crate) conf: PathBuf,
    /// Names, in the order in which they were added.
    pub(crate) names: Vec<String>,
}

impl Networks {
    /// Without a network; `plugin` is the program that runtimes start as Atoll's plugin.
    pub(crate) fn new(scratch: &Scratch, plugin: &Path) -> Result<Self> {
        let (bin, conf) = (scratch.dir("cni-bin")?, scratch.dir("cni-conf")?);
        symlink(plugin, bin.join("atoll"))?;
        for name in ["loopback", "portmap", "bandwidth", "tuning", "firewall", "sbr"] {
            symlink(Path::new(STANDARD).join(name), bin.join(name))?;
        }
        Ok(Self { bin, conf, names: Vec::new() })
    }

    /// The node's network `atoll`, without chained plugins.
    pub(crate) fn of(node: &LabNode) -> Result<Self> {
        let mut networks = Self::new(node.scratch(), &programs::path("atoll")?)?;
        networks.add("atoll", &[plugin(node, json!({}))?])?;
        Ok(networks)
    }

    /// Adds a network: Atoll's plugin first, then the chained plugins. The list offers every CNI version that all of
    /// them support, as `deploy/cni` does: a runtime takes the highest that it supports itself.
    pub(crate) fn add(&mut self, name: &str, chain: &[Value]) -> Result<()> {
        let mut versions = vec!["0.3.1", "0.4.0", "1.0.0"];
        // Debian's plugins are older than CNI 1.1.
        if chain.len() == 1 {
            versions.push("1.1.0");
        }
        let list = json!({ "cniVersion": "1.0.0", "cniVersions": versions, "name": name, "plugins": chain });
        // Runtimes read the files in the order of their names.
        let file = self.conf.join(format!("{}0-{name}.conflist", self.names.len() + 1));
        fs::write(file, serde_json::to_string_pretty(&list)?)?;
        self.names.push(name.to_owned());
        Ok(())
    }
}

/// The entry of Atoll's plugin in a list on this node, merged with `settings`.
pub(crate) fn plugin(node: &LabNode, settings: Value) -> Result<Value> {
    entry(node.config(), settings)
}

/// The entry of Atoll's plugin in a list, from a configuration of the plugin, merged with `settings`.
#[expect(clippy::needless_pass_by_value, reason = "callers write json!({…})")]
pub(crate) fn entry(config: &Value, settings: Value) -> Result<Value> {
    let mut plugin = config.clone();
    // In a list, name and version belong to the list.
    plugin.as_object_mut().context("an object")?.remove("name");
    merge(&mut plugin, &settings);
    Ok(plugin)
}
