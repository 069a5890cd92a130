//! Writes the cluster's record before the first pod does, or gives it a new epoch.
//!
//! A new epoch makes every node forget what it remembers: needed after etcd was restored from a backup, when the
//! revisions that caches compare can occur a second time.

use atoll_ipam::Versioned;
use atoll_model::config::ClusterConfig;
use atoll_model::ids::Epoch;
use atoll_model::record::ClusterRecord;
use atoll_store::{Committed, Compare, Key, Query, Store, Txn};

use crate::controller::Controller;
use crate::error::TenantError;
use crate::registry::{Registry, only, put};

/// What became of the cluster's record.
#[derive(Clone, Debug)]
pub enum Initialised {
    /// It was written.
    New(ClusterRecord),
    /// It was there, and agrees with the configuration.
    There(ClusterRecord),
    /// It has a new epoch.
    Renewed(ClusterRecord),
}

impl Initialised {
    /// The record.
    pub fn record(&self) -> &ClusterRecord {
        match self {
            Self::New(record) | Self::There(record) | Self::Renewed(record) => record,
        }
    }
}

/// See the module. `new_epoch`: give a record that is there a new epoch.
pub async fn init<S: Store, C: Controller>(
    store: &S,
    controller: &C,
    config: &ClusterConfig,
    new_epoch: bool,
) -> Result<Initialised, TenantError> {
    let registry = Registry { store, controller, config };
    let read = || store.read(vec![Query::Key(Key::cluster())]);
    let seen = only(&read().await.map_err(TenantError::store("read the cluster's record"))?)?;
    let new = seen.is_none();
    let cluster = registry.ensure_cluster(seen).await?;
    if new {
        return Ok(Initialised::New(cluster.record));
    }
    if !new_epoch {
        return Ok(Initialised::There(cluster.record));
    }
    renew(&registry, cluster).await
}

async fn renew<S: Store, C: Controller>(
    registry: &Registry<'_, S, C>,
    cluster: Versioned<ClusterRecord>,
) -> Result<Initialised, TenantError> {
    let record = ClusterRecord { epoch: Epoch::random(), ..cluster.record };
    let txn = Txn {
        compare: vec![Compare::Modified(Key::cluster(), cluster.mod_revision)],
        then: vec![put(Key::cluster(), &record)],
        otherwise: vec![Query::Key(Key::cluster())],
    };
    let what = "give the cluster a new epoch";
    match registry.commit(what, txn).await? {
        Committed::Yes(_) => Ok(Initialised::Renewed(record)),
        Committed::Lost(snapshot) => match only::<ClusterRecord>(&snapshot)? {
            // The answer was lost, not the race.
            Some(now) if now.record.epoch == record.epoch => Ok(Initialised::Renewed(record)),
            _ => Err(TenantError::Contended { what: what.to_owned(), attempts: 1 }),
        },
    }
}
