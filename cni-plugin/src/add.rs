//! ADD: the container has its interface, its address and its port, or it has nothing.
//!
//! parse -> refuse what must not be touched -> lock -> note `adding` -> place -> claim -> { port } beside { interface }
//! -> poll until packets flow -> note `done` -> print.
//!
//! **Fences.** An ADD that died may have requests on their way: a claim, a new port. Nobody can call them back, so
//! whoever finds its progress file still at `adding` counts the attachment as unsettled for the quiet period, the
//! longest time a server may still execute a request.
//! * A DEL in that time deletes interface and port now, buries a fence in etcd and keeps the claim. A late claim loses
//!   against the fence or the claim that is there. A late port is deleted when the fence is settled, after the quiet
//!   period, and only then is the address released: no port can speak with an address that somebody else has got.
//! * An ADD in that time may go on: it wants the same claim, the same port and the same interface, which are derived
//!   from the attachment, so that a late request of its predecessor does what this one does. It supersedes the fence in
//!   the very transaction that claims. But it inherits the unsettledness: when a DEL follows within the quiet period,
//!   that late port could still come after the DEL. So the time is kept in the progress file, written before the fence
//!   is superseded, and that DEL buries a fence again.
//! * An ADD that fails knows by the [`Tally`](crate::tally::Tally) whether all its requests were answered. If so it
//!   cleans up at once and leaves nothing. If not it does what the DEL of a dead ADD does.
//!
//! **A deletion on its way.** A DEL that died may have left one: the progress file or a tombstone says so (`detach`). The
//! ADD then gives the claim a port of another id before it makes one, and waits first if a request of an earlier ADD could
//! still make the port before it.
//!
//! **Undo.** Nobody may ever call again after a failed ADD, so it takes apart what it made in what time is left, and
//! leaves a tombstone for the rest. An ADD of an attachment that was finished before undoes nothing: the runtime knows
//! the attachment and owes a DEL.

pub(crate) mod port;

use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_records::{ClaimRecord, Phase, Revision, SubnetEntry, Versioned};

use atoll_ipam::{ClaimRequest, Claimed, IpamError, claim, renew};
use atoll_model::attachment::Attachment;
use atoll_model::cni::request::Pod;
use atoll_model::cni::result::Attached;
use atoll_model::config::DnsConfig;
use atoll_model::error::{Class, Classify as _};
use atoll_model::ids::IfName;
use atoll_model::route::{MAIN_TABLE, Route};
use atoll_model::wish::{SubnetChoice, Wish};
use atoll_store::Store;
use atoll_tenant::controller::{Controller, ControllerError, ControllerFailure};
use atoll_tenant::{Node, Place, Resolver, TenantError, Who};
use futures_util::future::join;
use ipnetwork::Ipv4Network;
use std::net::Ipv4Addr;
use tokio::time::{Instant, timeout_at};

use crate::detach::{Announce, Detached, Known, Limits};
use crate::error::Error;
use crate::journal::{Journal, Progress, State};
use crate::pending::may_be_in_the_way;
use crate::tally::Mark;
use crate::ways;
use crate::wire::{Change, Netns, NetnsKind, Veth, Wire, WireError};
use crate::world::World;

/// How often what a claim rests on may change before we give up.
const ATTEMPTS: u32 = 8;
/// At most this much of the deadline is kept back for undoing.
const RESERVE: Duration = Duration::from_secs(5);
/// How often the request to the controller gets a turn before the kernel has the only thread for a millisecond: to connect,
/// to be written. The controller works on it meanwhile.
const HEAD_START: u32 = 4;
/// How long tombstones of earlier calls may be worked on.
const DRAIN: Duration = Duration::from_secs(1);

/// What an ADD is asked.
#[derive(Clone, Debug)]
pub struct AddCall {
    /// Who.
    pub attachment: Attachment,
    /// The pod, as far as the runtime says so.
    pub pod: Pod,
    /// What is asked of the interface.
    pub wish: Wish,
    /// `CNI_NETNS`, verbatim.
    pub sandbox: String,
    /// Name servers for the result.
    pub dns: DnsConfig,
    /// The caller insists on its own namespace.
    pub own_netns: bool,
    /// This machine.
    pub node: Node,
}

