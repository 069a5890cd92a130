//! Taking an attachment apart, for everybody who has to: DEL, an ADD that failed, and whoever settles a tombstone.
//!
//! The order is the safety: interface and port first, side by side; the claim last, and only when no late request can
//! bring the port back. Until then the address stays taken: it is never given to anybody while an old port may speak.
//! What cannot be finished is written down: in etcd, or else in a local file.
//!
//! A deletion is announced before it is sent ([`Announce`]): a call that finds the attachment after one that died knows that
//! one may be on its way, and gives the attachment's next port another id.
//!
//! The caller holds the attachment's lock.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_records::{ClaimRecord, ClusterRecord, Query, SCHEMA, Tombstone, TombstoneRecord, Unknown, Versioned};

use atoll_ipam::{Found, IpamError, LateDeletions, Released, bury, exhume, find, release_beside};
use atoll_model::attachment::Attachment;
use atoll_model::derive::{self, Role};
use atoll_model::ids::{ClusterId, IfName};
use atoll_node::paths;
use atoll_store::Store;
use atoll_tenant::controller::{Controller, StaticEntries};
use futures_util::future::join;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::add::port;
use crate::error::Error;
use crate::journal::{Journal, Progress, State};
use crate::ways;
use crate::wire::{Change, Link, Netns, NetnsKind, SourceRule, Wire, WireError};
use crate::world::World;

/// Between reading and writing only an eviction can come: once more is plenty.
const ATTEMPTS: u32 = 4;

/// What is known of an attachment before anybody is asked.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// What the progress file says.
    pub progress: Option<Progress>,
    /// The pod's namespace, where the runtime names one.
    pub pod_netns: Option<PathBuf>,
    /// The port, from a local tombstone.
    pub port: Option<Uuid>,
    /// Until then a late request may bring the port or the claim back; 0: none can.
    pub unsettled_until: u64,
    /// The local file of this attachment says that something is owed.
    pub buried_here: bool,
    /// A deletion of an earlier call may be on its way, and that is written down.
    pub closing: bool,
    /// It is certain that there never was a port.
    pub has_no_port: bool,
}

/// Where it is written down that a deletion may be on its way, before it is sent.
#[derive(Clone, Copy, Debug)]
pub enum Announce<'a> {
    /// In the progress file; in a local tombstone where that cannot be written.
    Here(&'a Journal),
    /// There is a tombstone that says so.
    Buried,
}

/// Until when to try what; what is not done by then is written down.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Controller, and reading from etcd.
    pub requests: Instant,
    /// Releasing or writing down in etcd.
    pub records: Instant,
}

/// How it ended.
#[derive(Debug)]
pub struct Outcome {
    /// The interface is gone, or why it may still be there.
    pub link: Result<(), WireError>,
    /// Everything is gone or durably written down, the interface included; or why neither was possible.
    pub rest: Result<Detached, Error>,
    /// Nothing is known of the attachment: neither a claim nor a tombstone, as far as etcd can be asked, and no file here.
    pub was_unknown: bool,
}

/// What became of claim and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detached {
    /// Nothing is left.
    Wholly,
    /// The rest is durably written down.
    Owing,
}

/// What etcd says about an attachment.
#[derive(Debug)]
enum Records {
    /// The claim as the progress file has it; guarded by its revision when it is released.
    Remembered(Versioned<ClaimRecord>),
    /// As read.
    Read(Found),
    /// It did not answer.
    Unknown(String),
}

impl<S: Store, C: Controller, W: Wire> World<S, C, W> {
    /// Takes an attachment apart.
    pub async fn detach(
        &self,
        attachment: &Attachment,
        announce: Announce<'_>,
        known: &Known,
        limits: Limits,
    ) -> Outcome {
        let unplug = self.course.stage("interface", self.unplug(attachment, known));
        let close = self.course.stage("port", self.close_port(attachment, announce, known, limits));
        let (link, (records, port)) = join(unplug, close).await;
        let link = match link {
            Ok(true) => Ok(()),
            Ok(false) => self.unplug_anywhere(attachment, &records).await,
            Err(error) => Err(error),
        };
        let was_unknown = !known.buried_here
            && !known.progress.as_ref().is_some_and(Progress::is_of_an_add)
            && !matches!(&records, Records::Read(found) if found.claim.is_some() || found.tombstone.is_some());
        let settle = self.settle(attachment, known, records, &link, port, limits);
        let rest = self.course.stage("records", settle).await;
        Outcome { link, rest, was_unknown }
    }

