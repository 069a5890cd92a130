//! What this machine is called, in the words of everything that knows a name of it: configuration, file, host, cluster.

use std::path::PathBuf;
use std::time::Duration;

use atoll_ipam::claims_of;
use atoll_model::config::Config;
use atoll_model::ids::NodeName;
use atoll_store::{Etcd, Key, Query, Store as _};
use atoll_tenant::identity::{self, Identity};
use atoll_tenant::machine;
use tokio::time::timeout;

/// The longest that etcd may take.
const LIMIT: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// The name under which this machine works.
    pub(crate) present: NodeName,
    /// `nodeName` of the configuration says so.
    pub(crate) is_configured: bool,
    /// The host name, where it can be a node's.
    pub(crate) host: Option<NodeName>,
    /// The file that remembers the name, and what is in it.
    pub(crate) file: PathBuf,
    pub(crate) remembered: Option<Identity>,
    /// Every name under which the cluster has this machine, with its claims; none: etcd did not say.
    pub(crate) registered: Option<Vec<(NodeName, usize)>>,
}

/// None: this machine has no name, which is told elsewhere.
pub(super) async fn look(config: &Config) -> Option<Names> {
    let present = machine::name(config).ok()?;
    let registered = match machine::agent(config) {
        Ok(_) => timeout(LIMIT, Box::pin(registered(config))).await.ok().flatten(),
        Err(_) => None,
    };
    Some(Names {
        present,
        is_configured: config.node_name.is_some(),
        host: machine::host_name().ok(),
        file: identity::file(&config.state_dir),
        remembered: identity::load(&config.state_dir),
        registered,
    })
}

async fn registered(config: &Config) -> Option<Vec<(NodeName, usize)>> {
    let store = Etcd::connect(&config.etcd).ok()?;
    let snapshot = store.read(vec![Query::all(Key::nodes())]).await.ok()?;
    let host = machine::agent(config).ok();
    let mut found = Vec::new();
    for name in identity::names(snapshot.answers.first()?, &[], host, &machine::machine_id()) {
        let claims = claims_of(&store, &name).await.ok()?.len();
        found.push((name, claims));
    }
    Some(found)
}