/// One ADD on its way.
struct Adding<'a, S, C, W> {
    world: &'a World<S, C, W>,
    call: &'a AddCall,
    who: Who,
    journal: Journal,
    progress: Progress,
    /// The interface was there before we began, and it is ours.
    had_interface: bool,
    /// The MTU that it gets, bytes.
    mtu: u32,
    /// When we first tried to claim; none: we have not.
    began: Option<Mark>,
    /// The claim is of this call.
    is_new: bool,
}

impl<S: Store, C: Controller, W: Wire> World<S, C, W> {
    /// Attaches a container.
    pub async fn add(&self, call: &AddCall) -> Result<Attached, Error> {
        let deadline = Instant::now() + self.config.timeout;
        let had_interface = self.refuse_foreign(call).await?;
        let mtu = self.mtu().await?;
        let lock = self.course.stage("lock", self.journals.lock(&call.attachment, deadline));
        let lock = lock.await.map_err(Error::file("lock the attachment"))?;
        let journal = lock.ok_or_else(|| Error::Locked(Box::new(call.attachment.clone())))?;
        self.refuse_made_elsewhere(&call.attachment, journal.before())?;
        let mut adding = Adding::new(self, call, journal, had_interface, mtu);
        let reserve = RESERVE.min(self.config.timeout / 4);
        let late = || Err(self.late(format!("ADD of {}", call.attachment)));
        match timeout_at(deadline - reserve, adding.work(deadline - reserve)).await.unwrap_or_else(|_| late()) {
            Ok(attached) => {
                if self.may_owe() {
                    self.course.stage("tombstones", self.drain(Instant::now() + DRAIN)).await;
                }
                Ok(attached)
            }
            Err(error) => {
                tracing::warn!(attachment = %call.attachment, error = &error as &dyn std::error::Error, "undoing");
                self.course.stage("undo", adding.undo(deadline)).await;
                Err(error)
            }
        }
    }

    /// Checks before any effect. True: the interface is there and ours.
    async fn refuse_foreign(&self, call: &AddCall) -> Result<bool, Error> {
        let path = PathBuf::from(&call.sandbox);
        match self.wire.kind(&path).await? {
            NetnsKind::Gone => return Err(Error::NetnsGone(path)),
            NetnsKind::NotANetns => return Err(Error::NotANetns(path)),
            NetnsKind::OurOwn if !call.own_netns => return Err(Error::OwnNetns(path)),
            NetnsKind::OurOwn | NetnsKind::Netns => {}
        }
        let Attachment { interface, .. } = &call.attachment;
        match self.wire.inspect(&Netns::At(path.clone()), interface).await? {
            None => Ok(false),
            Some(link) if link.is_pod_end(&call.attachment) => Ok(true),
            Some(_) => Err(Error::Foreign { netns: path, interface: interface.clone() }),
        }
    }
}

impl<'a, S: Store, C: Controller, W: Wire> Adding<'a, S, C, W> {
    fn new(world: &'a World<S, C, W>, call: &'a AddCall, journal: Journal, had_interface: bool, mtu: u32) -> Self {
        let known = world.known(&call.attachment, journal.before());
        let before = journal.before().cloned();
        let progress = Progress {
            state: State::Adding,
            attachment: Some(call.attachment.clone()),
            prefix: Some(world.config.etcd.prefix.clone()),
            unsettled_until: known.unsettled_until,
            closing: known.closing,
            // Where an interface may be is worth knowing; the claim is read anew.
            host_netns: before.and_then(|before| before.host_netns),
            claim: None,
        };
        let who = Who { namespace: call.pod.namespace.clone(), default_tenant: world.config.tenant.default.clone() };
        Self { world, call, who, journal, progress, had_interface, mtu, began: None, is_new: false }
    }

    fn note(&mut self) -> Result<(), Error> {
        self.journal.write(&self.progress).map_err(Error::file("write the progress file"))
    }

