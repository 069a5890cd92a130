//! Commands of a handle to the data plane's thread.

use atoll_model::topology::TopologyChange;
use tokio::sync::oneshot;

use crate::counters::Counters;

/// A request to the thread.
pub(crate) enum PlaneCommand {
    /// Changes, in order.
    Submit(Vec<TopologyChange>),
    /// Answer when all earlier commands have been handled.
    Flush(oneshot::Sender<()>),
    /// Answer with the counters.
    Count(oneshot::Sender<Counters>),
    /// End the thread without changing the kernel.
    Stop,
}
