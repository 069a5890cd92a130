//! The thread that owns the kernel side.
//!
//! Changes arrive in order and are taken as many at a time as there are. What touches one pod's port only costs that
//! port; everything else compiles anew and realises the domains that came out different. What failed is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atoll_model::topology::{Device, Port, Topology};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use uuid::Uuid;

use crate::apply::{self, Node, Realm, Surroundings};
use crate::compile::{Compiled, DeviceKind, Domain, Outside, Pod, Site, Touched};
use crate::error::{PlaneError, line};
use crate::handle::{Command, Report, Settings, lock};
use crate::kernel::watch::{Event, watch};

mod bound;
mod counting;
mod flows;
mod garbage;
mod left_out;
mod node;
mod notice;
mod ports;

use bound::Bound;
use counting::Counting;
use garbage::Kept;
use left_out::LeftOut;
use node::Addresses;

/// How often what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often everything is compared with the kernel, whatever it has told: one domain at a time, in between.
const SWEEP: Duration = Duration::from_secs(10);

/// Who is told which ports became active or ceased to be.
pub(crate) type Status = Box<dyn Fn(Vec<(Uuid, bool)>) + Send>;

/// A domain that exists, and whether its structure stands.
struct Live {
    realm: Realm,
    applied: Domain,
    complete: bool,
    /// What the kernel remembered of the node side was read.
    remembered: bool,
    watches: Vec<AbortHandle>,
}

/// Marks a port as active or not; true when that is new.
fn mark(active: &mut BTreeSet<Uuid>, port: Uuid, is: bool) -> bool {
    if is { active.insert(port) } else { active.remove(&port) }
}

/// The state of the thread.
pub(crate) struct Plane {
    settings: Settings,
    /// The topology, and what it becomes.
    compiled: Compiled,
    /// Our own namespace.
    node: Node,
    realms: BTreeMap<Uuid, Live>,
    /// Ports as they should be.
    pods: BTreeMap<Uuid, Pod>,
    /// The same ports by domain, so that one domain costs nothing of the others.
    by_domain: BTreeMap<Uuid, BTreeSet<Uuid>>,
    /// Which port has which interface.
    bound: Bound,
    active: BTreeSet<Uuid>,
    /// Ports that became active or ceased to be, and nobody was told yet.
    news: BTreeSet<Uuid>,
    /// Ports whose last attempt failed.
    failed: BTreeSet<Uuid>,
    /// What could not be expressed.
    left_out: LeftOut,
    /// Domains to compare with the kernel at the next tick.
    suspects: BTreeSet<Uuid>,
    /// Namespaces that no router of the topology stands for, and that are left alone.
    kept: Kept,
    /// Addresses of the node side.
    addresses: Addresses,
    /// Our own namespace is to be compared at the next tick.
    suspect_node: bool,
    /// What is behind the uplinks of each domain, where the machine has nothing there.
    outsides: BTreeMap<Uuid, Vec<Outside>>,
    /// The world behind the uplinks is to be compared.
    suspect_outside: bool,
    /// Namespaces of domains that are gone and could not be removed yet.
    leftovers: BTreeSet<Uuid>,
    /// Domains that are still to be compared in this round.
    due: BTreeSet<Uuid>,
    /// Those who wait for counters.
    counting: Counting,
    status: Status,
    report: Arc<Mutex<Report>>,
    events: mpsc::UnboundedSender<Event>,
    tasks: JoinSet<()>,
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
        let refused = settings.node_side.and_then(|pool| node::check(pool, &mut node).err());
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

