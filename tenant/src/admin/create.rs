//! Creates a tenant before its first pod. Namespaces are admitted with `join`.

use atoll_model::ids::TenantName;
use atoll_records::{ClusterRecord, Origin, Query, TenantRecord, Versioned};
use atoll_store::Store;

use super::{Admin, OPERATOR};
use crate::binding::Who;
use crate::error::TenantError;
use atoll_network::Engine;

/// Creates a tenant. One that exists is an error.
pub async fn create<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    name: &TenantName,
) -> Result<Versioned<TenantRecord>, TenantError> {
    let registry = admin.registry();
    let read = admin.store.read(vec![Query::key(ClusterRecord::at())]).await;
    let seen = read.map_err(TenantError::store("read the cluster"))?.get(&ClusterRecord::at())?;
    let cluster = registry.ensure_cluster(seen).await?;
    let who = Who { namespace: None, default_tenant: Some(name.clone()) };
    let access = registry.read_access(&who, name.clone()).await?;
    if access.tenant.is_some() {
        return Err(TenantError::Exists { tenant: name.clone() });
    }
    let (cluster, _, tenant) = Box::pin(registry.enter_as(&who, cluster, access, Some(Origin::Operator))).await?;
    Box::pin(registry.finish(OPERATOR, &cluster, tenant, false)).await
}
