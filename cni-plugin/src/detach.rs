//! Detaching an attachment, for every caller: DEL, GC, an ADD that failed, and the retry of a tombstone.
//!
//! # Guarantees
//! * Interface and port go first, side by side. The claim goes last, and only when no late request can bring the port back. Until
//!   then the address stays claimed: no other pod gets it while an old port may send with it.
//! * What cannot be finished is recorded: in etcd, or else in a local tombstone.
//! * With an engine that fences ([`Engine::fences`]) nothing waits: the epoch of the node is raised, and what was sent before fails
//!   whenever it arrives. Neither does anything end by itself there: that late requests may come stays recorded until a fence.
//! * A deletion is recorded before it is sent ([`DeletionNote`]). A call that finds the attachment after one that died knows that
//!   a deletion may be in flight, and gives the attachment's next port another id.
//!
//! The caller holds the attachment lock.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_node::attachments::{AddPhase, AttachmentLock, AttachmentState};
use atoll_records::{ClaimRecord, ClusterRecord, Query, TombstoneKind, TombstoneRecord, Unknown, Versioned, schema_of};

use atoll_ipam::{Found, IpamError, LateDeletions, Released, find, put_tombstone, release_beside, remove_tombstone};
use atoll_model::attachment::Attachment;
use atoll_model::ids::{ClusterId, IfName};
use atoll_network::{Engine, NetworkId, PodPort, PortRemoval, WriterEpoch};
use atoll_store::Store;
use atoll_tenant::admin::same_engine;
use atoll_tenant::{TenantError, raise_writer_epoch};
use futures_util::future::join;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::error::{CallError, with_causes};
use crate::kernel::{Kernel, KernelError, Link, Netns, NetnsKind, PodChange, PolicyRule};
use crate::plugin::{Plugin, host_place};
use crate::pod_port::claimed_port;
use crate::policy_routing;

/// Between reading and writing only an eviction can come: once more is plenty.
const ATTEMPTS: u32 = 4;

/// This node's knowledge of an attachment before it sends a request.
#[derive(Clone, Debug, Default)]
pub struct KnownAttachment {
    /// The attachment state.
    pub state: Option<AttachmentState>,
    /// The pod's namespace, where the runtime names one.
    pub pod_netns: Option<PathBuf>,
    /// The port, from a local tombstone.
    pub port: Option<Uuid>,
    /// The name of the engine that has it, from the same.
    pub engine: Option<String>,
    /// Until then a late request may bring the port or the claim back; 0: none can.
    pub late_requests_until: u64,
    /// The attachment has a local tombstone.
    pub has_local_tombstone: bool,
    /// A deletion of an earlier call may be in flight, and that is recorded.
    pub deletion_sent: bool,
    /// It is certain that there never was a port.
    pub has_no_port: bool,
}

/// The place where a deletion is recorded before it is sent.
#[derive(Clone, Copy, Debug)]
pub enum DeletionNote<'a> {
    /// In the attachment state; in a local tombstone where that cannot be written.
    InState(&'a AttachmentLock),
    /// In the tombstone that exists.
    InTombstone,
}

/// The deadlines of a detach. Cleanup that is not finished by then is recorded.
#[derive(Clone, Copy, Debug)]
pub struct DetachDeadlines {
    /// For requests to the controller and reads from etcd.
    pub requests: Instant,
    /// For the release of the claim, or the tombstone, in etcd.
    pub records: Instant,
}

/// The outcome of a detach.
#[derive(Debug)]
pub struct DetachOutcome {
    /// The interface is gone, or why it may still be there.
    pub link: Result<(), KernelError>,
    /// Everything is gone or durably written down, the interface included; or why neither was possible.
    pub rest: Result<Detached, CallError>,
    /// Nothing is known of the attachment: neither a claim nor a tombstone, as far as etcd can be asked, and no file here.
    pub was_unknown: bool,
}

/// Whether cleanup of claim and port is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detached {
    /// Nothing is left.
    Completely,
    /// The rest is durably recorded.
    Pending,
}

