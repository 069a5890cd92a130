//! How an object of a network differs from what it should be.

use uuid::Uuid;

/// An object that differs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Drift {
    /// Its kind in the engine, for instance `port`.
    pub kind: String,
    /// Its id.
    pub id: Uuid,
    /// What it is for, for instance `gateway-port/1`.
    pub role: String,
    /// How it differs.
    pub difference: DriftKind,
}

/// How an object differs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DriftKind {
    /// It does not exist.
    Missing,
    /// It differs, and the engine can update it or create it again. Each difference as a sentence.
    Differs(Vec<String>),
    /// It belongs to another owner, and the engine does not change it. Each difference as a sentence.
    Foreign(Vec<String>),
}
