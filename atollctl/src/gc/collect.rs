//! Collects. Only the plugin's own DEL, under the attachment's lock, removes an attachment. What no DEL can
//! name (a host end without a claim, a file without one) is removed here.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use atoll_ipam::{Found, find, tombstones_of};
use atoll_model::attachment::Attachment;
use atoll_model::config::Config;
use atoll_model::ids::{ClaimId, ContainerId, IfName, NetworkName, NodeName};
use atoll_node::paths;
use atoll_records::TombstoneRecord;
use atoll_store::Store;
use serde::Serialize;
use serde_json::Value;

use super::decide::Unwanted;
use super::observe::names;
use crate::failure::Failure;
use crate::{interrupt, links, nodefiles, plugin};

/// A container that does not exist: its DEL only retries pending cleanup.
const PLACEHOLDER: &str = "atoll-gc";
/// Each call retries a few tombstones. More calls than this in one run would delay the runtime's calls.
const MAX_RETRIES: usize = 64;

/// The outcome for one object. The shape of its JSON is stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct CleanupItem {
    /// `attachment`, `interface`, `file`, `tombstone`.
    pub(super) kind: &'static str,
    pub(super) object: String,
    pub(super) outcome: CleanupOutcome,
    pub(super) why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum CleanupOutcome {
    /// Not done, because of `--dry-run`.
    Would,
    /// It is removed completely.
    Done,
    /// The interface is removed; a tombstone records the rest of the cleanup.
    Pending,
    /// It changed since it was read.
    Kept,
    /// It still exists.
    Failed,
}

impl CleanupOutcome {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Would => "would",
            Self::Done => "done",
            Self::Pending => "pending",
            Self::Kept => "kept",
            Self::Failed => "FAILED",
        }
    }
}

impl CleanupItem {
    fn attachment(attachment: &Attachment, outcome: CleanupOutcome, why: impl Into<String>) -> Self {
        Self { kind: "attachment", object: attachment.to_string(), outcome, why: why.into() }
    }
}

const GONE: &str = "its container is no more";
const NO_CLAIM: &str = "it has no claim";
const DIED: &str = "an ADD died before it had a claim";

/// What would be done.
pub(super) fn planned(unwanted: &Unwanted) -> Vec<CleanupItem> {
    let attachments =
        unwanted.attachments.iter().map(|(at, _)| CleanupItem::attachment(at, CleanupOutcome::Would, GONE));
    let item =
        |kind, object, why: &str| CleanupItem { kind, object, outcome: CleanupOutcome::Would, why: why.to_owned() };
    let links =
        unwanted.links.iter().map(|link| item("interface", format!("{} in {}", link.name, link.place), NO_CLAIM));
    let files = unwanted.files.iter().map(|file| item("file", file.path.display().to_string(), DIED));
    attachments.chain(links).chain(files).collect()
}

/// Removes what a GC has decided to remove.
pub(super) struct Collector<'a, S> {
    /// Below every prefix of etcd that this node has had.
    pub(super) stores: &'a [(String, S)],
    pub(super) config: &'a Config,
    /// What the plugin gets on standard input.
    pub(super) stdin: &'a Value,
    pub(super) program: &'a Path,
    pub(super) node: &'a NodeName,
}

