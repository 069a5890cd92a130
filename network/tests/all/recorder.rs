//! The engine that only writes down what it would do, under test.

use atoll_model::ids::HostId;
use atoll_network::conformance::EngineUnderTest;
use atoll_testkit::recorder::Recorder;
use uuid::Uuid;

/// The engine under test.
pub(crate) struct Bench(pub(crate) Recorder);

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
