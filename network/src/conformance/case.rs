//! A case: its subject, its verdict and its report.

use std::fmt;
use std::future::Future;

use atoll_model::ids::HostId;
use uuid::Uuid;

use super::samples::Families;
use crate::engine::Engine;
use crate::error::EngineError;

/// An engine under test, over a server of its own that holds a provider router and two hosts, and nothing else.
pub trait EngineUnderTest {
    /// The engine.
    type Engine: Engine;

    /// The engine.
    fn engine(&self) -> &Self::Engine;

    /// The provider router.
    fn provider(&self) -> Uuid;

    /// Two hosts whose agents are connected.
    fn hosts(&self) -> [HostId; 2];

    /// Deletes the object with this id behind the engine's back, with everything that the server deletes along with it.
    /// False: the server has no such object.
    fn lose(&self, id: Uuid) -> impl Future<Output = bool>;
}

/// The result of one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseReport {
    /// The case and the address families.
    pub case: String,
    /// Why it failed; none: it passed.
    pub failure: Option<String>,
}

impl CaseReport {
    pub(super) fn new(case: &str, families: Families, verdict: CaseVerdict) -> Self {
        let failure = verdict.err().map(|Unmet(reason)| reason);
        Self { case: format!("{case} ({families})"), failure }
    }
}

impl fmt::Display for CaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failure {
            None => write!(f, "pass {}", self.case),
            Some(reason) => write!(f, "FAIL {}: {reason}", self.case),
        }
    }
}

/// Why a case failed.
#[derive(Debug)]
pub(super) struct Unmet(pub(super) String);

impl From<EngineError> for Unmet {
    fn from(error: EngineError) -> Self {
        Self(error.to_string())
    }
}

/// How a case ends.
pub(super) type CaseVerdict = Result<(), Unmet>;

/// The case fails unless `condition` holds.
pub(super) fn require(condition: bool, otherwise: impl FnOnce() -> String) -> CaseVerdict {
    if condition { Ok(()) } else { Err(Unmet(otherwise())) }
}

/// The case fails unless both are equal.
pub(super) fn require_same<T: PartialEq + fmt::Debug>(found: &T, expected: &T, what: &str) -> CaseVerdict {
    require(found == expected, || format!("{what}: expected {expected:?}, found {found:?}"))
}

/// The engine forwards every one of these families.
pub(super) async fn forwards<S: EngineUnderTest>(subject: &S, families: Families) -> Result<bool, EngineError> {
    let capabilities = subject.engine().capabilities().await?;
    Ok(capabilities.ipv6 || families == Families::V4)
}
