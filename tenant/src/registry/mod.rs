//! The records of cluster, nodes, namespaces and tenants: reading them, making what is new, finishing what is half done.
//!
//! | module | what |
//! |---|---|
//! | `cluster` | what all nodes agree on, written once |
//! | `node` | which machine has a node's name |
//! | `access` | which tenant a caller may enter. Pure |
//! | `tenant` | entering: joining a namespace to its tenant, creating a tenant |
//! | `subnet`, `grow` | another subnet for a tenant: when told, and when it is full |
//! | `build`, `build_lease` | from `building` to `active`, one holder of the build lease at a time |
//!
//! # Guarantees
//! - Every change is one transaction that compares the records on which it is based.
//! - If its answer is lost, the store is read and the decision made again, unless the store would return the same cause
//!   again.
//! - The next caller completes a partial change.

mod access;
mod build;
mod build_lease;
mod cluster;
mod grow;
mod node;
mod subnet;
mod tenant;

use atoll_ipam::Current;
use atoll_model::config::ClusterConfig;
use atoll_records::{ClusterRecord, NodeRecord, Query, RecordKey, Versioned};
use atoll_store::{Change, Committed, Compare, Store, Txn};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::attempts::{commit, retry};
use crate::controller::Controller;
use crate::error::TenantError;
use crate::place::{Node, Place, Who};
use access::TenantAccess;
pub(crate) use cluster::record as cluster_record;
pub use cluster::{agree, possible};
pub use node::same;
pub(crate) use subnet::{choose, parts, with_subnet};
pub(crate) use tenant::networks;

/// The records, and the network they describe.
pub(crate) struct Registry<'a, S, C> {
    pub(crate) store: &'a S,
    pub(crate) controller: &'a C,
    pub(crate) config: &'a ClusterConfig,
}

impl<S: Store, C: Controller> Registry<'_, S, C> {
    /// Where `who` belongs, going on from `seen`. `again`: apply the tenant's graph even if the tenant is active.
    pub(crate) async fn place(
        &self,
        machine: &Node,
        who: &Who,
        seen: Option<Current>,
        again: bool,
    ) -> Result<Place, TenantError> {
        let name = access::wanted(who)?;
        let (cluster, node, access) = if let Some(Current { cluster, node, namespace, tenant }) = seen {
            // What a lost claim brought is about the tenant that it had in mind, which need not be `name`.
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
        Ok(Place { cluster, node, namespace, tenant })
    }

    /// Writes a record where there is none; gives what is there in the end.
    pub(crate) async fn create_once<R: DeserializeOwned + Serialize + Clone>(
        &self,
        key: &RecordKey<R>,
        record: R,
    ) -> Result<Versioned<R>, TenantError> {
        let what = format!("write {key}");
        retry(&what, async |attempt| {
            let txn = Txn {
                compare: vec![Compare::absent(key)],
                then: vec![Change::put(key, &record)],
                otherwise: vec![Query::key(key)],
            };
            match commit(self.store, &what, attempt, txn).await? {
                Committed::Yes(revision) => Ok(Some(Versioned::created(record.clone(), revision))),
                Committed::Lost(snapshot) => Ok(snapshot.get(key)?),
            }
        })
        .await
    }
}
