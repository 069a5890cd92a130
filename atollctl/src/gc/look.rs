//! One observation of this node. The order is the safety: claims are read before the runtime is asked, so that a pod that
//! comes in between is missing among the claims, not among the containers.

use std::collections::BTreeSet;

use atoll_ipam::{IpamError, Versioned};
use atoll_model::config::Config;
use atoll_model::ids::NodeName;
use atoll_model::record::{self, ClaimRecord, TombstoneRecord};
use atoll_store::{Answer, Key, Query, Store, StoreError};
use atoll_tenant::{identity, machine};

use super::sandboxes::{Sandboxes, Source};
use crate::failure::Failure;
use crate::links::{self, HostEnd};
use crate::nodefiles::{self, ProgressFile};

/// Every name under which records can be this machine's: its host may have been called otherwise.
pub(crate) async fn names(store: &impl Store, config: &Config, node: &NodeName) -> Result<BTreeSet<NodeName>, Failure> {
    let nodes = match store.read(vec![Query::all(Key::nodes())]).await {
        // The role of a node's certificate covers what is its own: only remembered names are known.
        Err(StoreError::Denied(_)) => Answer::default(),
        read => read?.answers.into_iter().next().unwrap_or_default(),
    };
    let mut known = machine::other_names(config, node);
    known.push(node.clone());
    Ok(identity::names(&nodes, &known, machine::agent(config).ok(), &machine::machine_id()))
}

/// The claims and the tombstones of this node in one store.
async fn records(store: &impl Store, config: &Config, node: &NodeName) -> Result<(Answer, Answer), Failure> {
    let names = names(store, config, node).await?;
    let below = |name| [Query::all(Key::attachments_of(name)), Query::all(Key::tombstones_of(name))];
    let snapshot = store.read(names.iter().flat_map(below).collect()).await?;
    let (mut claims, mut owed) = (Answer::default(), Answer::default());
    for pair in snapshot.answers.chunks(2) {
        let [of_claims, of_tombstones] = pair else {
            return Err(IpamError::Answer { object: format!("records of node {node}") }.into());
        };
        claims.entries.extend(of_claims.entries.iter().cloned());
        owed.entries.extend(of_tombstones.entries.iter().cloned());
    }
    Ok((claims, owed))
}

/// See the module.
pub(crate) struct Look {
    pub(crate) node: NodeName,
    /// Seconds since 1970.
    pub(crate) now: u64,
    /// The claims of this node, of every name and every prefix of etcd that it has had, and of every network.
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
        stores: &[(String, impl Store)],
        config: &Config,
        node: &NodeName,
        source: &mut Source,
    ) -> Result<Self, Failure> {
        let failed = |what: &'static str| move |error: std::io::Error| Failure::file(what, &error);
        let (mut claims, mut owed) = (Answer::default(), Answer::default());
        for (prefix, store) in stores {
            let (of_claims, of_tombstones) = records(store, config, node).await.map_err(|failure| {
                failure.and(&format!(
                    "this node's records below {prefix} are needed; `etcd.prefix` is {}",
                    config.etcd.prefix
                ))
            })?;
            claims.entries.extend(of_claims.entries);
            owed.entries.extend(of_tombstones.entries);
        }
        let mut tombstones: Vec<_> =
            Versioned::<TombstoneRecord>::readable(&owed).into_iter().map(|owed| owed.record).collect();
        let number = (claims.entries.len(), owed.entries.len());
        let claims = Versioned::readable(&claims);
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
