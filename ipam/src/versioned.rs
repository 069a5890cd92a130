//! A record together with the revisions at which it was read: what a later transaction compares.

use atoll_model::record::{RecordError, decode};
use atoll_store::{Answer, Entry, Key, Revision};
use serde::de::DeserializeOwned;

use crate::error::IpamError;

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Versioned<T> {
    /// The record.
    pub record: T,
    /// When its key came into being: tells it from a namesake after a delete.
    pub create_revision: Revision,
    /// When it was last written.
    pub mod_revision: Revision,
}

impl<T: DeserializeOwned> Versioned<T> {
    /// Reads the record of an entry. A damaged one is an error that names its key.
    pub fn read(entry: &Entry) -> Result<Self, IpamError> {
        let record = decode(&entry.value)
            .map_err(|source: RecordError| IpamError::Damaged { key: entry.key.to_string(), source })?;
        Ok(Self { record, create_revision: entry.create_revision, mod_revision: entry.mod_revision })
    }

    /// Reads the record of an answer to a query for one key; none when the key does not exist.
    pub fn of(answer: &Answer) -> Result<Option<Self>, IpamError> {
        answer.one().map(Self::read).transpose()
    }

    /// Reads what can be read of a list. One damaged record must not keep the rest from being worked on: it is left
    /// alone and reported in the log.
    pub fn readable(answer: &Answer) -> Vec<Self> {
        let read = |entry| {
            Self::read(entry)
                .inspect_err(|error| tracing::warn!(error = error as &dyn std::error::Error, "skipped a record"))
        };
        answer.entries.iter().filter_map(|entry| read(entry).ok()).collect()
    }

    /// The keys of what [`readable`](Self::readable) leaves out.
    pub fn damaged(answer: &Answer) -> Vec<Key> {
        let is_damaged = |entry: &&Entry| Self::read(entry).is_err();
        answer.entries.iter().filter(is_damaged).map(|entry| entry.key.clone()).collect()
    }
}
