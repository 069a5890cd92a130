//! What the pods of the quickstart need, whatever makes the tenants' networks.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Result;
use atoll_testkit::lab::netns::LabNetns;
use atoll_testkit::lab::ovn::OvnLab;
use serde_json::{Value, json};

use crate::report::EngineLocations;

/// The prefix of Atoll's keys in etcd.
pub(crate) const PREFIX: &str = "/atoll/quickstart";

/// Running servers, and machines for pods. They outlive this value.
pub(crate) struct RunningCluster {
    /// The machines; pods take turns.
    pub(crate) machines: Vec<PodMachine>,
    /// Where etcd listens, as seen from every machine.
    pub(crate) etcd: SocketAddr,
    /// A namespace in which etcd is reached, with its name.
    pub(crate) store: (LabNetns, String),
    /// A host of the external network.
    pub(crate) outside: Ipv4Addr,
    /// Where the data plane pins the namespaces of routers and of the external network. None: there are no such routers,
    /// and the namespace of the external network has a name.
    pub(crate) pins: Option<PathBuf>,
    /// OVN, if it makes the networks.
    pub(crate) ovn: Option<OvnLab>,
    /// What the report has of the engine.
    pub(crate) locations: EngineLocations,
}

/// A machine for pods.
pub(crate) struct PodMachine {
    /// Its name, if there are several.
    pub(crate) name: Option<String>,
    /// Its namespace, and the name of that.
    pub(crate) netns: (LabNetns, String),
    /// The plugin's configuration.
    pub(crate) config: Value,
    /// The file that has it.
    pub(crate) config_file: PathBuf,
}

/// The namespace with this name, and the name.
pub(crate) fn named(prefix: &str, name: &str) -> (LabNetns, String) {
    let name = format!("{prefix}-{name}");
    (LabNetns::at(Path::new("/run/netns").join(&name)), name)
}

/// The records of the cluster. Subnets are so small that two tenants with three pods each have addresses in common: each
/// subnet has five addresses for pods.
pub(crate) fn addresses() -> Value {
    json!({ "addressing": "overlapping", "podCidr": "10.128.0.0/16", "subnetPrefix": 29 })
}

/// Reads a record of etcd, as text.
pub(crate) fn record(cluster: &RunningCluster, key: &str) -> Result<String> {
    let endpoint = format!("--endpoints=http://{}", cluster.etcd);
    cluster.store.0.run("etcdctl", &[&endpoint, "get", "--print-value-only", key])
}
