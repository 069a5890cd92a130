//! Settling what earlier calls left for later: a few at a time, each under its attachment's lock, never waiting for one.
//!
//! An attachment that has a progress file is left alone: it was added again since, or is being added; its own DEL will
//! see the tombstone. Nothing here is an error for the caller: what cannot be settled now stays written down.

use atoll_ipam::{bury, tombstones_of};
use atoll_model::attachment::Attachment;
use atoll_store::Store;
use atoll_tenant::controller::Controller;
use tokio::time::{Instant, timeout_at};

use crate::detach::{Detached, Limits};
use crate::journal::Journal;
use crate::wire::Wire;
use crate::world::World;

/// How many are settled in one call.
const FEW: usize = 4;
/// How many are looked at for each, so that those which must wait do not hide those which need not.
const WINDOW_PER_TRY: usize = 16;

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
        match timeout_at(until, self.drain_some(most, until)).await {
            Ok(Ok(true)) => self.owes_nothing(),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::info!(error = &*error, "tombstones stay for later"),
            Err(_) => tracing::info!("tombstones stay for later: no time left"),
        }
    }

    /// True: nothing is left.
    async fn drain_some(&self, most: usize, until: Instant) -> Result<bool, Box<dyn std::error::Error>> {
        for grave in self.graves.list(most)? {
            if let Some(journal) = self.idle(&grave.attachment) {
                let buried = bury(&self.store, &grave, None).await;
                if buried.is_ok() {
                    self.graves.remove(&grave.attachment)?;
                }
                journal.remove()?;
                buried?;
            }
        }
        let window = most.saturating_mul(WINDOW_PER_TRY);
        let tombstones = tombstones_of(&self.store, &self.node, if most == usize::MAX { 0 } else { window }).await?;
        let now = (self.clock)();
        let (mut left, mut tried) = (tombstones.len(), 0);
        for tombstone in tombstones.iter().map(|tombstone| &tombstone.record) {
            if tried == most || tombstone.not_before > now {
                continue;
            }
            let attachment = &tombstone.attachment;
            let Some(journal) = self.idle(attachment) else { continue };
            tried += 1;
            let known = self.known(attachment, None);
            let outcome = self.detach(attachment, &known, Limits { requests: until, records: until }).await;
            journal.remove()?;
            match outcome.rest? {
                Detached::Wholly => left -= 1,
                // The controller is still down: the others would only take our time.
                Detached::Owing => return Ok(false),
            }
        }
        Ok(left == 0 && tombstones.len() < window && self.graves.list(1)?.is_empty())
    }

    /// The lock of an attachment that nobody works on and that has no progress file.
    fn idle(&self, attachment: &Attachment) -> Option<Journal> {
        let journal = self.journals.try_lock(attachment).ok().flatten()?;
        journal.before().is_none().then_some(journal)
    }
}
