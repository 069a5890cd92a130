//! The port of an ADD: it exists, is bound as in the claim, and its packets flow.

use atoll_ipam::find;
use atoll_network::{Engine, EngineFailure, PodPort, PortRemoval, PortState};
use atoll_records::ClaimRecord;
use atoll_store::Store;
use atoll_tenant::TenantBinding;
use tokio::time::Instant;

use super::adding::Adding;
use crate::error::CallError;
use crate::kernel::Kernel;
use crate::pod_port::pod_port;

impl<S: Store, E: Engine, K: Kernel> Adding<'_, S, E, K> {
    /// Ensures the port. What was wanted, and how the port is.
    pub(super) async fn open_port(
        &self,
        binding: &TenantBinding,
        claim: &ClaimRecord,
    ) -> Result<(PodPort, PortState), CallError> {
        let engine = &self.plugin.engine;
        let wanted = pod_port(binding, claim);
        let error = match engine.ensure_port(&wanted).await {
            Ok(state) => return Ok((wanted, state)),
            Err(error) => error,
        };
        tracing::info!(port = %wanted.id, error = &error as &dyn std::error::Error, "repairing");
        let wanted = match error.failure {
            // Its subnet is gone: what we remember of the tenant is out of date. Build it again.
            EngineFailure::Absent => {
                let binding = self.resolver().rebuild(&self.who).await?;
                self.refuse_another(&binding, claim)?;
                pod_port(&binding, claim)
            }
            // This node was fenced since its record was read.
            EngineFailure::Overtaken => {
                let binding = self.resolver().rebuild(&self.who).await?;
                // After the epoch: an eviction raises it before it releases claims.
                self.refuse_released(claim).await?;
                pod_port(&binding, claim)
            }
            _ => return Err(error.into()),
        };
        let state = engine.ensure_port(&wanted).await?;
        Ok((wanted, state))
    }

    /// The claim is still this one.
    async fn refuse_released(&self, claim: &ClaimRecord) -> Result<(), CallError> {
        let attachment = &claim.attachment;
        let found = find(&self.plugin.store, attachment).await?.claim;
        match found {
            Some(found) if found.record.claim == claim.claim => Ok(()),
            _ => Err(CallError::Unsteady(Box::new(attachment.clone()))),
        }
    }

    /// No ADD of this claim was finished: another port with its id belongs to a claim that was lost, unless it is not a
    /// pod's port; such a port stays, and the second attempt reports its owner.
    pub(super) async fn replace_port(
        &mut self,
        binding: &TenantBinding,
        claim: &ClaimRecord,
    ) -> Result<(PodPort, PortState), CallError> {
        self.state.deletion_sent = true;
        self.note()?;
        self.plugin.engine.delete_port(&PortRemoval::by_id(claim.port)).await?;
        // It was answered.
        self.state.deletion_sent = false;
        self.note()?;
        self.open_port(binding, claim).await
    }

    /// Waits until the port is active, which also verifies it.
    pub(super) async fn wait_for_packets(
        &self,
        wanted: &PodPort,
        state: PortState,
        until: Instant,
    ) -> Result<(), CallError> {
        let port = wanted.id;
        let begun = Instant::now();
        let within = until.saturating_duration_since(begun);
        let Some(state) = self.plugin.engine.wait_for_port(wanted, state, within).await? else {
            return Err(CallError::Differs { port, problem: "it is gone".to_owned() });
        };
        match wanted.difference(&state) {
            Some(problem) => Err(CallError::Differs { port, problem }),
            None if state.active => Ok(()),
            None => Err(CallError::Inactive { port, waited: begun.elapsed() }),
        }
    }
}
