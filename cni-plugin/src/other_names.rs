//! Finds attachments of this machine that were made under another name: of the node (its host name or `nodeName` changed)
//! or of the network (the configuration list was renamed).
//!
//! Container id and interface identify an attachment under every name of node and network. Only claims of names under which
//! this machine is registered are searched, so that a container with the same id on another machine is never found.

use std::collections::BTreeSet;
use std::time::Duration;

use atoll_records::{ClaimRecord, NodeRecord, Query, ReadError, Snapshot, TombstoneRecord, Versioned};

use atoll_ipam::IpamError;
use atoll_model::attachment::Attachment;
use atoll_model::ids::{HostId, NodeName};
use atoll_network::Engine;
use atoll_store::{Store, StoreError};
use atoll_tenant::identity;
use tokio::time::timeout;

use crate::kernel::Kernel;
use crate::plugin::Plugin;

/// How long the engine has for naming this machine's host. Its records are on this machine.
const ASKED: Duration = Duration::from_millis(500);

impl<S: Store, E: Engine, K: Kernel> Plugin<S, E, K> {
    /// Every other attachment of the same container and interface that this machine has: in its files, and in etcd as far
    /// as that answers.
    pub(crate) async fn attachments_under_other_names(&self, attachment: &Attachment) -> BTreeSet<Attachment> {
        let mut found = self.local_attachments_under_other_names(attachment);
        match self.recorded_under(attachment).await {
            Ok(recorded) => found.extend(recorded),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "other names of this machine: etcd was not read"
            ),
        }
        found
    }

    /// The same from this node's files alone.
    pub(crate) fn local_attachments_under_other_names(&self, attachment: &Attachment) -> BTreeSet<Attachment> {
        let failed = |error: std::io::Error| tracing::warn!(%error, "other names of this machine: a file was not read");
        let state = self.attachment_states.known().map_err(failed).unwrap_or_default();
        let local_tombstones = self.local_tombstones.list(usize::MAX).map_err(failed).unwrap_or_default();
        let local_tombstones = local_tombstones.into_iter().map(|tombstone| tombstone.attachment);
        state
            .into_iter()
            .map(|noted| noted.attachment)
            .chain(local_tombstones)
            .filter(|other| is_same_interface(other, attachment))
            .collect()
    }

    async fn recorded_under(&self, attachment: &Attachment) -> Result<Vec<Attachment>, IpamError> {
        let (mut names, mut found): (Vec<_>, _) = (self.names().cloned().collect(), Vec::new());
        let mut at = 0;
        while let Some(name) = names.get(at).cloned() {
            let (node, claims) = (NodeRecord::at(&name), Query::keys(ClaimRecord::of_node(&name)));
            let tombstones = Query::keys(TombstoneRecord::of_node(&name));
            let read = self.read_of(&name, vec![Query::key(&node), claims.clone(), tombstones.clone()]).await?;
            if let Some(snapshot) = read {
                if at == 0 && snapshot.entry(&node)?.is_none() {
                    // The present name was never used: this machine may have had another that it does not remember.
                    let more = self.names_in_cluster().await?;
                    let more: Vec<_> = more.into_iter().filter(|name| !names.contains(name)).collect();
                    names.extend(more);
                }
                if !self.is_another_machine(&name, &snapshot).await? {
                    let entries =
                        snapshot.answer(&claims)?.entries.iter().chain(&snapshot.answer(&tombstones)?.entries);
                    found.extend(
                        entries
                            .filter_map(|entry| entry.key.attachment_part())
                            .filter(|other| is_same_interface(other, attachment)),
                    );
                }
            }
            at += 1;
        }
        Ok(found)
    }

    /// Reads records of one name of this machine. The role of this node's certificate may cover its present name alone:
    /// none is given of the others then.
    pub(crate) async fn read_of(&self, name: &NodeName, queries: Vec<Query>) -> Result<Option<Snapshot>, IpamError> {
        match self.store.read(queries).await {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(StoreError::Denied(reason)) if *name != self.node => {
                tracing::warn!(%name, reason, "what was made under an earlier name cannot be read");
                Ok(None)
            }
            Err(source) => Err(IpamError::Store { object: format!("node {name}"), source }),
        }
    }

    /// Every name under which records can be this machine's, those included that only the cluster remembers.
    pub(crate) async fn names_in_cluster(&self) -> Result<BTreeSet<NodeName>, IpamError> {
        let known: Vec<_> = self.names().cloned().collect();
        let all = Query::all(NodeRecord::all());
        let nodes = match self.store.read(vec![all.clone()]).await {
            Ok(snapshot) => snapshot.answer(&all)?.entries.clone(),
            Err(StoreError::Denied(reason)) => {
                tracing::warn!(reason, "the names of nodes cannot be read: only remembered ones are known");
                Vec::new()
            }
            Err(source) => return Err(IpamError::Store { object: format!("names of node {}", self.node), source }),
        };
        Ok(identity::names(&nodes, &known, self.host_id().await.as_ref(), &self.machine.machine_id))
    }

    /// The id of this machine's host, for what can be done without it. The engine is asked only if nothing is remembered, and
    /// not for longer than a DEL can wait.
    async fn host_id(&self) -> Option<HostId> {
        match &self.machine.host_id {
            Some(known) => Some(known.clone()),
            None => timeout(ASKED, self.engine.own_host_id()).await.ok()?.ok(),
        }
    }

    /// A node's record, if there is one, is that of another machine: what is written down under its name is not ours.
    pub(crate) async fn is_another_machine(&self, name: &NodeName, snapshot: &Snapshot) -> Result<bool, ReadError> {
        let Some(entry) = snapshot.entry(&NodeRecord::at(name))? else { return Ok(false) };
        let Ok(record) = Versioned::<NodeRecord>::read(entry) else { return Ok(false) };
        let machine_id = &self.machine.machine_id;
        let is_decided = !machine_id.is_empty() && !record.record.machine_id.is_empty();
        let host_id = if is_decided { None } else { self.host_id().await };
        let is_another = identity::is_another_machine(&record.record, host_id.as_ref(), machine_id);
        if is_another {
            tracing::warn!(node = %name, "it is another machine's name");
        }
        Ok(is_another)
    }
}

fn is_same_interface(other: &Attachment, attachment: &Attachment) -> bool {
    other != attachment && other.container == attachment.container && other.interface == attachment.interface
}