    /// The other interface in the pod's namespace, if any, whose name gives it the same table or metric.
    pub(crate) async fn shares_ways(&self, interface: &IfName, pod_netns: &Path) -> Result<Option<IfName>, WireError> {
        if ways::table(interface).is_none() {
            return Ok(None);
        }
        let links = self.wire.list(&Netns::At(pod_netns.to_owned())).await?;
        let names: Vec<_> = links.into_iter().filter_map(|link| IfName::new(link.name).ok()).collect();
        Ok(ways::meet(interface, names.iter()).cloned())
    }

    /// Deletes the rules by source of a further interface, but these. They do not go with it.
    pub(crate) async fn forget_ways(
        &self,
        interface: &IfName,
        pod_netns: &Path,
        but: &[SourceRule],
    ) -> Result<(), WireError> {
        let Some(table) = ways::table(interface) else { return Ok(()) };
        let rules = self.wire.rules(&Netns::At(pod_netns.to_owned())).await?;
        for rule in rules.into_iter().filter(|rule| rule.table == table && !but.contains(rule)) {
            self.wire.configure(pod_netns, &Change::NotFrom(rule)).await?;
        }
        Ok(())
    }

    /// The same on the way of an interface that goes. A rule that stays leads nowhere, and the next ADD of an interface of
    /// that name deletes it: it is no reason to keep a pod.
    async fn leave_ways(&self, attachment: &Attachment, known: &Known) {
        let (interface, Some(netns)) = (&attachment.interface, &known.pod_netns) else { return };
        if ways::table(interface).is_none() {
            return;
        }
        let forget = async {
            let there = self.wire.inspect(&Netns::At(netns.clone()), interface).await?;
            // Of another attachment, which needs its own.
            if there.is_some_and(|link| !link.is_pod_end(attachment)) {
                return Ok(());
            }
            // An ADD that was refused for that reason has made none: they are the other one's.
            if self.shares_ways(interface, netns).await?.is_some() {
                return Ok(());
            }
            self.forget_ways(interface, netns, &[]).await
        };
        if let Err(error) = forget.await {
            tracing::warn!(%attachment, error = &error as &dyn std::error::Error, "its rules by source are left");
        }
    }

    /// Deletes the interface where it should be. False: it was nowhere there.
    async fn unplug(&self, attachment: &Attachment, known: &Known) -> Result<bool, WireError> {
        self.leave_ways(attachment, known).await;
        let host = attachment.host_interface();
        let remembered = known.progress.as_ref().and_then(|progress| progress.host_netns.as_ref());
        if let Some(netns) = remembered
            && self.unplug_host_end(netns, attachment).await?
        {
            return Ok(true);
        }
        if let Some(path) = &known.pod_netns {
            let netns = Netns::At(path.clone());
            let pod_end = self.wire.inspect(&netns, &attachment.interface).await?;
            // Not ours: the interface of another attachment, or somebody else's. It stays.
            if pod_end.is_some_and(|link| link.is_pod_end(attachment)) {
                self.wire.delete(&netns, &attachment.interface).await?;
                return Ok(true);
            }
        }
        if remembered == Some(&Netns::Own) {
            return Ok(false);
        }
        tracing::debug!(%host, "looking for the host end in our own namespace");
        self.unplug_host_end(&Netns::Own, attachment).await
    }

    /// Deletes the host end in a namespace. False: it is not there.
    pub(crate) async fn unplug_host_end(&self, netns: &Netns, attachment: &Attachment) -> Result<bool, WireError> {
        let name = attachment.host_interface();
        if !self.wire.inspect(netns, &name).await?.as_ref().is_some_and(Link::is_ours) {
            return Ok(false);
        }
        self.wire.delete(netns, &name).await.map(|()| true)
    }

