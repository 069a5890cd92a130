//! The port of an ADD: it exists, is bound as in the claim, and its packets flow.

use std::time::Duration;

use atoll_model::config::Addressing;
use atoll_model::port_security::PortSecurity;
use atoll_model::topology::Binding;
use atoll_records::ClaimRecord;
use atoll_store::Store;
use atoll_tenant::TenantBinding;
use atoll_tenant::controller::{Controller, ControllerFailure, PortSpec, PortState};
use tokio::time::{Instant, sleep};

use super::adding::Adding;
use crate::error::CallError;
use crate::kernel::Kernel;
use crate::static_entries::static_entries;

/// The first pause between two polls; each is twice as long as the one before.
const FIRST: Duration = Duration::from_micros(500);
/// The longest pause.
const LONGEST: Duration = Duration::from_millis(50);

impl<S: Store, C: Controller, K: Kernel> Adding<'_, S, C, K> {
    /// Ensures the port. What was wanted, and how the port is.
    pub(super) async fn open_port(
        &self,
        binding: &TenantBinding,
        claim: &ClaimRecord,
    ) -> Result<(PortSpec, PortState), CallError> {
        let controller = &self.plugin.controller;
        let mut wanted = wanted(binding, claim);
        let error = match controller.ensure_port(&wanted).await {
            Ok(state) => {
                self.open_port_for_others(&wanted, claim).await?;
                return Ok((wanted, state));
            }
            Err(error) => error,
        };
        tracing::info!(port = %wanted.id, error = &error as &dyn std::error::Error, "repairing");
        match error.failure {
            // Its bridge is gone: what we remember of the tenant is out of date. Build it again.
            ControllerFailure::Absent => {
                let binding = self.resolver().rebuild(&self.who).await?;
                self.refuse_another(&binding, claim)?;
                wanted = self::wanted(&binding, claim);
            }
            _ => return Err(error.into()),
        }
        let state = controller.ensure_port(&wanted).await?;
        self.open_port_for_others(&wanted, claim).await?;
        Ok((wanted, state))
    }

    /// No ADD of this claim was finished: another port with its id belongs to a claim that was lost, unless it is not a
    /// pod's port; such a port stays, and the second attempt reports its owner.
    pub(super) async fn replace_port(
        &mut self,
        binding: &TenantBinding,
        claim: &ClaimRecord,
    ) -> Result<(PortSpec, PortState), CallError> {
        self.state.deletion_sent = true;
        self.note()?;
        self.plugin.controller.delete_port(claim.port).await?;
        // It was answered.
        self.state.deletion_sent = false;
        self.note()?;
        self.open_port(binding, claim).await
    }

    /// Lets the pod send from its further addresses, if it has any.
    async fn open_port_for_others(&self, port: &PortSpec, claim: &ClaimRecord) -> Result<(), CallError> {
        match static_entries(port.bridge, claim) {
            Some(seeds) => Ok(self.plugin.controller.ensure_static_entries(&seeds).await?),
            None => Ok(()),
        }
    }

    /// Waits until the port is active, which also verifies it.
    pub(super) async fn wait_for_packets(
        &self,
        wanted: &PortSpec,
        mut state: PortState,
        until: Instant,
    ) -> Result<(), CallError> {
        let port = wanted.id;
        let begun = Instant::now();
        let mut pause = Duration::ZERO;
        loop {
            if let Some(problem) = difference(wanted, &state) {
                return Err(CallError::Differs { port, problem });
            }
            if state.active {
                return Ok(());
            }
            if Instant::now() + pause >= until {
                return Err(CallError::Inactive { port, waited: begun.elapsed() });
            }
            // The first poll is immediate: the interface was made meanwhile.
            if !pause.is_zero() {
                sleep(pause).await;
            }
            pause = (pause * 2).clamp(FIRST, LONGEST);
            let gone = || CallError::Differs { port, problem: "it is gone".to_owned() };
            state = self.plugin.controller.port(port).await?.ok_or_else(gone)?;
        }
    }
}

fn wanted(binding: &TenantBinding, claim: &ClaimRecord) -> PortSpec {
    // A claim has all its addresses in one subnet: its port is on one bridge.
    let first = claim.addresses.first();
    let address = first.map_or(std::net::Ipv4Addr::UNSPECIFIED, |first| first.address.ip());
    let unique = binding.cluster.record.addressing == Addressing::Unique;
    PortSpec {
        id: claim.port,
        bridge: binding.bridge(first.map_or(0, |address| address.ordinal)),
        host: claim.host_id,
        interface: claim.host_interface.clone(),
        security: PortSecurity { mac: claim.mac, address, unique },
    }
}

fn difference(wanted: &PortSpec, state: &PortState) -> Option<String> {
    if state.device != wanted.bridge {
        return Some(format!("it belongs to {}, not to bridge {}", state.device, wanted.bridge));
    }
    let binding = Binding { host: wanted.host, interface: wanted.interface.to_string() };
    match &state.binding {
        Some(found) if *found == binding => None,
        Some(found) => Some(format!(
            "it is bound to {} of host {}, not to {} of host {}",
            found.interface, found.host, binding.interface, binding.host
        )),
        None => Some(format!("it is not bound to {} of host {}", binding.interface, binding.host)),
    }
}
