//! The thread that owns the kernel side, and the handle that others hold.
//!
//! Changes arrive in order and are taken as many at a time as there are. What touches one pod's port only costs that
//! port; everything else compiles anew and realises the domains that came out different. What failed is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use atoll_model::topology::{Change, Device, Object, Topology};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use uuid::Uuid;

use crate::apply::{self, OUTSIDE, Realm, Surroundings};
use crate::compile::{self, DeviceKind, Domain, Plan, Pod, Unsupported};
use crate::error::{PlaneError, line};
use crate::kernel::netns::{self, Netns};
use crate::kernel::nl::Netlink;
use crate::kernel::watch::{Event, watch};
use crate::probe::probe;

/// How often what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often everything is compared with the kernel, whatever it has told.
const SWEEP: Duration = Duration::from_secs(10);

/// Where and for whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Namespaces are pinned here, by the id of their router; and `outside`.
    pub directory: PathBuf,
    /// Only bindings of this host are realised.
    pub host: Uuid,
}

/// What could not be done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Parts of the topology that cannot be expressed.
    pub unsupported: BTreeSet<Unsupported>,
    /// The last error of each domain or port that is not as it should be.
    pub errors: BTreeMap<Uuid, String>,
    /// Changes made to the kernel since the start, ports of pods aside.
    pub changes: usize,
}

enum Command {
    Submit(Vec<Change>),
    Settle(oneshot::Sender<()>),
    Stop,
}

