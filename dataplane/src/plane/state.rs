//! The state of the data plane's thread, and its start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use atoll_model::topology::Topology;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use uuid::Uuid;

use super::addresses::{Addresses, check};
use super::bound::Bound;
use super::counting::Counting;
use super::preserved::Preserved;
use super::unsupported::UnsupportedParts;
use crate::apply::{HostNamespace, KernelNamespace};
use crate::compile::{BridgePort, Compiled, ExternalNetwork, HostSite, RouterNamespace};
use crate::error::{PlaneError, line};
use crate::kernel::watch::{Event, watch};
use crate::mutex::lock;
use crate::report::PlaneReport;
use crate::settings::PlaneSettings;

/// Receives which ports became active or inactive.
pub(crate) type PortStatusCallback = Box<dyn Fn(Vec<(Uuid, bool)>) + Send>;

/// A router namespace that exists, and whether its structure is complete.
pub(super) struct ManagedNamespace {
    pub(super) kernel: KernelNamespace,
    pub(super) applied: RouterNamespace,
    pub(super) complete: bool,
    /// The addresses of host-to-pod addressing in the kernel's sets were read.
    pub(super) remembered: bool,
    pub(super) watches: Vec<AbortHandle>,
}

/// Marks a port as active or inactive; true if that is a change.
pub(super) fn mark(active: &mut BTreeSet<Uuid>, port: Uuid, is: bool) -> bool {
    if is { active.insert(port) } else { active.remove(&port) }
}

/// The state of the thread.
pub(crate) struct Plane {
    pub(super) settings: PlaneSettings,
    /// The topology and its plan.
    pub(super) compiled: Compiled,
    /// Our own namespace.
    pub(super) node: HostNamespace,
    pub(super) namespaces: BTreeMap<Uuid, ManagedNamespace>,
    /// Ports as they should be.
    pub(super) pods: BTreeMap<Uuid, BridgePort>,
    /// The same ports by namespace, so that work on one namespace does not read the ports of others.
    pub(super) by_namespace: BTreeMap<Uuid, BTreeSet<Uuid>>,
    /// Which port has which interface.
    pub(super) bound: Bound,
    pub(super) active: BTreeSet<Uuid>,
    /// Ports that became active or inactive since the last report.
    pub(super) changed: BTreeSet<Uuid>,
    /// Ports whose last attempt failed.
    pub(super) failed: BTreeSet<Uuid>,
    /// What could not be expressed.
    pub(super) unsupported: UnsupportedParts,
    /// Router namespaces to compare with the kernel at the next tick.
    pub(super) suspects: BTreeSet<Uuid>,
    /// Namespaces that the topology does not have and that are not removed.
    pub(super) preserved: Preserved,
    /// Addresses of host-to-pod addressing.
    pub(super) addresses: Addresses,
    /// Our own namespace is to be compared at the next tick.
    pub(super) suspect_host: bool,
    /// The simulated external networks behind the uplinks of each namespace.
    pub(super) externals: BTreeMap<Uuid, Vec<ExternalNetwork>>,
    /// The namespace of the external network is to be compared.
    pub(super) suspect_external: bool,
    /// Namespaces that the topology no longer has and that could not be removed yet.
    pub(super) leftovers: BTreeSet<Uuid>,
    /// Router namespaces that are still to be compared in this round.
    pub(super) due: BTreeSet<Uuid>,
    /// Pending requests for counters.
    pub(super) counting: Counting,
    pub(super) status: PortStatusCallback,
    pub(super) report: Arc<Mutex<PlaneReport>>,
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) tasks: JoinSet<()>,
}

impl Plane {
    /// Opens sockets; changes nothing.
    pub(crate) fn open(
        mut settings: PlaneSettings,
        topology: Topology,
        status: PortStatusCallback,
        report: Arc<Mutex<PlaneReport>>,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Event>), PlaneError> {
        let mut node = HostNamespace::open()?;
        let refused = settings.host_to_pod.and_then(|pool| check(pool, &mut node).err());
        settings.host_to_pod = settings.host_to_pod.filter(|_| refused.is_none());
        let (events, receiver) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        watch(&node.netns, None, node.netlink.port()?, &events, &mut tasks)?;
        let site = HostSite { host: settings.host, host_to_pod: settings.host_to_pod, services: settings.services };
        let plane = Self {
            settings,
            compiled: Compiled::new(topology, site),
            node,
            namespaces: BTreeMap::new(),
            pods: BTreeMap::new(),
            by_namespace: BTreeMap::new(),
            bound: Bound::default(),
            active: BTreeSet::new(),
            changed: BTreeSet::new(),
            failed: BTreeSet::new(),
            unsupported: UnsupportedParts::default(),
            suspects: BTreeSet::new(),
            preserved: Preserved::default(),
            addresses: Addresses::default(),
            suspect_host: false,
            externals: BTreeMap::new(),
            suspect_external: false,
            leftovers: BTreeSet::new(),
            due: BTreeSet::new(),
            counting: Counting::default(),
            status,
            report,
            events,
            tasks,
        };
        if let Some(error) = refused {
            plane.fail(Uuid::nil(), &error);
        }
        Ok((plane, receiver))
    }

    pub(super) fn fail(&self, object: Uuid, error: &PlaneError) {
        let line = line(error);
        tracing::warn!(%object, error = line, "data plane");
        lock(&self.report).errors.insert(object, line);
    }

    /// Notes whether a port is active.
    pub(super) fn set_active(&mut self, port: Uuid, is: bool) {
        if mark(&mut self.active, port, is) {
            self.changed.insert(port);
        }
    }
}
