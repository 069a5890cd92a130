//! What a handle asks of the data plane's thread.

use atoll_model::topology::TopologyChange;
use tokio::sync::oneshot;

use crate::counters::Counters;

/// A request to the thread.
pub(crate) enum PlaneCommand {
    /// Changes, in order.
    Submit(Vec<TopologyChange>),
    /// Answer when everything before has been done.
    Flush(oneshot::Sender<()>),
    /// Answer what was counted.
    Count(oneshot::Sender<Counters>),
    /// End, and leave the kernel as it is.
    Stop,
}
