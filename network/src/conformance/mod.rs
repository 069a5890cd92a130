//! One conformance suite for every engine.
//!
//! A test of an engine implements [`EngineUnderTest`] and calls [`run`]. Each case gets a fresh subject and runs once for every
//! combination of address families that the engine forwards. The reports name each case with its result.
//!
//! | module | cases |
//! |---|---|
//! | `networks` | networks: ensure, diff, repair, delete |
//! | `ports` | ports of pods: ensure, read, list, delete |
//! | `refusals` | what an engine lacks, and what it must not touch |
//! | `samples` | the networks and ports that the cases use |
//!
//! # Guarantees
//! A case depends on the trait alone. It fails with a sentence and never panics, so that one broken method does not hide the
//! results of the other cases.

mod networks;
mod ports;
mod refusals;
pub mod samples;

use std::fmt;
use std::future::Future;

use atoll_model::ids::HostId;
use uuid::Uuid;

use crate::engine::Engine;
use crate::error::EngineError;

use self::samples::Families;

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
pub(crate) struct Unmet(String);

impl From<EngineError> for Unmet {
    fn from(error: EngineError) -> Self {
        Self(error.to_string())
    }
}

/// How a case ends.
type Verdict = Result<(), Unmet>;

/// The case fails unless `condition` holds.
fn require(condition: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if condition { Ok(()) } else { Err(Unmet(otherwise())) }
}

/// The case fails unless both are equal.
fn require_same<T: PartialEq + fmt::Debug>(found: &T, expected: &T, what: &str) -> Verdict {
    require(found == expected, || format!("{what}: expected {expected:?}, found {found:?}"))
}

macro_rules! suite {
    ($($module:ident :: $case:ident),* $(,)?) => {
        /// The names of the cases.
        pub const CASES: &[&str] = &[$(stringify!($case)),*];

        /// Runs every case, each on a fresh subject, for every combination of address families that the engine forwards.
        pub async fn run<S: EngineUnderTest>(fresh: impl AsyncFn() -> S) -> Vec<CaseReport> {
            let mut reports = Vec::new();
            for families in Families::ALL {
                $(
                    let subject = fresh().await;
                    let verdict = match forwards(&subject, families).await {
                        Ok(true) => Some($module::$case(&subject, families).await),
                        Ok(false) => None,
                        Err(error) => Some(Err(error.into())),
                    };
                    if let Some(verdict) = verdict {
                        let case = format!("{} ({families})", stringify!($case));
                        reports.push(CaseReport { case, failure: verdict.err().map(|Unmet(reason)| reason) });
                    }
                )*
                let subject = fresh().await;
                if let Ok(false) = forwards(&subject, families).await {
                    let verdict = refusals::a_family_that_the_engine_lacks_is_refused(&subject, families).await;
                    let case = format!("a_family_that_the_engine_lacks_is_refused ({families})");
                    reports.push(CaseReport { case, failure: verdict.err().map(|Unmet(reason)| reason) });
                }
            }
            reports
        }
    };
}

suite! {
    networks::a_network_is_complete_after_it_was_ensured,
    networks::ensuring_again_changes_nothing,
    networks::a_network_that_was_never_made_is_missing_entirely,
    networks::what_was_lost_is_shown_and_made_again,
    networks::deleting_leaves_nothing_and_succeeds_again,
    networks::two_networks_do_not_touch_each_other,
    networks::a_subnet_is_added_and_deleted_beside_another,
    networks::a_route_is_added_replaced_and_removed,
    networks::a_deleted_network_can_be_made_again,
    networks::what_only_an_older_revision_has_is_withdrawn,
    ports::a_port_is_as_it_was_described,
    ports::ensuring_a_port_again_changes_nothing,
    ports::a_port_of_an_absent_network_is_refused,
    ports::a_port_of_an_absent_host_is_refused,
    ports::a_subnet_lists_the_ports_of_its_pods_and_no_others,
    ports::a_deleted_port_is_gone_and_deleting_succeeds_again,
    ports::a_port_with_several_addresses_is_made_and_deleted,
    ports::deleting_a_network_takes_its_ports_along,
    refusals::a_port_that_is_no_pods_is_left_alone,
    refusals::hosts_are_known_by_their_ids,
    refusals::host_sides_are_stable_and_listed,
}

async fn forwards<S: EngineUnderTest>(subject: &S, families: Families) -> Result<bool, EngineError> {
    let capabilities = subject.engine().capabilities().await?;
    Ok(capabilities.ipv6 || families == Families::V4)
}
