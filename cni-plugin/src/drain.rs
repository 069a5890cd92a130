//! Settling what earlier calls left for later: a few at a time, each under its attachment's lock, never waiting for one.
//!
//! An attachment that has a progress file is left alone: it was added again since, or is being added; its own DEL will
//! see the tombstone. Nothing here is an error for the caller: what cannot be settled now stays written down.

use atoll_records::{Listed, NodeRecord, Query, TombstoneRecord, Versioned};

use atoll_ipam::bury;
use atoll_model::attachment::Attachment;
use atoll_store::Store;
use atoll_tenant::controller::Controller;
use tokio::time::{Instant, timeout_at};

use crate::detach::{Announce, Detached, Limits};
use crate::due::due;
use crate::journal::Journal;
use crate::wire::Wire;
use crate::world::World;

/// How many are settled in one call.
const FEW: usize = 4;
/// How many are looked at for each, so that those which must wait do not hide those which need not.
const WINDOW_PER_TRY: usize = 16;
/// So many failures in a row: the controller is down, and the others would only take our time.
const HOPELESS: usize = 3;

impl<S: Store, C: Controller, W: Wire> World<S, C, W> {
    /// Settles a few tombstones of this node.
    pub async fn drain(&self, until: Instant) {
        self.drain_up_to(FEW, until).await;
    }

    /// Settles all tombstones of this node that can be settled.
    pub(crate) async fn drain_all(&self, until: Instant) {
        self.drain_up_to(usize::MAX, until).await;
    }

    async fn drain_up_to(&self, most: usize, until: Instant) {
        // Whatever is on its way at the limit is safe to give up: tombstones go only when all is done.
        match timeout_at(until, self.drain_everywhere(most, until)).await {
            Ok(Ok(true)) => self.owes_nothing(),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::info!(error = &*error, "tombstones stay for later"),
            Err(_) => tracing::info!("tombstones stay for later: no time left"),
        }
    }

    /// Also under prefixes of etcd that this machine has left. True: nothing is left.
    async fn drain_everywhere(&self, most: usize, until: Instant) -> Result<bool, Box<dyn std::error::Error>> {
        let mut is_all = self.drain_some(most, until).await?;
        for world in self.earlier()? {
            is_all &= world.drain_some(most, until).await?;
        }
        Ok(is_all)
    }

    /// True: nothing is left.
    async fn drain_some(&self, most: usize, until: Instant) -> Result<bool, Box<dyn std::error::Error>> {
        let window = most.saturating_mul(WINDOW_PER_TRY);
        let mut moved = 0;
        for grave in self.graves.list(window)? {
            if moved == most {
                break;
            }
            if let Some(journal) = self.idle(&grave.attachment) {
                moved += 1;
                let buried = bury(&self.store, &grave, None).await;
                let removed = if buried.is_ok() { self.graves.remove(&grave.attachment) } else { Ok(()) };
                journal.remove()?;
                buried?;
                removed?;
            }
        }
        let mut is_all = self.graves.list(1)?.is_empty();
        for name in self.names() {
            let limit = if most == usize::MAX { 0 } else { window };
            let prefix = TombstoneRecord::of_node(name).into();
            let pending = Query::Range { prefix, from: None, until: None, limit, keys_only: false };
            let read = self.read_of(name, vec![Query::key(NodeRecord::at(name)), pending.clone()]).await?;
            let Some(snapshot) = read else { continue };
            if self.is_another_machine(name, &snapshot)? {
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
                let due = due(tombstone, now, self.longest_wait());
                // One that a clock wrote which was ahead is written anew, so that it does not wait for that clock.
                let is_right = due == tombstone.not_before;
                let attachment = &tombstone.attachment;
                if tried == most || failed == HOPELESS || (due > now && is_right) {
                    is_all = false;
                    continue;
                }
                let Some(journal) = self.idle(attachment) else {
                    is_all = false;
                    continue;
                };
                tried += 1;
                if !is_right || !tombstone.is_closing() {
                    // Before a deletion is sent, the tombstone says so.
                    let closing = due <= now || tombstone.closing;
                    let record = TombstoneRecord { not_before: due, since: now, closing, ..tombstone.clone() };
                    let buried = bury(&self.store, &record, Some(*mod_revision)).await;
                    if buried.is_err() || due > now {
                        is_all = false;
                        journal.remove()?;
                        buried?;
                        continue;
                    }
                }
                let known = self.known(attachment, None);
                let limits = Limits { requests: until, records: until };
                let outcome = self.detach(attachment, Announce::Buried, &known, limits).await;
                journal.remove()?;
                match outcome.rest? {
                    Detached::Wholly => failed = 0,
                    Detached::Owing => {
                        is_all = false;
                        failed += 1;
                    }
                }
            }
        }
        Ok(is_all)
    }

    /// The lock of an attachment that nobody works on and that has no progress file.
    fn idle(&self, attachment: &Attachment) -> Option<Journal> {
        let journal = match self.journals.try_lock(attachment) {
            Ok(journal) => journal?,
            Err(error) => {
                tracing::warn!(%attachment, %error, "what is pending for it stays: it cannot be locked");
                return None;
            }
        };
        journal.before().is_none().then_some(journal)
    }
}