impl<S: Store> Collector<'_, S> {
    pub(super) async fn collect(&self, unwanted: &Unwanted) -> Result<Vec<CleanupItem>, Failure> {
        let mut items = Vec::new();
        for (attachment, claim) in &unwanted.attachments {
            let item = self.attachment(attachment, *claim).await?;
            interrupt::note(format!("{} {}: {}", item.kind, item.object, item.outcome.word()));
            items.push(item);
        }
        for link in &unwanted.links {
            let (outcome, why) = outcome(links::delete(link).map(|()| true), NO_CLAIM);
            items.push(CleanupItem {
                kind: "interface",
                object: format!("{} in {}", link.name, link.place),
                outcome,
                why,
            });
        }
        for file in &unwanted.files {
            let (outcome, why) = outcome(file.remove(), DIED);
            items.push(CleanupItem { kind: "file", object: file.path.display().to_string(), outcome, why });
        }
        Ok(items)
    }

    async fn attachment(&self, attachment: &Attachment, claim: Option<ClaimId>) -> Result<CleanupItem, Failure> {
        let item = |outcome, why: &str| Ok(CleanupItem::attachment(attachment, outcome, why));
        // Read again immediately before: collecting the attachments before this one may take long.
        let now = self.find(attachment).await?;
        if now.claim.map(|claim| claim.record.claim) != claim {
            return item(CleanupOutcome::Kept, "its claim changed meanwhile");
        }
        let state = nodefiles::attachment(&self.config.run_dir, attachment);
        if state.is_ok_and(|file| file.is_some_and(|file| file.lock == nodefiles::Lock::Held)) {
            return item(CleanupOutcome::Kept, "a call works on it");
        }
        if let Err(why) = self.del(attachment).await {
            return item(CleanupOutcome::Failed, &why);
        }
        let left = self.find(attachment).await?;
        match (left.tombstone, left.claim) {
            (Some(tombstone), _) => item(CleanupOutcome::Pending, &tombstone.record.note),
            (None, Some(_)) => item(CleanupOutcome::Pending, "a local tombstone of this node has the rest"),
            (None, None) => item(CleanupOutcome::Done, GONE),
        }
    }

    /// The records of an attachment, below the first prefix that has any.
    async fn find(&self, attachment: &Attachment) -> Result<Found, Failure> {
        for (_, store) in self.stores {
            let found = find(store, attachment).await?;
            if found.claim.is_some() || found.tombstone.is_some() {
                return Ok(found);
            }
        }
        Ok(Found { claim: None, tombstone: None })
    }

    async fn del(&self, attachment: &Attachment) -> Result<(), String> {
        // The plugin waits for the lock until its own deadline, and then for at most a few seconds.
        let limit = self.config.timeout + Duration::from_secs(10);
        plugin::delete(self.program, self.stdin, attachment, limit).await
    }

    /// Retries the pending cleanup of earlier calls until no call makes progress.
    pub(super) async fn retry_pending_cleanup(&self, network: &NetworkName) -> Result<Vec<CleanupItem>, Failure> {
        let before = self.tombstones().await?;
        let mut left = before;
        for _ in 0..MAX_RETRIES {
            if left == TombstoneCount::default() {
                break;
            }
            let placeholder = Attachment {
                node: self.node.clone(),
                network: network.clone(),
                container: ContainerId::new(PLACEHOLDER).map_err(|error| Failure::other(error.to_string()))?,
                interface: IfName::new("eth0").map_err(|error| Failure::other(error.to_string()))?,
            };
            if let Err(why) = self.del(&placeholder).await {
                let object = format!("of node {}", self.node);
                return Ok(vec![CleanupItem { kind: "tombstone", object, outcome: CleanupOutcome::Failed, why }]);
            }
            let now = self.tombstones().await?;
            let has_progress = now.work() < left.work();
            left = now;
            if !has_progress {
                break;
            }
        }
        let removed = before.number().saturating_sub(left.number());
        if removed == 0 {
            return Ok(Vec::new());
        }
        let (object, why) = (format!("{removed} of node {}", self.node), "its cleanup is finished".to_owned());
        Ok(vec![CleanupItem { kind: "tombstone", object, outcome: CleanupOutcome::Done, why }])
    }

    /// The tombstones of this node.
    pub(super) async fn tombstones(&self) -> Result<TombstoneCount, Failure> {
        let local_tombstones = nodefiles::local_tombstones(&self.config.state_dir);
        let local_tombstones =
            local_tombstones.map_err(|error| Failure::other(format!("read the local tombstones: {error}")))?;
        let mut recorded = BTreeSet::new();
        for (prefix, store) in self.stores {
            for name in names(store, self.config, self.node).await? {
                let hash =
                    |record: &TombstoneRecord| format!("{}-{}", record.attachment.hash(), paths::installation(prefix));
                recorded.extend(tombstones_of(store, &name, 0).await?.iter().map(|tombstone| hash(&tombstone.record)));
            }
        }
        // One attachment may have a record and, until the next call, a file as well.
        let is_recorded =
            |path: &Path| path.file_name().is_some_and(|name| recorded.contains(&*name.to_string_lossy()));
        let both = local_tombstones.iter().filter(|(path, _)| is_recorded(path)).count();
        Ok(TombstoneCount { in_etcd: recorded.len(), in_files: local_tombstones.len(), both })
    }
}

/// The number of tombstones of this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TombstoneCount {
    in_etcd: usize,
    in_files: usize,
    /// How many of those are in etcd and in a file.
    both: usize,
}

impl TombstoneCount {
    pub(super) fn number(self) -> usize {
        self.in_etcd + self.in_files - self.both
    }

    /// The remaining steps: from a file to etcd is one, from etcd to done another.
    fn work(self) -> usize {
        self.in_etcd + 2 * self.in_files
    }
}

fn outcome(done: std::io::Result<bool>, why: &str) -> (CleanupOutcome, String) {
    match done {
        Ok(true) => (CleanupOutcome::Done, why.to_owned()),
        Ok(false) => (CleanupOutcome::Kept, "a call works on it".to_owned()),
        Err(error) => (CleanupOutcome::Failed, error.to_string()),
    }
}
