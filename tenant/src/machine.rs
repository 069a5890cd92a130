//! This machine: its name, the id of the controller's agent on it, its machine id. The plugin and `atollctl` must agree
//! on them, so they ask here.

use std::io;
use std::path::Path;

use atoll_model::config::Config;
use atoll_model::error::{Class, Classify};
use atoll_model::ids::{InvalidName, NodeName};
use atoll_node::files::{TEXT, read};
use uuid::Uuid;

use crate::binding::Node;
use crate::identity;

/// The file in which MidoNet's agent writes its id.
const HOST_ID: &str = "/etc/midonet_host_id.properties";

/// This machine cannot be identified.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The host name is no node name.
    #[error("the host name cannot be the name of this node: {0}")]
    Name(#[source] InvalidName),
    /// The host name cannot be read.
    #[error("the host name cannot be read")]
    HostName(#[source] io::Error),
    /// There is no host id.
    #[error("the id of the controller's agent is not known: {HOST_ID}: {0}")]
    HostId(String),
}

impl Classify for NodeError {
    fn class(&self) -> Class {
        Class::Config
    }

    fn hint(&self) -> Option<String> {
        let key = if matches!(self, Self::HostId(_)) { "hostId" } else { "nodeName" };
        Some(format!("set `{key}` in the configuration"))
    }
}

/// The name of this node: configured, else remembered (see [`identity`]), else the host name.
pub fn name(config: &Config) -> Result<NodeName, NodeError> {
    if let Some(name) = &config.node_name {
        return Ok(name.clone());
    }
    identity::load(&config.state_dir).map_or_else(host_name, |identity| Ok(identity.name))
}

/// `uname -n`.
pub fn host_name() -> Result<NodeName, NodeError> {
    let host = nix::sys::utsname::uname().map_err(|errno| NodeError::HostName(errno.into()))?;
    NodeName::new(host.nodename().to_string_lossy()).map_err(NodeError::Name)
}

/// Every other name that this machine is known to have had: what was made under it is still this machine's.
pub fn other_names(config: &Config, name: &NodeName) -> Vec<NodeName> {
    let remembered = identity::load(&config.state_dir);
    let mut names: Vec<_> = remembered.into_iter().flat_map(|is| std::iter::once(is.name).chain(is.earlier)).collect();
    names.retain(|other| other != name);
    names
}

/// Every other prefix of etcd under which this machine is known to have worked: claims that it made are below them.
pub fn earlier_prefixes(config: &Config) -> Vec<String> {
    let mut prefixes = identity::load(&config.state_dir).map(|is| is.prefixes).unwrap_or_default();
    prefixes.retain(|other| *other != config.etcd.prefix);
    prefixes
}

/// The id of the controller's agent: configured, else what the agent wrote.
pub fn agent(config: &Config) -> Result<Uuid, NodeError> {
    match config.host_id {
        Some(id) => Ok(id),
        None => host_id(Path::new(HOST_ID)).map_err(NodeError::HostId),
    }
}

/// Everything about this node.
pub fn identify(config: &Config) -> Result<Node, NodeError> {
    let host_id = agent(config)?;
    Ok(Node { name: name(config)?, host_id, machine_id: machine_id() })
}

/// `/etc/machine-id`; empty where there is none.
pub fn machine_id() -> String {
    read::text(Path::new("/etc/machine-id"), TEXT).unwrap_or_default().trim().to_owned()
}

/// Reads `host_uuid=…` from a file of Java properties.
fn host_id(path: &Path) -> Result<Uuid, String> {
    let text = read::text(path, TEXT).map_err(|error| error.to_string())?;
    let pairs = text.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(|line| line.split_once('='));
    let mut ids = pairs.filter(|(key, _)| key.trim() == "host_uuid").map(|(_, value)| value.trim());
    let id = ids.next().ok_or("it has no line host_uuid=…")?;
    id.parse().map_err(|_| format!("{id:?} is no UUID"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_host_id_is_read_from_the_agents_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("id");
        let id = Uuid::from_u128(7);
        fs::write(&path, format!("#Thu Jan 01\n#host_uuid=x\nhost_uuid = {id}\n")).expect("works");
        assert_eq!(host_id(&path), Ok(id));
        for bad in ["", "host_uuid=7\n", "uuid=x\n"] {
            fs::write(&path, bad).expect("works");
            assert!(host_id(&path).is_err(), "{bad:?}");
        }
        assert!(host_id(&directory.path().join("none")).is_err());
    }

    /// The configuration comes first, then what is remembered, then the host name; every name that it had is still its own.
    #[test]
    fn a_recorded_name_outlives_the_host_name_and_yields_to_the_configuration() {
        let directory = tempfile::tempdir().expect("a directory");
        let config = |name: Option<&str>| {
            let mut config = serde_json::json!({
                "etcd": { "endpoints": ["http://127.0.0.1:1"] },
                "controller": { "endpoints": ["http://127.0.0.1:1/midonet-api"] },
                "stateDir": directory.path(),
            });
            if let Some(name) = name {
                config["nodeName"] = name.into();
            }
            Config::parse(&config).expect("valid")
        };
        let named = |text: &str| NodeName::new(text).expect("valid");
        assert_eq!(name(&config(None)).expect("works"), host_name().expect("works"), "nothing is remembered");
        for remembered in ["first", "second"] {
            identity::remember(directory.path(), &named(remembered), Uuid::nil(), "/atoll/a").expect("works");
        }
        assert_eq!(name(&config(None)).expect("works"), named("second"));
        assert_eq!(name(&config(Some("third"))).expect("works"), named("third"));
        assert_eq!(other_names(&config(None), &named("second")), [named("first")]);
        assert_eq!(other_names(&config(None), &named("third")), [named("second"), named("first")]);
        // Another agent under the same name is written down; the same one writes nothing.
        let host = Uuid::from_u128(7);
        let written = || {
            std::os::unix::fs::MetadataExt::ino(
                &std::fs::metadata(atoll_node::paths::node_identity(directory.path())).expect("there"),
            )
        };
        identity::remember(directory.path(), &named("second"), host, "/atoll/a").expect("works");
        assert_eq!(identity::load(directory.path()).map(|is| (is.name, is.host_id)), Some((named("second"), host)));
        let (before, kept) =
            (written(), std::fs::File::open(atoll_node::paths::node_identity(directory.path())).expect("there"));
        identity::remember(directory.path(), &named("second"), host, "/atoll/a").expect("works");
        assert_eq!(written(), before, "a file with the same content is not written again");
        drop(kept);
    }
}
