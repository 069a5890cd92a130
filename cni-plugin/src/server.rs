//! A server whose settings may be unusable: they name a file (CA, certificate, key) that is missing, unreadable, or readable by
//! others.
//!
//! For a verb that works on this machine, such a server is like one that is unreachable: every request fails at once, with the
//! problem of the settings as the reason.

use std::time::Duration;

use atoll_ovn::ovsdb::{Database, DatabaseError, Freshness, Monitor, Outcome, Remote, RemoteWatch, RowOperation};
use atoll_records::{Key, Lease, Query, Revision, Snapshot};
use atoll_sdn_client::Http;
use atoll_sdn_client::transport::{ApiRequest, ApiResponse, Transport, TransportError};
use atoll_store::etcd::EtcdWatch;
use atoll_store::{Choice, Chosen, Etcd, Store, StoreError};

/// A server whose settings may be unusable.
#[derive(Clone)]
pub enum ConfiguredServer<X, E> {
    /// The settings are right. The server itself may be unreachable.
    Usable(X),
    /// No request can be sent: each gets this error.
    Unusable(E),
}

impl<X, E: Clone> ConfiguredServer<X, E> {
    fn get(&self) -> Result<&X, E> {
        match self {
            Self::Usable(server) => Ok(server),
            Self::Unusable(error) => Err(error.clone()),
        }
    }
}

impl Store for ConfiguredServer<Etcd, StoreError> {
    type Watch = EtcdWatch;

    async fn read(&self, queries: Vec<Query>) -> Result<Snapshot, StoreError> {
        self.get()?.read(queries).await
    }

    async fn commit_first(&self, choice: Choice) -> Result<Chosen, StoreError> {
        self.get()?.commit_first(choice).await
    }

    async fn watch(&self, prefix: Key, after: Revision) -> Result<EtcdWatch, StoreError> {
        self.get()?.watch(prefix, after).await
    }

    async fn lease(&self, ttl: Duration) -> Result<Lease, StoreError> {
        self.get()?.lease(ttl).await
    }

    async fn lease_as(&self, lease: Lease, ttl: Duration) -> Result<(), StoreError> {
        self.get()?.lease_as(lease, ttl).await
    }

    async fn keep_alive(&self, lease: Lease) -> Result<bool, StoreError> {
        self.get()?.keep_alive(lease).await
    }

    async fn revoke(&self, lease: Lease) -> Result<(), StoreError> {
        self.get()?.revoke(lease).await
    }
}

impl Transport for ConfiguredServer<Http, TransportError> {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, TransportError> {
        self.get()?.send(request).await
    }
}

impl Database for ConfiguredServer<Remote, DatabaseError> {
    type Watch = RemoteWatch;

    async fn transact(
        &self,
        operations: Vec<RowOperation>,
        freshness: Freshness,
    ) -> Result<Vec<Outcome>, DatabaseError> {
        self.get()?.transact(operations, freshness).await
    }

    async fn watch(&self, monitor: Monitor) -> Result<RemoteWatch, DatabaseError> {
        self.get()?.watch(monitor).await
    }
}
