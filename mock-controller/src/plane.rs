//! The data plane of this machine: submits changes in the order in which they were made, and receives its events.

use std::path::{Path, PathBuf};

use atoll_dataplane::{Handle, HostToPodPool, PlaneError, PlaneReport, PlaneSettings};
use atoll_model::topology::{Topology, TopologyChange};
use ipnetwork::Ipv4Network;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use uuid::Uuid;

/// An event of the data plane. Events come in order.
#[derive(Debug)]
pub(crate) enum PlaneEvent {
    /// Ports whose packets begin or cease to flow.
    Flow(Vec<(Uuid, bool)>),
    /// Everything submitted about these ports is programmed: the ones that flow continue to do so.
    Programmed(Vec<Uuid>),
}

/// A running data plane.
#[derive(Clone)]
pub struct DataPlane {
    handle: Handle,
    directory: PathBuf,
    events: UnboundedSender<PlaneEvent>,
}

/// The directory in which the data plane pins its namespaces. The plugin uses it too.
fn directory(run_dir: &Path) -> PathBuf {
    run_dir.join("dataplane")
}

impl DataPlane {
    /// Starts to realise `topology` for `host`, and waits until it is programmed as far as possible.
    ///
    /// # Errors
    ///
    /// The kernel is probed first; the error lists what is missing.
    pub(crate) async fn start(
        run_dir: &Path,
        host: Uuid,
        host_to_pod: Option<HostToPodPool>,
        services: Option<Ipv4Network>,
        topology: Topology,
    ) -> Result<(Self, UnboundedReceiver<PlaneEvent>), PlaneError> {
        let directory = directory(run_dir);
        let (events, receiver) = unbounded_channel();
        let sender = events.clone();
        let settings = PlaneSettings { directory: directory.clone(), host, host_to_pod, services, before_change: None };
        let handle = Handle::start(settings, topology, move |ports| {
            // The receiver is gone when the server ends.
            drop(sender.send(PlaneEvent::Flow(ports)));
        })?;
        handle.flush().await;
        Ok((Self { handle, directory, events }, receiver))
    }

    /// Submits changes. Never blocks.
    pub(crate) fn submit(&self, changes: Vec<TopologyChange>) {
        if !changes.is_empty() {
            self.handle.submit(changes);
        }
    }

    /// Waits until everything submitted so far is programmed, or has failed and is in the report.
    pub(crate) async fn programmed(&self) {
        self.handle.flush().await;
    }

    /// Sends [`PlaneEvent::Programmed`] for these ports when everything submitted so far is programmed.
    ///
    /// The data plane reports changes only. A port that is unbound and bound again before the next pass has not changed for
    /// it, while the controller has called it inactive in between.
    pub(crate) async fn report_programmed(&self, ports: Vec<Uuid>) {
        self.handle.flush().await;
        drop(self.events.send(PlaneEvent::Programmed(ports)));
    }

    /// The counters so far.
    pub(crate) async fn counters(&self) -> atoll_dataplane::Counters {
        self.handle.counters().await
    }

    /// What could not be programmed.
    pub(crate) fn report(&self) -> PlaneReport {
        self.handle.report()
    }

    /// Waits until the data plane ends without being stopped.
    pub async fn ended(&self) {
        self.handle.ended().await;
    }

    /// Stops the data plane. Packets keep flowing, unless `purge` removes every trace of it.
    pub fn stop(self, purge: bool) -> Result<(), PlaneError> {
        let Self { handle, directory, .. } = self;
        handle.stop();
        if purge { atoll_dataplane::purge(&directory) } else { Ok(()) }
    }
}

/// Removes every trace of a data plane that is not running.
pub fn purge(run_dir: &Path) -> Result<(), PlaneError> {
    atoll_dataplane::purge(&directory(run_dir))
}
