//! One conformance suite for every engine.
//!
//! A test of an engine implements [`EngineUnderTest`] and calls [`run`]. Each case gets a fresh subject and runs once for every
//! combination of address families that the engine forwards. The reports name each case with its result. An engine that
//! forwards packets on the machine of the test implements [`packets::ForwardsPackets`] too, and [`packets::run`] has further cases.
//!
//! | module | cases |
//! |---|---|
//! | `networks` | networks: ensure, diff, repair, delete |
//! | `ports` | ports of pods: ensure, read, list, delete |
//! | `refusals` | what an engine lacks, and what it must not touch |
//! | [`packets`] | who reaches whom |
//! | `case` | a case: its subject, its verdict, its report |
//! | [`samples`] | the networks and ports that the cases use |
//!
//! # Guarantees
//! A case depends on the trait alone. It fails with a sentence and never panics, so that one broken method does not hide the
//! results of the other cases.

/// Names the cases of a suite for subjects of one trait.
macro_rules! suite {
    ($subject:ident: $($module:ident::$case:ident),* $(,)?) => {
        /// The names of the cases.
        pub const CASES: &[&str] = &[$(stringify!($case)),*];

        /// Runs the wanted cases, each on a fresh subject.
        async fn run_cases<S: $subject>(
            fresh: &impl AsyncFn() -> S,
            is_wanted: impl Fn(&str) -> bool,
            families: $crate::conformance::samples::Families,
            reports: &mut Vec<$crate::conformance::case::CaseReport>,
        ) {
            $(
                if is_wanted(stringify!($case)) {
                    let subject = fresh().await;
                    let verdict = $module::$case(&subject, families).await;
                    reports.push($crate::conformance::case::CaseReport::new(stringify!($case), families, verdict));
                }
            )*
        }
    };
}

mod case;
mod networks;
pub mod packets;
mod ports;
mod refusals;
pub mod samples;

use self::case::forwards;
pub use self::case::{CaseReport, EngineUnderTest};
use self::samples::Families;

suite! { EngineUnderTest:
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

/// Runs every case, each on a fresh subject, for every combination of address families that the engine forwards.
pub async fn run<S: EngineUnderTest>(fresh: impl AsyncFn() -> S) -> Vec<CaseReport> {
    let mut reports = Vec::new();
    for families in Families::ALL {
        let subject = fresh().await;
        match forwards(&subject, families).await {
            Ok(true) => run_cases(&fresh, |_| true, families, &mut reports).await,
            Ok(false) => {
                let verdict = refusals::a_family_that_the_engine_lacks_is_refused(&subject, families).await;
                reports.push(CaseReport::new("a_family_that_the_engine_lacks_is_refused", families, verdict));
            }
            Err(error) => reports.push(CaseReport::new("capabilities", families, Err(error.into()))),
        }
    }
    reports
}
