//! The changes that applying a tenant's graph would make, and making them.

use atoll_model::derive::Role;
use atoll_model::ids::TenantName;
use atoll_model::topology::Kind;
use atoll_records::{TenantRecord, Versioned};
use atoll_store::Store;
use serde::Serialize;
use uuid::Uuid;

use super::{Admin, OPERATOR};
use crate::controller::{Controller, Drift, DriftKind};
use crate::error::TenantError;
use crate::graph::{Graph, graph};

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedChange {
    /// The change: `create`, `update`, or `leave`, because it belongs to another owner.
    pub action: &'static str,
    /// The kind of the object.
    pub kind: Kind,
    /// Its id.
    pub id: Uuid,
    /// The role of the object: `gateway-port/1`.
    pub role: String,
    /// In what it differs.
    pub differences: Vec<String>,
}

impl PlannedChange {
    fn of(graph: &Graph, drift: Drift) -> Self {
        let (action, differences) = match drift.difference {
            DriftKind::Missing => ("create", Vec::new()),
            DriftKind::Differs(differences) => ("update", differences),
            DriftKind::Foreign(differences) => ("leave", differences),
        };
        let role = graph.roles.get(&drift.id).map(Role::to_string).unwrap_or_default();
        Self { action, kind: drift.kind, id: drift.id, role, differences }
    }
}

/// Reads all objects of a tenant and changes nothing.
pub async fn plan<S: Store, C: Controller>(
    admin: &Admin<'_, S, C>,
    name: &TenantName,
) -> Result<Vec<PlannedChange>, TenantError> {
    let (cluster, tenant) = admin.known(name).await?;
    let graph = graph(&cluster.record, &tenant.record);
    let findings =
        admin.controller.inspect(&graph).await.map_err(TenantError::controller(format!("inspect tenant {name}")))?;
    Ok(findings.into_iter().map(|drift| PlannedChange::of(&graph, drift)).collect())
}

/// Applies a tenant's graph in any phase of its record, and finishes what is half built.
pub async fn repair<S: Store, C: Controller>(
    admin: &Admin<'_, S, C>,
    name: &TenantName,
) -> Result<Versioned<TenantRecord>, TenantError> {
    let (cluster, tenant) = admin.known(name).await?;
    let registry = admin.registry();
    Box::pin(registry.finish(OPERATOR, &cluster, tenant, true)).await
}
