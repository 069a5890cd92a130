//! The etcd seam: reading, committing, watching and leases, behind one trait.
//!
//! | module | what |
//! |---|---|
//! | [`etcd`] | the production implementation: endpoints, failover, deadlines, TLS |
//! | [`Attempts`] | repeats a decision until its transaction takes effect |
//!
//! # Guarantees
//! - A transaction takes effect once or not at all. If its answer was lost, the error is [`StoreError::Unknown`]; the
//!   caller must read to learn whether it took effect.
//! - A transaction that compares what it changes can be repeated safely, and so can every other method.
//! - Every future is `Send`.
//!
//! This crate does not interpret the values.

mod attempts;
pub mod etcd;

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use atoll_model::error::{Class, Classify};
use atoll_records::{Entry, Key, Lease, Query, RecordKey, Revision, Snapshot, encode};
use serde::Serialize;

pub use attempts::Attempts;
pub use etcd::{Etcd, Limits};

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key does not exist.
    Absent(Key),
    /// The key exists and was last written at this revision.
    Modified(Key, Revision),
    /// The key exists and was created at this revision; later writes do not matter.
    Created(Key, Revision),
}

impl Compare {
    /// The key does not exist.
    pub fn absent(key: impl Into<Key>) -> Self {
        Self::Absent(key.into())
    }

    /// The key exists and was last written at this revision.
    pub fn modified(key: impl Into<Key>, revision: Revision) -> Self {
        Self::Modified(key.into(), revision)
    }

    /// The key exists and was created at this revision; later writes do not matter.
    pub fn created(key: impl Into<Key>, revision: Revision) -> Self {
        Self::Created(key.into(), revision)
    }

    /// The key is as it was read: last written at this revision, or absent.
    pub fn unchanged(key: impl Into<Key>, seen: Option<Revision>) -> Self {
        match seen {
            Some(revision) => Self::Modified(key.into(), revision),
            None => Self::Absent(key.into()),
        }
    }
}

/// A change of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreChange {
    /// Write a value.
    Put {
        /// The key.
        key: Key,
        /// The value.
        value: Vec<u8>,
        /// The lease it dies with.
        lease: Option<Lease>,
    },
    /// Delete one key; absent is fine.
    Delete(Key),
}

/// All conditions hold, all changes happen and the answers to `read` come back; or nothing happens and the answers to
/// `otherwise` come back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// The conditions.
    pub compare: Vec<Compare>,
    /// The changes; each key at most once (etcd refuses otherwise).
    pub then: Vec<StoreChange>,
    /// The records to read along, as they are after the changes.
    pub read: Vec<Query>,
    /// The records that the next attempt needs if the conditions do not hold.
    pub otherwise: Vec<Query>,
}

/// One of several transactions of which at most one happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Case {
    /// Its conditions.
    pub compare: Vec<Compare>,
    /// Its changes; each key at most once (etcd refuses otherwise).
    pub then: Vec<StoreChange>,
    /// The records to read along if this case happens, as they are after its changes.
    pub read: Vec<Query>,
}

impl Case {
    /// Refuses a key that is changed twice: etcd does so for most combinations, we do for all.
    fn check(&self) -> Result<(), StoreError> {
        let mut seen = BTreeSet::new();
        let twice = self.then.iter().map(StoreChange::key).find(|key| !seen.insert(*key));
        twice.map_or(Ok(()), |key| Err(StoreError::Refused(format!("{key} is changed twice in one transaction"))))
    }
}

/// The first case whose conditions hold happens, the others do not; or none happens, and the answers to `otherwise`
/// come back. All of it is one transaction: the conditions of all cases and the answers are of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The cases, the preferred one first.
    pub cases: Vec<Case>,
    /// The records that the next attempt needs if no case holds.
    pub otherwise: Vec<Query>,
}

impl Choice {
    /// Whether etcd would take it.
    ///
    /// # Errors
    /// A key is changed twice in one case.
    pub fn check(&self) -> Result<(), StoreError> {
        self.cases.iter().try_for_each(Case::check)
    }