/// A port that was deleted.
#[derive(Clone, Copy, Debug, Default)]
struct ClosedPort {
    /// Its id; none: there was none.
    id: Option<Uuid>,
    /// No request that was sent before can make it again.
    is_fenced: bool,
}

/// The records of an attachment in etcd.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time and never stored: its size does not matter")]
enum Records {
    /// The claim as the attachment state has it; guarded by its revision when it is released.
    Remembered(Versioned<ClaimRecord>),
    /// As read.
    Read(Found),
    /// It did not answer.
    Unknown(String),
}

impl<S: Store, E: Engine, K: Kernel> Plugin<S, E, K> {
    /// Deletes interface, port and claim of an attachment.
    pub async fn detach(
        &self,
        attachment: &Attachment,
        deletion_note: DeletionNote<'_>,
        known: &KnownAttachment,
        limits: DetachDeadlines,
    ) -> DetachOutcome {
        let unplug = self.trace.stage("interface", self.unplug(attachment, known, limits));
        let close = self.trace.stage("port", self.close_port(attachment, deletion_note, known, limits));
        let (link, (records, port)) = join(unplug, close).await;
        let link = match link {
            Ok(true) => Ok(()),
            Ok(false) => self.unplug_anywhere(attachment, &records).await,
            Err(error) => Err(error),
        };
        let was_unknown = !known.has_local_tombstone
            && !known.state.as_ref().is_some_and(AttachmentState::is_written_by_add)
            && !matches!(&records, Records::Read(found) if found.claim.is_some() || found.tombstone.is_some());
        let finish_records = self.finish_records(attachment, known, records, &link, port, limits);
        let rest = self.trace.stage("records", finish_records).await;
        DetachOutcome { link, rest, was_unknown }
    }

    /// The other interface in the pod's namespace, if any, whose name gives it the same table or metric.
    pub(crate) async fn policy_routing_conflict(
        &self,
        interface: &IfName,
        pod_netns: &Path,
    ) -> Result<Option<IfName>, KernelError> {
        if policy_routing::table(interface).is_none() {
            return Ok(None);
        }
        let links = self.kernel.list(&Netns::At(pod_netns.to_owned())).await?;
        let names: Vec<_> = links.into_iter().filter_map(|link| IfName::new(link.name).ok()).collect();
        Ok(policy_routing::conflicting_interface(interface, names.iter()).cloned())
    }

    /// Deletes the rules by source of a further interface, but these. They do not go with it.
    pub(crate) async fn delete_policy_rules(
        &self,
        interface: &IfName,
        pod_netns: &Path,
        but: &[PolicyRule],
    ) -> Result<(), KernelError> {
        let Some(table) = policy_routing::table(interface) else { return Ok(()) };
        let rules = self.kernel.rules(&Netns::At(pod_netns.to_owned())).await?;
        for rule in rules.into_iter().filter(|rule| rule.table == table && !but.contains(rule)) {
            self.kernel.configure(pod_netns, &PodChange::DeleteRule(rule)).await?;
        }
        Ok(())
    }

    /// The same on the way of an interface that goes. A rule that stays leads nowhere, and the next ADD of an interface of
    /// that name deletes it: it is no reason to keep a pod.
    async fn delete_policy_rules_of(&self, attachment: &Attachment, known: &KnownAttachment) {
        let (interface, Some(netns)) = (&attachment.interface, &known.pod_netns) else { return };
        if policy_routing::table(interface).is_none() {
            return;
        }
        let remove_state = async {
            let there = self.kernel.inspect(&Netns::At(netns.clone()), interface).await?;
            // Of another attachment, which needs its own.
            if there.is_some_and(|link| !link.is_pod_end(attachment)) {
                return Ok(());
            }
            // An ADD that was refused for that reason has made none: they are the other one's.
            if self.policy_routing_conflict(interface, netns).await?.is_some() {
                return Ok(());
            }
            self.delete_policy_rules(interface, netns, &[]).await
        };
        if let Err(error) = remove_state.await {
            tracing::warn!(%attachment, error = &error as &dyn std::error::Error, "its rules by source are left");
        }
    }

