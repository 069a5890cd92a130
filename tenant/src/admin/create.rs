//! Creates tenants before their first pods. Namespaces are admitted with `join`.

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
    let cluster = cluster(admin).await?;
    let (cluster, tenant) = begin(admin, cluster, name).await?;
    Box::pin(admin.registry().finish(OPERATOR, &cluster, tenant, false)).await
}

/// Creates several tenants, whose networks the engine makes together. For each name a result in its place: one that cannot be
/// created does not stop the others.
///
/// # Errors
/// The cluster cannot be read.
pub async fn create_together<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    names: &[TenantName],
) -> Result<Vec<Result<Versioned<TenantRecord>, TenantError>>, TenantError> {
    let cluster = cluster(admin).await?;
    let mut begun = Vec::new();
    let mut results = Vec::with_capacity(names.len());
    for name in names {
        match Box::pin(begin(admin, cluster.clone(), name)).await {
            Ok(tenant) => {
                begun.push(tenant);
                results.push(None);
            }
            Err(error) => results.push(Some(Err(error))),
        }
    }
    let mut finished = Box::pin(admin.registry().finish_together(OPERATOR, begun)).await.into_iter();
    Ok(results.into_iter().filter_map(|result| result.or_else(|| finished.next())).collect())
}

async fn cluster<S: Store, E: Engine>(admin: &Admin<'_, S, E>) -> Result<Versioned<ClusterRecord>, TenantError> {
    let read = admin.store.read(vec![Query::key(ClusterRecord::at())]).await;
    let seen = read.map_err(TenantError::store("read the cluster"))?.get(&ClusterRecord::at())?;
    admin.registry().ensure_cluster(seen).await
}

/// Writes the record of a tenant, whose network is not built yet.
async fn begin<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    cluster: Versioned<ClusterRecord>,
    name: &TenantName,
) -> Result<(Versioned<ClusterRecord>, Versioned<TenantRecord>), TenantError> {
    let registry = admin.registry();
    let who = Who { namespace: None, default_tenant: Some(name.clone()) };
    let access = registry.read_access(&who, name.clone()).await?;
    if access.tenant.is_some() {
        return Err(TenantError::Exists { tenant: name.clone() });
    }
    let (cluster, _, tenant) = Box::pin(registry.enter_as(&who, cluster, access, Some(Origin::Operator))).await?;
    Ok((cluster, tenant))
}
