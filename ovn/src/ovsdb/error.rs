//! How a request to a database fails.

use std::fmt;

/// Why an operation of a transaction, or its commit, failed. The transaction did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// A row with this identity exists. It may be ours: a server without a quorum repeats a request by itself, and answers
    /// with this (`ovsdb-server(7)`).
    Duplicate,
    /// A constraint of the schema: a name that another row has, or a value that is not allowed.
    Constraint,
    /// A reference to a row that does not exist, or a row that is still referred to.
    Reference,
    /// A `wait` was not met: what the transaction is based on has changed.
    Unmet,
    /// A table or column that the server's schema does not have.
    Unknown,
    /// Our certificate or role does not allow it.
    Denied,
    /// Anything else.
    Other,
}

/// An operation that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedOperation {
    /// Its place in the transaction; none: the commit as a whole.
    pub operation: Option<usize>,
    /// Its table; none: the commit as a whole.
    pub table: Option<&'static str>,
    /// The kind.
    pub refusal: RefusalKind,
    /// What the server wrote.
    pub message: String,
}

impl fmt::Display for RefusedOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.table {
            Some(table) => write!(f, "table {table}: {}", self.message),
            None => write!(f, "{}", self.message),
        }
    }
}

/// A request to a database failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseError {
    /// No server received it.
    #[error("{endpoint}: {reason}")]
    NotSent {
        /// The server that was tried last.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// A server may have received it, and did not answer. A transaction may have been committed, or may still be: a server
    /// without a quorum executes it when it has one again, however late.
    #[error("{endpoint}: {reason}")]
    NoAnswer {
        /// The server.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// No server is up to date: the cluster has no leader, or none that can be reached.
    #[error("{endpoint}: {reason}")]
    Behind {
        /// The server that was asked last.
        endpoint: String,
        /// How it describes itself.
        reason: String,
    },
    /// The transaction was refused and did nothing.
    #[error("{endpoint}: {refused}")]
    Refused {
        /// The server.
        endpoint: String,
        /// The operation, and why.
        refused: RefusedOperation,
    },
    /// Our certificate was refused, or the server's was not accepted.
    #[error("{endpoint}: {reason}")]
    Denied {
        /// The server.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// The server does not speak OVSDB, or lacks the database.
    #[error("{endpoint}: {reason}")]
    NotDatabase {
        /// The server.
        endpoint: String,
        /// What it answered.
        reason: String,
    },
    /// The answer cannot be read, although it is OVSDB's.
    #[error("{endpoint}: {reason}")]
    Unreadable {
        /// The server.
        endpoint: String,
        /// What cannot be read.
        reason: String,
    },
    /// The settings cannot be used.
    #[error("{0}")]
    Settings(String),
}

impl DatabaseError {
    /// The refusal, if the transaction was refused.
    pub fn refusal(&self) -> Option<RefusalKind> {
        match self {
            Self::Refused { refused, .. } => Some(refused.refusal),
            _ => None,
        }
    }
}

/// The kind of an operation's error (RFC 7047, section 5.2, and `ovsdb-server(7)`).
pub(super) fn refusal(error: &str) -> RefusalKind {
    match error {
        "duplicate uuid" | "duplicate uuid-name" => RefusalKind::Duplicate,
        "constraint violation" => RefusalKind::Constraint,
        "referential integrity violation" => RefusalKind::Reference,
        "timed out" => RefusalKind::Unmet,
        "unknown column" | "unknown table" => RefusalKind::Unknown,
        "permission error" | "not allowed" => RefusalKind::Denied,
        _ => RefusalKind::Other,
    }
}
