//! The records of cluster, nodes, namespaces and tenants: reading them, making what is new, finishing what is half done.
//!
//! | module | what |
//! |---|---|
//! | `cluster` | what all nodes agree on, written once |
//! | `node` | which machine has a node's name |
//! | `bind` | the binding of a caller to its tenant |
//! | `access` | which tenant a caller may enter. Pure |
//! | `tenant` | entering: joining a namespace to its tenant, creating a tenant |
//! | `pools` | the pools of the cluster from which subnets get their prefixes. Pure |
//! | `subnet`, `grow` | another subnet for a tenant: by command, and when it is full |
//! | `build`, `build_lease` | from `building` to `active`, one holder of the build lease at a time |
//! | `overtaken` | withdrawing what a writer applied from a record that was not the current one |
//!
//! # Guarantees
//! - Every change is one transaction that compares the records on which it is based.
//! - If its answer is lost, the store is read and the decision made again, unless the store would return the same cause
//!   again.
//! - The next caller completes a partial change.

mod access;
mod bind;
mod build;
mod build_lease;
mod cluster;
mod grow;
mod node;
mod overtaken;
mod pools;
mod subnet;
mod tenant;

use atoll_model::config::ClusterConfig;
use atoll_records::{Query, RecordKey, Versioned};
use atoll_store::{Committed, Compare, Store, StoreChange, Txn};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::attempts::RecordChange;
use crate::error::TenantError;
use atoll_network::Engine;
pub(crate) use cluster::record as cluster_record;
pub use cluster::{able, agree, possible, same_engine};
pub use node::same;
pub(crate) use subnet::{choose, parts, with_subnet};
pub(crate) use tenant::networks;

/// The records, and the network they describe.
pub(crate) struct Registry<'a, S, E> {
    pub(crate) store: &'a S,
    pub(crate) engine: &'a E,
    pub(crate) config: &'a ClusterConfig,
}

impl<S: Store, E: Engine> Registry<'_, S, E> {
    /// Writes a record where there is none; gives what is there in the end.
    pub(crate) async fn create_once<R: DeserializeOwned + Serialize + Clone>(
        &self,
        key: &RecordKey<R>,
        record: R,
    ) -> Result<Versioned<R>, TenantError> {
        let mut change = RecordChange::repeated(format!("write {key}"));
        loop {
            change.begin()?;
            let txn = Txn {
                compare: vec![Compare::absent(key)],
                then: vec![StoreChange::put(key, &record)],
                read: Vec::new(),
                otherwise: vec![Query::key(key)],
            };
            match change.commit(self.store, txn).await? {
                Committed::Yes(done) => return Ok(Versioned::created(record, done.revision)),
                Committed::Lost(snapshot) => {
                    if let Some(there) = snapshot.get(key)? {
                        return Ok(there);
                    }
                }
            }
        }
    }
}
