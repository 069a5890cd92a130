//! The verbs of operators: each one file, each a function over the two seams, so that `atollctl` only reads arguments and
//! prints.

mod change;
mod create;
mod delete;
mod evict;
mod held;
mod init;
mod members;
mod plan;
mod ports;
mod progress;
mod prune;
mod set;
mod subnets;

use atoll_model::config::ClusterConfig;
use atoll_model::ids::TenantName;
use atoll_records::{ClaimRecord, ClusterRecord, Query, TenantRecord, Versioned};
use atoll_store::Store;

pub use crate::registry::{able, agree, possible, same, same_engine};
pub use create::{create, create_together};
pub use delete::{Deletion, delete};
pub use evict::{Candidate, Eviction, candidate, evict};
pub use init::{InitRequest, Initialised, ProviderChoice, choose as choose_provider, init};
pub use members::{Moved, join, leave};
pub use plan::{PlannedChange, plan, repair};
pub use progress::Deleted;
pub use prune::{Idle, idle, prune};
pub use set::{Edit, Update, edited, refuse_shared, refuse_unsupported, set};
pub use subnets::{add_subnet, delete_subnet, next_subnet};

use crate::error::TenantError;
use crate::registry::Registry;
use atoll_network::Engine;

/// The environment of an operator's verb.
pub struct Admin<'a, S, E> {
    /// The records.
    pub store: &'a S,
    /// The network.
    pub engine: &'a E,
    /// This machine's configuration of the cluster.
    pub config: &'a ClusterConfig,
}

impl<S: Store, E: Engine> Admin<'_, S, E> {
    fn registry(&self) -> Registry<'_, S, E> {
        Registry { store: self.store, engine: self.engine, config: self.config }
    }

    /// The cluster, which has our engine, and a tenant of it that must be there.
    async fn known(
        &self,
        name: &TenantName,
    ) -> Result<(Versioned<ClusterRecord>, Versioned<TenantRecord>), TenantError> {
        let (cluster, tenant) = (ClusterRecord::at(), TenantRecord::at(name));
        let queries = vec![Query::key(&cluster), Query::key(&tenant)];
        let snapshot = self.store.read(queries).await.map_err(TenantError::store(format!("read tenant {name}")))?;
        let both = snapshot.get(&cluster)?.zip(snapshot.get(&tenant)?);
        let both = both.ok_or_else(|| TenantError::Unknown { tenant: name.clone() })?;
        same_engine(self.engine.name(), &both.0.record.engine)?;
        Ok(both)
    }

    /// All claims. Damaged ones are skipped, with a line in the log.
    async fn claims(&self) -> Result<Vec<Versioned<ClaimRecord>>, TenantError> {
        let claims = ClaimRecord::all();
        let snapshot =
            self.store.read(vec![Query::all(&claims)]).await.map_err(TenantError::store("read the claims"))?;
        Ok(snapshot.list(&claims)?.readable())
    }
}

/// The name of operators in records and logs.
const OPERATOR: &str = "atollctl";