    /// Deletes the interface where it should be. False: it was nowhere there.
    async fn unplug(
        &self,
        attachment: &Attachment,
        known: &KnownAttachment,
        limits: DetachDeadlines,
    ) -> Result<bool, KernelError> {
        self.delete_policy_rules_of(attachment, known).await;
        let host = attachment.host_interface();
        // Without its interface it carries nothing. GC takes it away.
        match timeout_at(limits.requests, self.engine.unplug(&host)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%host, error = &error as &dyn std::error::Error, "the host end is still connected");
            }
            Err(_) => tracing::warn!(%host, "the host end is still connected: no answer in time"),
        }
        let claim = known.state.as_ref().and_then(|state| state.claim.as_ref());
        let subnet = claim.zip(self.cache.cluster_id()).map(|(claim, cluster)| {
            let network = NetworkId { cluster, incarnation: claim.record.incarnation };
            claimed_port(network, &claim.record).subnet
        });
        self.host_to_pod().delete(&host, subnet).await;
        let remembered = known.state.as_ref().and_then(|state| state.host_netns.as_ref());
        if let Some(netns) = remembered
            && self.unplug_host_end(netns, attachment).await?
        {
            return Ok(true);
        }
        if let Some(path) = &known.pod_netns {
            let netns = Netns::At(path.clone());
            let pod_end = self.kernel.inspect(&netns, &attachment.interface).await?;
            // The interface of another attachment or of another product. It stays.
            if pod_end.is_some_and(|link| link.is_pod_end(attachment)) {
                self.kernel.delete(&netns, &attachment.interface).await?;
                return Ok(true);
            }
        }
        if remembered == Some(&Netns::Own) {
            return Ok(false);
        }
        tracing::debug!(%host, "searching for the host end in our own namespace");
        self.unplug_host_end(&Netns::Own, attachment).await
    }

    /// Deletes the host end in a namespace. False: it is not there.
    pub(crate) async fn unplug_host_end(&self, netns: &Netns, attachment: &Attachment) -> Result<bool, KernelError> {
        let name = attachment.host_interface();
        if !self.kernel.inspect(netns, &name).await?.as_ref().is_some_and(Link::is_ours) {
            return Ok(false);
        }
        self.kernel.delete(netns, &name).await.map(|()| true)
    }

    /// The interface was not where it should be. If there is, or may be, a claim, it may be with a router of the local
    /// data plane: with that of the claim's tenant, or, when that is not known, with any.
    async fn unplug_anywhere(&self, attachment: &Attachment, records: &Records) -> Result<(), KernelError> {
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
                let network = NetworkId { cluster, incarnation: claim.record.incarnation };
                vec![host_place(self.engine.host_side(network))]
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

    /// The name of the engine that has the attachment's port: as the claim says, else a tombstone, else ours.
    fn engine_of<'a>(&self, records: &'a Records, known: &'a KnownAttachment) -> &'a str {
        match records {
            Records::Remembered(claim) | Records::Read(Found { claim: Some(claim), .. }) => &claim.record.engine,
            Records::Read(Found { tombstone: Some(tombstone), .. }) => &tombstone.record.engine,
            Records::Read(_) | Records::Unknown(_) => known.engine.as_deref().unwrap_or(self.engine.name()),
        }
    }

    /// Reads the records in etcd and deletes the port. `Ok`: no port is left, as far as this node knows.
    async fn close_port(
        &self,
        attachment: &Attachment,
        deletion_note: DeletionNote<'_>,
        known: &KnownAttachment,
        limits: DetachDeadlines,
    ) -> (Records, Result<ClosedPort, String>) {
        let remembered = known.state.as_ref().and_then(|state| state.claim.clone());
        let records = match remembered {
            Some(claim) => Records::Remembered(claim),
            None => match timeout_at(limits.requests, find(&self.store, attachment)).await {
                Ok(Ok(found)) => Records::Read(found),
                Ok(Err(error)) => Records::Unknown(with_causes(&error)),
                Err(_) => Records::Unknown("etcd did not answer in time".to_owned()),
            },
        };
        let port = match &records {
            _ if known.has_no_port => None,
            Records::Remembered(claim) => Some(claim.record.port),
            // The claim comes before the port and goes after it: no claim and no tombstone, no port.
            Records::Read(Found { claim: None, tombstone: None }) if !known.has_local_tombstone => None,
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
        let is_fence = |tombstone: &Versioned<TombstoneRecord>| tombstone.record.kind == TombstoneKind::Fence;
        let may_come_late = known.late_requests_until != 0
            || matches!(&records, Records::Read(found) if found.tombstone.as_ref().is_some_and(is_fence))
            || matches!(&records, Records::Read(found) if has_creations(found));
        let must_fence = may_come_late && self.engine.fences();
        let Some(id) = port else {
            let closed =
                if must_fence { self.fence_claims(attachment, limits).await } else { Ok(ClosedPort::default()) };
            return (records, closed);
        };
        // Ours would not find it, and its address would be released.
        if let Err(error) = same_engine(self.engine.name(), self.engine_of(&records, known)) {
            return (records, Err(error.to_string()));
        }
        if let Err(error) = self.deletion_note(attachment, deletion_note, known, &records, id) {
            return (records, Err(format!("that the port is deleted cannot be written down: {error}")));
        }
        let claim = match &records {
            Records::Remembered(claim) => Some(&claim.record),
            Records::Read(found) => found.claim.as_ref().map(|claim| &claim.record),
            Records::Unknown(_) => None,
        };
        let close = async {
            let port = self.described(claim).await?;
            // A finished ADD has verified that the port is the pod's. Otherwise a port of its id may be another object.
            let is_seen = |state: &AttachmentState| state.phase == AddPhase::Done && state.claim.is_some();
            let verified = known.state.as_ref().is_some_and(is_seen);
            let removal = PortRemoval { id, port, verified };
            if must_fence {
                let cluster = self.cluster().await?;
                let fenced = self.fence(cluster, attachment, &removal).await;
                return fenced.map(|()| true).map_err(|error| with_causes(&error));
            }
            self.engine.delete_port(&removal).await.map(|()| false).map_err(|error| error.to_string())
        };
        let closed = match timeout_at(limits.requests, close).await {
            Ok(Ok(is_fenced)) => Ok(ClosedPort { id: Some(id), is_fenced }),
            Ok(Err(problem)) => Err(problem),
            Err(_) => Err("the engine did not answer in time".to_owned()),
        };
        (records, closed)
    }

    /// Deletes a port so that no earlier request makes it again: raises the epoch of this node, first in etcd, where claims
    /// compare its record, then in the engine.
    pub(crate) async fn fence(
        &self,
        cluster: ClusterId,
        attachment: &Attachment,
        removal: &PortRemoval,
    ) -> Result<(), CallError> {
        let node = raise_writer_epoch(&self.store, &attachment.node).await?;
        let writer = WriterEpoch { node: attachment.node.clone(), epoch: node.record.writer };
        Ok(self.engine.fence(cluster, &writer, std::slice::from_ref(removal)).await?)
    }

    /// There is no port, because there is no claim: only a claim of an earlier call may still arrive. It fails from now on.
    async fn fence_claims(&self, attachment: &Attachment, limits: DetachDeadlines) -> Result<ClosedPort, String> {
        match timeout_at(limits.requests, raise_writer_epoch(&self.store, &attachment.node)).await {
            // A claim compares the record of its node: without one none can succeed.
            Ok(Ok(_) | Err(TenantError::NoNode { .. })) => Ok(ClosedPort { id: None, is_fenced: true }),
            Ok(Err(error)) => Err(with_causes(&error)),
            Err(_) => Err("etcd did not answer in time".to_owned()),
        }
    }

    /// Records that a deletion may be in flight, unless that is recorded already.
    fn deletion_note(
        &self,
        attachment: &Attachment,
        deletion_note: DeletionNote<'_>,
        known: &KnownAttachment,
        records: &Records,
        port: Uuid,
    ) -> io::Result<()> {
        let has_tombstone = match records {
            Records::Read(found) => {
                found.tombstone.as_ref().is_some_and(|tombstone| tombstone.record.may_have_deletion())
            }
            Records::Remembered(_) | Records::Unknown(_) => false,
        };
        let DeletionNote::InState(lock) = deletion_note else { return Ok(()) };
        if known.deletion_sent || has_tombstone {
            return Ok(());
        }
        let state = known.state.clone().unwrap_or_else(|| AttachmentState {
            // No ADD of it died.
            phase: AddPhase::Done,
            attachment: Some(attachment.clone()),
            prefix: Some(self.config.etcd.prefix.clone()),
            late_requests_until: known.late_requests_until,
            ..AttachmentState::begun()
        });
        let Err(error) = lock.write(&AttachmentState { deletion_sent: true, ..state }) else { return Ok(()) };
        tracing::warn!(%attachment, %error, "a local tombstone records that its port is being deleted");
        let now = (self.clock)();
        let note = "its port is being deleted".to_owned();
        let pending = PendingCleanup {
            deletion_sent: true,
            ..PendingCleanup::new(attachment, (self.engine.name(), self.engine.fences()), Some(port), known, Some(note))
        };
        self.local_tombstones.put(&pending.tombstone(now))
    }

    /// The port of a claim that has further addresses or names: the engine may have made something for them beside the port. None
    /// without a claim: they are not known then, and the call that resolves the tombstone reads them from the claim.
    async fn described(&self, claim: Option<&ClaimRecord>) -> Result<Option<PodPort>, String> {
        let Some(claim) = claim.filter(|claim| claim.addresses.len() > 1 || !claim.names.is_empty()) else {
            return Ok(None);
        };
        let cluster = match self.cache.cluster_id() {
            Some(cluster) => cluster,
            None => self.cluster().await?,
        };
        Ok(Some(claimed_port(NetworkId { cluster, incarnation: claim.incarnation }, claim)))
    }

    async fn cluster(&self) -> Result<ClusterId, String> {
        let snapshot =
            self.store.read(vec![Query::key(ClusterRecord::at())]).await.map_err(|error| with_causes(&error))?;
        let record = snapshot.get(&ClusterRecord::at()).map_err(|error| with_causes(&error))?;
        record.map(|cluster| cluster.record.id).ok_or_else(|| "there is no cluster record".to_owned())
    }

    /// Releases the claim, or records the pending cleanup.
    async fn finish_records(
        &self,
        attachment: &Attachment,
        known: &KnownAttachment,
        records: Records,
        link: &Result<(), KernelError>,
        port: Result<ClosedPort, String>,
        limits: DetachDeadlines,
    ) -> Result<Detached, CallError> {
        let problem = match (link, &port) {
            (Err(error), _) => Some(error.to_string()),
            (_, Err(problem)) => Some(problem.clone()),
            _ => None,
        };
        let is_closed = port.is_ok();
        let closed = port.unwrap_or_default();
        let engine = (self.engine_of(&records, known), self.engine.fences());
        let mut pending = PendingCleanup::new(attachment, engine, closed.id.or(known.port), known, problem);
        pending.is_fenced = closed.is_fenced;
        // A deletion that was answered is not in flight.
        pending.deletion_sent |= !is_closed && self.in_flight.may_have_deletion();
        let reachable = match records {
            Records::Unknown(problem) => {
                pending.problem.get_or_insert(problem);
                return self.put_local_tombstone(&pending);
            }
            Records::Remembered(claim) => Found { claim: Some(claim), tombstone: None },
            Records::Read(found) => found,
        };
        match timeout_at(limits.records, self.release_in_etcd(&mut pending, reachable)).await {
            Ok(Ok(detached)) => {
                // etcd knows it all now.
                self.local_tombstones.remove(attachment).map_err(CallError::file("remove a local tombstone"))?;
                Ok(detached)
            }
            Ok(Err(error)) => {
                pending.problem.get_or_insert_with(|| with_causes(&error));
                self.put_local_tombstone(&pending)
            }
            Err(_) => {
                pending.problem.get_or_insert_with(|| "etcd did not answer in time".to_owned());
                self.put_local_tombstone(&pending)
            }
        }
    }

    /// Releases the claim, or records what is pending in a tombstone.
    ///
    /// This is not `atoll_store::retry`: a step is a whole release or removal, which retries its own transactions, and the
    /// last step records the pending cleanup instead of returning an error.
    async fn release_in_etcd(&self, pending: &mut PendingCleanup, mut found: Found) -> Result<Detached, IpamError> {
        let seen_claim = |found: &Found| found.claim.as_ref().map(|claim| claim.mod_revision);
        let fenced_claim = seen_claim(&found);
        for _ in 0..ATTEMPTS {
            // Another machine sent a creation after the fence.
            if has_creations(&found) && seen_claim(&found) != fenced_claim {
                pending.is_fenced = false;
            }
            let of_tombstone =
                found.tombstone.as_ref().map_or(0, |tombstone| self.late_requests_until(&tombstone.record));
            let of_claim = found.claim.as_ref().map_or(0, |claim| claim.record.creations_until);
            pending.merge(&found, of_tombstone.max(of_claim.min(self.request_lifetime_end())));
            let seen = found.tombstone.as_ref().map(|tombstone| tombstone.mod_revision);
            let now = (self.clock)();
            if pending.problem.is_some() || (!pending.is_fenced && pending.may_come_late(now)) {
                put_tombstone(&self.store, &pending.tombstone(now), seen).await?;
                self.note_pending_cleanup(&pending.attachment, pending.note());
                return Ok(Detached::Pending);
            }
            if let Some(other) =
                found.claim.as_ref().map(|claim| claim.record.port).filter(|_| !pending.is_closed(&found))
            {
                pending.port = Some(other);
                pending.problem = Some("the claim has another port by now".to_owned());
                continue;
            }
            found = match (&found.claim, seen) {
                (None, None) => return Ok(Detached::Completely),
                (None, Some(seen)) => {
                    if remove_tombstone(&self.store, &pending.attachment, seen).await? {
                        return Ok(Detached::Completely);
                    }
                    find(&self.store, &pending.attachment).await?
                }
                (Some(claim), seen) => {
                    let late = self.late_deletions(pending.deletion_sent, &claim.record);
                    match release_beside(&self.store, claim, seen, self.config.cooldown, late).await? {
                        Released::Done => return Ok(Detached::Completely),
                        Released::Changed(found) => found,
                    }
                }
            };
        }
        pending.problem = Some("the records changed at every attempt".to_owned());
        put_tombstone(&self.store, &pending.tombstone((self.clock)()), None).await?;
        self.note_pending_cleanup(&pending.attachment, pending.note());
        Ok(Detached::Pending)
    }

    /// Until when a deletion of one of its ports may still arrive. `deletion_sent`: an earlier call may have sent one, at an unknown
    /// time.
    fn late_deletions(&self, deletion_sent: bool, claim: &ClaimRecord) -> Option<LateDeletions> {
        let now = (self.clock)();
        let until = if deletion_sent {
            self.request_lifetime_end()
        } else {
            claim.deletions_until.min(self.request_lifetime_end())
        };
        // As long for all of them, so that they share a lease.
        (until > now).then(|| LateDeletions { until, within: Duration::from_secs(self.max_request_lifetime()) })
    }

    /// Records the pending cleanup in a local tombstone, because etcd is unreachable.
    fn put_local_tombstone(&self, pending: &PendingCleanup) -> Result<Detached, CallError> {
        self.local_tombstones
            .put(&pending.tombstone((self.clock)()))
            .map_err(CallError::file("write a local tombstone"))?;
        self.note_pending_cleanup(&pending.attachment, pending.note());
        Ok(Detached::Pending)
    }

    /// The pod's namespace, if it is one.
    pub(crate) async fn pod_netns(&self, path: Option<&str>) -> (Option<PathBuf>, NetnsKind) {
        let Some(path) = path.map(Path::new) else { return (None, NetnsKind::Gone) };
        match self.kernel.kind(path).await {
            Ok(kind @ (NetnsKind::Netns | NetnsKind::OurOwn)) => (Some(path.to_owned()), kind),
            Ok(kind) => (None, kind),
            Err(error) => {
                tracing::warn!(%error, "the namespace counts as gone");
                (None, NetnsKind::Gone)
            }
        }
    }
}

/// A creation of the port that another machine sent may still arrive.
fn has_creations(found: &Found) -> bool {
    found.claim.as_ref().is_some_and(|claim| claim.record.creations_until != 0)
}

/// The cleanup of an attachment that is still to be done.
#[derive(Debug)]
struct PendingCleanup {
    attachment: Attachment,
    /// The name of the engine that has the port.
    engine: String,
    port: Option<Uuid>,
    late_requests_until: u64,
    /// The engine makes late requests fail; otherwise they are waited for.
    fences: bool,
    /// A deletion of the port may be in flight.
    deletion_sent: bool,
    /// There is certainly no port.
    has_no_port: bool,
    /// No late request can bring the port back: its node was fenced.
    is_fenced: bool,
    /// The cleanup that failed; `None`: it only has to wait.
    problem: Option<String>,
}

impl PendingCleanup {
    /// `engine`: the name of the engine that has the port, and whether ours fences.
    fn new(
        attachment: &Attachment,
        (engine, fences): (&str, bool),
        port: Option<Uuid>,
        known: &KnownAttachment,
        problem: Option<String>,
    ) -> Self {
        let KnownAttachment { late_requests_until, deletion_sent, has_no_port, .. } = *known;
        let (attachment, engine) = (attachment.clone(), engine.to_owned());
        let is_fenced = false;
        Self { attachment, engine, port, late_requests_until, fences, deletion_sent, has_no_port, is_fenced, problem }
    }

    /// A late request may arrive. Where an engine fences, no time ends that.
    fn may_come_late(&self, now: u64) -> bool {
        if self.fences { self.late_requests_until != 0 } else { self.late_requests_until > now }
    }

    /// The port that was deleted is the one that the claim names.
    fn is_closed(&self, found: &Found) -> bool {
        self.has_no_port || found.claim.as_ref().is_none_or(|claim| self.port == Some(claim.record.port))
    }

    /// `late_requests_until`: from the tombstone and the claim that were found.
    fn merge(&mut self, found: &Found, late_requests_until: u64) {
        self.port = self.port.or_else(|| found.claim.as_ref().map(|claim| claim.record.port));
        if let Some(tombstone) = found.tombstone.as_ref().map(|tombstone| &tombstone.record) {
            self.port = self.port.or(tombstone.port);
            self.deletion_sent |= tombstone.may_have_deletion();
        }
        self.late_requests_until = self.late_requests_until.max(late_requests_until);
    }

    fn note(&self) -> &str {
        self.problem.as_deref().unwrap_or("a request of an ADD that died may still be on its way")
    }

    fn tombstone(&self, now: u64) -> TombstoneRecord {
        TombstoneRecord {
            v: schema_of(&self.engine),
            kind: if self.may_come_late(now) { TombstoneKind::Fence } else { TombstoneKind::Delete },
            attachment: self.attachment.clone(),
            port: self.port,
            engine: self.engine.clone(),
            not_before: if self.fences { now } else { self.late_requests_until.max(now) },
            since: now,
            note: self.note().to_owned(),
            deletion_sent: self.deletion_sent,
            unknown: Unknown::new(),
        }
    }
}
