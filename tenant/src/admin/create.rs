//! Creates a tenant that nobody's pod asked for yet. Namespaces get in with `join`.

use atoll_ipam::Versioned;
use atoll_model::ids::TenantName;
use atoll_model::record::{Origin, TenantRecord};
use atoll_store::{Key, Query, Store};

use super::{Admin, OPERATOR};
use crate::controller::Controller;
use crate::error::TenantError;
use crate::place::Who;
use crate::registry::only;

/// See the module. One that is there already is an error.
pub async fn create<S: Store, C: Controller>(
    admin: &Admin<'_, S, C>,
    name: &TenantName,
) -> Result<Versioned<TenantRecord>, TenantError> {
    let registry = admin.registry();
    let read = admin.store.read(vec![Query::Key(Key::cluster())]).await;
    let cluster = registry.ensure_cluster(only(&read.map_err(TenantError::store("read the cluster"))?)?).await?;
    let who = Who { namespace: None, default_tenant: Some(name.clone()) };
    let door = registry.look(&who, name.clone()).await?;
    if door.tenant.is_some() {
        return Err(TenantError::Exists { tenant: name.clone() });
    }
    let (cluster, _, tenant) = Box::pin(registry.enter_as(&who, cluster, door, Some(Origin::Operator))).await?;
    Box::pin(registry.finish(OPERATOR, &cluster, tenant, false)).await
}
