//! Texts that several commands show for tenants and pods: names, phases, and the state of ports.

use atoll_model::ids::TenantName;
use atoll_network::Engine;
use atoll_records::Phase;
use atoll_tenant::TenantError;
use atoll_tenant::admin::same_engine;
use atoll_tenant::inventory::{Inventory, ListedPod, PodState};
use futures_util::{StreamExt as _, stream};
use uuid::Uuid;

use crate::failure::Failure;
use crate::output::or_dash;
use crate::settings::{ConfiguredEngine, Settings};

/// Concurrent requests.
const AT_ONCE: usize = 8;

/// The error for a tenant that does not exist.
pub(crate) fn absent(name: &TenantName) -> Failure {
    TenantError::Unknown { tenant: name.clone() }.into()
}

/// The engine, if it is the one that made the cluster's networks: another one would report every port as missing.
pub(crate) fn engine_of(settings: &Settings, inventory: &Inventory) -> Result<ConfiguredEngine, Failure> {
    let engine = settings.controller()?;
    if let Some(cluster) = &inventory.cluster {
        same_engine(engine.name(), &cluster.engine)?;
    }
    Ok(engine)
}

/// Fills in the state of the pods' ports from the engine. A port whose state cannot be read is `unknown`.
pub(crate) async fn ask<'a>(controller: &impl Engine, pods: impl Iterator<Item = &'a mut ListedPod>) {
    stream::iter(pods)
        .for_each_concurrent(AT_ONCE, |pod| async move {
            pod.state = Some(state_of(controller, pod.port).await);
        })
        .await;
}

/// State of a port in the engine.
pub(crate) async fn state_of(controller: &impl Engine, port: Uuid) -> PodState {
    match controller.port(port).await {
        Ok(Some(port)) if port.active => PodState::Active,
        Ok(Some(port)) if port.location.is_some() => PodState::Inactive,
        Ok(Some(_)) => PodState::Unbound,
        Ok(None) => PodState::Missing,
        Err(_) => PodState::Unknown,
    }
}

/// The name of a pod for people: namespace and name if the runtime passed them, else its container.
pub(crate) fn name(pod: &ListedPod) -> String {
    match (&pod.namespace, &pod.pod) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        (None, Some(name)) => name.clone(),
        _ => format!("container {}", pod.container.chars().take(12).collect::<String>()),
    }
}

/// The word for the state of a pod's port.
pub(crate) fn state(pod: &ListedPod) -> String {
    shown(pod.state)
}

/// The word for a state; a dash if the engine was not asked.
pub(crate) fn shown(state: Option<PodState>) -> String {
    or_dash(state.map(|state| match state {
        PodState::Active => "active",
        PodState::Inactive => "inactive",
        PodState::Unbound => "unbound",
        PodState::Missing => "no port",
        PodState::Unknown => "unknown",
    }))
}

/// The word for a phase.
pub(crate) fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Building => "building",
        Phase::Active => "active",
        Phase::Deleting => "deleting",
    }
}
