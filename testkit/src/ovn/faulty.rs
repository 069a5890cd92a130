//! A database that fails on demand: every transaction consults a fault plan first.

use std::sync::Arc;

use atoll_ovn::ovsdb::{Database, DatabaseError, Freshness, Monitor, Outcome, RowOperation};

use crate::fault::FaultPlan;

/// Wraps a database. Clones share the database and the plan.
pub struct FaultyDatabase<D> {
    name: &'static str,
    inner: Arc<D>,
    plan: FaultPlan,
}

impl<D> FaultyDatabase<D> {
    /// Wraps `inner`; `plan` decides what fails. `name` is part of what the plan lists.
    pub fn new(name: &'static str, inner: D, plan: FaultPlan) -> Self {
        Self { name, inner: Arc::new(inner), plan }
    }
}

impl<D> Clone for FaultyDatabase<D> {
    fn clone(&self) -> Self {
        Self { name: self.name, inner: Arc::clone(&self.inner), plan: self.plan.clone() }
    }
}

impl<D: Database + 'static> Database for FaultyDatabase<D> {
    type Watch = D::Watch;

    async fn transact(
        &self,
        operations: Vec<RowOperation>,
        freshness: Freshness,
    ) -> Result<Vec<Outcome>, DatabaseError> {
        let kind = if operations.iter().all(RowOperation::reads) { "read" } else { "write" };
        let tables: Vec<_> = operations.iter().map(RowOperation::table).collect();
        let what = format!("{}: {kind} {}", self.name, tables.join(" "));
        let inner = Arc::clone(&self.inner);
        let endpoint = || "fault plan".to_owned();
        self.plan
            .effect(
                || what,
                async move { inner.transact(operations, freshness).await },
                || DatabaseError::NoAnswer { endpoint: endpoint(), reason: "the reply was lost".to_owned() },
                || DatabaseError::NotSent { endpoint: endpoint(), reason: "refused".to_owned() },
            )
            .await
    }

    async fn watch(&self, monitor: Monitor) -> Result<D::Watch, DatabaseError> {
        let what = format!("{}: watch {}", self.name, monitor.table);
        let inner = Arc::clone(&self.inner);
        let endpoint = || "fault plan".to_owned();
        self.plan
            .effect(
                || what,
                async move { inner.watch(monitor).await },
                || DatabaseError::NoAnswer { endpoint: endpoint(), reason: "the reply was lost".to_owned() },
                || DatabaseError::NotSent { endpoint: endpoint(), reason: "refused".to_owned() },
            )
            .await
    }
}
