//! The real etcd, version 3.4 or later, over gRPC.
//!
//! | module | what |
//! |---|---|
//! | `client` | keys with their prefix, and transactions in etcd's own types |
//! | `endpoints` | one connection per endpoint, failover, limits of time |
//! | `failure` | what an error of the library means: not sent, no answer, or an answer |
//! | `limits` | how long a call may take |
//! | `settings` | URLs and certificate files |
//! | `status` | the status that a member reports of itself |
//! | `watch` | watching, across broken connections and compactions |
//!
//! # Guarantees
//! - A request that was not sent, or was refused before any effect, is retried at the next endpoint; so is a read
//!   without an answer.
//! - A commit without an answer is [`StoreError::Unknown`] and never sent again.
//! - All queries of one read are one transaction of etcd, and so have one revision.

mod client;
mod endpoints;
mod failure;
mod limits;
mod settings;
mod status;
mod watch;

use std::time::Duration;

use atoll_records::{Key, Lease, Query, Revision, Snapshot};
use etcd_client as wire;

pub use self::client::Etcd;
use self::endpoints::Repeat;
use self::failure::Stopped;
pub use self::limits::Limits;
pub use self::status::MemberStatus;
pub use self::watch::EtcdWatch;
use crate::{Choice, Chosen, Store, StoreChange, StoreError};

impl Store for Etcd {
    type Watch = EtcdWatch;

    async fn read(&self, queries: Vec<Query>) -> Result<Snapshot, StoreError> {
        self.answer(queries).await
    }

    async fn commit_first(&self, choice: Choice) -> Result<Chosen, StoreError> {
        choice.check()?;
        let lease = choice.changes().find_map(|change| match change {
            StoreChange::Put { lease, .. } => *lease,
            StoreChange::Delete(_) => None,
        });
        let cases = choice.cases.iter().map(|case| (case.then.len(), case.read.clone())).collect();
        let request = self.nested(choice.cases, &choice.otherwise);
        match (self.transact(request, Repeat::Unsent).await, lease) {
            (Err(Stopped::NoLease), Some(lease)) => Err(StoreError::LeaseGone(lease)),
            (outcome, _) => self.chosen(&outcome?, cases, choice.otherwise),
        }
    }

    async fn watch(&self, prefix: Key, after: Revision) -> Result<EtcdWatch, StoreError> {
        EtcdWatch::open(self.clone(), prefix, after).await
    }

    async fn lease(&self, ttl: Duration) -> Result<Lease, StoreError> {
        Ok(Lease(self.grant(ttl, None).await?.id()))
    }

    async fn lease_as(&self, lease: Lease, ttl: Duration) -> Result<(), StoreError> {
        if lease.0 <= 0 {
            return Err(StoreError::Refused(format!("{lease:?}: the id of a lease must be positive")));
        }
        match self.grant(ttl, Some(lease)).await {
            Ok(_) | Err(Stopped::LeaseExists) => Ok(()),
            Err(stopped) => Err(stopped.into()),
        }
    }

    async fn keep_alive(&self, lease: Lease) -> Result<bool, StoreError> {
        let send = |mut client: wire::Client| async move { client.lease_keep_alive(lease.0).await };
        match self.0.endpoints.call(Repeat::Always, send).await {
            Ok(_) => Ok(true),
            Err(Stopped::NoLease) => Ok(false),
            Err(stopped) => Err(stopped.into()),
        }
    }

    async fn revoke(&self, lease: Lease) -> Result<(), StoreError> {
        let send = |mut client: wire::Client| async move { client.lease_revoke(lease.0).await };
        match self.0.endpoints.call(Repeat::Always, send).await {
            Ok(_) | Err(Stopped::NoLease) => Ok(()),
            Err(stopped) => Err(stopped.into()),
        }
    }
}
