//! The time limit of a probe.

use std::time::Duration;

use tokio::time::timeout;

use super::seen::{Probed, Problem};

/// The longest that one endpoint, or one list, may take.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

pub(super) async fn in_time<T>(work: impl Future<Output = Probed<T>>) -> Probed<T> {
    let late = |_| Err(Problem::new(format!("no answer within {} s", LIMIT.as_secs())));
    // On the heap: these futures are large, and there are many of them.
    timeout(LIMIT, Box::pin(work)).await.unwrap_or_else(late)
}