    async fn work(&mut self, until: Instant) -> Result<Attached, Error> {
        self.note()?;
        let course = &self.world.course;
        let place = course.stage("tenant", self.resolver().resolve(&self.who)).await?;
        course.is_in(&place.tenant.record.name);
        self.refuse_routes_anywhere(&place)?;
        // The cluster has accepted the name: what is made under it must be found, whatever the host is called later.
        self.world.remember_name(&self.call.node);
        self.began = Some(self.world.tally.mark());
        let (place, claim) = course.stage("claim", self.claim(place, until)).await?;
        // At once: whatever happens from here on, there is a claim to undo.
        self.progress.claim = Some(claim.clone());
        // The port of this claim is another one than those that may be deleted late.
        self.progress.closing = false;
        let tenants_dns = place.tenant.record.dns.clone();
        let host_netns = self.world.host_netns(place.router()).await;
        self.progress.host_netns = Some(host_netns.clone());
        self.note()?;
        self.refuse_routes(&claim.record)?;
        if claim.record.addresses.len() > 1 {
            let until_then = claim.record.deletions_until.min(self.world.quiet());
            course.stage("late requests", self.wait_for(until_then, until)).await?;
        }

        let stale_interface = self.is_new && self.had_interface;
        let wire = self.plug_in(&claim.record, host_netns, stale_interface);
        // Both to their end: an answer that nobody waits for would leave the other side's doing unknown.
        let port = course.stage("port", self.open_port(&place, &claim.record));
        let (port, wire) = join(port, course.stage("interface", wire)).await;
        wire?;
        let port = match port {
            Err(error) if self.is_first() && is_conflict(&error) => {
                course.stage("port", self.replace_port(&place, &claim.record)).await
            }
            port => port,
        };
        let (wanted, state) = port?;
        course.stage("packets", self.wait_for_packets(&wanted, state, until)).await?;
        course.stage("announce", self.announce()).await;

        // From here on the attachment is live: what an earlier DEL left behind in a file is no longer owed.
        self.world.graves.remove(&self.call.attachment).map_err(Error::file("remove a local tombstone"))?;
        self.progress.state = State::Done;
        self.note()?;
        Ok(self.attached(&claim.record, tenants_dns))
    }

