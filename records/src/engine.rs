//! The engine to which a record belongs. Records that name none were written when there was one engine alone.

/// The engine of records that name none.
pub const FIRST_ENGINE: &str = "midonet";

pub(crate) fn first() -> String {
    FIRST_ENGINE.to_owned()
}

pub(crate) fn is_first(engine: &str) -> bool {
    engine == FIRST_ENGINE
}
