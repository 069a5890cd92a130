//! The state of one ADD while it runs.

use std::time::Duration;

use atoll_model::route::PodRoute;
use atoll_network::Engine;
use atoll_node::attachments::{AddPhase, AttachmentLock, AttachmentState};
use atoll_records::{ClaimRecord, Revision};
use atoll_store::Store;
use atoll_tenant::{Resolver, Who};
use tokio::time::Instant;

use super::call::AddCall;
use super::routes::routes;
use crate::error::CallError;
use crate::in_flight::Checkpoint;
use crate::kernel::Kernel;
use crate::plugin::Plugin;

/// One ADD.
pub(super) struct Adding<'a, S, E, K> {
    pub(super) plugin: &'a Plugin<S, E, K>,
    pub(super) call: &'a AddCall,
    pub(super) who: Who,
    pub(super) lock: AttachmentLock,
    pub(super) state: AttachmentState,
    /// The interface existed before this call, and it is of this attachment.
    pub(super) had_interface: bool,
    /// The MTU that it gets, bytes.
    pub(super) mtu: u32,
    /// The requests before the first attempt to claim; none: there was no attempt.
    pub(super) began: Option<Checkpoint>,
    /// The claim is of this call.
    pub(super) is_new: bool,
    /// The revision of the claim for which this call has fenced its node.
    pub(super) fenced_claim: Option<Revision>,
}

impl<'a, S: Store, E: Engine, K: Kernel> Adding<'a, S, E, K> {
    pub(super) fn new(
        plugin: &'a Plugin<S, E, K>,
        call: &'a AddCall,
        lock: AttachmentLock,
        had_interface: bool,
        mtu: u32,
    ) -> Self {
        let known = plugin.known(&call.attachment, lock.before());
        let before = lock.before().cloned();
        let state = AttachmentState {
            phase: AddPhase::Adding,
            attachment: Some(call.attachment.clone()),
            prefix: Some(plugin.config.etcd.prefix.clone()),
            late_requests_until: known.late_requests_until,
            deletion_sent: known.deletion_sent,
            // The interface may still be at the recorded place; the claim is read again.
            host_netns: before.and_then(|before| before.host_netns),
            claim: None,
        };
        let who = Who { namespace: call.pod.namespace.clone(), default_tenant: plugin.config.tenant.default.clone() };
        Self { plugin, call, who, lock, state, had_interface, mtu, began: None, is_new: false, fenced_claim: None }
    }

    pub(super) fn note(&mut self) -> Result<(), CallError> {
        self.lock.write(&self.state).map_err(CallError::file("write the attachment state"))
    }

    pub(super) fn resolver(&self) -> Resolver<'a, S, E> {
        let Plugin { store, engine, config, cache, .. } = self.plugin;
        Resolver { store, engine, config: &config.cluster, node: &self.call.node, cache }
    }

    /// The ADD before this one, if there was any, was not finished.
    pub(super) fn is_first(&self) -> bool {
        self.is_new || self.lock.before().is_some_and(|before| before.phase == AddPhase::Adding)
    }

    /// A deletion of what the engine has for further addresses names no port, and must not arrive after they are made. An engine
    /// that fences deletes them with the port of one claim.
    pub(super) fn waits_for_deletions(&self, claim: &ClaimRecord) -> bool {
        claim.addresses.len() > 1 && !self.plugin.engine.fences()
    }

    /// Waits until a time of the clock, seconds since 1970, at which no request of an earlier call can arrive any more.
    pub(super) async fn wait_for(&self, then: u64, until: Instant) -> Result<(), CallError> {
        let seconds = then.saturating_sub((self.plugin.clock)());
        let wait = Duration::from_secs(seconds);
        if Instant::now() + wait > until {
            return Err(CallError::Crossing { attachment: Box::new(self.call.attachment.clone()), seconds });
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    pub(super) fn routes(&self, claim: &ClaimRecord) -> Vec<PodRoute> {
        routes(claim, &self.plugin.config.routes)
    }
}
