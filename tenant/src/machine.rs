//! This machine: its name, the id of its host in the engine, its machine id. The plugin and `atollctl` must agree on them,
//! so they ask here.

use std::io;
use std::path::Path;

use atoll_model::config::Config;
use atoll_model::error::{Class, Classify};
use atoll_model::ids::{HostId, InvalidName, NodeName};
use atoll_network::{Engine, EngineError};
use atoll_node::files::{TEXT, read};

use crate::binding::Node;
use crate::identity;

/// This machine cannot be identified.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The host name is no node name.
    #[error("the host name cannot be the name of this node: {0}")]
    Name(#[source] InvalidName),
    /// The host name cannot be read.
    #[error("the host name cannot be read")]
    HostName(#[source] io::Error),
    /// There is no host id, or the engine has no host of such an id.
    #[error(transparent)]
    HostId(#[from] EngineError),
}

impl Classify for NodeError {
    fn class(&self) -> Class {
        Class::Config
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::HostId(error) => error.hint(),
            Self::Name(_) | Self::HostName(_) => Some("set `nodeName` in the configuration".to_owned()),
        }
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

/// The id of this machine's host in the engine: configured, else what the engine's agent has recorded.
///
/// # Errors
/// No host of the engine can have the configured id, or the agent has recorded none.
pub async fn host_id(config: &Config, engine: &impl Engine) -> Result<HostId, EngineError> {
    match &config.host_id {
        Some(id) => engine.host_id(id),
        None => engine.own_host_id().await,
    }
}

/// The same without asking: as configured, else as it was when this machine made its last attachment.
pub fn known_host_id(config: &Config, engine: &impl Engine) -> Option<HostId> {
    match &config.host_id {
        Some(id) => engine.host_id(id).ok(),
        None => identity::load(&config.state_dir).map(|is| is.host_id),
    }
}

/// Everything about this node.
pub async fn identify(config: &Config, engine: &impl Engine) -> Result<Node, NodeError> {
    let host_id = host_id(config, engine).await?;
    Ok(Node { name: name(config)?, host_id, machine_id: machine_id() })
}

/// `/etc/machine-id`; empty where there is none.
pub fn machine_id() -> String {
    read::text(Path::new("/etc/machine-id"), TEXT).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        // An id as OVN has them: opaque text.
        let host = |text: &str| HostId::new(text).expect("valid");
        for remembered in ["first", "second"] {
            identity::remember(directory.path(), &named(remembered), &host("node-1.example"), "/atoll/a")
                .expect("works");
        }
        assert_eq!(name(&config(None)).expect("works"), named("second"));
        assert_eq!(name(&config(Some("third"))).expect("works"), named("third"));
        assert_eq!(other_names(&config(None), &named("second")), [named("first")]);
        assert_eq!(other_names(&config(None), &named("third")), [named("second"), named("first")]);
        // Another host id under the same name is written down; the same one writes nothing.
        let host = host("node-2.example");
        let written = || {
            std::os::unix::fs::MetadataExt::ino(
                &std::fs::metadata(atoll_node::paths::node_identity(directory.path())).expect("there"),
            )
        };
        identity::remember(directory.path(), &named("second"), &host, "/atoll/a").expect("works");
        assert_eq!(
            identity::load(directory.path()).map(|is| (is.name, is.host_id)),
            Some((named("second"), host.clone()))
        );
        let (before, kept) =
            (written(), std::fs::File::open(atoll_node::paths::node_identity(directory.path())).expect("there"));
        identity::remember(directory.path(), &named("second"), &host, "/atoll/a").expect("works");
        assert_eq!(written(), before, "a file with the same content is not written again");
        drop(kept);
    }
}
