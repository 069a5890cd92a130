//! Progress of a deletion, and the wait inside it.

use std::time::Duration;

use atoll_network::Engine;

/// Interval between two reports of the wait.
const TICK: Duration = Duration::from_millis(250);

/// Progress of a deletion, for display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// No claim can commit any more.
    Closed,
    /// Its objects are gone.
    Objects(usize),
    /// This part of the maximum request lifetime has passed.
    Waited(Duration),
    /// Record, transit link and subnets are gone.
    All,
}

/// Waits until no late request can take effect. With an engine that fences none can, and waiting would not help.
pub(super) async fn wait_for_late_requests(engine: &impl Engine, whole: Duration, progress: &mut impl FnMut(Deleted)) {
    if engine.fences() {
        return;
    }
    let began = tokio::time::Instant::now();
    while let Some(rest) = whole.checked_sub(began.elapsed()).filter(|rest| !rest.is_zero()) {
        progress(Deleted::Waited(began.elapsed()));
        tokio::time::sleep(rest.min(TICK)).await;
    }
}