    fn resolver(&self) -> Resolver<'a, S, C> {
        let World { store, controller, config, cache, .. } = self.world;
        Resolver { store, controller, config: &config.cluster, node: &self.call.node, cache }
    }

    /// Claims an address, or finds the claim that is there. Before a request is refused because of what others have, or
    /// because of what an unfinished DEL of its own left, this node cleans up what it can.
    async fn claim(&mut self, mut place: Place, until: Instant) -> Result<(Place, Versioned<ClaimRecord>), Error> {
        let AddCall { attachment, pod, node, .. } = self.call;
        let mut fence = None;
        let mut cannot_grow = None;
        let mut is_cleaned = false;
        let mut attempts = 0;
        while attempts < ATTEMPTS {
            attempts += 1;
            let request = ClaimRequest {
                attachment,
                cluster: &place.cluster.record,
                tenant: &place.tenant.record,
                guards: place.guards(),
                namespace: pod.namespace.as_ref(),
                pod: pod.name.as_deref(),
                pod_uid: pod.uid.as_deref(),
                host_id: node.host_id,
                fence,
                deletions_until: if self.progress.closing { self.world.quiet() } else { 0 },
                was_evicted: place.was_evicted(),
                can_grow: cannot_grow.is_none(),
                wish: &self.call.wish,
            };
            let claimed = match claim(&self.world.store, &request).await {
                Err(IpamError::Exhausted { tenant, subnets }) => {
                    let quota = place.tenant.record.quota.clone();
                    if let Some(because) = cannot_grow.take() {
                        if !is_cleaned {
                            (is_cleaned, cannot_grow) = (true, Some(because));
                            self.clean_up(until).await;
                            continue;
                        }
                        let full = TenantError::Full { tenant, subnets, quota, because };
                        return Err(self.world.with_pending(full.into(), None).await);
                    }
                    match self.resolver().grow(&self.who, place.clone()).await {
                        // There is more room than before, which others may have taken: what came before does not count.
                        Ok(grown) => (place, attempts) = (grown, 0),
                        Err(error) if error.class() == Class::Exhausted => cannot_grow = Some(Box::new(error)),
                        Err(error) => return Err(error.into()),
                    }
                    continue;
                }
                Err(refused) if may_be_in_the_way(&refused) => {
                    if !is_cleaned {
                        is_cleaned = true;
                        self.clean_up(until).await;
                        continue;
                    }
                    return Err(self.world.with_pending(refused.into(), None).await);
                }
                Err(refused @ IpamError::OtherWish { .. }) => {
                    self.clean_up_own(&mut fence, until, refused.into()).await?;
                    continue;
                }
                claimed => claimed?,
            };
            match claimed {
                Claimed::New(claim) => {
                    self.is_new = true;
                    return Ok((place, claim));
                }
                Claimed::Already(claim) => match self.refuse_another(&place, &claim.record) {
                    Ok(()) if !self.progress.closing => return Ok((place, claim)),
                    // None: it has changed since it was read.
                    Ok(()) => {
                        if let Some(claim) = self.renew(&place, claim, until).await? {
                            return Ok((place, claim));
                        }
                    }
                    Err(refused) => self.clean_up_own(&mut fence, until, refused).await?,
                },
                Claimed::Stale(current) => {
                    place = self.resolver().refresh(&self.who, current).await?;
                    cannot_grow = None;
                }
                Claimed::Buried(tombstone) => {
                    // Before it is superseded: afterwards only our file knows of it.
                    let until = self.world.unsettled_until(&tombstone.record);
                    self.progress.unsettled_until = self.progress.unsettled_until.max(until);
                    self.progress.closing |= tombstone.record.is_closing();
                    self.note()?;
                    fence = Some(tombstone.mod_revision);
                }
            }
        }
        Err(Error::Unsteady(Box::new(attachment.clone())))
    }

    /// The claim stays, and a deletion of its port may be on its way: it gets a port of another id. The port before goes
    /// first: no port is there that no claim names, and one interface has one port. None: the claim has changed.
    async fn renew(
        &mut self,
        place: &Place,
        claim: Versioned<ClaimRecord>,
        until: Instant,
    ) -> Result<Option<Versioned<ClaimRecord>>, Error> {
        let World { store, controller, .. } = self.world;
        let (node, quiet) = (place.guards().node, self.world.quiet());
        // Whatever happens from here on, there is a claim to undo. The file does not say which: it is about to change. If
        // it changes otherwise, undoing finds that out.
        self.progress.claim = Some(claim.clone());
        // A deletion of what further addresses need names no port.
        let is_waited_out = claim.record.addresses.len() > 1;
        let late = if is_waited_out { quiet } else { self.progress.unsettled_until.min(quiet) };
        let mut claim = claim;
        if late > (self.world.clock)() {
            // At once: a late release of the claim would come true while we wait.
            let Some(ours) = renew(store, &claim, node, claim.record.port, quiet).await? else { return Ok(None) };
            claim = ours;
            self.progress.claim = Some(claim.clone());
            self.world.course.stage("late requests", self.wait_for(late, until)).await?;
        }
        if let Some(seeds) = port::seeds(place.bridge(claim.record.addresses[0].ordinal), &claim.record) {
            controller.delete_static_entries(&seeds).await?;
        }
        controller.delete_port(claim.record.port).await?;
        let next = claim.record.attachment.port_after(place.cluster.record.id, claim.record.port);
        Ok(renew(store, &claim, node, next, if is_waited_out { 0 } else { quiet }).await?)
    }

    /// The ADD before this one, if there was any, was not finished.
    fn is_first(&self) -> bool {
        self.is_new || self.journal.before().is_some_and(|before| before.state == State::Adding)
    }

    /// Waits until a time of the clock, seconds since 1970, at which no request of an earlier call can arrive any more.
    async fn wait_for(&self, then: u64, until: Instant) -> Result<(), Error> {
        let seconds = then.saturating_sub((self.world.clock)());
        let wait = Duration::from_secs(seconds);
        if Instant::now() + wait > until {
            return Err(Error::Crossing { attachment: Box::new(self.call.attachment.clone()), seconds });
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Cleans up what this node can. Requests of it that are not answered are not this ADD's.
    async fn clean_up(&mut self, until: Instant) {
        let tally = &self.world.tally;
        let is_settled = self.began.is_none_or(|began| tally.is_settled_since(began));
        self.world.settle_pending(until).await;
        if is_settled {
            self.began = Some(tally.mark());
        }
    }

    /// The attachment has a claim of another request: `refused`. If that is only there because a DEL could not finish, the
    /// DEL is finished now. Ok: nothing is left of it.
    async fn clean_up_own(
        &mut self,
        fence: &mut Option<Revision>,
        until: Instant,
        refused: Error,
    ) -> Result<(), Error> {
        let attachment = &self.call.attachment;
        let was_done = self.journal.before().is_some_and(|before| before.state == State::Done);
        let is_deleted = fence.is_some() || self.world.graves.get(attachment).is_some();
        if was_done || !is_deleted {
            return Err(refused);
        }
        // The tombstone may be superseded by now: the file says that a deletion is on its way.
        self.progress.closing = true;
        self.note()?;
        let known = Known {
            pod_netns: Some(PathBuf::from(&self.call.sandbox)),
            unsettled_until: self.progress.unsettled_until,
            closing: true,
            progress: None,
            ..self.world.known(attachment, None)
        };
        let limits = Limits { requests: until, records: until };
        let outcome = self.world.detach(attachment, Announce::Here(&self.journal), &known, limits).await;
        outcome.link?;
        *fence = None;
        match outcome.rest? {
            Detached::Wholly => Ok(()),
            Detached::Owing => Err(self.world.with_pending(refused, Some(attachment)).await),
        }
    }

    /// The claim that is there must be for the same pod in the same life of the same tenant.
    fn refuse_another(&self, place: &Place, claim: &ClaimRecord) -> Result<(), Error> {
        let tenant = &place.tenant.record;
        if claim.tenant == tenant.name
            && claim.incarnation == tenant.incarnation
            && claim.namespace == self.who.namespace
        {
            return Ok(());
        }
        Err(Error::OtherRequest { attachment: Box::new(claim.attachment.clone()), tenant: claim.tenant.clone() })
    }

    /// Makes the interface as the claim says.
    async fn plug_in(&self, claim: &ClaimRecord, host_netns: Netns, stale: bool) -> Result<(), Error> {
        let Attachment { interface, .. } = &self.call.attachment;
        let pod_netns = PathBuf::from(&self.call.sandbox);
        let veth = Veth {
            host_netns,
            host_interface: claim.host_interface.clone(),
            pod_netns,
            pod_interface: interface.clone(),
            mac: claim.mac,
            mtu: self.mtu,
        };
        if let Some(earlier) = self.journal.before().and_then(|before| before.host_netns.as_ref())
            && *earlier != veth.host_netns
        {
            self.world.unplug_host_end(earlier, &self.call.attachment).await?;
        }
        if stale {
            // It has the address of a claim that is no more.
            self.clear(&veth).await?;
        }
        for _ in 0..HEAD_START {
            tokio::task::yield_now().await;
        }
        if let Err(error) = self.world.wire.create(&veth).await {
            // One end of an earlier life is in the way: the same attachment in another namespace.
            if !self.clear(&veth).await? {
                return Err(error.into());
            }
            self.world.wire.create(&veth).await?;
        }
        self.refuse_shared_ways(&veth.pod_netns).await?;
        // Of an earlier life of the interface in this namespace, which had other addresses.
        self.world.forget_ways(interface, &veth.pod_netns, &ways::rules(claim)).await?;
        for change in self.changes(claim) {
            // The kernel works while we wait; let the controller's answer in.
            tokio::task::yield_now().await;
            self.world.wire.configure(Path::new(&self.call.sandbox), &change).await?;
        }
        Ok(())
    }

    /// No other interface of the pod has the table or the metric that the name of this one gives. Asked when the interface is
    /// there: of two that are made side by side at least one sees the other.
    async fn refuse_shared_ways(&self, pod_netns: &Path) -> Result<(), Error> {
        let interface = &self.call.attachment.interface;
        match self.world.shares_ways(interface, pod_netns).await? {
            None => Ok(()),
            Some(other) => Err(Error::SharedWays { interface: interface.clone(), other }),
        }
    }

    /// Tells the neighbours that the addresses are this pod's now: some may remember who had them before. Before the port
    /// is active nothing of it would arrive. A pod whose neighbours were not told works as soon as they ask again.
    async fn announce(&self) {
        let AddCall { attachment, sandbox, .. } = self.call;
        let change = Change::Announce(attachment.interface.clone());
        if let Err(error) = self.world.wire.configure(Path::new(sandbox), &change).await {
            tracing::warn!(%attachment, error = &error as &dyn std::error::Error, "the neighbours were not told");
        }
    }

    /// The configured routes fit the pod's subnet: the kernel would refuse them when all else is made.
    fn refuse_routes(&self, claim: &ClaimRecord) -> Result<(), Error> {
        let own: Vec<_> = claim.addresses.iter().map(|address| address.address).collect();
        impossible(&self.routes(claim), &own, self.mtu).map_or(Ok(()), Err)
    }

    /// The same before anything is claimed: refused when they fit no subnet that the pod could get.
    fn refuse_routes_anywhere(&self, place: &Place) -> Result<(), Error> {
        let Wish { addresses, subnet, .. } = &self.call.wish;
        let is_meant = |entry: &&SubnetEntry| {
            let chosen = subnet.is_none_or(|choice| match choice {
                SubnetChoice::Ordinal(ordinal) => ordinal == entry.ordinal,
                SubnetChoice::Cidr(cidr) => cidr == entry.cidr,
            });
            chosen && addresses.first().is_none_or(|address| entry.cidr.contains(*address))
        };
        let active = place.tenant.record.subnets.iter().filter(|entry| entry.phase == Phase::Active);
        let mut refused = None;
        for entry in active.filter(is_meant) {
            let routes = routes_by(entry.gateway, &self.call.attachment.interface, &self.world.config.routes);
            match impossible(&routes, &[entry.cidr], self.mtu) {
                None => return Ok(()),
                Some(error) => refused = Some(error),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    fn changes(&self, claim: &ClaimRecord) -> Vec<Change> {
        let interface = &self.call.attachment.interface;
        let mut changes = vec![Change::LoopbackUp];
        let metric = ways::metric(interface);
        changes.extend(claim.addresses.iter().map(|a| Change::Address(interface.clone(), a.address, metric)));
        changes.push(Change::Up(interface.clone()));
        let routes = self.routes(claim);
        let own = ways::routes(claim, &routes);
        changes.extend(routes.into_iter().chain(own).map(|route| Change::Route(interface.clone(), route)));
        changes.extend(ways::rules(claim).into_iter().map(Change::From));
        changes
    }

    fn routes(&self, claim: &ClaimRecord) -> Vec<Route> {
        routes(claim, &self.world.config.routes)
    }

    /// Deletes what is left of an earlier interface of this attachment. True: there was something.
    async fn clear(&self, veth: &Veth) -> Result<bool, WireError> {
        let wire = &self.world.wire;
        if self.world.unplug_host_end(&veth.host_netns, &self.call.attachment).await? {
            return Ok(true);
        }
        let pod_netns = Netns::At(veth.pod_netns.clone());
        let pod_end = wire.inspect(&pod_netns, &veth.pod_interface).await?;
        if pod_end.is_some_and(|link| link.is_pod_end(&self.call.attachment)) {
            wire.delete(&pod_netns, &veth.pod_interface).await?;
            return Ok(true);
        }
        Ok(false)
    }

    fn attached(&self, claim: &ClaimRecord, tenants_dns: Option<DnsConfig>) -> Attached {
        // The pod and its node know better than the tenant.
        let dns = Some(self.call.dns.clone()).filter(|dns| *dns != DnsConfig::default());
        Attached {
            interface: self.call.attachment.interface.clone(),
            mac: claim.mac,
            mtu: self.mtu,
            sandbox: self.call.sandbox.clone(),
            host_interface: claim.host_interface.clone(),
            addresses: claim.addresses.iter().map(|a| (a.address, a.gateway)).collect(),
            routes: self.routes(claim),
            dns: dns.or(tenants_dns).unwrap_or_default(),
        }
    }

    /// Takes apart what this ADD made. The caller has its error already: what fails here is logged.
    async fn undo(mut self, deadline: Instant) {
        let attachment = &self.call.attachment;
        let tally = &self.world.tally;
        let is_settled = self.began.is_none_or(|began| tally.is_settled_since(began));
        let was_done = self.journal.before().is_some_and(|before| before.state == State::Done);
        let made_nothing = self.progress.claim.is_none() && is_settled;
        if !is_settled {
            self.progress.unsettled_until = self.progress.unsettled_until.max(self.world.quiet());
        }
        let put_back = if made_nothing {
            self.journal.restore()
        } else if was_done {
            // The claim may have another port than before, and a request of this call may be on its way.
            let claim = self.journal.before().and_then(|before| before.claim.clone());
            let claim = self.progress.claim.take().or(claim);
            self.journal.write(&Progress { state: State::Done, claim, ..self.progress })
        } else {
            self.take_apart(deadline).await;
            return;
        };
        if let Err(error) = put_back {
            tracing::error!(%attachment, %error, "could not put the progress file back");
        }
    }

    async fn take_apart(self, deadline: Instant) {
        let attachment = &self.call.attachment;
        let tally = &self.world.tally;
        let known = Known {
            pod_netns: Some(PathBuf::from(&self.call.sandbox)),
            unsettled_until: self.progress.unsettled_until,
            // The claim is of this call, and nothing it asked the controller was done: there is no port to delete.
            has_no_port: self.is_new && self.began.is_some_and(|began| tally.is_unchanged_since(began)),
            closing: self.progress.closing,
            progress: Some(self.progress.clone()),
            ..self.world.known(attachment, None)
        };
        let now = Instant::now();
        let half = now + deadline.saturating_duration_since(now) / 2;
        let limits = Limits { requests: half, records: deadline };
        let outcome = self.world.detach(attachment, Announce::Here(&self.journal), &known, limits).await;
        if let Err(error) = &outcome.link {
            tracing::error!(%attachment, %error, "could not delete the interface");
        }
        match outcome.rest {
            Ok(_) => {
                // What is left is written down, and is settled even if nobody calls for this attachment again.
                if let Err(error) = self.journal.remove() {
                    tracing::error!(%attachment, %error, "could not remove the progress file");
                }
            }
            // The file stays at `adding`: a DEL knows by it that there is something to do.
            Err(error) => tracing::error!(%attachment, error = &error as &dyn std::error::Error, "could not undo"),
        }
    }
}

/// The port is there and not as it should be.
fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::Controller(ControllerError { failure: ControllerFailure::Conflict, .. }))
}

/// The routes of an attachment: the default route, then those of the configuration.
pub(crate) fn routes(claim: &ClaimRecord, configured: &[Route]) -> Vec<Route> {
    let gateway = claim.addresses.first().map(|address| address.gateway);
    gateway.map_or_else(Vec::new, |gateway| routes_by(gateway, &claim.attachment.interface, configured))
}

/// The same for a gateway. A configured default route is the interface's default route: it goes instead of ours.
fn routes_by(gateway: Ipv4Addr, interface: &IfName, configured: &[Route]) -> Vec<Route> {
    let everything = Ipv4Network::new(Ipv4Addr::UNSPECIFIED, 0).expect("0 is a prefix length");
    // `eth0` is the way out, `eth1` and those after it stand back. Runtimes attach a pod to its networks side by side, so it
    // must not matter which of them comes first.
    let priority = ways::metric(interface);
    let whole = |route: &Route| Route {
        gateway: route.gateway.or_else(|| (!route.is_local()).then_some(gateway)),
        priority: route.priority.or_else(|| priority.filter(|_| route.is_default())),
        ..route.clone()
    };
    let mut routes = vec![Route { priority, ..Route::plain(everything, Some(gateway)) }];
    for route in configured.iter().map(whole) {
        match routes.iter_mut().find(|other| other.is_instead_of(&route)) {
            Some(other) => *other = route,
            None => routes.push(route),
        }
    }
    routes
}

/// Why a pod with these addresses cannot have one of these routes. `own`: its addresses, or what stands for them before
/// they are known: its subnet.
fn impossible(routes: &[Route], own: &[Ipv4Network], mtu: u32) -> Option<Error> {
    let subnet = own.first()?;
    let (network, here) = (subnet.network(), format!("{}/{}", subnet.network(), subnet.prefix()));
    let of = |n: usize| {
        let route: &Route = &routes[n];
        let Route { destination, gateway, mtu: path, .. } = route;
        let in_main = route.table.unwrap_or(MAIN_TABLE) == MAIN_TABLE;
        if in_main && destination.prefix() >= subnet.prefix() && subnet.contains(destination.network()) {
            return Some(format!("its destination is inside the pod's own subnet {here}: it would cut off neighbours"));
        }
        if let Some(path) = path.filter(|path| *path > mtu) {
            return Some(format!("its MTU {path} is larger than the interface's, {mtu}"));
        }
        let gateway = (*gateway)?;
        // The kernel looks for the next hop among what is there already.
        let by_route = |other: &Route| other.gateway.is_none() && other.destination.contains(gateway);
        if !subnet.contains(gateway) && !routes[..n].iter().any(by_route) {
            return Some(format!("its next hop {gateway} is not in the pod's subnet {here}"));
        }
        let is_own = own.iter().any(|own| own.ip() == gateway && own.ip() != network);
        if is_own {
            return Some(format!("its next hop {gateway} is the pod's own address"));
        }
        let is_nobody = subnet.prefix() < 31 && (gateway == network || gateway == subnet.broadcast());
        is_nobody.then(|| format!("its next hop {gateway} is the address of no host of {here}"))
    };
    let (n, problem) = (0..routes.len()).find_map(|n| Some((n, of(n)?)))?;
    Some(Error::Route { route: Box::new(routes[n].clone()), problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(destination: &str, gateway: Option<[u8; 4]>) -> Route {
        Route::plain(destination.parse().expect("valid"), gateway.map(Ipv4Addr::from))
    }

    const GATEWAY: [u8; 4] = [10, 128, 0, 1];

    fn made(interface: &str, configured: &[Route]) -> Vec<String> {
        let routes = routes_by(GATEWAY.into(), &interface.parse().expect("valid"), configured);
        routes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_configured_route_is_made_and_a_default_route_takes_the_place_of_ours() {
        let local = Route { scope: Some(253), ..to("192.0.2.0/24", None) };
        let table = Route { table: Some(100), ..to("0.0.0.0/0", None) };
        let all = made("eth0", &[to("10.96.0.0/12", None), to("10.97.0.0/16", Some([10, 128, 0, 7])), local, table]);
        assert_eq!(
            all,
            [
                "0.0.0.0/0 via 10.128.0.1",
                "10.96.0.0/12 via 10.128.0.1",
                "10.97.0.0/16 via 10.128.0.7",
                "192.0.2.0/24 scope 253",
                "0.0.0.0/0 via 10.128.0.1 table 100",
            ]
        );
        // As many configurations for other plugins have it, and with a next hop or an MTU of its own.
        assert_eq!(made("eth0", &[to("0.0.0.0/0", None)]), ["0.0.0.0/0 via 10.128.0.1"]);
        let other = Route { mtu: Some(1400), ..to("0.0.0.0/0", Some([10, 128, 0, 7])) };
        assert_eq!(made("eth0", std::slice::from_ref(&other)), ["0.0.0.0/0 via 10.128.0.7 mtu 1400"]);
        assert_eq!(made("eth1", std::slice::from_ref(&other)), ["0.0.0.0/0 via 10.128.0.7 mtu 1400 metric 1"]);
        // One that stands back is another.
        let back = Route { priority: Some(9), ..other };
        assert_eq!(made("eth0", &[back]).len(), 2);
    }

    #[test]
    fn a_route_that_does_not_fit_the_pods_subnet_is_refused_with_the_reason() {
        let own: Ipv4Network = "10.128.0.5/24".parse().expect("valid");
        let refused = |configured: &[Route]| {
            let routes = routes_by(GATEWAY.into(), &"eth0".parse().expect("valid"), configured);
            impossible(&routes, &[own], 1450).map(|error| (error.class(), error.to_string()))
        };
        for (route, why) in [
            (to("10.0.0.0/8", Some([192, 0, 2, 1])), "192.0.2.1 is not in the pod's subnet 10.128.0.0/24"),
            (to("10.0.0.0/8", Some([10, 128, 0, 5])), "the pod's own address"),
            (to("10.0.0.0/8", Some([10, 128, 0, 0])), "no host"),
            (to("10.0.0.0/8", Some([10, 128, 0, 255])), "no host"),
            (to("10.128.0.0/24", None), "inside the pod's own subnet"),
            (to("10.128.0.128/25", None), "inside the pod's own subnet"),
            (Route { mtu: Some(1451), ..to("10.0.0.0/8", None) }, "larger than the interface's, 1450"),
        ] {
            let (class, said) = refused(&[route]).expect(why);
            assert!(said.contains(why) && class == Class::Config, "{said}");
        }
        let local = Route { scope: Some(253), ..to("192.0.2.0/24", None) };
        let behind = to("10.0.0.0/8", Some([192, 0, 2, 1]));
        let table = Route { table: Some(100), ..to("10.128.0.0/24", None) };
        assert_eq!(refused(&[local.clone(), behind.clone(), table, to("10.0.0.0/7", None)]), None);
        assert!(refused(&[behind, local]).is_some(), "the kernel knows it only afterwards");
    }
}