/// The data plane. Dropping every handle ends its thread; the kernel stays as it is.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    report: Arc<Mutex<Report>>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Handle {
    /// Starts to realise `initial`. `status` is told which ports became active (their packets flow) or ceased to be.
    pub fn start(
        settings: Settings,
        initial: Topology,
        status: impl Fn(Vec<(Uuid, bool)>) + Send + 'static,
    ) -> Result<Self, PlaneError> {
        let missing = probe();
        if !missing.is_empty() {
            return Err(PlaneError::Missing(missing));
        }
        let (commands, receiver) = mpsc::unbounded_channel();
        let report = Arc::<Mutex<Report>>::default();
        let shared = Arc::clone(&report);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(PlaneError::Thread)?;
        let thread = std::thread::Builder::new()
            .name("atoll-dataplane".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    match Plane::open(settings, initial, Box::new(status), Arc::clone(&shared)) {
                        Ok((plane, events)) => plane.run(receiver, events).await,
                        Err(error) => {
                            tracing::error!(error = line(&error), "data plane");
                            lock(&shared).errors.insert(Uuid::nil(), line(&error));
                        }
                    }
                });
            })
            .map_err(PlaneError::Thread)?;
        Ok(Self { commands, report, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// Hands over changes, to be applied in order. Never blocks.
    pub fn submit(&self, changes: Vec<Change>) {
        // The thread is only gone after `stop`, and then nothing is to be done.
        let _ = self.commands.send(Command::Submit(changes));
    }

    /// Waits until everything submitted so far was applied, or has failed and is in the report.
    pub async fn settle(&self) {
        let (done, wait) = oneshot::channel();
        if self.commands.send(Command::Settle(done)).is_ok() {
            // An error means that the thread ended, which settles it too.
            let _ = wait.await;
        }
    }

    /// What is not as it should be.
    pub fn report(&self) -> Report {
        lock(&self.report).clone()
    }

    /// Ends the thread and leaves the kernel as it is: packets keep flowing.
    pub fn stop(self) {
        let _ = self.commands.send(Command::Stop);
        if let Some(thread) = lock(&self.thread).take() {
            // A panic of the thread was printed already.
            let _ = thread.join();
        }
    }

    /// Removes every trace of a data plane that is not running.
    pub fn purge(directory: &Path) -> Result<(), PlaneError> {
        purge(directory)
    }
}

/// Removes every namespace pinned in `directory`, and the directory when nothing foreign is in it.
pub fn purge(directory: &Path) -> Result<(), PlaneError> {
    for path in pinned(directory)? {
        netns::unpin(&path)?;
    }
    // It stays when somebody else keeps something there.
    let _ = std::fs::remove_dir(directory);
    Ok(())
}

/// Files of ours: named by an id, or `outside`.
fn pinned(directory: &Path) -> Result<Vec<PathBuf>, PlaneError> {
    let fail = |source| PlaneError::Namespace { what: "list", path: directory.to_owned(), source };
    match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(fail(error)),
        Ok(entries) => {
            let mut paths = Vec::new();
            for entry in entries {
                let path = entry.map_err(fail)?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if name == OUTSIDE || Uuid::try_parse(&name).is_ok() {
                    paths.push(path);
                }
            }
            Ok(paths)
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is inside is replaced as a whole, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Status = Box<dyn Fn(Vec<(Uuid, bool)>) + Send>;

/// A domain that exists, and whether its structure stands.
struct Live {
    realm: Realm,
    applied: Domain,
    complete: bool,
    watches: Vec<AbortHandle>,
}

struct Plane {
    settings: Settings,
    topology: Topology,
    plan: Plan,
    own: Netns,
    own_netlink: Netlink,
    realms: BTreeMap<Uuid, Live>,
    /// Ports as they should be.
    pods: BTreeMap<Uuid, Pod>,
    /// The port that an interface of a domain is bound to.
    bound: BTreeMap<(Uuid, String), Uuid>,
    active: BTreeSet<Uuid>,
    /// What was told last.
    told: BTreeSet<Uuid>,
    /// Ports whose last attempt failed.
    failed: BTreeSet<Uuid>,
    /// Domains to compare with the kernel at the next tick.
    suspects: BTreeSet<Uuid>,
    status: Status,
    report: Arc<Mutex<Report>>,
    events: mpsc::UnboundedSender<Event>,
    tasks: JoinSet<()>,
}

impl Plane {
    fn open(
        settings: Settings,
        topology: Topology,
        status: Status,
        report: Arc<Mutex<Report>>,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Event>), PlaneError> {
        let own = Netns::own()?;
        let own_netlink = Netlink::open(&own)?;
        let (events, receiver) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        watch(&own, None, &events, &mut tasks)?;
        let plane = Self {
            settings,
            topology,
            plan: Plan::default(),
            own,
            own_netlink,
            realms: BTreeMap::new(),
            pods: BTreeMap::new(),
            bound: BTreeMap::new(),
            active: BTreeSet::new(),
            told: BTreeSet::new(),
            failed: BTreeSet::new(),
            suspects: BTreeSet::new(),
            status,
            report,
            events,
            tasks,
        };
        Ok((plane, receiver))
    }

    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>, mut events: mpsc::UnboundedReceiver<Event>) {
        self.collect_garbage();
        self.restructure();
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
        let plain = |port: &atoll_model::topology::Port| match port.device {
            Device::Bridge { id, .. } => port.peer.is_none() && self.plan.bridges.contains_key(&id),
            Device::Router { .. } => false,
        };
        before.into_iter().chain(after).all(plain).then_some(id)
    }

    /// Compiles everything anew and realises what came out different.
    fn restructure(&mut self) {
        self.plan = compile::compile(&self.topology, self.settings.host);
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
        let wanted: BTreeMap<Uuid, Pod> = self.compile_pods();
        for port in self.pods.keys().filter(|port| !wanted.contains_key(port)).copied().collect::<Vec<_>>() {
            self.drop_pod(port);
        }
        for id in &ids {
            self.realise(*id, false, &wanted);
        }
        self.outside();
        for (port, pod) in wanted {
            self.plug(port, pod);
        }
        self.tell();
    }

    fn compile_pods(&mut self) -> BTreeMap<Uuid, Pod> {
        let mut wanted = BTreeMap::new();
        let ports: Vec<_> =
            self.topology.ports.iter().filter(|(_, port)| port.binding.is_some()).map(|(id, _)| *id).collect();
        self.unsupported_ports_reset();
        self.bound.clear();
        for port in ports {
            if let Some(pod) = self.compile_pod(port) {
                wanted.insert(port, pod);
            }
        }
        wanted
    }

    fn compile_pod(&mut self, port: Uuid) -> Option<Pod> {
        match compile::pod(&self.topology, &self.plan.bridges, self.settings.host, port) {
            Ok(Some(pod)) => {
                let key = (pod.domain, pod.interface.clone());
                let holder = *self.bound.entry(key).or_insert(port);
                if holder == port {
                    return Some(pod);
                }
                lock(&self.report).unsupported.insert(Unsupported {
                    object: port,
                    field: "binding".to_owned(),
                    why: format!("interface {} is bound to port {holder} already", pod.interface),
                    effect: "the port stays inactive".to_owned(),
                });
                None
            }
            Ok(None) => None,
            Err(unsupported) => {
                lock(&self.report).unsupported.insert(unsupported);
                None
            }
        }
    }

    fn unsupported_ports_reset(&self) {
        lock(&self.report).unsupported =
            self.plan.domains.values().flat_map(|domain| domain.unsupported.iter().cloned()).collect();
    }

    fn open_domain(&mut self, id: Uuid) -> Result<(), PlaneError> {
        if self.realms.contains_key(&id) {
            return Ok(());
        }
        let realm = Realm::open(&self.settings.directory, id)?;
        let watches = watch(&realm.netns, Some(id), &self.events, &mut self.tasks)?;
        self.realms.insert(id, Live { realm, applied: Domain::default(), complete: false, watches });
        Ok(())
    }

    /// Makes a domain as it should be, if that is not what it is already or `verify` asks to compare.
    fn realise(&mut self, id: Uuid, verify: bool, pods: &BTreeMap<Uuid, Pod>) {
        let (Some(live), Some(want)) = (self.realms.get_mut(&id), self.plan.domains.get(&id)) else { return };
        if live.complete && !verify && live.applied == *want {
            return;
        }
        if !live.complete {
            for (port, pod) in pods.iter().filter(|(_, pod)| pod.domain == id) {
                live.realm.expect(*port, pod.clone());
            }
        }
        let mut around = Surroundings { directory: &self.settings.directory, own_netlink: &mut self.own_netlink };
        match live.realm.realise(want, &mut around) {
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
            if there {
                self.active.insert(*port)
            } else {
                self.active.remove(port)
            };
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
        let Some(mut live) = self.realms.remove(&id) else { return };
        live.watches.iter().for_each(AbortHandle::abort);
        let released = live.realm.release(&live.applied, &self.own);
        let path = live.realm.netns.path().to_owned();
        drop(live);
        if let Err(error) = released.and_then(|()| netns::unpin(&path)) {
            self.fail(id, &error);
        }
        self.pods.retain(|port, pod| {
            let stays = pod.domain != id;
            if !stays {
                self.active.remove(port);
            }
            stays
        });
    }

    /// Makes one port as it should be.
    fn refresh(&mut self, port: Uuid) {
        lock(&self.report).unsupported.retain(|unsupported| unsupported.object != port);
        if let Some(old) = self.pods.get(&port) {
            let key = (old.domain, old.interface.clone());
            if self.bound.get(&key) == Some(&port) {
                self.bound.remove(&key);
            }
        }
        match self.compile_pod(port) {
            Some(pod) => self.plug(port, pod),
            None => self.drop_pod(port),
        }
    }

    fn plug(&mut self, port: Uuid, pod: Pod) {
        if self.pods.get(&port).is_some_and(|old| old.domain != pod.domain) {
            self.drop_pod(port);
        }
        let active = match self.realms.get_mut(&pod.domain) {
            Some(live) if live.complete => {
                let mut around =
                    Surroundings { directory: &self.settings.directory, own_netlink: &mut self.own_netlink };
                live.realm.plug(port, &pod, &mut around)
            }
            _ => Ok(false),
        };
        self.pods.insert(port, pod);
        match active {
            Ok(active) => {
                self.failed.remove(&port);
                lock(&self.report).errors.remove(&port);
                if active {
                    self.active.insert(port)
                } else {
                    self.active.remove(&port)
                };
            }
            Err(error) => {
                self.active.remove(&port);
                self.failed.insert(port);
                self.fail(port, &error);
            }
        }
    }

    fn drop_pod(&mut self, port: Uuid) {
        let Some(pod) = self.pods.remove(&port) else { return };
        self.active.remove(&port);
        self.failed.remove(&port);
        lock(&self.report).errors.remove(&port);
        let removed = self.realms.get_mut(&pod.domain).map_or(Ok(()), |live| live.realm.unplug(port));
        if let Err(error) = removed {
            // The next comparison takes out what is left.
            if let Some(live) = self.realms.get_mut(&pod.domain) {
                live.complete = false;
            }
            self.fail(port, &error);
        }
    }

    /// Looks at what the kernel told.
    fn notice(&mut self, batch: Vec<Event>) {
        let mut ports = BTreeSet::new();
        let mut domains = BTreeSet::new();
        for event in batch {
            match event {
                Event::Link { scope: Some(domain), link } => {
                    if let Some(port) = self.bound.get(&(domain, link.name.clone())) {
                        ports.insert(*port);
                        continue;
                    }
                    let devices = self.plan.domains.get(&domain).map(|domain| &domain.devices);
                    let Some(device) = devices.and_then(|devices| devices.get(&link.name)) else { continue };
                    if !link.up || link.mac != Some(device.mac) {
                        domains.insert(domain);
                    }
                    // Ports wait for their bridge.
                    let waits = |port: &Uuid, pod: &Pod| pod.bridge == link.name && !self.active.contains(port);
                    ports.extend(self.pods_of(domain).filter(|(port, pod)| waits(port, pod)).map(|(port, _)| *port));
                }
                Event::Gone { scope: Some(domain), name } => match self.bound.get(&(domain, name.clone())) {
                    Some(port) => drop(ports.insert(*port)),
                    None if self.plan.domains.get(&domain).is_some_and(|d| d.devices.contains_key(&name)) => {
                        domains.insert(domain);
                    }
                    None => {}
                },
                Event::Link { scope: None, link } => {
                    ports
                        .extend(self.bound.iter().filter(|((_, bound), _)| *bound == link.name).map(|(_, port)| *port));
                }
                Event::Suspect { scope } => drop(self.suspects.insert(scope)),
                // Our own transactions are the common case, and are known by their number.
                Event::Filter { scope } => {
                    if self.realms.get_mut(&scope).is_some_and(|live| live.complete && !live.realm.filter_is_ours()) {
                        self.suspects.insert(scope);
                    }
                }
                Event::Gone { scope: None, .. } | Event::Lost { scope: None } => {}
                Event::Lost { scope: Some(domain) } => drop(domains.insert(domain)),
            }
        }
        for domain in domains {
            self.verify(domain);
        }
        for port in ports {
            if let Some(pod) = self.pods.get(&port).cloned() {
                self.plug(port, pod);
            }
        }
        self.tell();
    }

    /// Tries again what failed.
    fn retry(&mut self) {
        for id in std::mem::take(&mut self.suspects) {
            self.verify(id);
        }
        let broken = self.plan.domains.keys().any(|id| self.realms.get(id).is_none_or(|live| !live.complete));
        if broken {
            self.restructure();
        }
        for port in self.failed.clone() {
            if let Some(pod) = self.pods.get(&port).cloned() {
                self.plug(port, pod);
            }
        }
        self.tell();
    }

    /// Compares everything with the kernel.
    fn sweep(&mut self) {
        for id in self.realms.keys().copied().collect::<Vec<_>>() {
            self.verify(id);
        }
        self.outside();
        self.tell();
    }

    fn pods_of(&self, domain: Uuid) -> impl Iterator<Item = (&Uuid, &Pod)> {
        self.pods.iter().filter(move |(_, pod)| pod.domain == domain)
    }

    /// Compares one domain and its pods with the kernel.
    fn verify(&mut self, id: Uuid) {
        self.realise(id, true, &BTreeMap::new());
        let pods: Vec<_> = self.pods_of(id).map(|(port, pod)| (*port, pod.clone())).collect();
        for (port, pod) in pods {
            self.plug(port, pod);
        }
    }

    /// Removes namespaces that no router of the topology stands for. Not when the topology has no router at all:
    /// that is more likely a controller that has lost its memory than one that has removed everything.
    fn collect_garbage(&mut self) {
        if self.topology.routers.is_empty() {
            return;
        }
        let plan = compile::compile(&self.topology, self.settings.host);
        let stale = pinned(&self.settings.directory).map(|paths| {
            paths.into_iter().filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                Uuid::try_parse(&name).is_ok_and(|id| !plan.domains.contains_key(&id))
            })
        });
        let removed = stale.and_then(|mut paths| paths.try_for_each(|path| netns::unpin(&path)));
        if let Err(error) = removed {
            self.fail(Uuid::nil(), &error);
        }
    }

    /// Tells which ports changed.
    fn tell(&mut self) {
        let changed: Vec<_> = self.told.symmetric_difference(&self.active).copied().collect();
        if changed.is_empty() {
            return;
        }
        self.told.clone_from(&self.active);
        (self.status)(changed.into_iter().map(|port| (port, self.active.contains(&port))).collect());
    }

    fn fail(&self, object: Uuid, error: &PlaneError) {
        let line = line(error);
        tracing::warn!(%object, error = line, "data plane");
        lock(&self.report).errors.insert(object, line);
    }
}
