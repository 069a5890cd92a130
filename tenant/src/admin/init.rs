//! Writes the cluster's record before the first pod does, or gives it a new epoch. Adopts an existing provider router, or
//! makes one with its uplinks.
//!
//! A router that Atoll creates is recorded first: a second `init` creates what is missing, and ids derive from the
//! cluster, so it is the same router. A later `init` with other options does not change the choice.
//!
//! A new epoch makes every node discard its caches: needed after etcd was restored from a backup, when the
//! revisions that caches compare can occur a second time.

use atoll_model::config::ClusterConfig;
use atoll_model::derive::NetworkPart;
use atoll_model::ids::Epoch;
use atoll_records::{ClusterRecord, ProviderRecord, Query, Versioned};
use atoll_store::{Committed, Compare, Store, StoreChange, Txn};
use uuid::Uuid;

use crate::attempts::RecordChange;
use crate::error::TenantError;
use crate::network::provider;
use crate::registry::{Registry, able, agree, cluster_record, possible, same_engine};
use atoll_network::{Applied, Engine, provider_object};

/// The options of `init`.
#[derive(Clone, Debug, Default)]
pub struct InitRequest {
    /// Give a record that is there a new epoch.
    pub new_epoch: bool,
    /// The provider router.
    pub provider: ProviderChoice,
}

/// The provider router.
#[derive(Clone, Debug, Default)]
pub enum ProviderChoice {
    /// As in the configuration, or as the cluster has it.
    #[default]
    Configured,
    /// One that is there, by its id or its name.
    Adopted(String),
    /// One that is made here.
    Made(ProviderRecord),
}

/// The outcome for the cluster's record.
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

/// Writes the record, and makes or repairs our own provider router; returns both outcomes.
pub async fn init<S: Store, E: Engine>(
    store: &S,
    engine: &E,
    config: &ClusterConfig,
    wanted: &InitRequest,
) -> Result<(Initialised, Option<Applied>), TenantError> {
    let registry = Registry { store, engine, config };
    let read = store.read(vec![Query::key(ClusterRecord::at())]).await;
    let seen = read.map_err(TenantError::store("read the cluster's record"))?.get(&ClusterRecord::at())?;
    let new = seen.is_none();
    let adopted = choose(engine, config, &wanted.provider, seen.as_ref().map(|seen| &seen.record)).await?;
    let cluster = match (seen, &wanted.provider) {
        (Some(cluster), _) => cluster,
        (None, ProviderChoice::Made(provider)) => {
            possible(config)?;
            able(engine, config).await?;
            let provider = in_engines_words(engine, provider)?;
            let mut record = cluster_record(config, engine.name(), Uuid::nil());
            record.provider_router = provider_object(record.id, &NetworkPart::ProviderRouter);
            record.provider = Some(provider);
            registry.create_once(&ClusterRecord::at(), record).await?
        }
        (None, _) => {
            possible(config)?;
            able(engine, config).await?;
            match adopted {
                Some(router) => {
                    registry.create_once(&ClusterRecord::at(), cluster_record(config, engine.name(), router)).await?
                }
                None => registry.ensure_cluster(None).await?,
            }
        }
    };
    agree(config, engine.name(), &cluster.record)?;
    // Another call may have recorded another choice.
    choose(engine, config, &wanted.provider, Some(&cluster.record)).await?;
    let applied = match provider(&cluster.record) {
        Some(provider) => {
            let what = "make the provider router";
            Some(engine.ensure_provider(&provider).await.map_err(TenantError::engine(what))?)
        }
        None => None,
    };
    let initialised = if new {
        Initialised::New(cluster.record)
    } else if wanted.new_epoch {
        renew(&registry, cluster).await?
    } else {
        Initialised::There(cluster.record)
    };
    Ok((initialised, applied))
}

/// The router that is adopted, if one is named: it is there, and no other has its name. An error when the cluster has
/// chosen otherwise. Changes nothing.
pub async fn choose<E: Engine>(
    engine: &E,
    config: &ClusterConfig,
    provider: &ProviderChoice,
    there: Option<&ClusterRecord>,
) -> Result<Option<Uuid>, TenantError> {
    let other = |record: &ClusterRecord| TenantError::OtherProvider {
        router: record.provider_router,
        made: record.provider.is_some(),
    };
    if let Some(record) = there {
        same_engine(engine.name(), &record.engine)?;
    }
    let named = match (provider, config.provider_router) {
        (ProviderChoice::Adopted(name), _) => name.clone(),
        // The configuration names it: a new cluster must not begin with a router that is not there.
        (ProviderChoice::Configured, Some(id)) if there.is_none() => id.to_string(),
        (ProviderChoice::Configured, _) => return Ok(None),
        (ProviderChoice::Made(_), Some(id)) if there.is_none() => {
            return Err(TenantError::Setting {
                setting: "providerRouter",
                value: id.to_string(),
                problem: "a router that is made here has an id of its own: leave it out",
            });
        }
        (ProviderChoice::Made(provider), _) => {
            let provider = in_engines_words(engine, provider)?;
            return match there.filter(|record| record.provider.as_ref() != Some(&provider)) {
                Some(record) => Err(other(record)),
                None => Ok(None),
            };
        }
    };
    let routers = engine.routers().await.map_err(TenantError::engine("find the provider router"))?;
    let by_id = routers.iter().find(|router| router.id.to_string() == named.to_lowercase()).map(|router| router.id);
    let by_name: Vec<Uuid> = routers.iter().filter(|router| router.name == named).map(|router| router.id).collect();
    let router = match (by_id, by_name.as_slice()) {
        (Some(id), _) => id,
        (None, [only]) => *only,
        (None, found) => return Err(TenantError::NoRouter { name: named, found: found.to_vec() }),
    };
    match there.filter(|record| record.provider_router != router) {
        Some(record) => Err(other(record)),
        None => Ok(Some(router)),
    }
}

/// The same uplinks, with the ids of their hosts as the engine writes them.
fn in_engines_words(engine: &impl Engine, provider: &ProviderRecord) -> Result<ProviderRecord, TenantError> {
    let mut provider = provider.clone();
    for uplink in &mut provider.uplinks {
        uplink.host = engine.host_id(&uplink.host).map_err(TenantError::engine("read the host of an uplink"))?;
    }
    Ok(provider)
}

async fn renew<S: Store, E: Engine>(
    registry: &Registry<'_, S, E>,
    cluster: Versioned<ClusterRecord>,
) -> Result<Initialised, TenantError> {
    let record = ClusterRecord { epoch: Epoch::random(), ..cluster.record };
    let key = ClusterRecord::at();
    let txn = Txn {
        compare: vec![Compare::modified(&key, cluster.mod_revision)],
        then: vec![StoreChange::put(&key, &record)],
        read: Vec::new(),
        otherwise: vec![Query::key(&key)],
    };
    let mut change = RecordChange::once("give the cluster a new epoch");
    match change.commit(registry.store, txn).await? {
        Committed::Yes(_) => Ok(Initialised::Renewed(record)),
        Committed::Lost(snapshot) => match snapshot.get(&key)? {
            // The answer was lost, not the race.
            Some(now) if now.record.epoch == record.epoch => Ok(Initialised::Renewed(record)),
            _ => Err(change.failed()),
        },
    }
}
