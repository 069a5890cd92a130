//! The changes that ensuring a tenant's network and the ports of its pods would make, and making them.

use std::time::Duration;

use atoll_model::ids::TenantName;
use atoll_records::{TenantRecord, Versioned};
use atoll_store::Store;
use serde::Serialize;
use uuid::Uuid;

use super::members::shown;
use super::ports::{LostPort, lost_ports, restore_ports};
use super::{Admin, OPERATOR};
use crate::error::TenantError;
use crate::network::network;
use atoll_network::{Drift, DriftKind, Engine};

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedChange {
    /// The change: `create`, `update`, or `leave`, because it belongs to another owner.
    pub action: &'static str,
    /// The kind of the object.
    pub kind: String,
    /// Its id.
    pub id: Uuid,
    /// The role of the object: `gateway-port/1`.
    pub role: String,
    /// In what it differs; of a pod's port, whose it is.
    pub differences: Vec<String>,
}

impl PlannedChange {
    fn of(drift: Drift) -> Self {
        let (action, differences) = match drift.difference {
            DriftKind::Missing => ("create", Vec::new()),
            DriftKind::Differs(differences) => ("update", differences),
            DriftKind::Foreign(differences) => ("leave", differences),
        };
        Self { action, kind: drift.kind, id: drift.id, role: drift.role, differences }
    }

    fn of_port(lost: &LostPort) -> Self {
        let claim = &lost.claim.record;
        let differences = vec![shown(claim)];
        Self { action: "create", kind: "port".to_owned(), id: claim.port, role: "pod-port".to_owned(), differences }
    }
}

/// Reads all objects of a tenant and the ports of its pods, and changes nothing.
pub async fn plan<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    name: &TenantName,
) -> Result<Vec<PlannedChange>, TenantError> {
    let (cluster, tenant) = admin.known(name).await?;
    let network = network(&cluster.record, &tenant);
    let findings =
        admin.engine.diff_network(&network).await.map_err(TenantError::engine(format!("inspect tenant {name}")))?;
    let lost = Box::pin(lost_ports(admin, &cluster.record, &tenant.record)).await?;
    let ports = lost.iter().map(PlannedChange::of_port);
    Ok(findings.into_iter().map(PlannedChange::of).chain(ports).collect())
}

/// Applies a tenant's network in any phase of its record, and finishes what is half built. Then makes the ports of its pods that
/// the engine has lost. `request_lifetime`: how long the creation of a port may take effect if this process ends.
pub async fn repair<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    name: &TenantName,
    request_lifetime: Duration,
) -> Result<Versioned<TenantRecord>, TenantError> {
    let (cluster, tenant) = admin.known(name).await?;
    let registry = admin.registry();
    let finished = Box::pin(registry.finish(OPERATOR, &cluster, tenant, true)).await?;
    Box::pin(restore_ports(admin, &cluster.record, &finished.record, request_lifetime)).await?;
    Ok(finished)
}
