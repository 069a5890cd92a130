//! One observation of this node. Claims are read before the runtime is asked, so that a pod that is added in between is
//! missing among the claims and not among the containers.
use atoll_model::clock::now;
use std::collections::BTreeSet;

use atoll_records::{ClaimRecord, NodeRecord, Query, TombstoneRecord, Versioned};

use atoll_ipam::NodeRecords;
use atoll_model::config::Config;
use atoll_model::ids::NodeName;
use atoll_store::{Store, StoreError};
use atoll_tenant::{identity, machine};

use super::sandboxes::{Sandboxes, Source};
use crate::failure::Failure;
use crate::links::{self, HostEnd};
use crate::nodefiles::{self, ObservedAttachment};
use crate::settings;

/// Every name under which records may belong to this machine: its host name may have changed.
pub(crate) async fn names(store: &impl Store, config: &Config, node: &NodeName) -> Result<BTreeSet<NodeName>, Failure> {
    let all = Query::all(NodeRecord::all());
    let nodes = match store.read(vec![all.clone()]).await {
        // A node's certificate may read only its own keys: only the recorded names are known.
        Err(StoreError::Denied(_)) => Vec::new(),
        read => read?.answer(&all)?.entries.clone(),
    };
    let mut known = machine::other_names(config, node);
    known.push(node.clone());
    Ok(identity::names(&nodes, &known, settings::host_id(config).await.as_ref(), &machine::machine_id()))
}

/// Adds the claims and the tombstones of this node in one store.
async fn records(
    store: &impl Store,
    config: &Config,
    node: &NodeName,
    found: &mut Vec<NodeRecords>,
) -> Result<(), Failure> {
    let names = names(store, config, node).await?;
    let snapshot = store.read(names.iter().flat_map(NodeRecords::queries).collect()).await?;
    for name in &names {
        found.push(NodeRecords::read(&snapshot, name)?);
    }
    Ok(())
}

/// One observation of this node.
pub(crate) struct NodeObservation {
    pub(crate) node: NodeName,
    /// Seconds since 1970.
    pub(crate) now: u64,
    /// The claims of this node, of every name and every prefix of etcd that it has had, and of every network.
    pub(crate) claims: Vec<Versioned<ClaimRecord>>,
    /// The tombstones of this node, in etcd and in files.
    pub(crate) tombstones: Vec<TombstoneRecord>,
    /// A record or a file of this node cannot be read: no absence is certain.
    pub(crate) is_damaged: bool,
    pub(crate) attachment_states: Vec<ObservedAttachment>,
    pub(crate) links: Vec<HostEnd>,
    /// The runtime's containers, read last.
    pub(crate) sandboxes: Sandboxes,
}

impl NodeObservation {
    pub(super) async fn read(
        stores: &[(String, impl Store)],
        config: &Config,
        node: &NodeName,
        source: &mut Source,
    ) -> Result<Self, Failure> {
        let failed = |what: &'static str| move |error: std::io::Error| Failure::file(what, &error);
        let mut found = Vec::new();
        for (prefix, store) in stores {
            records(store, config, node, &mut found).await.map_err(|failure| {
                failure.and(&format!(
                    "this node's records below {prefix} are needed; `etcd.prefix` is {}",
                    config.etcd.prefix
                ))
            })?;
        }
        let is_partial = found.iter().any(|records| !records.damaged.is_empty());
        let (claims, tombstones): (Vec<_>, Vec<_>) =
            found.into_iter().map(|records| (records.claims, records.tombstones)).unzip();
        let claims = claims.into_iter().flatten().collect();
        let mut tombstones: Vec<_> = tombstones.into_iter().flatten().map(|tombstone| tombstone.record).collect();
        let local_tombstones =
            nodefiles::local_tombstones(&config.state_dir).map_err(failed("read the local tombstones"))?;
        let is_damaged = is_partial || local_tombstones.iter().any(|(_, tombstone)| tombstone.is_none());
        tombstones.extend(local_tombstones.into_iter().filter_map(|(_, tombstone)| tombstone));
        Ok(Self {
            node: node.clone(),
            now: now(),
            claims,
            tombstones,
            is_damaged,
            attachment_states: nodefiles::attachments(&config.run_dir).map_err(failed("read the attachment states"))?,
            links: links::host_ends(&config.run_dir).map_err(failed("list the interfaces"))?,
            sandboxes: source.ask().await?,
        })
    }
}
