//! Reading: queries, and a snapshot of their answers that is asked again by what was queried.
//!
//! # Guarantees
//! * An answer is found by its query, never by its position.
//! * A query that was not part of the read is [`ReadError::NotQueried`], a defect. It is never taken for a key that is
//!   absent.

use serde::de::DeserializeOwned;

use crate::codec::{RecordError, decode};
use crate::entry::{Entry, Revision};
use crate::key::{Key, Prefix, RecordKey};

/// A query of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// One key.
    Key(Key),
    /// Keys that begin with `prefix`, in order, from `from` on (included) until `until` (excluded), at most `limit` of them.
    /// A limit alone does not make a range cheap: etcd reads all of it before it applies the limit.
    Range {
        /// Their prefix.
        prefix: Key,
        /// The first; none means the first of the prefix.
        from: Option<Key>,
        /// The first that is left out; none means the end of the prefix.
        until: Option<Key>,
        /// Most entries; 0 means all.
        limit: usize,
        /// Leave the values out.
        keys_only: bool,
    },
}

impl Query {
    /// One key.
    pub fn key(key: impl Into<Key>) -> Self {
        Self::Key(key.into())
    }

    /// Everything that begins with `prefix`, with values.
    pub fn all(prefix: impl Into<Key>) -> Self {
        Self::Range { prefix: prefix.into(), from: None, until: None, limit: 0, keys_only: false }
    }

    /// Every key that begins with `prefix`, without values.
    pub fn keys(prefix: impl Into<Key>) -> Self {
        Self::Range { prefix: prefix.into(), from: None, until: None, limit: 0, keys_only: true }
    }
}

/// Answers to several queries, all at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The revision of the store at which this was true.
    pub revision: Revision,
    answers: Vec<Answer>,
}

/// The answer to one query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The query.
    pub query: Query,
    /// The entries, in the order of the keys.
    pub entries: Vec<Entry>,
    /// There is more behind the limit.
    pub more: bool,
}

impl Snapshot {
    /// The answers of a store.
    pub fn new(revision: Revision, answers: Vec<Answer>) -> Self {
        Self { revision, answers }
    }

    /// The answer to a query.
    ///
    /// # Errors
    /// The read did not ask it.
    pub fn answer(&self, query: &Query) -> Result<&Answer, ReadError> {
        let found = self.answers.iter().find(|answer| answer.query == *query);
        found.ok_or_else(|| ReadError::NotQueried { query: format!("{query:?}") })
    }

    /// The entry of a key; `None` if it is absent.
    ///
    /// # Errors
    /// The read did not ask for the key.
    pub fn entry(&self, key: &Key) -> Result<Option<&Entry>, ReadError> {
        let is_asked = |answer: &&Answer| matches!(&answer.query, Query::Key(asked) if asked == key);
        let found = self.answers.iter().find(is_asked);
        found.map(|answer| answer.entries.first()).ok_or_else(|| ReadError::NotQueried { query: key.to_string() })
    }

    /// When a key was last written; none when it is absent.
    ///
    /// # Errors
    /// The read did not ask for the key.
    pub fn revision_of(&self, key: &Key) -> Result<Option<Revision>, ReadError> {
        Ok(self.entry(key)?.map(|entry| entry.mod_revision))
    }

    /// The record under a key; none when the key is absent.
    ///
    /// # Errors
    /// The read did not ask for the key, or the record cannot be read.
    pub fn get<R: DeserializeOwned>(&self, key: &RecordKey<R>) -> Result<Option<Versioned<R>>, ReadError> {
        self.entry(key)?.map(Versioned::read).transpose()
    }

    /// All records below a prefix, as asked with [`Query::all`].
    ///
    /// # Errors
    /// The read did not ask for the prefix.
    pub fn list<R: DeserializeOwned>(&self, prefix: &Prefix<R>) -> Result<Listed<R>, ReadError> {
        Ok(Listed::read(&self.answer(&Query::all(prefix))?.entries))
    }
}

/// A record with the revisions at which it was read: what a later transaction compares.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Versioned<R> {
    /// The record.
    pub record: R,
    /// When its key was created: it distinguishes this value from that of an earlier key of the same name.
    pub create_revision: Revision,
    /// When it was last written.
    pub mod_revision: Revision,
}

impl<R> Versioned<R> {
    /// A record that was created at `revision`.
    pub fn created(record: R, revision: Revision) -> Self {
        Self { record, create_revision: revision, mod_revision: revision }
    }

    /// Another record under the same key, written at `revision`.
    pub fn updated(&self, record: R, revision: Revision) -> Self {
        Self { record, create_revision: self.create_revision, mod_revision: revision }
    }
}

