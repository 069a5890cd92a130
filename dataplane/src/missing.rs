//! What a machine lacks that the data plane needs.

use std::fmt;

use serde::Serialize;

/// Something that the data plane needs and this machine lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// What.
    pub what: String,
    /// How that was noticed.
    pub found: String,
    /// What cannot be done without.
    pub needed_for: String,
    /// How to get it.
    pub remedy: String,
    /// The data plane does not start without it. If false, only objects of the topology that need it stay closed.
    pub essential: bool,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, found, needed_for, remedy, .. } = self;
        write!(f, "{what} ({found}), needed for {needed_for}: {remedy}")
    }
}
