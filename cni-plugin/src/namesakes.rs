//! What this machine made for a container's interface under another name: of the node (its host name changed, its
//! configuration names it anew) or of the network (the configuration list was renamed).
//!
//! An interface of a container is one thing, whatever node and network were called when it was made. So container and
//! interface find it; the claims that are searched are those of names under which this machine is registered, so that
//! another machine's container of the same id is never meant.

use std::collections::BTreeSet;

use atoll_ipam::{IpamError, Versioned};
use atoll_model::attachment::Attachment;
use atoll_model::ids::NodeName;
use atoll_model::record::NodeRecord;
use atoll_store::{Answer, Key, Query, Store, StoreError};
use atoll_tenant::controller::Controller;
use atoll_tenant::identity;

use crate::wire::Wire;
use crate::world::{Machine, World};

impl<S: Store, C: Controller, W: Wire> World<S, C, W> {
    /// Every other attachment of the same container and interface that this machine has: in its files, and in etcd as far
    /// as that answers.
    pub(crate) async fn namesakes(&self, attachment: &Attachment) -> BTreeSet<Attachment> {
        let mut found = self.namesakes_here(attachment);
        match self.recorded_under(attachment).await {
            Ok(recorded) => found.extend(recorded),
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "only files tell of other names"),
        }
        found
    }

    /// The same from this node's files alone.
    pub(crate) fn namesakes_here(&self, attachment: &Attachment) -> BTreeSet<Attachment> {
        let failed = |error: std::io::Error| tracing::warn!(%error, "files do not tell of other names");
        let progress = self.journals.known().map_err(failed).unwrap_or_default();
        let graves = self.graves.list(usize::MAX).map_err(failed).unwrap_or_default();
        let graves = graves.into_iter().map(|grave| grave.attachment);
        progress
            .into_iter()
            .map(|noted| noted.attachment)
            .chain(graves)
            .filter(|other| is_namesake(other, attachment))
            .collect()
    }

    async fn recorded_under(&self, attachment: &Attachment) -> Result<Vec<Attachment>, IpamError> {
        let (mut names, mut found): (Vec<_>, _) = (self.names().cloned().collect(), Vec::new());
        let mut at = 0;
        while let Some(name) = names.get(at).cloned() {
            let queries = vec![
                Query::Key(Key::node(&name)),
                Query::keys(Key::attachments_of(&name)),
                Query::keys(Key::tombstones_of(&name)),
            ];
            let answers = self.read_of(&name, queries).await?;
            if at == 0 && answers.first().is_some_and(|node| node.one().is_none()) {
                // The present name was never used: this machine may have had another that it does not remember.
                let more = self.names_in_cluster().await?;
                let more: Vec<_> = more.into_iter().filter(|name| !names.contains(name)).collect();
                names.extend(more);
            }
            if answers.first().is_some_and(|node| !self.is_another_machine(node)) {
                let entries = answers.iter().skip(1).flat_map(|answer| &answer.entries);
                found.extend(
                    entries
                        .filter_map(|entry| entry.key.attachment_part())
                        .filter(|other| is_namesake(other, attachment)),
                );
            }
            at += 1;
        }
        Ok(found)
    }

    /// Reads records of one name of this machine. The role of this node's certificate may cover its present name alone:
    /// nothing is seen of the others then.
    pub(crate) async fn read_of(&self, name: &NodeName, queries: Vec<Query>) -> Result<Vec<Answer>, IpamError> {
        match self.store.read(queries).await {
            Ok(snapshot) => Ok(snapshot.answers),
            Err(StoreError::Denied(reason)) if *name != self.node => {
                tracing::warn!(%name, reason, "what was made under an earlier name cannot be read");
                Ok(Vec::new())
            }
            Err(source) => Err(IpamError::Store { object: format!("node {name}"), source }),
        }
    }

    /// Every name under which records can be this machine's, those included that only the cluster remembers.
    pub(crate) async fn names_in_cluster(&self) -> Result<BTreeSet<NodeName>, IpamError> {
        let known: Vec<_> = self.names().cloned().collect();
        let Machine { host_id, machine_id } = &self.machine;
        let nodes = match self.store.read(vec![Query::all(Key::nodes())]).await {
            Ok(snapshot) => snapshot.answers.into_iter().next().unwrap_or_default(),
            Err(StoreError::Denied(reason)) => {
                tracing::warn!(reason, "the names of nodes cannot be read: only remembered ones are known");
                Answer::default()
            }
            Err(source) => return Err(IpamError::Store { object: format!("names of node {}", self.node), source }),
        };
        Ok(identity::names(&nodes, &known, *host_id, machine_id))
    }

    /// A node's record, if there is one, is that of another machine: what is written down under its name is not ours.
    pub(crate) fn is_another_machine(&self, node: &Answer) -> bool {
        let Some(record) = node.one().and_then(|entry| Versioned::<NodeRecord>::read(entry).ok()) else { return false };
        let Machine { host_id, machine_id } = &self.machine;
        let is_another = identity::is_another_machine(&record.record, *host_id, machine_id);
        if is_another {
            tracing::warn!(node = node.one().map_or("", |entry| entry.key.as_str()), "it is another machine's name");
        }
        is_another
    }
}

fn is_namesake(other: &Attachment, attachment: &Attachment) -> bool {
    other != attachment && other.container == attachment.container && other.interface == attachment.interface
}