    /// The interface was not where it should be. If there is, or may be, a claim, it may be with a router of the local
    /// data plane: with that of the claim's tenant, or, when that is not known, with any.
    async fn unplug_anywhere(&self, attachment: &Attachment, records: &Records) -> Result<(), WireError> {
        let claim = match records {
            Records::Remembered(claim) => Some(claim),
            Records::Read(found) => match &found.claim {
                Some(claim) => Some(claim),
                // The claim comes before the interface and goes after it: no claim, no interface.
                None => return Ok(()),
            },
            Records::Unknown(_) => None,
        };
        let places = match claim.zip(self.cache.cluster_id()) {
            Some((claim, cluster)) => {
                let router = derive::object(cluster, claim.record.incarnation, Role::Router);
                vec![Netns::At(paths::router_namespace(&self.config.run_dir, router))]
            }
            None => self.host_places(),
        };
        for place in places {
            if self.unplug_host_end(&place, attachment).await? {
                break;
            }
        }
        Ok(())
    }

    /// Learns what etcd says and deletes the port. Ok: no port is left, as far as we know.
    async fn close_port(
        &self,
        attachment: &Attachment,
        announce: Announce<'_>,
        known: &Known,
        limits: Limits,
    ) -> (Records, Result<Option<Uuid>, String>) {
        let remembered = known.progress.as_ref().and_then(|progress| progress.claim.clone());
        let records = match remembered {
            Some(claim) => Records::Remembered(claim),
            None => match timeout_at(limits.requests, find(&self.store, attachment)).await {
                Ok(Ok(found)) => Records::Read(found),
                Ok(Err(error)) => Records::Unknown(told(&error)),
                Err(_) => Records::Unknown("etcd did not answer in time".to_owned()),
            },
        };
        let port = match &records {
            _ if known.has_no_port => None,
            Records::Remembered(claim) => Some(claim.record.port),
            // The claim comes before the port and goes after it: no claim and no tombstone, no port.
            Records::Read(Found { claim: None, tombstone: None }) if !known.buried_here => None,
            Records::Read(Found { claim, tombstone }) => {
                let claimed = claim.as_ref().map(|claim| claim.record.port);
                claimed.or_else(|| tombstone.as_ref().and_then(|tombstone| tombstone.record.port)).or(known.port)
            }
            Records::Unknown(_) => {
                let derived = self.cache.cluster_id().map(|cluster| attachment.port(cluster));
                match known.port.or(derived) {
                    Some(port) => Some(port),
                    None => return (records, Err("neither the port nor the cluster is known".to_owned())),
                }
            }
        };
        let Some(id) = port else { return (records, Ok(None)) };
        if let Err(error) = self.announce(attachment, announce, known, &records, id) {
            return (records, Err(format!("that the port is deleted cannot be written down: {error}")));
        }
        let claim = match &records {
            Records::Remembered(claim) => Some(&claim.record),
            Records::Read(found) => found.claim.as_ref().map(|claim| &claim.record),
            Records::Unknown(_) => None,
        };
        let close = async {
            if let Some(seeds) = self.seeds(claim).await? {
                self.controller.delete_static_entries(&seeds).await.map_err(|error| error.to_string())?;
            }
            // An ADD that was finished has seen that the port is the pod's; else one of its id may be somebody else's.
            let is_seen = |progress: &Progress| progress.state == State::Done && progress.claim.is_some();
            let seen = known.progress.as_ref().is_some_and(is_seen);
            let deleted =
                if seen { self.controller.delete_seen_port(id).await } else { self.controller.delete_port(id).await };
            deleted.map_err(|error| error.to_string())
        };
        let closed = match timeout_at(limits.requests, close).await {
            Ok(Ok(())) => Ok(Some(id)),
            Ok(Err(problem)) => Err(problem),
            Err(_) => Err("the controller did not answer in time".to_owned()),
        };
        (records, closed)
    }

    /// Writes down that a deletion may be on its way, unless that is written already.
    fn announce(
        &self,
        attachment: &Attachment,
        announce: Announce<'_>,
        known: &Known,
        records: &Records,
        port: Uuid,
    ) -> io::Result<()> {
        let is_buried = match records {
            Records::Read(found) => found.tombstone.as_ref().is_some_and(|tombstone| tombstone.record.is_closing()),
            Records::Remembered(_) | Records::Unknown(_) => false,
        };
        let Announce::Here(journal) = announce else { return Ok(()) };
        if known.closing || is_buried {
            return Ok(());
        }
        let progress = known.progress.clone().unwrap_or_else(|| Progress {
            // No ADD of it died.
            state: State::Done,
            attachment: Some(attachment.clone()),
            prefix: Some(self.config.etcd.prefix.clone()),
            unsettled_until: known.unsettled_until,
            ..Progress::begun()
        });
        let Err(error) = journal.write(&Progress { closing: true, ..progress }) else { return Ok(()) };
        tracing::warn!(%attachment, %error, "a local tombstone says that its port is being deleted");
        let now = (self.clock)();
        let note = "its port is being deleted".to_owned();
        let debt = Debt { closing: true, ..Debt::new(attachment, Some(port), known, Some(note)) };
        self.graves.put(&debt.tombstone(now))
    }

