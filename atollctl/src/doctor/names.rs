//! The names of this machine from every source (configuration, file, host, cluster), and the prefixes of etcd under which
//! it has worked.

use std::path::PathBuf;
use std::time::Duration;

use atoll_ipam::records_of;
use atoll_model::config::Config;
use atoll_model::ids::NodeName;
use atoll_node::paths;
use atoll_records::{ClaimRecord, Key, NodeRecord, Query};
use atoll_store::{Etcd, Store as _};
use atoll_tenant::identity::{self, NodeIdentity};
use atoll_tenant::machine;
use tokio::time::timeout;

use crate::settings;

/// The longest that etcd may take.
const LIMIT: Duration = Duration::from_secs(5);

/// The names of this machine, and its prefixes of etcd.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// The name under which this machine works.
    pub(crate) present: NodeName,
    /// It is `nodeName` of the configuration.
    pub(crate) is_configured: bool,
    /// The host name, where it can be a node's.
    pub(crate) host: Option<NodeName>,
    /// The file that records the name, and its content.
    pub(crate) file: PathBuf,
    pub(crate) remembered: Option<NodeIdentity>,
    /// Every name of this machine in the cluster, with its claims; none: etcd did not answer.
    pub(crate) registered: Option<Vec<(NodeName, usize)>>,
    /// `etcd.prefix` of the configuration.
    pub(crate) prefix: String,
    /// Other prefixes under which this machine has worked, with its claims below them; none: etcd did not answer.
    pub(crate) earlier_prefixes: Vec<(String, Option<usize>)>,
}

/// None: this machine has no name, which another finding reports.
pub(super) async fn probe(config: &Config) -> Option<Names> {
    let present = machine::name(config).ok()?;
    let mut earlier_prefixes = Vec::new();
    for prefix in machine::earlier_prefixes(config) {
        let mut there = config.clone();
        there.etcd.prefix.clone_from(&prefix);
        let registered = timeout(LIMIT, Box::pin(registered(&there))).await.ok().flatten();
        earlier_prefixes.push((prefix, registered.map(|names| names.into_iter().map(|(_, claims)| claims).sum())));
    }
    let registered = match settings::host_id(config).await {
        Some(_) => timeout(LIMIT, Box::pin(registered(config))).await.ok().flatten(),
        None => None,
    };
    Some(Names {
        present,
        is_configured: config.node_name.is_some(),
        host: machine::host_name().ok(),
        file: paths::node_identity(&config.state_dir),
        remembered: identity::load(&config.state_dir),
        registered,
        prefix: config.etcd.prefix.clone(),
        earlier_prefixes,
    })
}

async fn registered(config: &Config) -> Option<Vec<(NodeName, usize)>> {
    let store = Etcd::connect(&config.etcd).ok()?;
    let nodes = Query::all(NodeRecord::all());
    let snapshot = store.read(vec![nodes.clone()]).await.ok()?;
    let host = settings::host_id(config).await;
    let mut found = Vec::new();
    for name in identity::names(&snapshot.answer(&nodes).ok()?.entries, &[], host.as_ref(), &machine::machine_id()) {
        let records = records_of(&store, &name).await.ok()?;
        // An unreadable record counts as well.
        let is_claim = |key: &&Key| key.begins_with(&Key::from(ClaimRecord::of_node(&name)));
        let damaged = records.damaged.iter().filter(is_claim).count();
        found.push((name, records.claims.len() + damaged));
    }
    Some(found)
}
