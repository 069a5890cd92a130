//! The thread that owns the kernel side.
//!
//! Changes arrive in order and are taken as many at a time as there are. What touches one pod's port only costs that
//! port; everything else compiles anew and realises the domains that came out different. What failed is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atoll_model::topology::{Change, Device, Object, Port, Topology};
use atoll_model::vif::Vif;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use uuid::Uuid;

use crate::apply::{self, Node, Realm, Surroundings};
use crate::compile::{self, DeviceKind, Domain, Plan, Pod, Unsupported};
use crate::counters::{Count, Counters};
use crate::error::{PlaneError, line};
use crate::handle::{Command, Report, Settings, lock};
use crate::kernel::watch::{Event, watch};

mod garbage;
mod node;
mod notice;
mod ports;

use garbage::Kept;
use node::Addresses;

/// How often what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often everything is compared with the kernel, whatever it has told.
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
    topology: Topology,
    plan: Plan,
    /// Our own namespace.
    node: Node,
    realms: BTreeMap<Uuid, Live>,
    /// Ports as they should be.
    pods: BTreeMap<Uuid, Pod>,
    /// The same ports by domain, so that one domain costs nothing of the others.
    by_domain: BTreeMap<Uuid, BTreeSet<Uuid>>,
    /// The port that an interface of a domain is bound to.
    bound: BTreeMap<(Uuid, String), Uuid>,
    active: BTreeSet<Uuid>,
    /// Ports that became active or ceased to be, and nobody was told yet.
    news: BTreeSet<Uuid>,
    /// Ports whose last attempt failed.
    failed: BTreeSet<Uuid>,
    /// What could not be expressed and was logged.
    logged: BTreeSet<Unsupported>,
    /// Domains to compare with the kernel at the next tick.
    suspects: BTreeSet<Uuid>,
    /// Namespaces that no router of the topology stands for, and that are left alone.
    kept: Kept,
    /// Addresses of the node side.
    addresses: Addresses,
    /// Our own namespace is to be compared at the next tick.
    suspect_node: bool,
    status: Status,
    report: Arc<Mutex<Report>>,
    events: mpsc::UnboundedSender<Event>,
    tasks: JoinSet<()>,
}

impl Plane {
    /// Reads nothing and changes nothing yet.
    pub(crate) fn open(
        settings: Settings,
        topology: Topology,
        status: Status,
        report: Arc<Mutex<Report>>,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Event>), PlaneError> {
        let node = Node::open()?;
        let (events, receiver) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        watch(&node.netns, None, node.netlink.port()?, &events, &mut tasks)?;
        let plane = Self {
            settings,
            topology,
            plan: Plan::default(),
            node,
            realms: BTreeMap::new(),
            pods: BTreeMap::new(),
            by_domain: BTreeMap::new(),
            bound: BTreeMap::new(),
            active: BTreeSet::new(),
            news: BTreeSet::new(),
            failed: BTreeSet::new(),
            logged: BTreeSet::new(),
            suspects: BTreeSet::new(),
            kept: Kept::default(),
            addresses: Addresses::default(),
            suspect_node: false,
            status,
            report,
            events,
            tasks,
        };
        Ok((plane, receiver))
    }

