//! The interface of an ADD: a veth pair, its addresses, routes and policy rules, as in the claim.

use std::path::{Path, PathBuf};

use atoll_model::attachment::Attachment;
use atoll_model::host_to_pod::nodes_like;
use atoll_model::route::{PodRoute, SCOPE_LINK};
use atoll_network::Engine;
use atoll_records::{ClaimRecord, ClaimedAddress};
use atoll_store::Store;
use atoll_tenant::TenantBinding;

use super::adding::Adding;
use super::call::AddCall;
use crate::error::CallError;
use crate::kernel::{Kernel, KernelError, Netns, PodChange, Veth};
use crate::pod_port::pod_port;
use crate::policy_routing;

/// How often the request to the controller gets a turn before the kernel has the only thread for a millisecond: to connect,
/// to be written. The controller works on it meanwhile.
const HEAD_START: u32 = 4;

impl<S: Store, E: Engine, K: Kernel> Adding<'_, S, E, K> {
    /// Makes the interface as in the claim.
    pub(super) async fn plug_in(
        &self,
        binding: &TenantBinding,
        claim: &ClaimRecord,
        host_netns: Netns,
        stale: bool,
    ) -> Result<(), CallError> {
        let Attachment { interface, .. } = &self.call.attachment;
        let pod_netns = PathBuf::from(&self.call.sandbox);
        let veth = Veth {
            host_netns,
            host_interface: claim.host_interface.clone(),
            pod_netns,
            pod_interface: interface.clone(),
            mac: claim.mac,
            mtu: self.mtu,
        };
        if let Some(earlier) = self.lock.before().and_then(|before| before.host_netns.as_ref())
            && *earlier != veth.host_netns
        {
            self.plugin.unplug_host_end(earlier, &self.call.attachment).await?;
        }
        if stale {
            // It has the address of a claim that is no more.
            self.clear(&veth).await?;
        }
        for _ in 0..HEAD_START {
            tokio::task::yield_now().await;
        }
        if let Err(error) = self.plugin.kernel.create(&veth).await {
            // One end of an earlier interface of this attachment is in the way, in another namespace.
            if !self.clear(&veth).await? {
                return Err(error.into());
            }
            self.plugin.kernel.create(&veth).await?;
        }
        let port = pod_port(binding, claim);
        let needs = self.plugin.engine.plug(&port).await?;
        if needs.checksums {
            let change = PodChange::ComputeChecksums(interface.clone());
            self.plugin.kernel.configure(&veth.pod_netns, &change).await?;
        }
        let networks: Vec<_> = claim.first_of_each_family().map(|claimed| claimed.address).collect();
        self.plugin.host_to_pod().add(&port, &networks, self.mtu).await?;
        self.refuse_policy_routing_conflict(&veth.pod_netns).await?;
        // Rules of an earlier interface of this name in this namespace, which had other addresses.
        self.plugin.delete_policy_rules(interface, &veth.pod_netns, &policy_routing::rules(claim)).await?;
        for change in self.changes(claim, self.plugin.engine.host_to_pod_port(port.subnet).is_some()) {
            // The kernel works while we wait; let the controller's answer in.
            tokio::task::yield_now().await;
            self.plugin.kernel.configure(Path::new(&self.call.sandbox), &change).await?;
        }
        Ok(())
    }

    /// No other interface of the pod has the table or the metric that the name of this one gives. Asked when the interface is
    /// there: of two that are made side by side at least one sees the other.
    async fn refuse_policy_routing_conflict(&self, pod_netns: &Path) -> Result<(), CallError> {
        let interface = &self.call.attachment.interface;
        match self.plugin.policy_routing_conflict(interface, pod_netns).await? {
            None => Ok(()),
            Some(other) => Err(CallError::PolicyRoutingConflict { interface: interface.clone(), other }),
        }
    }

    /// Announces the addresses to the neighbours: some may remember the MAC of an earlier owner. Before the port
    /// is active nothing of it would arrive. Without the announcement a pod works as soon as its neighbours ask again.
    pub(super) async fn announce(&self) {
        let AddCall { attachment, sandbox, .. } = self.call;
        let change = PodChange::Announce(attachment.interface.clone());
        if let Err(error) = self.plugin.kernel.configure(Path::new(sandbox), &change).await {
            tracing::warn!(%attachment, error = &error as &dyn std::error::Error, "the addresses were not announced");
        }
    }

    /// `host_to_pod`: the pod's node is a neighbour of it.
    fn changes(&self, claim: &ClaimRecord, host_to_pod: bool) -> Vec<PodChange> {
        let interface = &self.call.attachment.interface;
        let mut changes = vec![PodChange::LoopbackUp];
        let metric = policy_routing::metric(interface);
        changes.extend(claim.addresses.iter().map(|a| PodChange::Address(interface.clone(), a.address, metric)));
        changes.push(PodChange::Up(interface.clone()));
        let mut routes = self.routes(claim);
        if host_to_pod {
            // Through the gateway an answer would leave the node.
            let node = |claimed: &ClaimedAddress| {
                let [source, _] = nodes_like(claimed.address.ip());
                PodRoute { priority: metric, scope: Some(SCOPE_LINK), ..PodRoute::plain(source.into(), None) }
            };
            routes.extend(claim.first_of_each_family().map(node));
        }
        let own = policy_routing::routes(claim, &routes);
        changes.extend(routes.into_iter().chain(own).map(|route| PodChange::Route(interface.clone(), route)));
        changes.extend(policy_routing::rules(claim).into_iter().map(PodChange::AddRule));
        changes
    }

    /// Deletes the rest of an earlier interface of this attachment. True: there was one.
    async fn clear(&self, veth: &Veth) -> Result<bool, KernelError> {
        let kernel = &self.plugin.kernel;
        if self.plugin.unplug_host_end(&veth.host_netns, &self.call.attachment).await? {
            return Ok(true);
        }
        let pod_netns = Netns::At(veth.pod_netns.clone());
        let pod_end = kernel.inspect(&pod_netns, &veth.pod_interface).await?;
        if pod_end.is_some_and(|link| link.is_pod_end(&self.call.attachment)) {
            kernel.delete(&pod_netns, &veth.pod_interface).await?;
            return Ok(true);
        }
        Ok(false)
    }
}
