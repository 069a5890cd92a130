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
pub(crate) const DIRECTORY: &str = "/etc/cni/net.d";

/// The name of our plugin in a conflist.
pub(crate) const PLUGIN: &str = "atoll";

/// The configuration.
pub(crate) struct Settings {
    pub(crate) config: Config,
    /// The file that it was read from.
    pub(crate) file: PathBuf,
    /// What the plugin gets on standard input, as a runtime would write it: the entry, with name and version of its list.
    pub(crate) stdin: Value,
}

impl Settings {
    /// Reads `file`, or the first in `/etc/cni/net.d` that speaks of us.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, Failure> {
        let (file, stdin) = match file {
            Some(file) => (file.to_owned(), read(file)?),
            None => search(Path::new(DIRECTORY))?,
        };
        Ok(Self { config: Config::parse(&stdin)?, file, stdin })
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
    let ours = entry(&value).ok_or_else(|| wrong(format!("no plugin of type \"{PLUGIN}\" is in it")))?;
    Ok(with_list(ours, &value))
}

/// The entry with what a runtime takes from the list around it (CNI SPEC 1.1.0, section 3, "Deriving execution
/// configuration").
fn with_list(entry: &Value, list: &Value) -> Value {
    let mut whole = entry.clone();
    if let (Some(whole), Some(_)) = (whole.as_object_mut(), list.get("plugins")) {
        for key in ["name", "cniVersion"] {
            if let Some(value) = list.get(key) {
                whole.insert(key.to_owned(), value.clone());
            }
        }
    }
    whole
}

/// A conflist has a list of plugins; anything else is the entry itself.
pub(crate) fn entry(value: &Value) -> Option<&Value> {
    let ours = |plugin: &&Value| plugin.get("type").and_then(Value::as_str) == Some(PLUGIN);
    match value.get("plugins").and_then(Value::as_array) {
        Some(plugins) => plugins.iter().find(ours),
        None => Some(value).filter(ours),
    }
}

/// The first file of a directory that has an entry of ours.
fn search(directory: &Path) -> Result<(PathBuf, Value), Failure> {
    let files = conflists(directory).unwrap_or_default();
    files.into_iter().find_map(|file| read(&file).ok().map(|entry| (file, entry))).ok_or_else(|| {
        Failure::config(format!(
            "no configuration: name one with --config or ATOLL_CONFIG; {} has none with a plugin of type \"{PLUGIN}\"",
            directory.display()
        ))
    })
}

/// The network configurations in a directory, in the order in which runtimes take them.
pub(crate) fn conflists(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|e| e == "conflist" || e == "conf" || e == "json"));
    files.sort();
    Ok(files)
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

    #[test]
    fn name_and_version_come_from_the_list_where_there_is_one() {
        let ours = json!({"type": "atoll", "name": "x"});
        let list = json!({"cniVersion": "1.0.0", "name": "atoll", "plugins": [ours]});
        assert_eq!(with_list(&ours, &list), json!({"type": "atoll", "name": "atoll", "cniVersion": "1.0.0"}));
        assert_eq!(with_list(&ours, &ours), ours);
    }
}
