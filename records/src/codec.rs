//! How records are written: JSON objects with a schema version.
//!
//! # Guarantees
//! * A field that this version does not know survives being read and written again.
//! * A record of a newer schema is read as long as the fields that we need have kept their meaning: the schema counts
//!   the changes of meaning.
//! * A record that cannot be read is an error that names its key, and is never overwritten.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The schema that this version writes, but for records of an engine that came later ([`schema_of`](crate::schema_of)).
pub const SCHEMA: u32 = 1;

/// The newest schema that this version understands.
pub const NEWEST_SCHEMA: u32 = 2;

/// Fields of a newer version, kept as they are.
pub type Unknown = Map<String, Value>;

/// A record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is not JSON of the expected shape.
    #[error("the record is damaged")]
    Damaged(#[source] serde_json::Error),
    /// It was written by a version whose records we do not understand.
    #[error("the record has schema {found}, this version understands {NEWEST_SCHEMA}")]
    Newer {
        /// The record's schema.
        found: u32,
    },
}

/// Reads a record.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordError> {
    refuse_newer(bytes)?;
    serde_json::from_slice(bytes).map_err(RecordError::Damaged)
}

fn refuse_newer(bytes: &[u8]) -> Result<(), RecordError> {
    #[derive(serde::Deserialize)]
    struct Version {
        v: u32,
    }
    let Version { v } = serde_json::from_slice(bytes).map_err(RecordError::Damaged)?;
    if v > NEWEST_SCHEMA { Err(RecordError::Newer { found: v }) } else { Ok(()) }
}

/// Writes a record.
pub fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).expect("records are plain data with string keys")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NamespaceRecord;

    #[test]
    fn fields_of_a_newer_version_survive() {
        let text = br#"{"v":1,"tenant":"red","incarnation":"00000000-0000-0000-0000-000000000001","colour":"blue"}"#;
        let record: NamespaceRecord = decode(text).expect("readable");
        let again: Value = serde_json::from_slice(&encode(&record)).expect("JSON");
        assert_eq!(again["colour"], "blue");
    }

    #[test]
    fn a_newer_schema_and_a_damaged_record_are_distinguished() {
        assert!(matches!(decode::<NamespaceRecord>(br#"{"v":3}"#), Err(RecordError::Newer { found: 3 })));
        assert!(matches!(decode::<NamespaceRecord>(br#"{"v":1}"#), Err(RecordError::Damaged(_))));
        assert!(matches!(decode::<NamespaceRecord>(b"\xff"), Err(RecordError::Damaged(_))));
    }
}
