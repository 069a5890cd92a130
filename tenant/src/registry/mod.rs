//! The records of cluster, nodes, namespaces and tenants: reading them, making what is new, finishing what is half done.
//!
//! | module | what |
//! |---|---|
//! | `cluster` | what all nodes agree on, written once |
//! | `node` | which machine has a node's name |
//! | `door` | which tenant a caller may enter. Pure |
//! | `tenant` | entering: joining a namespace to its tenant, creating a tenant |
//! | `subnet`, `grow` | another subnet for a tenant: when told, and when it is full |
//! | `attempts` | one change, decided on anew until it is made |
//! | `build`, `builder` | from `building` to `active`, one builder at a time |
//!
//! Promises: every change is one transaction that compares what it was decided on; when the answer was lost, the store
//! is read and the decision made again, unless the cause that the store gave would be given again; the next caller
//! completes what another left half done.

mod attempts;
mod build;
mod builder;
mod cluster;
mod door;
mod grow;
mod node;
mod subnet;
mod tenant;

use atoll_ipam::{Current, Versioned};
use atoll_model::config::ClusterConfig;
use atoll_model::record::{ClusterRecord, NodeRecord};
use atoll_store::{Answer, Change, Committed, Key, Query, Snapshot, Store, StoreError, Txn};
use serde::de::DeserializeOwned;

use crate::controller::Controller;
use crate::error::TenantError;
use crate::place::{Node, Place, Who};
pub(crate) use attempts::Attempts;
pub(crate) use cluster::record as cluster_record;
pub use cluster::{agree, possible};
use door::Door;
pub use node::same;
pub(crate) use subnet::{choose, parts, with_subnet};
pub(crate) use tenant::network;

/// How often a decision is made again when others were faster. Each time somebody else got further.
pub(crate) const ATTEMPTS: u32 = 16;

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
        let name = door::wanted(who)?;
        let (cluster, node, door) = if let Some(Current { cluster, node, namespace, tenant }) = seen {
            // What a lost claim brought is about the tenant that it had in mind, which need not be `name`.
            let door = match &tenant {
                Some(record) => Door { name: record.record.name.clone(), namespace, tenant },
                None => self.look(who, name).await?,
            };
            (cluster, node, door)
        } else {
            let mut queries = vec![Query::Key(Key::cluster()), Query::Key(Key::node(&machine.name))];
            queries.extend(Door::queries(who, &name));
            let snapshot = self.store.read(queries).await.map_err(TenantError::store("look up a namespace"))?;
            let [cluster, node, rest @ ..] = snapshot.answers.as_slice() else { return Err(unfit()) };
            (one::<ClusterRecord>(cluster)?, one::<NodeRecord>(node)?, Door::read(who, name, rest)?)
        };
        let cluster = self.ensure_cluster(cluster).await?;
        let node = self.ensure_node(machine, node).await?;
        let (cluster, namespace, tenant) = self.enter(who, cluster, door).await?;
        let tenant = self.finish(machine.name.as_str(), &cluster, tenant, again).await?;
        Ok(Place { cluster, node, namespace, tenant })
    }

    /// Writes a record where there is none; gives what is there in the end.
    pub(crate) async fn create_once<T: DeserializeOwned + serde::Serialize>(
        &self,
        key: Key,
        record: T,
    ) -> Result<Versioned<T>, TenantError> {
        let mut attempts = Attempts::at(format!("write {key}"));
        loop {
            let txn = Txn {
                compare: vec![atoll_store::Compare::Absent(key.clone())],
                then: vec![put(key.clone(), &record)],
                otherwise: vec![Query::Key(key.clone())],
            };
            match attempts.commit(self.store, txn).await? {
                Committed::Yes(revision) => {
                    return Ok(Versioned { record, create_revision: revision, mod_revision: revision });
                }
                Committed::Lost(snapshot) => {
                    if let Some(there) = only(&snapshot)? {
                        return Ok(there);
                    }
                }
            }
            attempts.again()?;
        }
    }
}

pub(crate) fn put<T: serde::Serialize>(key: Key, record: &T) -> Change {
    Change::Put { key, value: atoll_model::record::encode(record), lease: None }
}

pub(crate) fn one<T: DeserializeOwned>(answer: &Answer) -> Result<Option<Versioned<T>>, TenantError> {
    Versioned::of(answer).map_err(TenantError::record)
}

/// The answer to the only query.
pub(crate) fn only<T: DeserializeOwned>(snapshot: &Snapshot) -> Result<Option<Versioned<T>>, TenantError> {
    one(snapshot.answers.first().ok_or_else(unfit)?)
}

/// Fewer answers than questions: a defect of the store.
pub(crate) fn unfit() -> TenantError {
    TenantError::store("read records")(StoreError::Refused("the answer does not fit the question".to_owned()))
}
