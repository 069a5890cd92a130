//! The configuration: the plugin's own file, so that there is nothing to keep in step.

use std::fs;
use std::path::{Path, PathBuf};

use atoll_model::config::Config;
use atoll_sdn_client::{Http, configured};
use atoll_store::Etcd;
use atoll_tenant::MidoNet;
use serde_json::Value;

use crate::failure::Failure;

/// Where runtimes look for network configurations.
const DIRECTORY: &str = "/etc/cni/net.d";

/// The name of our plugin in a conflist.
const PLUGIN: &str = "atoll";

/// The configuration.
pub(crate) struct Settings {
    pub(crate) config: Config,
}

impl Settings {
    /// Reads `file`, or the first in `/etc/cni/net.d` that speaks of us.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, Failure> {
        let entry = match file {
            Some(file) => read(file)?,
            None => search(Path::new(DIRECTORY))?,
        };
        Ok(Self { config: Config::parse(&entry)? })
    }

    /// Connects to nothing yet.
    pub(crate) fn store(&self) -> Result<Etcd, Failure> {
        Ok(Etcd::connect(&self.config.etcd)?)
    }

    /// Connects to nothing yet.
    pub(crate) fn controller(&self) -> Result<MidoNet<Http>, Failure> {
        Ok(MidoNet::new(configured::client(&self.config.controller, None, |http| http)?))
    }
}

/// The plugin's entry in a file.
fn read(file: &Path) -> Result<Value, Failure> {
    let wrong = |problem: String| Failure::config(format!("{}: {problem}", file.display()));
    let text = fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let value: Value = serde_json::from_slice(&text).map_err(|error| wrong(format!("not JSON: {error}")))?;
    entry(&value).cloned().ok_or_else(|| wrong(format!("no plugin of type \"{PLUGIN}\" is in it")))
}

/// A conflist has a list of plugins; anything else is the entry itself.
fn entry(value: &Value) -> Option<&Value> {
    let ours = |plugin: &&Value| plugin.get("type").and_then(Value::as_str) == Some(PLUGIN);
    match value.get("plugins").and_then(Value::as_array) {
        Some(plugins) => plugins.iter().find(ours),
        None => Some(value).filter(ours),
    }
}

/// The first file of a directory that has an entry of ours.
fn search(directory: &Path) -> Result<Value, Failure> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    files.retain(|file| file.extension().is_some_and(|e| e == "conflist" || e == "conf" || e == "json"));
    files.sort();
    files.iter().find_map(|file| read(file).ok()).ok_or_else(|| {
        Failure::config(format!(
            "no configuration: name one with --config or ATOLL_CONFIG; {} has none with a plugin of type \"{PLUGIN}\"",
            directory.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_conflist_or_the_entry_alone_is_fine() {
        let ours = json!({"type": "atoll", "mtu": 1400});
        assert_eq!(entry(&ours), Some(&ours));
        assert_eq!(entry(&json!({"plugins": [{"type": "portmap"}, ours]})), Some(&ours));
        assert_eq!(entry(&json!({"plugins": [{"type": "portmap"}]})), None);
        assert_eq!(entry(&json!({"type": "bridge"})), None);
        assert_eq!(entry(&json!("atoll")), None);
    }
}