    /// The changes of all cases, of which those of one case happen at most.
    pub fn changes(&self) -> impl Iterator<Item = &StoreChange> {
        self.cases.iter().flat_map(|case| &case.then)
    }
}

impl From<Txn> for Choice {
    fn from(Txn { compare, then, read, otherwise }: Txn) -> Self {
        Self { cases: vec![Case { compare, then, read }], otherwise }
    }
}

/// How a [`Choice`] ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// This case happened, at the revision of the answers to its `read`.
    Case(usize, Snapshot),
    /// No case held; nothing happened. The answers to `otherwise`.
    Lost(Snapshot),
}

impl StoreChange {
    /// Writes a record under one of its keys.
    pub fn put<R: Serialize>(key: &RecordKey<R>, record: &R) -> Self {
        Self::Put { key: key.into(), value: encode(record), lease: None }
    }

    /// The same; the key expires with a lease.
    pub fn put_leased<R: Serialize>(key: &RecordKey<R>, record: &R, lease: Lease) -> Self {
        Self::Put { key: key.into(), value: encode(record), lease: Some(lease) }
    }

    /// Writes a key without a value that expires with a lease.
    pub fn mark<R>(key: &RecordKey<R>, lease: Lease) -> Self {
        Self::Put { key: key.into(), value: Vec::new(), lease: Some(lease) }
    }

    /// Deletes a key. An absent key is no error.
    pub fn delete(key: impl Into<Key>) -> Self {
        Self::Delete(key.into())
    }

    /// The key that it changes.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete(key) => key,
        }
    }
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The changes happened, at the revision of the answers to `read`.
    Yes(Snapshot),
    /// A condition did not hold; nothing happened. The answers to `otherwise`.
    Lost(Snapshot),
}

/// An event of a watched key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// It was written.
    Put(Entry),
    /// It was deleted, at this revision.
    Delete(Key, Revision),
    /// Events were lost (compaction, or the connection was gone for long): read the prefix again; this is all of it at
    /// one revision, and later events follow from there.
    Resync(Snapshot),
}

/// The time to live of a lease as etcd counts it: whole seconds, at least one, never less than asked for.
pub fn whole_seconds(ttl: Duration) -> u64 {
    (ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)).max(1)
}

/// Events of a prefix, in order.
pub trait Watch: Send {
    /// The next event. It waits for ever if nothing happens: the caller has the deadline.
    fn next(&mut self) -> impl Future<Output = Result<WatchEvent, StoreError>> + Send;
}

/// A linearizable store with transactions. See the crate's guarantees.
pub trait Store: Send + Sync {
    /// The result of [`Store::watch`].
    type Watch: Watch;

    /// Answers all queries at one revision.
    fn read(&self, queries: Vec<Query>) -> impl Future<Output = Result<Snapshot, StoreError>> + Send;

    /// Commits the first of several transactions whose conditions hold.
    fn commit_first(&self, choice: Choice) -> impl Future<Output = Result<Chosen, StoreError>> + Send;

    /// Commits a transaction: a choice with one case.
    fn commit(&self, txn: Txn) -> impl Future<Output = Result<Committed, StoreError>> + Send {
        let chosen = self.commit_first(txn.into());
        async {
            Ok(match chosen.await? {
                Chosen::Case(_, snapshot) => Committed::Yes(snapshot),
                Chosen::Lost(snapshot) => Committed::Lost(snapshot),
            })
        }
    }

    /// Watches a prefix, from the revision after `after` on.
    fn watch(&self, prefix: Key, after: Revision) -> impl Future<Output = Result<Self::Watch, StoreError>> + Send;

    /// Makes a lease that lasts `ttl` (whole seconds, at least 1) beyond its last keep-alive.
    fn lease(&self, ttl: Duration) -> impl Future<Output = Result<Lease, StoreError>> + Send;

