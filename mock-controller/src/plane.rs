//! The glue to the data plane: changes go down in the order in which they were made, what flows comes back up.

use std::path::{Path, PathBuf};

use atoll_dataplane::{Handle, NodePool, PlaneError, Report, Settings};
use atoll_model::topology::{Change, Topology};
use ipnetwork::Ipv4Network;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use uuid::Uuid;

/// What comes back up, in order.
#[derive(Debug)]
pub(crate) enum News {
    /// Ports whose packets flow from now on, or do not any more.
    Flow(Vec<(Uuid, bool)>),
    /// Everything before about these ports has been said: what flows of them flows on.
    Settled(Vec<Uuid>),
}

/// A running data plane.
#[derive(Clone)]
pub struct Plane {
    handle: Handle,
    directory: PathBuf,
    news: UnboundedSender<News>,
}

/// Where the data plane of a run directory pins its namespaces. The plugin looks there too.
fn directory(run_dir: &Path) -> PathBuf {
    run_dir.join("dataplane")
}

impl Plane {
    /// Starts to realise `topology` for `host`, and waits until it is realised as far as it can be. The kernel is
    /// probed first; the error lists what is missing.
    pub(crate) async fn start(
        run_dir: &Path,
        host: Uuid,
        node_side: Option<NodePool>,
        services: Option<Ipv4Network>,
        topology: Topology,
    ) -> Result<(Self, UnboundedReceiver<News>), PlaneError> {
        let directory = directory(run_dir);
        let (news, receiver) = unbounded_channel();
        let told = news.clone();
        let settings = Settings { directory: directory.clone(), host, node_side, services, before_change: None };
        let handle = Handle::start(settings, topology, move |ports| {
            // Nobody listens any more: the server is ending.
            drop(told.send(News::Flow(ports)));
        })?;
        handle.settle().await;
        Ok((Self { handle, directory, news }, receiver))
    }

    /// Hands changes down. Never blocks.
    pub(crate) fn submit(&self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.handle.submit(changes);
        }
    }

    /// Waits until everything handed down so far was applied, or failed and is in the report.
    pub(crate) async fn settle(&self) {
        self.handle.settle().await;
    }

    /// Sends [`News::Settled`] for these ports when everything handed down so far was applied.
    ///
    /// The data plane tells differences only. A port that is unbound and bound again before it looks has not changed
    /// for it, while the controller has called it inactive in between: somebody must ask.
    pub(crate) async fn ask_again(&self, ports: Vec<Uuid>) {
        self.handle.settle().await;
        drop(self.news.send(News::Settled(ports)));
    }

    /// What was counted so far.
    pub(crate) async fn counters(&self) -> atoll_dataplane::Counters {
        self.handle.counters().await
    }

    /// What could not be done.
    pub(crate) fn report(&self) -> Report {
        self.handle.report()
    }

    /// Waits until the data plane has ended, which nobody has asked for.
    pub async fn ended(&self) {
        self.handle.ended().await;
    }

    /// Ends the data plane. Packets keep flowing, unless `purge` removes every trace of it.
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
