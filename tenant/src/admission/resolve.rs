//! Resolves the tenant of a pod: the plugin asks [`Resolver`] and gets a [`TenantBinding`], everything a claim compares and a port
//! needs.
//!
//! # Guarantees
//! - A cached binding costs no round trip.
//! - A new tenant is created completely before its binding is returned.
//! - A stale binding is renewed from the records that the failed transaction returned.
//!
//! A binding is only a proposal: the claim's transaction decides.

use atoll_ipam::Current;
use atoll_model::config::ClusterConfig;
use atoll_store::Store;

use crate::binding::{Node, TenantBinding, Who};
use crate::cache::Cache;
use crate::error::TenantError;
use crate::registry::{Registry, agree};
use atoll_network::Engine;

/// Finds and creates tenant bindings.
pub struct Resolver<'a, S, E> {
    /// The records.
    pub store: &'a S,
    /// The network.
    pub engine: &'a E,
    /// The cluster section of this node's configuration.
    pub config: &'a ClusterConfig,
    /// This machine.
    pub node: &'a Node,
    /// Bindings of earlier calls.
    pub cache: &'a Cache,
}

// By hand: `derive` would demand that store and controller are `Copy` as well.
impl<S, E> Clone for Resolver<'_, S, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S, E> Copy for Resolver<'_, S, E> {}

impl<S: Store, E: Engine> Resolver<'_, S, E> {
    /// The binding of `who`: from the cache without a round trip, else from the store. Missing records are created, and a
    /// new tenant is built.
    pub async fn resolve(&self, who: &Who) -> Result<TenantBinding, TenantError> {
        match self.cache.get(who) {
            Some(binding) if self.fits(&binding) => Ok(binding),
            // On the heap: the way of every other call stays small.
            _ => Box::pin(self.bind(who, None, false)).await,
        }
    }

    /// A cached binding was checked against the configuration at that time. If the configuration has changed since, the store
    /// is read, and the error names the difference.
    fn fits(&self, binding: &TenantBinding) -> bool {
        agree(self.config, self.engine.name(), &binding.cluster.record).is_ok()
            && binding.node.record.host_id == self.node.host_id
    }

    /// A guard no longer holds: continues from the records that the failed transaction returned.
    pub async fn refresh(&self, who: &Who, stale: Current) -> Result<TenantBinding, TenantError> {
        Box::pin(self.bind(who, Some(stale), false)).await
    }

    /// The parent of a port was gone: drops the cached binding, reads it anew and applies the tenant's network again.
    pub async fn rebuild(&self, who: &Who) -> Result<TenantBinding, TenantError> {
        Box::pin(self.bind(who, None, true)).await
    }

    /// Every active subnet of the tenant is full: returns a binding with another subnet, or why the tenant cannot grow, which
    /// is of [`Class::Exhausted`](atoll_model::error::Class).
    pub async fn grow(&self, who: &Who, binding: TenantBinding) -> Result<TenantBinding, TenantError> {
        Box::pin(async {
            let by = self.node.name.as_str();
            let before = binding.tenant.record.incarnation;
            let tenant = self.registry().grow(by, &binding.cluster, binding.tenant).await?;
            if tenant.record.incarnation != before {
                // Another incarnation of the name: access is decided anew.
                return self.bind(who, None, false).await;
            }
            let binding = TenantBinding { tenant, ..binding };
            self.cache.put(who, &binding);
            Ok(binding)
        })
        .await
    }

    fn registry(&self) -> Registry<'_, S, E> {
        Registry { store: self.store, engine: self.engine, config: self.config }
    }

    async fn bind(&self, who: &Who, seen: Option<Current>, again: bool) -> Result<TenantBinding, TenantError> {
        self.cache.drop(who);
        let binding = self.registry().binding(self.node, who, seen, again).await?;
        self.cache.put(who, &binding);
        Ok(binding)
    }
}
