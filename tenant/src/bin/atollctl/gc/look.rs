//! One observation of this node. The order is the safety: claims are read before the runtime is asked, so that a pod that
//! comes in between is missing among the claims, not among the containers.

use atoll_ipam::{IpamError, Versioned};
use atoll_model::config::Config;
use atoll_model::ids::NodeName;
use atoll_model::record::{self, ClaimRecord, TombstoneRecord};
use atoll_store::{Key, Query, Store};

use super::sandboxes::{Sandboxes, Source};
use crate::failure::Failure;
use crate::links::{self, HostEnd};
use crate::nodefiles::{self, ProgressFile};

/// See the module.
pub(crate) struct Look {
    pub(crate) node: NodeName,
    /// Seconds since 1970.
    pub(crate) now: u64,
    /// The claims of this node, of every network.
    pub(crate) claims: Vec<Versioned<ClaimRecord>>,
    /// The tombstones of this node, in etcd and in files.
    pub(crate) tombstones: Vec<TombstoneRecord>,
    /// A record or a file of this node cannot be read: nothing may be concluded from something's absence.
    pub(crate) is_damaged: bool,
    pub(crate) progress: Vec<ProgressFile>,
    pub(crate) links: Vec<HostEnd>,
    /// Asked last.
    pub(crate) sandboxes: Sandboxes,
}

impl Look {
    pub(super) async fn take(
        store: &impl Store,
        config: &Config,
        node: &NodeName,
        source: &mut Source,
    ) -> Result<Self, Failure> {
        let failed = |what: &'static str| move |error: std::io::Error| Failure::file(what, &error);
        let queries = vec![Query::all(Key::attachments_of(node)), Query::all(Key::tombstones_of(node))];
        let snapshot = store.read(queries).await?;
        let [claims, owed] = snapshot.answers.as_slice() else {
            return Err(IpamError::Answer { object: format!("records of node {node}") }.into());
        };
        let mut tombstones: Vec<_> =
            Versioned::<TombstoneRecord>::readable(owed).into_iter().map(|owed| owed.record).collect();
        let number = (claims.entries.len(), owed.entries.len());
        let claims = Versioned::readable(claims);
        let graves = nodefiles::graves(&config.state_dir).map_err(failed("read the local tombstones"))?;
        let is_damaged = number != (claims.len(), tombstones.len()) || graves.iter().any(|(_, grave)| grave.is_none());
        tombstones.extend(graves.into_iter().filter_map(|(_, grave)| grave));
        Ok(Self {
            node: node.clone(),
            now: record::now(),
            claims,
            tombstones,
            is_damaged,
            progress: nodefiles::all_progress(&config.run_dir).map_err(failed("read the progress files"))?,
            links: links::host_ends(&config.run_dir).map_err(failed("list the interfaces"))?,
            sandboxes: source.ask().await?,
        })
    }
}