    /// What the controller was told about the further addresses of a claim. None without a claim: then they are not known,
    /// but they are in the claim that whoever settles the tombstone will read.
    async fn seeds(&self, claim: Option<&ClaimRecord>) -> Result<Option<StaticEntries>, String> {
        let Some(claim) = claim.filter(|claim| claim.addresses.len() > 1) else { return Ok(None) };
        let cluster = match self.cache.cluster_id() {
            Some(cluster) => cluster,
            None => self.cluster().await?,
        };
        let ordinal = claim.addresses.first().map_or(0, |address| address.ordinal);
        Ok(port::seeds(derive::object(cluster, claim.incarnation, Role::Bridge(ordinal)), claim))
    }

    async fn cluster(&self) -> Result<ClusterId, String> {
        let snapshot = self.store.read(vec![Query::key(ClusterRecord::at())]).await.map_err(|error| told(&error))?;
        let record = snapshot.get(&ClusterRecord::at()).map_err(|error| told(&error))?;
        record.map(|cluster| cluster.record.id).ok_or_else(|| "there is no cluster record".to_owned())
    }

    /// Releases the claim, or writes down what is owed.
    async fn settle(
        &self,
        attachment: &Attachment,
        known: &Known,
        records: Records,
        link: &Result<(), WireError>,
        port: Result<Option<Uuid>, String>,
        limits: Limits,
    ) -> Result<Detached, Error> {
        let problem = match (link, &port) {
            (Err(error), _) => Some(error.to_string()),
            (_, Err(problem)) => Some(problem.clone()),
            _ => None,
        };
        let is_closed = port.is_ok();
        let mut debt = Debt::new(attachment, port.ok().flatten().or(known.port), known, problem);
        // One that was answered is not on its way.
        debt.closing |= !is_closed && self.tally.may_delete();
        let reachable = match records {
            Records::Unknown(problem) => {
                debt.problem.get_or_insert(problem);
                return self.bury_here(&debt);
            }
            Records::Remembered(claim) => Found { claim: Some(claim), tombstone: None },
            Records::Read(found) => found,
        };
        match timeout_at(limits.records, self.settle_in_etcd(&mut debt, reachable)).await {
            Ok(Ok(detached)) => {
                // etcd knows it all now.
                self.graves.remove(attachment).map_err(Error::file("remove a local tombstone"))?;
                Ok(detached)
            }
            Ok(Err(error)) => {
                debt.problem.get_or_insert_with(|| told(&error));
                self.bury_here(&debt)
            }
            Err(_) => {
                debt.problem.get_or_insert_with(|| "etcd did not answer in time".to_owned());
                self.bury_here(&debt)
            }
        }
    }

    async fn settle_in_etcd(&self, debt: &mut Debt, mut found: Found) -> Result<Detached, IpamError> {
        for _ in 0..ATTEMPTS {
            debt.learn(&found, found.tombstone.as_ref().map_or(0, |tombstone| self.unsettled_until(&tombstone.record)));
            let seen = found.tombstone.as_ref().map(|tombstone| tombstone.mod_revision);
            let now = (self.clock)();
            if debt.problem.is_some() || debt.unsettled_until > now {
                bury(&self.store, &debt.tombstone(now), seen).await?;
                self.owes(&debt.attachment, debt.note());
                return Ok(Detached::Owing);
            }
            if let Some(other) = found.claim.as_ref().map(|claim| claim.record.port).filter(|_| !debt.is_closed(&found))
            {
                debt.port = Some(other);
                debt.problem = Some("the claim has another port by now".to_owned());
                continue;
            }
            found = match (&found.claim, seen) {
                (None, None) => return Ok(Detached::Wholly),
                (None, Some(seen)) => {
                    if exhume(&self.store, &debt.attachment, seen).await? {
                        return Ok(Detached::Wholly);
                    }
                    find(&self.store, &debt.attachment).await?
                }
                (Some(claim), seen) => {
                    let late = self.late_deletions(debt.closing, &claim.record);
                    match release_beside(&self.store, claim, seen, self.config.cooldown, late).await? {
                        Released::Done => return Ok(Detached::Wholly),
                        Released::Changed(found) => found,
                    }
                }
            };
        }
        debt.problem = Some("the records changed at every attempt".to_owned());
        bury(&self.store, &debt.tombstone((self.clock)()), None).await?;
        self.owes(&debt.attachment, debt.note());
        Ok(Detached::Owing)
    }

