//! The claim of an ADD: an address is claimed, or the claim that exists is taken over.
//!
//! Before a request is refused because of what other attachments have, or because of what an unfinished DEL of its own left,
//! this node cleans up what it can.

use std::path::PathBuf;

use atoll_ipam::{IpamError, renew};
use atoll_network::{Engine, PortRemoval};
use atoll_node::attachments::AddPhase;
use atoll_records::{ClaimRecord, Revision, Versioned};
use atoll_store::Store;
use atoll_tenant::admin::same_engine;
use atoll_tenant::{Admission, Admitted, Applicant, TenantBinding};
use tokio::time::Instant;

use super::adding::Adding;
use super::call::AddCall;
use crate::detach::{DeletionNote, DetachDeadlines, Detached, KnownAttachment};
use crate::error::CallError;
use crate::kernel::Kernel;
use crate::plugin::Plugin;
use crate::pod_port::pod_port;
use crate::refusal::may_be_caused_by_pending_cleanup;

impl<S: Store, E: Engine, K: Kernel> Adding<'_, S, E, K> {
    /// Claims an address, or finds the claim that is there. Before a request is refused because of what others have, or
    /// because of what an unfinished DEL of its own left, this node cleans up what it can.
    pub(super) async fn claim(
        &mut self,
        admission: &mut Admission<'_, S, E>,
        until: Instant,
    ) -> Result<Versioned<ClaimRecord>, CallError> {
        let AddCall { attachment, pod, requested, .. } = self.call;
        let (pod, pod_uid) = (pod.name.as_deref(), pod.uid.as_deref());
        let mut fence = None;
        let mut is_cleaned = false;
        loop {
            let deletions_until = if self.state.deletion_sent { self.plugin.request_lifetime_end() } else { 0 };
            let applicant = Applicant { attachment, pod, pod_uid, requested, fence, deletions_until };
            let refused: CallError = match admission.claim(applicant).await? {
                Admitted::New(claim) => {
                    self.is_new = true;
                    return Ok(claim);
                }
                Admitted::Already(claim) => {
                    same_engine(self.plugin.engine.name(), &claim.record.engine)?;
                    match self.refuse_another(admission.binding(), &claim.record) {
                        Ok(()) if !self.state.deletion_sent => return Ok(claim),
                        // None: it has changed since it was read.
                        Ok(()) => {
                            if let Some(claim) = self.renew(admission.binding(), claim, until).await? {
                                return Ok(claim);
                            }
                        }
                        Err(refused) => self.clean_up_own(&mut fence, until, refused).await?,
                    }
                    continue;
                }
                Admitted::Blocked(tombstone) => {
                    // Before it is superseded: afterwards only this node's file has that time.
                    let until = self.plugin.late_requests_until(&tombstone.record);
                    self.state.late_requests_until = self.state.late_requests_until.max(until);
                    self.state.deletion_sent |= tombstone.record.may_have_deletion();
                    self.note()?;
                    fence = Some(tombstone.mod_revision);
                    continue;
                }
                Admitted::Refused(refused) if may_be_caused_by_pending_cleanup(&refused) => refused.into(),
                Admitted::Refused(refused @ IpamError::OtherRequest { .. }) => {
                    self.clean_up_own(&mut fence, until, refused.into()).await?;
                    continue;
                }
                Admitted::Refused(refused) => return Err(refused.into()),
                Admitted::Full(full) => full.into(),
                Admitted::Unsteady => return Err(CallError::Unsteady(Box::new(attachment.clone()))),
            };
            if is_cleaned {
                return Err(self.plugin.explain_refusal(refused, None).await);
            }
            is_cleaned = true;
            self.clean_up(until).await;
        }
    }

    /// The claim stays, and a deletion of its port may be in flight: it gets a port of another id. The port before goes
    /// first: no port is there that no claim names, and one interface has one port. None: the claim has changed.
    async fn renew(
        &mut self,
        binding: &TenantBinding,
        claim: Versioned<ClaimRecord>,
        until: Instant,
    ) -> Result<Option<Versioned<ClaimRecord>>, CallError> {
        let Plugin { store, engine, .. } = self.plugin;
        let (node, request_lifetime_end) = (binding.guards().node, self.plugin.request_lifetime_end());
        // From here on there is a claim to roll back. The file does not have its final content: the claim is about to
        // change. If it is not changed, the rollback detects that.
        self.state.claim = Some(claim.clone());
        let is_waited_out = self.waits_for_deletions(&claim.record);
        // Also such as `atollctl tenant repair` sent.
        let is_fenced = self.fenced_claim == Some(claim.mod_revision);
        let by_others = if is_fenced { 0 } else { claim.record.creations_until };
        let creations_until = self.state.late_requests_until.max(by_others);
        let late = if is_waited_out { request_lifetime_end } else { creations_until.min(request_lifetime_end) };
        let mut claim = claim;
        if engine.fences() && creations_until != 0 {
            // A late creation of the port before would have the claim's addresses. From now on it fails, and so does what
            // this call knows of its node: the claim is read anew.
            let port = pod_port(binding, &claim.record);
            let removal = PortRemoval { id: port.id, port: Some(port), verified: false };
            self.plugin.fence(binding.cluster.record.id, &claim.record.attachment, &removal).await?;
            self.state.late_requests_until = 0;
            self.fenced_claim = Some(claim.mod_revision);
            return Ok(None);
        }
        if late > (self.plugin.clock)() {
            // At once: a late release of the claim would come true while we wait.
            let Some(ours) = renew(store, &claim, node, claim.record.port, request_lifetime_end).await? else {
                return Ok(None);
            };
            claim = ours;
            self.state.claim = Some(claim.clone());
            self.plugin.trace.stage("late requests", self.wait_for(late, until)).await?;
        }
        let port = pod_port(binding, &claim.record);
        engine.delete_port(&PortRemoval { id: port.id, port: Some(port), verified: false }).await?;
        let next = claim.record.attachment.port_after(binding.cluster.record.id, claim.record.port);
        Ok(renew(store, &claim, node, next, if is_waited_out { 0 } else { request_lifetime_end }).await?)
    }

    /// Cleans up what this node can. Requests of it that are not answered are not this ADD's.
    async fn clean_up(&mut self, until: Instant) {
        let in_flight = &self.plugin.in_flight;
        let is_answered = self.began.is_none_or(|began| in_flight.is_answered_since(began));
        self.plugin.clean_up_before_refusal(until).await;
        if is_answered {
            self.began = Some(in_flight.checkpoint());
        }
    }

    /// The attachment has a claim of another request: `refused`. If that is only there because a DEL could not finish, the
    /// DEL is finished now. Ok: nothing is left of it.
    async fn clean_up_own(
        &mut self,
        fence: &mut Option<Revision>,
        until: Instant,
        refused: CallError,
    ) -> Result<(), CallError> {
        let attachment = &self.call.attachment;
        let was_done = self.lock.before().is_some_and(|before| before.phase == AddPhase::Done);
        let is_deleted = fence.is_some() || self.plugin.local_tombstones.get(attachment).is_some();
        if was_done || !is_deleted {
            return Err(refused);
        }
        // The tombstone may be superseded by now: the file records that a deletion is in flight.
        self.state.deletion_sent = true;
        self.note()?;
        let known = KnownAttachment {
            pod_netns: Some(PathBuf::from(&self.call.sandbox)),
            late_requests_until: self.state.late_requests_until,
            deletion_sent: true,
            state: None,
            ..self.plugin.known(attachment, None)
        };
        let limits = DetachDeadlines { requests: until, records: until };
        let outcome = self.plugin.detach(attachment, DeletionNote::InState(&self.lock), &known, limits).await;
        outcome.link?;
        *fence = None;
        match outcome.rest? {
            Detached::Completely => Ok(()),
            Detached::Pending => Err(self.plugin.explain_refusal(refused, Some(attachment)).await),
        }
    }

    /// The existing claim must be for the same pod in the same incarnation of the same tenant.
    pub(super) fn refuse_another(&self, binding: &TenantBinding, claim: &ClaimRecord) -> Result<(), CallError> {
        let tenant = &binding.tenant.record;
        if claim.tenant == tenant.name
            && claim.incarnation == tenant.incarnation
            && claim.namespace == self.who.namespace
        {
            return Ok(());
        }
        Err(CallError::OtherRequest { attachment: Box::new(claim.attachment.clone()), tenant: claim.tenant.clone() })
    }
}
