//! DEL: after it the interface is gone, and the rest is done or durably written down.
//!
//! DEL succeeds if the attachment was never added, if it is repeated, if the namespace is gone or not named, if the
//! controller or etcd is down. It fails if another call holds the lock, if the kernel refuses, or if not even a local file
//! can be written: in these cases cleanup could be lost, and the runtime calls again.
//!
//! The names in the configuration may have changed since the ADD. The attachment state has the prefix of etcd below which
//! the claim is; without one, the other names of this machine and its earlier prefixes are searched before "not found" means
//! "done".

use std::path::PathBuf;
use std::time::Duration;

use atoll_model::attachment::Attachment;
use atoll_network::Engine;
use atoll_node::attachments::{AddPhase, AttachmentLock, AttachmentState};
use atoll_records::TombstoneRecord;
use atoll_store::Store;
use futures_util::future::join;
use tokio::time::{Instant, timeout_at};

use crate::detach::{DeletionNote, DetachDeadlines, KnownAttachment};
use crate::error::CallError;
use crate::kernel::{Kernel, NetnsKind};
use crate::plugin::Plugin;

/// How long controller and etcd may take to answer before the rest is left for later.
const REQUESTS: Duration = Duration::from_secs(1);
/// How long etcd may take, counted from the same moment, to record the end.
const RECORDS: Duration = Duration::from_millis(1600);
/// How long tombstones of earlier calls may be resolved, counted from the same moment.
const RETRY: Duration = Duration::from_millis(1500);

/// Whether the removed attachment was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    KnownAttachment,
    /// Nothing was found, or it is unknown whether all was found: there may be records elsewhere.
    Unknown,
}

/// The arguments of a DEL.
#[derive(Clone, Debug)]
pub struct DelCall {
    /// The attachment.
    pub attachment: Attachment,
    /// `CNI_NETNS`, if there was one.
    pub sandbox: Option<String>,
    /// The caller insists on its own namespace.
    pub own_netns: bool,
}

impl<S: Store, E: Engine, K: Kernel> Plugin<S, E, K> {
    /// Detaches a container.
    pub async fn del(&self, call: &DelCall) -> Result<(), CallError> {
        let attachment = &call.attachment;
        let (pod_netns, kind) = self.pod_netns(call.sandbox.as_deref()).await;
        if let Some(path) = pod_netns.as_ref().filter(|_| kind == NetnsKind::OurOwn && !call.own_netns) {
            return Err(CallError::OwnNetns(path.clone()));
        }
        let until = Instant::now() + self.config.timeout;
        let lock = self.trace.stage("lock", self.lock_even_read_only(attachment, until)).await?;
        let now = Instant::now();
        let limits = DetachDeadlines { requests: now + REQUESTS, records: now + RECORDS };
        // Tombstones of others are resolved behind the kernel's wait. Ours is locked, so it is not among them.
        let retry = self.trace.stage("tombstones", self.retry_pending_cleanup(now + RETRY));
        let taken = self.take_apart(attachment, lock, pod_netns.as_ref(), limits);
        let (taken, ()) = join(taken, retry).await;
        if taken? == Taken::Unknown {
            self.detach_under_other_names(attachment, pod_netns.as_ref(), limits).await?;
            for plugin in self.earlier()? {
                tracing::warn!(%attachment, prefix = plugin.config.etcd.prefix, "searching under an earlier etcd.prefix");
                let lock = plugin.lock_even_read_only(attachment, limits.requests).await?;
                if plugin.take_apart(attachment, lock, pod_netns.as_ref(), limits).await? == Taken::Unknown {
                    plugin.detach_under_other_names(attachment, pod_netns.as_ref(), limits).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes an attachment apart whose lock is held, under the prefix of etcd under which it was made, and removes its file.
    async fn take_apart(
        &self,
        attachment: &Attachment,
        lock: AttachmentLock,
        pod_netns: Option<&PathBuf>,
        limits: DetachDeadlines,
    ) -> Result<Taken, CallError> {
        let before = lock.before();
        let there = self.made_under(before).map(|prefix| (self.with_prefix)(prefix)).transpose()?;
        let plugin = there.as_ref().unwrap_or(self);
        let known = KnownAttachment { pod_netns: pod_netns.cloned(), ..plugin.known(attachment, before) };
        let outcome = plugin.detach(attachment, DeletionNote::InState(&lock), &known, limits).await;
        outcome.link?;
        outcome.rest?;
        // A file that cannot be read does not name the prefix, either.
        let is_unknown = outcome.was_unknown || before.is_some_and(|before| before.prefix.is_none());
        lock.remove().map_err(CallError::file("remove the attachment state"))?;
        Ok(if is_unknown { Taken::Unknown } else { Taken::KnownAttachment })
    }

    /// Takes apart what this machine made for the same container and interface under another name of the node or of the
    /// network: to find nothing under the present names does not mean that there is nothing.
    async fn detach_under_other_names(
        &self,
        attachment: &Attachment,
        pod_netns: Option<&PathBuf>,
        limits: DetachDeadlines,
    ) -> Result<(), CallError> {
        let search = timeout_at(limits.requests, self.attachments_under_other_names(attachment));
        for other in self
            .trace
            .stage("other names", search)
            .await
            .unwrap_or_else(|_| self.local_attachments_under_other_names(attachment))
        {
            tracing::warn!(%attachment, as = %other, "it was made under another name of this node or its network");
            let lock = self.lock_even_read_only(&other, limits.requests).await?;
            self.take_apart(&other, lock, pod_netns, limits).await?;
        }
        Ok(())
    }

    /// This node's knowledge of an attachment whose lock is held.
    pub(crate) fn known(&self, attachment: &Attachment, before: Option<&AttachmentState>) -> KnownAttachment {
        let tombstone = self.local_tombstones.get(attachment);
        let died = before.is_some_and(|state| state.phase == AddPhase::Adding);
        let late_requests = [
            if died { self.request_lifetime_end() } else { 0 },
            // Nothing is ever written down that lies further ahead, unless by a clock that was ahead.
            before.map_or(0, |state| state.late_requests_until.min(self.request_lifetime_end())),
            tombstone.as_ref().map_or(0, |tombstone| self.late_requests_until(tombstone)),
        ];
        KnownAttachment {
            state: before.cloned(),
            pod_netns: None,
            port: tombstone.as_ref().and_then(|tombstone| tombstone.port),
            engine: tombstone.as_ref().map(|tombstone| tombstone.engine.clone()),
            late_requests_until: late_requests.into_iter().max().unwrap_or(0),
            has_local_tombstone: tombstone.is_some(),
            deletion_sent: before.is_some_and(|before| before.deletion_sent)
                || tombstone.as_ref().is_some_and(TombstoneRecord::may_have_deletion),
            has_no_port: false,
        }
    }
}
