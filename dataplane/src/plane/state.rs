//! What the thread knows, and how it begins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use atoll_model::topology::Topology;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use uuid::Uuid;

use super::addresses::{Addresses, check};
use super::bound::Bound;
use super::counting::Counting;
use super::kept::Kept;
use super::left_out::LeftOut;
use crate::apply::{Node, Realm};
use crate::compile::{Compiled, Domain, Outside, Pod, Site};
use crate::error::{PlaneError, line};
use crate::kernel::watch::{Event, watch};
use crate::mutex::lock;
use crate::report::Report;
use crate::settings::Settings;

/// Who is told which ports became active or ceased to be.
pub(crate) type Status = Box<dyn Fn(Vec<(Uuid, bool)>) + Send>;

/// A domain that exists, and whether its structure stands.
pub(super) struct Live {
    pub(super) realm: Realm,
    pub(super) applied: Domain,
    pub(super) complete: bool,
    /// What the kernel remembered of the node side was read.
    pub(super) remembered: bool,
    pub(super) watches: Vec<AbortHandle>,
}

/// Marks a port as active or not; true when that is new.
pub(super) fn mark(active: &mut BTreeSet<Uuid>, port: Uuid, is: bool) -> bool {
    if is { active.insert(port) } else { active.remove(&port) }
}

/// The state of the thread.
pub(crate) struct Plane {
    pub(super) settings: Settings,
    /// The topology, and what it becomes.
    pub(super) compiled: Compiled,
    /// Our own namespace.
    pub(super) node: Node,
    pub(super) realms: BTreeMap<Uuid, Live>,
    /// Ports as they should be.
    pub(super) pods: BTreeMap<Uuid, Pod>,
    /// The same ports by domain, so that one domain costs nothing of the others.
    pub(super) by_domain: BTreeMap<Uuid, BTreeSet<Uuid>>,
    /// Which port has which interface.
    pub(super) bound: Bound,
    pub(super) active: BTreeSet<Uuid>,
    /// Ports that became active or ceased to be, and nobody was told yet.
    pub(super) news: BTreeSet<Uuid>,
    /// Ports whose last attempt failed.
    pub(super) failed: BTreeSet<Uuid>,
    /// What could not be expressed.
    pub(super) left_out: LeftOut,
    /// Domains to compare with the kernel at the next tick.
    pub(super) suspects: BTreeSet<Uuid>,
    /// Namespaces that no router of the topology stands for, and that are left alone.
    pub(super) kept: Kept,
    /// Addresses of the node side.
    pub(super) addresses: Addresses,
    /// Our own namespace is to be compared at the next tick.
    pub(super) suspect_node: bool,
    /// What is behind the uplinks of each domain, where the machine has nothing there.
    pub(super) outsides: BTreeMap<Uuid, Vec<Outside>>,
    /// The world behind the uplinks is to be compared.
    pub(super) suspect_outside: bool,
    /// Namespaces of domains that are gone and could not be removed yet.
    pub(super) leftovers: BTreeSet<Uuid>,
    /// Domains that are still to be compared in this round.
    pub(super) due: BTreeSet<Uuid>,
    /// Those who wait for counters.
    pub(super) counting: Counting,
    pub(super) status: Status,
    pub(super) report: Arc<Mutex<Report>>,
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) tasks: JoinSet<()>,
}

impl Plane {
    /// Changes nothing yet.
    pub(crate) fn open(
        mut settings: Settings,
        topology: Topology,
        status: Status,
        report: Arc<Mutex<Report>>,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Event>), PlaneError> {
        let mut node = Node::open()?;
        let refused = settings.node_side.and_then(|pool| check(pool, &mut node).err());
        settings.node_side = settings.node_side.filter(|_| refused.is_none());
        let (events, receiver) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        watch(&node.netns, None, node.netlink.port()?, &events, &mut tasks)?;
        let site = Site { host: settings.host, node_side: settings.node_side, services: settings.services };
        let plane = Self {
            settings,
            compiled: Compiled::new(topology, site),
            node,
            realms: BTreeMap::new(),
            pods: BTreeMap::new(),
            by_domain: BTreeMap::new(),
            bound: Bound::default(),
            active: BTreeSet::new(),
            news: BTreeSet::new(),
            failed: BTreeSet::new(),
            left_out: LeftOut::default(),
            suspects: BTreeSet::new(),
            kept: Kept::default(),
            addresses: Addresses::default(),
            suspect_node: false,
            outsides: BTreeMap::new(),
            suspect_outside: false,
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

    /// Notes whether a port's packets flow.
    pub(super) fn set_active(&mut self, port: Uuid, is: bool) {
        if mark(&mut self.active, port, is) {
            self.news.insert(port);
        }
    }
}
