//! Where a pod belongs: the plugin asks [`Resolver`] and gets a [`Place`], everything a claim compares and a port needs.
//!
//! # Guarantees
//! - A cached binding costs no round trip.
//! - A new tenant is created completely before its binding is returned.
//! - A stale binding is renewed from the records that the failed transaction returned.
//!
//! A binding is only a proposal: the claim's transaction decides.

use atoll_records::{ClusterRecord, NodeRecord, Revision, TenantRecord, Versioned};

use atoll_ipam::{Current, Guards};
use atoll_model::config::ClusterConfig;
use atoll_model::derive::{self, Role};
use atoll_model::ids::{Namespace, NodeName, TenantName};
use atoll_store::Store;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cache::Cache;
use crate::controller::Controller;
use crate::error::TenantError;
use crate::registry::{Registry, agree};

/// The records that say where a pod belongs, each with the revision at which it was read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    /// What the cluster agreed on.
    pub cluster: Versioned<ClusterRecord>,
    /// This machine.
    pub node: Versioned<NodeRecord>,
    /// The pod's namespace and the revision of its record; none for the default tenant.
    pub namespace: Option<(Namespace, Revision)>,
    /// The tenant.
    pub tenant: Versioned<TenantRecord>,
}

impl Place {
    /// What a claim compares.
    pub fn guards(&self) -> Guards {
        Guards {
            cluster: self.cluster.mod_revision,
            node: self.node.mod_revision,
            namespace: self.namespace.as_ref().map(|(_, revision)| *revision),
            tenant: self.tenant.mod_revision,
        }
    }

    /// This machine was evicted once: a deletion of a port that it had then may arrive at any time, however late.
    pub fn was_evicted(&self) -> bool {
        self.node.record.epoch > 0
    }

    /// The tenant's router.
    pub fn router(&self) -> Uuid {
        self.id(Role::Router)
    }

    /// The bridge of a subnet.
    pub fn bridge(&self, ordinal: u32) -> Uuid {
        self.id(Role::Bridge(ordinal))
    }

    fn id(&self, role: Role) -> Uuid {
        derive::object(self.cluster.record.id, self.tenant.record.incarnation, role)
    }
}

/// This machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// The id of the controller's agent.
    pub host_id: Uuid,
    /// `/etc/machine-id`; empty where there is none.
    pub machine_id: String,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The pod's namespace, where the runtime names one.
    pub namespace: Option<Namespace>,
    /// `tenant.default` of this node's configuration: for calls that name no namespace.
    pub default_tenant: Option<TenantName>,
}

/// Finds and makes places.
pub struct Resolver<'a, S, C> {
    /// The records.
    pub store: &'a S,
    /// The network.
    pub controller: &'a C,
    /// What this node's file says about the cluster.
    pub config: &'a ClusterConfig,
    /// This machine.
    pub node: &'a Node,
    /// What it remembers.
    pub cache: &'a Cache,
}

impl<S: Store, C: Controller> Resolver<'_, S, C> {
    /// Where `who` belongs: from the cache without a round trip, else from the store. What is new is created and built.
    pub async fn resolve(&self, who: &Who) -> Result<Place, TenantError> {
        match self.cache.get(who) {
            Some(place) if self.fits(&place) => Ok(place),
            // On the heap: the way of every other call stays small.
            _ => Box::pin(self.settle(who, None, false)).await,
        }
    }

    /// A cached place was checked against the file of its day; the file may say something else since. Then the store is
    /// asked, and the error says what disagrees.
    fn fits(&self, place: &Place) -> bool {
        agree(self.config, &place.cluster.record).is_ok() && place.node.record.host_id == self.node.host_id
    }

    /// A guard no longer holds: goes on from what the lost transaction brought.
    pub async fn refresh(&self, who: &Who, stale: Current) -> Result<Place, TenantError> {
        Box::pin(self.settle(who, Some(stale), false)).await
    }

    /// The parent of a port was gone: forgets the place, reads it anew and applies the tenant's graph again.
    pub async fn rebuild(&self, who: &Who) -> Result<Place, TenantError> {
        Box::pin(self.settle(who, None, true)).await
    }

    /// Every active subnet of the place's tenant is full: the place with more room, or why the tenant cannot grow, which
    /// is of [`Class::Exhausted`](atoll_model::error::Class).
    pub async fn grow(&self, who: &Who, place: Place) -> Result<Place, TenantError> {
        Box::pin(async {
            let by = self.node.name.as_str();
            let life = place.tenant.record.incarnation;
            let tenant = self.registry().grow(by, &place.cluster, place.tenant).await?;
            if tenant.record.incarnation != life {
                // Another tenant of that name: look at its door.
                return self.settle(who, None, false).await;
            }
            let place = Place { tenant, ..place };
            self.cache.put(who, &place);
            Ok(place)
        })
        .await
    }

    fn registry(&self) -> Registry<'_, S, C> {
        Registry { store: self.store, controller: self.controller, config: self.config }
    }

    async fn settle(&self, who: &Who, seen: Option<Current>, again: bool) -> Result<Place, TenantError> {
        self.cache.drop(who);
        let place = self.registry().place(self.node, who, seen, again).await?;
        self.cache.put(who, &place);
        Ok(place)
    }
}
