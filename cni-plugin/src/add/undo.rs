//! Undoing a failed ADD.
//!
//! The runtime may never call DEL after a failed ADD. ADD therefore deletes what it made within the remaining deadline, and
//! leaves a tombstone for the rest. An ADD over an attachment that was finished before undoes nothing: the runtime knows the
//! attachment and will DEL it.

use std::path::PathBuf;

use atoll_network::Engine;
use atoll_node::attachments::{AddPhase, AttachmentState};
use atoll_store::Store;
use tokio::time::Instant;

use super::adding::Adding;
use crate::detach::{DeletionNote, DetachDeadlines, KnownAttachment};
use crate::kernel::Kernel;

impl<S: Store, E: Engine, K: Kernel> Adding<'_, S, E, K> {
    /// Takes apart what this ADD made. The caller has its error already: what fails here is logged.
    pub(super) async fn undo(mut self, deadline: Instant) {
        let attachment = &self.call.attachment;
        let in_flight = &self.plugin.in_flight;
        let is_answered = self.began.is_none_or(|began| in_flight.is_answered_since(began));
        let was_done = self.lock.before().is_some_and(|before| before.phase == AddPhase::Done);
        let made_nothing = self.state.claim.is_none() && is_answered;
        if !is_answered {
            self.state.late_requests_until = self.state.late_requests_until.max(self.plugin.request_lifetime_end());
        }
        let put_back = if made_nothing {
            self.lock.restore()
        } else if was_done {
            // The claim may have another port than before, and a request of this call may be in flight.
            let claim = self.lock.before().and_then(|before| before.claim.clone());
            let claim = self.state.claim.take().or(claim);
            self.lock.write(&AttachmentState { phase: AddPhase::Done, claim, ..self.state })
        } else {
            self.take_apart(deadline).await;
            return;
        };
        if let Err(error) = put_back {
            tracing::error!(%attachment, %error, "could not put the attachment state back");
        }
    }

    async fn take_apart(self, deadline: Instant) {
        let attachment = &self.call.attachment;
        let in_flight = &self.plugin.in_flight;
        let known = KnownAttachment {
            pod_netns: Some(PathBuf::from(&self.call.sandbox)),
            late_requests_until: self.state.late_requests_until,
            // The claim is of this call, and nothing it asked the controller was done: there is no port to delete.
            has_no_port: self.is_new && self.began.is_some_and(|began| in_flight.is_unchanged_since(began)),
            deletion_sent: self.state.deletion_sent,
            state: Some(self.state.clone()),
            ..self.plugin.known(attachment, None)
        };
        let now = Instant::now();
        let half = now + deadline.saturating_duration_since(now) / 2;
        let limits = DetachDeadlines { requests: half, records: deadline };
        let outcome = self.plugin.detach(attachment, DeletionNote::InState(&self.lock), &known, limits).await;
        if let Err(error) = &outcome.link {
            tracing::error!(%attachment, %error, "could not delete the interface");
        }
        match outcome.rest {
            Ok(_) => {
                // The rest is recorded, and is retried even if the runtime never calls for this attachment again.
                if let Err(error) = self.lock.remove() {
                    tracing::error!(%attachment, %error, "could not remove the attachment state");
                }
            }
            // The file stays at `adding`, so that a DEL does its work.
            Err(error) => tracing::error!(%attachment, error = &error as &dyn std::error::Error, "could not undo"),
        }
    }
}
