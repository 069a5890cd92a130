//! A client of OVSDB, the protocol of Open vSwitch and OVN (RFC 7047, with the extensions of `ovsdb-server(7)`).
//!
//! | module | what |
//! |---|---|
//! | `value`, `operation` | values and operations, and how they are written in JSON |
//! | `monitor` | what changes in a table |
//! | `frame`, `connection`, `stream` | JSON objects on a stream, requests and answers, Unix sockets, TCP and TLS |
//! | `endpoint`, `remote` | servers, and a database on several of them |
//! | `error` | how a request fails |
//!
//! It knows no table of OVN.

mod connection;
mod endpoint;
mod error;
mod frame;
mod monitor;
mod operation;
mod remote;
mod stream;
mod value;

use std::collections::BTreeMap;
use std::future::Future;

use uuid::Uuid;

pub use endpoint::{DatabaseEndpoint, NotEndpoint};
pub use error::{DatabaseError, RefusalKind, RefusedOperation};
pub use monitor::{ColumnKind, Monitor};
pub use operation::{Mutation, Outcome, Row, RowCondition, RowOperation, UUID};
pub use remote::{MemberState, Remote, RemoteSettings, RemoteWatch};
pub use stream::TlsFiles;
pub use value::{Atom, NotValue, Value};

/// How new an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// A member may answer from a copy that is behind. Enough where nothing is concluded from absence.
    Any,
    /// The answer is that of the leader, or of a server of its own.
    Current,
}

/// A database: the seam at which tests make requests fail.
pub trait Database: Send + Sync {
    /// A watch of it.
    type Watch: RowWatch;

    /// Executes a transaction: all of its operations, or none.
    fn transact(
        &self,
        operations: Vec<RowOperation>,
        freshness: Freshness,
    ) -> impl Future<Output = Result<Vec<Outcome>, DatabaseError>> + Send;

    /// Begins to watch rows of a table.
    fn watch(&self, monitor: Monitor) -> impl Future<Output = Result<Self::Watch, DatabaseError>> + Send;
}

/// Rows that are kept up to date. When it is dropped, the watch ends.
pub trait RowWatch: Send {
    /// The rows as far as they are known.
    fn rows(&self) -> &BTreeMap<Uuid, Row>;

    /// Waits for the next change.
    fn changed(&mut self) -> impl Future<Output = Result<(), DatabaseError>> + Send;
}

/// A database that several owners share.
impl<D: Database> Database for std::sync::Arc<D> {
    type Watch = D::Watch;

    async fn transact(
        &self,
        operations: Vec<RowOperation>,
        freshness: Freshness,
    ) -> Result<Vec<Outcome>, DatabaseError> {
        D::transact(self, operations, freshness).await
    }

    async fn watch(&self, monitor: Monitor) -> Result<D::Watch, DatabaseError> {
        D::watch(self, monitor).await
    }
}