    /// Works until told to stop.
    pub(crate) async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut events: mpsc::UnboundedReceiver<Event>,
    ) {
        self.check_pool();
        self.collect_garbage();
        self.restructure();
        self.verify_node();
        let mut last_sweep = tokio::time::Instant::now();
        let mut ticks = tokio::time::interval(RETRY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
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
            }
        }
    }

    /// Takes a batch of commands; false when told to stop.
    fn commands(&mut self, batch: Vec<Command>) -> bool {
        let mut structural = false;
        let mut touched = BTreeSet::new();
        let mut settled = Vec::new();
        let mut go_on = true;
        for command in batch {
            match command {
                Command::Submit(changes) => {
                    for change in changes {
                        match self.port_only(&change) {
                            Some(port) => drop(touched.insert(port)),
                            None => structural = true,
                        }
                        self.topology.apply(change);
                    }
                }
                Command::Settle(done) => settled.push(done),
                // Whoever asked may have given up.
                Command::Count(done) => drop(done.send(self.count())),
                Command::Stop => go_on = false,
            }
        }
        if structural {
            self.restructure();
        } else {
            for port in touched {
                self.refresh(port);
            }
        }
        self.tell();
        for done in settled {
            // Whoever waited may have given up.
            let _ = done.send(());
        }
        go_on
    }

    /// The port, when a change concerns one pod's port and nothing else: neither before nor after it is it linked,
    /// and its bridge is there already.
    fn port_only(&self, change: &Change) -> Option<Uuid> {
        let (id, after) = match change {
            Change::Put(Object::Port(id, port)) => (*id, Some(port)),
            Change::Remove(id) => (*id, None),
            Change::Put(_) => return None,
        };
        let before = self.topology.ports.get(&id);
        if before.is_none() && after.is_none() {
            return None;
        }
        let plain = |port: &Port| match port.device {
            // Chains of a port are part of the structure.
            Device::Bridge { .. } if port.inbound.is_some() || port.outbound.is_some() => false,
            // So is that a bridge has a port which may speak as anybody.
            Device::Bridge { .. } if port.vif.and_then(Vif::from_uuid).is_none() => false,
            Device::Bridge { id, .. } => port.peer.is_none() && self.plan.bridges.contains_key(&id),
            Device::Router { .. } => false,
        };
        before.into_iter().chain(after).all(plain).then_some(id)
    }

    /// Compiles everything anew and realises what came out different.
    fn restructure(&mut self) {
        self.plan = compile::compile(&self.topology, self.site());
        self.guard_node();
        let gone: Vec<_> = self.realms.keys().filter(|id| !self.plan.domains.contains_key(id)).copied().collect();
        for id in gone {
            self.remove_domain(id);
        }
        let ids: Vec<_> = self.plan.domains.keys().copied().collect();
        // Every namespace first, so that both ends of a link have a place.
        for id in &ids {
            if let Err(error) = self.open_domain(*id) {
                self.fail(*id, &error);
            }
        }
        self.remember_node_side();
        let wanted: BTreeMap<Uuid, Pod> = self.compile_pods();
        for port in self.pods.keys().filter(|port| !wanted.contains_key(port)).copied().collect::<Vec<_>>() {
            self.drop_pod(port);
        }
        let touched: BTreeSet<_> = ids.into_iter().filter(|id| self.realise(*id, false, &wanted)).collect();
        if !touched.is_empty() {
            self.outside();
        }
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
        let realm = Realm::open(&self.settings.directory, id)?;
        let watches = watch(&realm.netns, Some(id), realm.port()?, &self.events, &mut self.tasks)?;
        self.realms.insert(id, Live { realm, applied: Domain::default(), complete: false, remembered: false, watches });
        Ok(())
    }

    /// Makes a domain as it should be, if that is not what it is already or `verify` asks to compare. False: there
    /// was nothing to do.
    fn realise(&mut self, id: Uuid, verify: bool, pods: &BTreeMap<Uuid, Pod>) -> bool {
        let (Some(live), Some(want)) = (self.realms.get_mut(&id), self.plan.domains.get(&id)) else { return false };
        if live.complete && !verify && live.applied == *want {
            return false;
        }
        let mut around =
            Surroundings { directory: &self.settings.directory, node: &mut self.node, kept: self.kept.links() };
        let mut mine = pods.iter().filter(|(_, pod)| pod.domain == id);
        let expected = mine.try_for_each(|(port, pod)| live.realm.expect(*port, pod));
        match expected.and_then(|()| live.realm.realise(want, &mut around)) {
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
        self.uplinks(id);
        true
    }

    /// Router ports that are bound to an interface are active when it is there.
    fn uplinks(&mut self, id: Uuid) {
        let Some(live) = self.realms.get_mut(&id) else { return };
        let complete = live.complete;
        for (port, spec) in &self.topology.ports {
            let Some(binding) = spec.binding.as_ref().filter(|b| b.host == self.settings.host) else { continue };
            if spec.device.id() != id || !matches!(spec.device, Device::Router { .. }) {
                continue;
            }
            let wanted = self.plan.domains.get(&id).is_some_and(|d| d.devices.contains_key(&binding.interface));
            let there = complete && wanted && live.realm.has(&binding.interface);
            if mark(&mut self.active, *port, there) {
                self.news.insert(*port);
            }
        }
    }

    fn outside(&mut self) {
        let uplinks = self.plan.domains.values().flat_map(|domain| domain.devices.values());
        let wanted: Vec<_> = uplinks
            .filter_map(|device| match &device.kind {
                DeviceKind::Uplink { outside } => outside.as_ref(),
                _ => None,
            })
            .collect();
        match apply::outside(&self.settings.directory, &wanted) {
            Ok(changes) => lock(&self.report).changes += changes,
            Err(error) => self.fail(Uuid::nil(), &error),
        }
    }

    fn remove_domain(&mut self, id: Uuid) {
        let Some(live) = self.realms.remove(&id) else { return };
        live.watches.iter().for_each(AbortHandle::abort);
        let path = live.realm.netns.path().to_owned();
        drop(live);
        if let Err(error) = self.remove_namespace(&path) {
            self.fail(id, &error);
        }
        for port in self.by_domain.get(&id).cloned().unwrap_or_default() {
            self.drop_pod(port);
        }
    }

    /// What was counted; a namespace that cannot be asked is left out.
    fn count(&mut self) -> Counters {
        self.forget_counts();
        let rules = self.topology.chains.values().flat_map(|chain| &chain.rules);
        let mut counters =
            Counters { rules: rules.map(|rule| (rule.id, Count::default())).collect(), ..Counters::default() };
        for (id, live) in &mut self.realms {
            if let Err(error) = live.realm.count(&mut counters) {
                tracing::warn!(object = %id, error = line(&error), "counters");
            }
        }
        counters
    }

    /// Counts do not grow with what was there once.
    fn forget_counts(&mut self) {
        let rules = self.topology.chains.values().flat_map(|chain| &chain.rules).map(|rule| rule.id).collect();
        self.realms.values_mut().for_each(|live| live.realm.forget_counts(&rules));
    }

    /// Logs what came to be unsupported.
    fn log(&mut self) {
        let report = lock(&self.report);
        for Unsupported { object, field, why, effect, closes: _ } in report.unsupported.difference(&self.logged) {
            tracing::warn!(%object, field, why, effect, "the data plane cannot express this");
        }
        if report.unsupported != self.logged {
            self.logged.clone_from(&report.unsupported);
        }
    }

    /// Tells which ports changed.
    fn tell(&mut self) {
        self.log();
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
