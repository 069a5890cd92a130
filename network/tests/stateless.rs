//! The conformance suite names each case that an engine without state fails.

use atoll_model::ids::HostId;
use atoll_network::conformance::{CASES, EngineUnderTest, run};
use atoll_testkit::recorder::Recorder;
use uuid::Uuid;

struct Bench(Recorder);

impl EngineUnderTest for Bench {
    type Engine = Recorder;

    fn engine(&self) -> &Recorder {
        &self.0
    }

    fn provider(&self) -> Uuid {
        Uuid::from_u128(1)
    }

    fn hosts(&self) -> [HostId; 2] {
        [2, 3].map(|n| Uuid::from_u128(n).into())
    }

    async fn lose(&self, _: Uuid) -> bool {
        false
    }
}

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