impl<R: DeserializeOwned> Versioned<R> {
    /// Reads the record of an entry.
    ///
    /// # Errors
    /// It cannot be read; the error names its key.
    pub fn read(entry: &Entry) -> Result<Self, ReadError> {
        let record = decode(&entry.value).map_err(|source| ReadError::Damaged { key: entry.key.clone(), source })?;
        Ok(Self { record, create_revision: entry.create_revision, mod_revision: entry.mod_revision })
    }
}

/// The records of a list, and those of it that cannot be read.
#[derive(Debug)]
pub struct Listed<R> {
    /// The readable records.
    pub records: Vec<Versioned<R>>,
    /// The unreadable ones. No conclusion may be drawn from their absence in `records`.
    pub damaged: Vec<ReadError>,
}

impl<R: DeserializeOwned> Listed<R> {
    /// Reads entries.
    pub fn read(entries: &[Entry]) -> Self {
        let mut listed = Self { records: Vec::with_capacity(entries.len()), damaged: Vec::new() };
        for entry in entries {
            match Versioned::read(entry) {
                Ok(record) => listed.records.push(record),
                Err(error) => listed.damaged.push(error),
            }
        }
        listed
    }

    /// The readable records. A damaged record does not prevent work on the others: it is not changed, and logged.
    pub fn readable(self) -> Vec<Versioned<R>> {
        for error in &self.damaged {
            tracing::warn!(error = error as &dyn std::error::Error, "skipped a record");
        }
        self.records
    }

    /// All records.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn complete(self) -> Result<Vec<Versioned<R>>, ReadError> {
        self.damaged.into_iter().next().map_or(Ok(self.records), Err)
    }
}

/// A snapshot does not give a record.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A record cannot be read; it is left as it is.
    #[error("the record at {key} cannot be read")]
    Damaged {
        /// Its key, without the prefix of the installation.
        key: Key,
        /// Why not.
        #[source]
        source: RecordError,
    },
    /// The read did not ask for it: a defect.
    #[error("{query} was not part of the read")]
    NotQueried {
        /// The query.
        query: String,
    },
}

impl ReadError {
    /// The key of a record that cannot be read.
    pub fn damaged_key(&self) -> Option<&Key> {
        match self {
            Self::Damaged { key, .. } => Some(key),
            Self::NotQueried { .. } => None,
        }
    }
}

impl atoll_model::error::Classify for ReadError {
    fn class(&self) -> atoll_model::error::Class {
        atoll_model::error::Class::Bug
    }

    fn hint(&self) -> Option<String> {
        self.damaged_key().map(|key| format!("inspect {key} in etcd; nothing overwrites it"))
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::ids::Namespace;

    use super::*;
    use crate::{NamespaceRecord, ReservationRecord};

    fn entry(key: &Key, value: &str) -> Entry {
        Entry { key: key.clone(), value: value.into(), create_revision: 1, mod_revision: 2, lease: None }
    }

    #[test]
    fn an_answer_is_found_by_its_query_and_one_that_was_not_asked_is_not_absent() {
        let (red, blue) = (Key::raw("v2/a/red"), Key::raw("v2/a/blue"));
        let answer = |key: &Key, entries| Answer { query: Query::key(key.clone()), entries, more: false };
        for swapped in [false, true] {
            let mut answers = vec![answer(&red, vec![entry(&red, "1")]), answer(&blue, Vec::new())];
            if swapped {
                answers.reverse();
            }
            let snapshot = Snapshot::new(7, answers);
            assert_eq!(snapshot.revision_of(&red).expect("asked"), Some(2));
            assert_eq!(snapshot.revision_of(&blue).expect("asked"), None);
            let green = snapshot.entry(&Key::raw("v2/a/green"));
            assert!(matches!(green, Err(ReadError::NotQueried { .. })), "{green:?}");
            let other = snapshot.answer(&Query::all(red.clone()));
            assert!(matches!(other, Err(ReadError::NotQueried { .. })), "{other:?}");
        }
    }

    #[test]
    fn a_list_gives_what_can_be_read_and_names_what_cannot() {
        let namespace: Namespace = "red".parse().expect("valid");
        let record = r#"{"v":1,"tenant":"red","incarnation":"00000000-0000-0000-0000-000000000001"}"#;
        let (one, two) = (Key::raw("v2/x/1"), Key::raw("v2/x/2"));
        let entries = [entry(&one, record), entry(&two, "{}")];
        let listed = Listed::<NamespaceRecord>::read(&entries);
        assert_eq!(listed.damaged.iter().filter_map(ReadError::damaged_key).collect::<Vec<_>>(), [&two]);
        assert!(listed.complete().is_err());
        let listed = Listed::<NamespaceRecord>::read(&entries);
        assert_eq!(listed.readable().first().map(|there| there.record.tenant.as_str()), Some(namespace.as_str()));
        let none = Listed::<ReservationRecord>::read(&[]);
        assert!(none.complete().is_ok_and(|all| all.is_empty()));
    }
}
