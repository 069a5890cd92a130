//! This machine: its name, the id of the controller's agent on it, its machine id. The plugin and `atollctl` must agree
//! on them, so they ask here.

use std::io;
use std::path::Path;

use atoll_files::{TEXT, read};
use atoll_model::config::Config;
use atoll_model::error::{Class, Classify};
use atoll_model::ids::{InvalidName, NodeName};
use uuid::Uuid;

use crate::place::Node;

/// Where MidoNet's agent writes its id.
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

/// The name of this node: configured, else `uname -n`.
pub fn name(config: &Config) -> Result<NodeName, NodeError> {
    if let Some(name) = &config.node_name {
        return Ok(name.clone());
    }
    let host = nix::sys::utsname::uname().map_err(|errno| NodeError::HostName(errno.into()))?;
    NodeName::new(host.nodename().to_string_lossy()).map_err(NodeError::Name)
}

/// Everything about this node.
pub fn identify(config: &Config) -> Result<Node, NodeError> {
    let host_id = match config.host_id {
        Some(id) => id,
        None => host_id(Path::new(HOST_ID)).map_err(NodeError::HostId)?,
    };
    let machine_id = read::text(Path::new("/etc/machine-id"), TEXT).unwrap_or_default().trim().to_owned();
    Ok(Node { name: name(config)?, host_id, machine_id })
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
}
