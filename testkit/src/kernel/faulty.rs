//! A kernel that fails on demand: every operation consults a fault plan first.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use atoll_cni_plugin::kernel::{
    FoundRoute, HostToPodChange, HostToPodRoute, HostToPodSide, HostToPodState, Kernel, KernelError, Link, Netns,
    NetnsKind, PodChange, PolicyRule, Veth,
};
use atoll_model::ids::IfName;

use crate::fault::FaultPlan;

/// Every operation of `W` is an effect of a [`FaultPlan`].
#[derive(Clone)]
pub struct FaultyKernel<K> {
    inner: Arc<K>,
    plan: FaultPlan,
}

impl<K: Kernel + 'static> FaultyKernel<K> {
    /// Wraps `inner`; `plan` decides what fails.
    pub fn new(inner: Arc<K>, plan: FaultPlan) -> Self {
        Self { inner, plan }
    }

    async fn effect<T: Send + 'static>(
        &self,
        what: String,
        effect: impl Future<Output = Result<T, KernelError>> + Send + 'static,
    ) -> Result<T, KernelError> {
        let error = |reason: &str| KernelError { what: what.clone(), reason: reason.to_owned() };
        let (lost, refused) = (error("the answer was lost"), error("refused"));
        self.plan.effect(|| format!("kernel: {what}"), effect, || lost, || refused).await
    }
}

impl<K: Kernel + 'static> Kernel for FaultyKernel<K> {
    async fn kind(&self, path: &Path) -> Result<NetnsKind, KernelError> {
        let (inner, at) = (Arc::clone(&self.inner), path.to_owned());
        self.effect(format!("kind of {}", path.display()), async move { inner.kind(&at).await }).await
    }

    async fn inspect(&self, netns: &Netns, interface: &IfName) -> Result<Option<Link>, KernelError> {
        let (inner, at, name) = (Arc::clone(&self.inner), netns.clone(), interface.clone());
        self.effect(format!("inspect {interface} in {netns}"), async move { inner.inspect(&at, &name).await }).await
    }

    async fn inspect_index(&self, netns: &Netns, index: u32) -> Result<Option<Link>, KernelError> {
        let (inner, at) = (Arc::clone(&self.inner), netns.clone());
        let what = format!("inspect link {index} in {netns}");
        self.effect(what, async move { inner.inspect_index(&at, index).await }).await
    }

    async fn inspect_address(&self, netns: &Netns, address: IpAddr) -> Result<Option<Link>, KernelError> {
        let (inner, at) = (Arc::clone(&self.inner), netns.clone());
        let what = format!("find address {address} in {netns}");
        self.effect(what, async move { inner.inspect_address(&at, address).await }).await
    }

    async fn create(&self, veth: &Veth) -> Result<(), KernelError> {
        let (inner, veth) = (Arc::clone(&self.inner), veth.clone());
        let what = format!("create {} in {}", veth.host_interface, veth.host_netns);
        self.effect(what, async move { inner.create(&veth).await }).await
    }

    async fn configure(&self, pod_netns: &Path, change: &PodChange) -> Result<(), KernelError> {
        let (inner, at, change) = (Arc::clone(&self.inner), pod_netns.to_owned(), change.clone());
        self.effect(format!("{change} in {}", at.display()), async move { inner.configure(&at, &change).await }).await
    }

    async fn delete(&self, netns: &Netns, interface: &IfName) -> Result<(), KernelError> {
        let (inner, at, name) = (Arc::clone(&self.inner), netns.clone(), interface.clone());
        self.effect(format!("delete {interface} in {netns}"), async move { inner.delete(&at, &name).await }).await
    }

    async fn delete_all(&self, netns: &Netns, interfaces: &[IfName]) -> Result<(), KernelError> {
        let (inner, at, names) = (Arc::clone(&self.inner), netns.clone(), interfaces.to_vec());
        let what = format!("delete {} links in {netns}", interfaces.len());
        self.effect(what, async move { inner.delete_all(&at, &names).await }).await
    }

    async fn routes(&self, netns: &Netns) -> Result<Vec<FoundRoute>, KernelError> {
        let (inner, at) = (Arc::clone(&self.inner), netns.clone());
        self.effect(format!("routes of {netns}"), async move { inner.routes(&at).await }).await
    }

    async fn rules(&self, netns: &Netns) -> Result<Vec<PolicyRule>, KernelError> {
        let (inner, at) = (Arc::clone(&self.inner), netns.clone());
        self.effect(format!("rules of {netns}"), async move { inner.rules(&at).await }).await
    }

    async fn is_same(&self, one: &Path, other: &Path) -> Result<bool, KernelError> {
        let (inner, one, other) = (Arc::clone(&self.inner), one.to_owned(), other.to_owned());
        let what = format!("compare {} and {}", one.display(), other.display());
        self.effect(what, async move { inner.is_same(&one, &other).await }).await
    }

    async fn change_host_to_pod(&self, side: &HostToPodSide, change: &HostToPodChange) -> Result<bool, KernelError> {
        let (inner, side, change) = (Arc::clone(&self.inner), side.clone(), change.clone());
        let what = format!("host to pod: {change}");
        self.effect(what, async move { inner.change_host_to_pod(&side, &change).await }).await
    }

    async fn host_to_pod(&self, side: &HostToPodSide) -> Result<HostToPodState, KernelError> {
        let (inner, side) = (Arc::clone(&self.inner), side.clone());
        self.effect("host to pod: read".to_owned(), async move { inner.host_to_pod(&side).await }).await
    }

    async fn host_to_pod_route(&self, to: IpAddr) -> Result<Option<HostToPodRoute>, KernelError> {
        let inner = Arc::clone(&self.inner);
        self.effect(format!("host to pod: route to {to}"), async move { inner.host_to_pod_route(to).await }).await
    }

    async fn list(&self, netns: &Netns) -> Result<Vec<Link>, KernelError> {
        let (inner, at) = (Arc::clone(&self.inner), netns.clone());
        self.effect(format!("list {netns}"), async move { inner.list(&at).await }).await
    }
}
