//! Binds a caller to its tenant: cluster, node, access and building, in this order.

use atoll_ipam::Current;
use atoll_records::{ClusterRecord, NodeRecord, Query};
use atoll_store::Store;

use super::Registry;
use super::access::{self, TenantAccess};
use crate::binding::{Node, TenantBinding, Who};
use crate::error::TenantError;
use atoll_network::Engine;

impl<S: Store, E: Engine> Registry<'_, S, E> {
    /// The binding of `who`, continued from `seen`. `again`: apply the tenant's network even if the tenant is active.
    pub(crate) async fn binding(
        &self,
        machine: &Node,
        who: &Who,
        seen: Option<Current>,
        again: bool,
    ) -> Result<TenantBinding, TenantError> {
        let name = access::wanted(who)?;
        let (cluster, node, access) = if let Some(Current { cluster, node, namespace, tenant }) = seen {
            // The answer of a lost claim is about the tenant of that claim, which need not be `name`.
            let access = match &tenant {
                Some(record) => TenantAccess { name: record.record.name.clone(), namespace, tenant },
                None => self.read_access(who, name).await?,
            };
            (cluster, node, access)
        } else {
            let (cluster, node) = (ClusterRecord::at(), NodeRecord::at(&machine.name));
            let mut queries = vec![Query::key(&cluster), Query::key(&node)];
            queries.extend(TenantAccess::queries(who, &name));
            let snapshot = self.store.read(queries).await.map_err(TenantError::store("look up a namespace"))?;
            (snapshot.get(&cluster)?, snapshot.get(&node)?, TenantAccess::read(who, name, &snapshot)?)
        };
        let cluster = self.ensure_cluster(cluster).await?;
        let node = self.ensure_node(machine, node).await?;
        let (cluster, namespace, tenant) = self.enter(who, cluster, access).await?;
        let tenant = self.finish(machine.name.as_str(), &cluster, tenant, again).await?;
        Ok(TenantBinding { cluster, node, namespace, tenant })
    }
}
