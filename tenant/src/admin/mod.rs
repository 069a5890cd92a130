//! What operators do: each verb one file, each a function over the two seams, so that `atollctl` only reads arguments
//! and prints.

mod create;
mod delete;
mod evict;
mod init;
mod members;
mod plan;
mod prune;
mod set;
mod subnets;

use atoll_ipam::Versioned;
use atoll_model::config::ClusterConfig;
use atoll_model::ids::TenantName;
use atoll_model::record::{ClaimRecord, ClusterRecord, TenantRecord};
use atoll_store::{Key, Query, Store};

pub use crate::registry::{agree, possible, same};
pub use create::create;
pub use delete::{Deleted, Deletion, delete};
pub use evict::{Candidate, Eviction, candidate, evict};
pub use init::{Initialised, Outside, Wanted, choose as choose_provider, init};
pub use members::{Moved, join, leave};
pub use plan::{Plan, plan, repair};
pub use prune::{Idle, idle, prune};
pub use set::{Edit, Update, edited, refuse_shared, set};
pub use subnets::{add_subnet, delete_subnet, next_subnet};

use crate::controller::Controller;
use crate::error::TenantError;
use crate::registry::{Registry, one, unfit};

/// What an operator works with.
pub struct Admin<'a, S, C> {
    /// The records.
    pub store: &'a S,
    /// The network.
    pub controller: &'a C,
    /// What this machine's file says about the cluster.
    pub config: &'a ClusterConfig,
}

impl<S: Store, C: Controller> Admin<'_, S, C> {
    fn registry(&self) -> Registry<'_, S, C> {
        Registry { store: self.store, controller: self.controller, config: self.config }
    }

    /// The cluster, and a tenant of it that must be there.
    async fn known(
        &self,
        name: &TenantName,
    ) -> Result<(Versioned<ClusterRecord>, Versioned<TenantRecord>), TenantError> {
        let queries = vec![Query::Key(Key::cluster()), Query::Key(Key::tenant(name))];
        let snapshot = self.store.read(queries).await.map_err(TenantError::store(format!("read tenant {name}")))?;
        let [cluster, tenant] = snapshot.answers.as_slice() else { return Err(unfit()) };
        one(cluster)?.zip(one(tenant)?).ok_or_else(|| TenantError::Unknown { tenant: name.clone() })
    }

    /// All claims. Damaged ones are skipped, with a line in the log.
    async fn claims(&self) -> Result<Vec<Versioned<ClaimRecord>>, TenantError> {
        let snapshot = self
            .store
            .read(vec![Query::all(Key::attachments())])
            .await
            .map_err(TenantError::store("read the claims"))?;
        Ok(snapshot.answers.first().map(Versioned::readable).unwrap_or_default())
    }
}

/// What operators are called in records and logs.
const OPERATOR: &str = "atollctl";