    /// Makes the lease of this id (positive, chosen by the caller), unless it is there already. For leases that several
    /// processes share without talking to each other.
    fn lease_as(&self, lease: Lease, ttl: Duration) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Keeps a lease alive; false when it is gone.
    fn keep_alive(&self, lease: Lease) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Ends a lease and deletes its keys; gone already is fine.
    fn revoke(&self, lease: Lease) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing happened: no endpoint could be reached, or it refused before the request had an effect.
    #[error("etcd is not available at {endpoints} ({reason})")]
    Unavailable {
        /// The endpoints that were tried.
        endpoints: String,
        /// The failure of each.
        reason: String,
    },
    /// The request was sent and no answer came: it may or may not have happened. Read to find out.
    #[error("etcd gave no definite answer ({endpoint}): {reason}")]
    Unknown {
        /// The endpoint it was sent to.
        endpoint: String,
        /// The reason.
        reason: String,
    },
    /// A change names a lease that does not exist: nothing happened. If it names several leases, etcd does not report which
    /// one is gone: this is the first one named.
    #[error("the lease {0:?} is gone")]
    LeaseGone(Lease),
    /// We may not do this.
    #[error("etcd denies access: {0}")]
    Denied(String),
    /// The request is larger than etcd takes: nothing happened.
    #[error("etcd takes no request of this size: {0}")]
    TooLarge(String),
    /// The request is wrong, or the answer is; a defect.
    #[error("etcd refused the request: {0}")]
    Refused(String),
    /// The connection's settings are wrong: a URL, a certificate file.
    #[error("etcd settings: {0}")]
    Settings(String),
}

impl StoreError {
    /// A retry has the same result until an operator repairs etcd: it is full or damaged.
    pub fn is_lasting(&self) -> bool {
        self.trouble().is_some()
    }

    /// The fault that an operator has to repair.
    fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Unavailable { reason, .. } | Self::Unknown { reason, .. } => Trouble::of(reason),
            _ => None,
        }
    }
}

/// A fault of etcd that lasts until an operator acts, as its members word it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// The quota of the database is used up; alarm NOSPACE.
    Full,
    /// Members differ; alarm CORRUPT.
    Damaged,
}

impl Trouble {
    fn of(reason: &str) -> Option<Self> {
        if reason.contains("space exceeded") {
            Some(Self::Full)
        } else if reason.contains("corrupt") {
            Some(Self::Damaged)
        } else {
            None
        }
    }
}

impl Classify for StoreError {
    fn class(&self) -> Class {
        match self {
            Self::Unavailable { .. } | Self::Unknown { .. } | Self::LeaseGone(_) => Class::Unavailable,
            Self::Denied(_) => Class::Denied,
            Self::TooLarge(_) => Class::Rejected,
            Self::Refused(_) => Class::Bug,
            Self::Settings(_) => Class::Config,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            _ if self.trouble() == Some(Trouble::Full) => {
                Some("etcd is full: compact and defragment it, then `etcdctl alarm disarm`".to_owned())
            }
            _ if self.trouble() == Some(Trouble::Damaged) => Some(
                "members of etcd hold different data: see `etcdctl alarm list`, and replace the damaged member"
                    .to_owned(),
            ),
            Self::Unavailable { .. } | Self::Unknown { .. } => {
                Some("check that etcd runs and is reachable from this node (`etcdctl endpoint health`)".to_owned())
            }
            Self::Denied(reason) if reason.contains("`etcd.cert`") => {
                Some("give this node a certificate that etcd takes (`atollctl doctor`, check `certificate`)".to_owned())
            }
            Self::Denied(_) => Some("check the role of this node's client certificate in etcd".to_owned()),
            Self::TooLarge(_) => {
                Some("raise `--max-request-bytes` and `--max-txn-ops` of etcd to their defaults or above".to_owned())
            }
            Self::Settings(_) => Some("correct the `etcd` section of the configuration".to_owned()),
            Self::LeaseGone(_) | Self::Refused(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_never_shorter_than_requested() {
        let seconds = [(0, 0, 1), (0, 1, 1), (1, 0, 1), (1, 500_000_000, 2), (3, 0, 3)];
        for (whole, nanos, expected) in seconds {
            assert_eq!(whole_seconds(Duration::new(whole, nanos)), expected, "{whole} s and {nanos} ns");
        }
    }
}
