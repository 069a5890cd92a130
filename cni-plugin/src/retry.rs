//! Retrying pending cleanup of earlier calls: a few tombstones at a time, each under its attachment lock, never waiting for one.
//!
//! An attachment that has a state is skipped: it was added again, or is being added; its own DEL will find the tombstone. No error
//! here fails the caller: what cannot be done now stays recorded.

use atoll_ipam::put_tombstone;
use atoll_model::attachment::Attachment;
use atoll_network::Engine;
use atoll_node::attachments::AttachmentLock;
use atoll_records::{Listed, NodeRecord, Query, TombstoneRecord, Versioned};
use atoll_store::Store;
use tokio::time::{Instant, timeout_at};

use crate::detach::{DeletionNote, DetachDeadlines, Detached};
use crate::kernel::Kernel;
use crate::plugin::Plugin;
use crate::tombstone_times::retry_at;

/// How many tombstones are resolved in one call.
const FEW: usize = 4;
/// How many are read for each, so that those which must wait do not hide those which need not.
const WINDOW_PER_TRY: usize = 16;
/// So many failures in a row end the attempt: the controller is down.
const FAILURES: usize = 3;

impl<S: Store, E: Engine, K: Kernel> Plugin<S, E, K> {
    /// Resolves a few tombstones of this node.
    pub async fn retry_pending_cleanup(&self, until: Instant) {
        self.retry_up_to(FEW, until).await;
    }

    /// Resolves all tombstones of this node that can be resolved.
    pub(crate) async fn retry_all_pending_cleanup(&self, until: Instant) {
        self.retry_up_to(usize::MAX, until).await;
    }

    async fn retry_up_to(&self, most: usize, until: Instant) {
        // Requests in flight at the limit are safe to give up: a tombstone goes only when all is done.
        match timeout_at(until, self.retry_under_all_prefixes(most, until)).await {
            Ok(Ok(true)) => self.clear_pending_cleanup(),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::info!(error = &*error, "tombstones stay for later"),
            Err(_) => tracing::info!("tombstones stay for later: no time left"),
        }
    }

    /// Also under prefixes of etcd that this machine has left. True: nothing is left.
    async fn retry_under_all_prefixes(&self, most: usize, until: Instant) -> Result<bool, Box<dyn std::error::Error>> {
        let mut is_all = self.retry_some(most, until).await?;
        for plugin in self.earlier()? {
            is_all &= plugin.retry_some(most, until).await?;
        }
        Ok(is_all)
    }

    /// True: nothing is left.
    async fn retry_some(&self, most: usize, until: Instant) -> Result<bool, Box<dyn std::error::Error>> {
        let window = most.saturating_mul(WINDOW_PER_TRY);
        let mut moved = 0;
        for tombstone in self.local_tombstones.list(window)? {
            if moved == most {
                break;
            }
            if let Some(lock) = self.idle(&tombstone.attachment) {
                moved += 1;
                let recorded = put_tombstone(&self.store, &tombstone, None).await;
                let removed =
                    if recorded.is_ok() { self.local_tombstones.remove(&tombstone.attachment) } else { Ok(()) };
                lock.remove()?;
                recorded?;
                removed?;
            }
        }
        let mut is_all = self.local_tombstones.list(1)?.is_empty();
        for name in self.names() {
            let limit = if most == usize::MAX { 0 } else { window };
            let prefix = TombstoneRecord::of_node(name).into();
            let pending = Query::Range { prefix, from: None, until: None, limit, keys_only: false };
            let read = self.read_of(name, vec![Query::key(NodeRecord::at(name)), pending.clone()]).await?;
            let Some(snapshot) = read else { continue };
            if self.is_another_machine(name, &snapshot).await? {
                continue;
            }
            let entries = &snapshot.answer(&pending)?.entries;
            let listed = Listed::<TombstoneRecord>::read(entries);
            // One that cannot be read is pending as well.
            is_all &= entries.len() < window && listed.damaged.is_empty();
            let tombstones = listed.readable();
            let (mut tried, mut failed) = (0, 0);
            for Versioned { record: tombstone, mod_revision, .. } in &tombstones {
                let now = (self.clock)();
                let retry_at = retry_at(tombstone, now, self.max_request_lifetime());
                // One that a clock wrote which was ahead is written anew, so that it does not wait for that clock.
                let is_right = retry_at == tombstone.not_before;
                let attachment = &tombstone.attachment;
                if tried == most || failed == FAILURES || (retry_at > now && is_right) {
                    is_all = false;
                    continue;
                }
                let Some(lock) = self.idle(attachment) else {
                    is_all = false;
                    continue;
                };
                tried += 1;
                if !is_right || !tombstone.may_have_deletion() {
                    // Before a deletion is sent, the tombstone records it.
                    let deletion_sent = retry_at <= now || tombstone.deletion_sent;
                    let record =
                        TombstoneRecord { not_before: retry_at, since: now, deletion_sent, ..tombstone.clone() };
                    let recorded = put_tombstone(&self.store, &record, Some(*mod_revision)).await;
                    if recorded.is_err() || retry_at > now {
                        is_all = false;
                        lock.remove()?;
                        recorded?;
                        continue;
                    }
                }
                let known = self.known(attachment, None);
                let limits = DetachDeadlines { requests: until, records: until };
                let outcome = self.detach(attachment, DeletionNote::InTombstone, &known, limits).await;
                lock.remove()?;
                match outcome.rest? {
                    Detached::Completely => failed = 0,
                    Detached::Pending => {
                        is_all = false;
                        failed += 1;
                    }
                }
            }
        }
        Ok(is_all)
    }

    /// The lock of an attachment that no call works on and that has no state.
    fn idle(&self, attachment: &Attachment) -> Option<AttachmentLock> {
        let lock = match self.attachment_states.try_lock(attachment) {
            Ok(lock) => lock?,
            Err(error) => {
                tracing::warn!(%attachment, %error, "what is pending for it stays: it cannot be locked");
                return None;
            }
        };
        lock.before().is_none().then_some(lock)
    }
}
