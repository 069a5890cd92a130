//! The engine to which a record belongs. Records that name none were written when there was one engine alone.

use crate::codec::{NEWEST_SCHEMA, SCHEMA};

/// The engine of records that name none.
pub const FIRST_ENGINE: &str = "midonet";

/// The schema of a record that names this engine. Versions that know one engine alone ignore the name: they would take the record
/// for MidoNet's, find none of its objects there, and release its addresses. They refuse this schema.
pub fn schema_of(engine: &str) -> u32 {
    if is_first(engine) { SCHEMA } else { NEWEST_SCHEMA }
}

pub(crate) fn first() -> String {
    FIRST_ENGINE.to_owned()
}

pub(crate) fn is_first(engine: &str) -> bool {
    engine == FIRST_ENGINE
}
