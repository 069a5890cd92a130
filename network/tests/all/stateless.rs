//! The conformance suite names each case that an engine without state fails.

use atoll_network::conformance::{CASES, run};
use atoll_testkit::recorder::Recorder;

use crate::recorder::Bench;

/// Cases that an engine without state passes, because it may do nothing in them.
const STATELESS: &[&str] = &["host_sides_are_stable_and_listed"];

#[tokio::test]
async fn the_suite_names_each_case_that_needs_state() {
    let reports = run(async || Bench(Recorder::default())).await;
    assert_eq!(reports.len(), CASES.len() * 3, "every case in every combination of address families");
    for report in reports {
        let case = report.case.split(' ').next().unwrap_or_default();
        assert!(CASES.contains(&case), "{report}");
        assert_eq!(report.failure.is_none(), STATELESS.contains(&case), "{report}");
    }
}