    /// Until when a deletion of one of its ports may still arrive. `closing`: one may be on its way that an earlier call
    /// has sent, and nothing tells when.
    fn late_deletions(&self, closing: bool, claim: &ClaimRecord) -> Option<LateDeletions> {
        let now = (self.clock)();
        let until = if closing { self.quiet() } else { claim.deletions_until.min(self.quiet()) };
        // As long for all of them, so that they share a lease.
        (until > now).then(|| LateDeletions { until, within: Duration::from_secs(self.longest_wait()) })
    }

    /// etcd cannot be told: a local file must do.
    fn bury_here(&self, debt: &Debt) -> Result<Detached, Error> {
        self.graves.put(&debt.tombstone((self.clock)())).map_err(Error::file("write a local tombstone"))?;
        self.owes(&debt.attachment, debt.note());
        Ok(Detached::Owing)
    }

    /// The pod's namespace, if it is one.
    pub(crate) async fn pod_netns(&self, path: Option<&str>) -> (Option<PathBuf>, NetnsKind) {
        let Some(path) = path.map(Path::new) else { return (None, NetnsKind::Gone) };
        match self.wire.kind(path).await {
            Ok(kind @ (NetnsKind::Netns | NetnsKind::OurOwn)) => (Some(path.to_owned()), kind),
            Ok(kind) => (None, kind),
            Err(error) => {
                tracing::warn!(%error, "the namespace counts as gone");
                (None, NetnsKind::Gone)
            }
        }
    }
}

/// What is owed for an attachment.
#[derive(Debug)]
struct Debt {
    attachment: Attachment,
    port: Option<Uuid>,
    unsettled_until: u64,
    /// A deletion of the port may be on its way.
    closing: bool,
    /// There is certainly no port.
    has_no_port: bool,
    /// What could not be done; none: it must only be waited.
    problem: Option<String>,
}

impl Debt {
    fn new(attachment: &Attachment, port: Option<Uuid>, known: &Known, problem: Option<String>) -> Self {
        let Known { unsettled_until, closing, has_no_port, .. } = *known;
        Self { attachment: attachment.clone(), port, unsettled_until, closing, has_no_port, problem }
    }

    /// The port that was deleted is the one that the claim names.
    fn is_closed(&self, found: &Found) -> bool {
        self.has_no_port || found.claim.as_ref().is_none_or(|claim| self.port == Some(claim.record.port))
    }

    /// `unsettled_until`: what the tombstone that was found says of late requests.
    fn learn(&mut self, found: &Found, unsettled_until: u64) {
        self.port = self.port.or_else(|| found.claim.as_ref().map(|claim| claim.record.port));
        if let Some(tombstone) = found.tombstone.as_ref().map(|tombstone| &tombstone.record) {
            self.port = self.port.or(tombstone.port);
            self.closing |= tombstone.is_closing();
        }
        self.unsettled_until = self.unsettled_until.max(unsettled_until);
    }

    fn note(&self) -> &str {
        self.problem.as_deref().unwrap_or("a request of an ADD that died may still be on its way")
    }

    fn tombstone(&self, now: u64) -> TombstoneRecord {
        TombstoneRecord {
            v: SCHEMA,
            why: if self.unsettled_until > now { Tombstone::Fence } else { Tombstone::Delete },
            attachment: self.attachment.clone(),
            port: self.port,
            not_before: self.unsettled_until.max(now),
            since: now,
            note: self.note().to_owned(),
            closing: self.closing,
            unknown: Unknown::new(),
        }
    }
}

/// An error with its causes, in one line.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    std::iter::once(error.to_string()).chain(atoll_model::error::causes(error)).collect::<Vec<_>>().join(": ")
}