    /// Works until told to stop.
    pub(crate) async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut events: mpsc::UnboundedReceiver<Event>,
    ) {
        self.collect_garbage();
        self.rebuild(&Touched {
            domains: self.compiled.plan().domains.keys().copied().collect(),
            ports: self.compiled.topology().ports.keys().copied().collect(),
        });
        self.verify_node();
        self.retire_node();
        let mut last_sweep = tokio::time::Instant::now();
        let mut ticks = tokio::time::interval(RETRY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // What somebody waits for comes first, the round last.
                biased;
                command = commands.recv() => {
                    let mut batch = vec![command.unwrap_or(Command::Stop)];
                    while let Ok(command) = commands.try_recv() {
                        batch.push(command);
                    }
                    if !self.commands(batch) {
                        return;
                    }
                }
                Some(event) = events.recv() => {
                    let mut batch = vec![event];
                    while let Ok(event) = events.try_recv() {
                        batch.push(event);
                    }
                    self.notice(batch);
                }
                _ = ticks.tick() => {
                    self.retry();
                    if last_sweep.elapsed() >= SWEEP {
                        self.sweep();
                        last_sweep = tokio::time::Instant::now();
                    }
                }
                () = tokio::task::yield_now(), if self.counting.is_pending() => self.count_one(),
                () = tokio::task::yield_now(), if !self.due.is_empty() => self.sweep_one(),
            }
        }
    }

    /// Takes a batch of commands; false when told to stop.
    fn commands(&mut self, batch: Vec<Command>) -> bool {
        let mut touched = BTreeSet::new();
        let mut settled = Vec::new();
        let mut go_on = true;
        for command in batch {
            match command {
                Command::Submit(changes) => {
                    for change in changes {
                        touched.extend(self.compiled.apply(change));
                    }
                }
                Command::Settle(done) => settled.push(done),
                Command::Count(done) => self.count(done),
                Command::Stop => go_on = false,
            }
        }
        if self.compiled.is_pending() {
            let mut all = self.compiled.update();
            all.ports.append(&mut touched);
            self.rebuild(&all);
        }
        for port in touched {
            self.refresh(port);
        }
        self.tell();
        for done in settled {
            // Whoever waited may have given up.
            let _ = done.send(());
        }
        go_on
    }

    /// Makes domains and ports as they should be now.
    fn rebuild(&mut self, touched: &Touched) {
        self.guard_node();
        let (ids, gone): (Vec<Uuid>, Vec<Uuid>) =
            touched.domains.iter().partition(|id| self.compiled.plan().domains.contains_key(id));
        // Every namespace first, so that both ends of a link have a place.
        for id in &ids {
            let left = self.compiled.plan().domains.get(id).map(|domain| domain.unsupported.clone());
            self.left_out.replace(*id, left.unwrap_or_default());
            if let Err(error) = self.open_domain(*id) {
                self.fail(*id, &error);
            }
        }
        self.remember_node_side();
        let wanted = self.compile_pods(&touched.ports);
        // What moves to another domain leaves the old one before that is changed, or goes.
        self.carry(&wanted);
        for id in gone {
            self.remove_domain(id);
        }
        let exists = |port: &&Uuid| self.compiled.topology().ports.contains_key(*port);
        for port in touched.ports.iter().filter(|port| !exists(port)) {
            self.active.remove(port);
        }
        let touched: BTreeSet<_> = ids.into_iter().filter(|id| self.realise(*id, false, &wanted)).collect();
        self.outside();
        self.verify_ends();
        for (port, pod) in wanted {
            if touched.contains(&pod.domain) || self.pods.get(&port) != Some(&pod) {
                self.plug(port, pod);
            }
        }
        self.tell();
    }

    fn open_domain(&mut self, id: Uuid) -> Result<(), PlaneError> {
        if self.realms.contains_key(&id) {
            return Ok(());
        }
        self.adopt(id);
        // It was to go, and did not in time: now it is wanted again.
        self.leftovers.remove(&id);
        let realm = Realm::open(&self.settings.directory, id)?;
        let watches = watch(&realm.netns, Some(id), realm.port()?, &self.events, &mut self.tasks)?;
        self.realms.insert(id, Live { realm, applied: Domain::default(), complete: false, remembered: false, watches });
        Ok(())
    }

    /// Makes a domain as it should be, if that is not what it is already or `verify` asks to compare. False: there
    /// was nothing to do.
    fn realise(&mut self, id: Uuid, verify: bool, pods: &BTreeMap<Uuid, Pod>) -> bool {
        let (Some(live), Some(want)) = (self.realms.get_mut(&id), self.compiled.plan().domains.get(&id)) else {
            return false;
        };
        if live.complete && !verify && live.applied == *want {
            return false;
        }
        let mut around =
            Surroundings { directory: &self.settings.directory, node: &mut self.node, kept: self.kept.links() };
        let mut mine = pods.iter().filter(|(_, pod)| pod.domain == id);
        let expected = mine.try_for_each(|(port, pod)| live.realm.expect(*port, pod));
        let have = (live.complete && !verify).then_some(&live.applied);
        let realised = expected.and_then(|()| live.realm.realise(have, want, &mut around));
        let realised = realised.and_then(|changes| {
            // Ports may have gone while nobody looked, or their flows could not be forgotten.
            if live.complete { Ok(changes) } else { live.realm.forget_strangers(want).map(|()| changes) }
        });
        match realised {
            Ok(changes) => {
                live.applied.clone_from(want);
                live.complete = true;
                let mut report = lock(&self.report);
                report.changes += changes;
                report.errors.remove(&id);
            }
            Err(error) => {
                live.complete = false;
                self.fail(id, &error);
            }
        }
        self.forget_elsewhere(id);
        self.uplinks(id);
        self.note_outside(id);
        true
    }

    /// Router ports that are bound to an interface are active when it is there.
    fn uplinks(&mut self, id: Uuid) {
        let Some(live) = self.realms.get_mut(&id) else { return };
        let (complete, domain) = (live.complete, self.compiled.plan().domains.get(&id));
        for (port, spec) in self.compiled.ports_of(id).filter(|(_, port)| matches!(port.device, Device::Router { .. }))
        {
            let interface = spec.binding.as_ref().filter(|b| b.host == self.settings.host).map(|b| &b.interface);
            let wanted = |name: &&String| domain.is_some_and(|domain| domain.devices.contains_key(*name));
            let there = complete && interface.filter(wanted).is_some_and(|name| live.realm.has(name));
            if mark(&mut self.active, port, there) {
                self.news.insert(port);
            }
        }
    }

    /// Notes what is behind the uplinks of a domain.
    fn note_outside(&mut self, id: Uuid) {
        let devices = self.compiled.plan().domains.get(&id).into_iter().flat_map(|domain| domain.devices.values());
        let outsides = devices.filter_map(|device| match &device.kind {
            DeviceKind::Uplink { outside } => outside.clone(),
            _ => None,
        });
        let outsides: Vec<_> = outsides.collect();
        // The far end is made with the uplink, so it is to be looked at also when it should be the same.
        self.suspect_outside |= !outsides.is_empty() || self.outsides.contains_key(&id);
        if outsides.is_empty() {
            self.outsides.remove(&id);
        } else {
            self.outsides.insert(id, outsides);
        }
    }

    /// Makes the world behind the uplinks as it should be, where something happened to it.
    fn outside(&mut self) {
        if !std::mem::take(&mut self.suspect_outside) {
            return;
        }
        let wanted: Vec<_> = self.outsides.values().flatten().collect();
        // An uplink that is down comes back to the same world: what runs there goes on.
        let uplink = |port: &Port| {
            let here = port.binding.as_ref().is_some_and(|binding| binding.host == self.settings.host);
            here && matches!(port.device, Device::Router { .. })
        };
        let waits = wanted.is_empty() && self.compiled.topology().ports.values().any(uplink);
        match apply::outside(&self.settings.directory, &wanted, waits) {
            Ok(changes) => lock(&self.report).changes += changes,
            Err(error) => {
                self.suspect_outside = true;
                self.fail(Uuid::nil(), &error);
            }
        }
    }

    fn remove_domain(&mut self, id: Uuid) {
        self.left_out.replace(id, BTreeSet::new());
        self.note_outside(id);
        self.forget_pods(id);
        if let Some(live) = self.realms.remove(&id) {
            live.watches.iter().for_each(AbortHandle::abort);
            self.remove_leftover(id);
        }
        for port in self.by_domain.get(&id).cloned().unwrap_or_default() {
            self.drop_pod(port);
        }
    }

    /// Removes the namespace of a domain that is gone; tried again when it fails.
    fn remove_leftover(&mut self, id: Uuid) {
        match self.remove_namespace(&self.settings.directory.join(id.to_string())) {
            Ok(()) => {
                self.leftovers.remove(&id);
                lock(&self.report).errors.remove(&id);
            }
            Err(error) => {
                self.leftovers.insert(id);
                self.fail(id, &error);
            }
        }
    }

    /// Tells which ports changed.
    fn tell(&mut self) {
        if let Some(unsupported) = self.left_out.news() {
            lock(&self.report).unsupported = unsupported;
        }
        // What changed twice may be told again; whoever listens takes the last word.
        let news: Vec<_> = std::mem::take(&mut self.news).into_iter().map(|p| (p, self.active.contains(&p))).collect();
        if !news.is_empty() {
            (self.status)(news);
        }
    }

    fn fail(&self, object: Uuid, error: &PlaneError) {
        let line = line(error);
        tracing::warn!(%object, error = line, "data plane");
        lock(&self.report).errors.insert(object, line);
    }

    /// Notes whether a port's packets flow.
    fn set_active(&mut self, port: Uuid, is: bool) {
        if mark(&mut self.active, port, is) {
            self.news.insert(port);
        }
    }
}
