//! GC: takes apart what this node has of this network and the runtime does not know. CNI SPEC 1.1.0, section "GC".
//!
//! | what | how it is known | left alone |
//! |---|---|---|
//! | attachments | claims in etcd, and files of this node with their attachments | in the list; younger than the deadline; locked |
//! | attachments of another network | the same, and their host end is nowhere on this machine: their network was renamed, or is gone | while they have a host end |
//! | host ends without claim and file | links of our group with the routers of the local data plane | in the node's own namespace, where another installation may have its own |
//! | attachments made under an earlier `etcd.prefix` | the same, below that prefix | the same |
//! | connected host ends (Open vSwitch) | neither a link nor a claim nor a file of this node names them | everything else on the bridge |
//! | ways of the node to its pods, and what the pods of a subnet share on it | the same; without pods in two GCs | while a call works on it |
//! | tombstones | as every call does, but all of them | not before their time |
//! | temporary files of local tombstones | a killed call left them | younger than the deadline |
//!
//! Objects are read before they are compared with the list, and links before claims: a claim is made before its link and
//! deleted after it, so that a link without a claim is orphaned. Claims are those of every name under which this machine is
//! registered. One failure does not keep the rest from being collected; all are reported together. If etcd does not answer,
//! attachments in this node's files lose their interface, the rest is recorded, and GC reports what it could not do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use atoll_model::attachment::Attachment;
use atoll_model::error::{Class, Classify, causes};
use atoll_model::ids::{ContainerId, IfName, NetworkName};
use atoll_network::Engine;
use atoll_node::attachments::{AttachmentLock, RecordedAttachment};
use atoll_records::{ClaimRecord, Query, Versioned};
use atoll_store::Store;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use crate::detach::{DeletionNote, DetachDeadlines, KnownAttachment};
use crate::error::CallError;
use crate::kernel::{HostToPodSide, Kernel, Netns};
use crate::plugin::Plugin;

/// How many attachments are taken apart beside each other: each holds a lock, which is an open file.
const BATCH: usize = 64;
/// How long etcd may take to list the claims of this node.
const READ: Duration = Duration::from_secs(5);
/// How long controller and etcd may take to answer for a batch before the rest is left for later.
const REQUESTS: Duration = Duration::from_secs(5);
/// How long etcd may take, counted from the same moment, to record the end.
const RECORDS: Duration = Duration::from_secs(8);

/// The input of a GC.
#[derive(Clone, Debug)]
pub struct GcCall {
    /// Of which network.
    pub network: NetworkName,
    /// The attachments that must stay. A runtime without a list makes no call.
    pub valid: BTreeSet<(ContainerId, IfName)>,
}

/// The attachments and interfaces of this node.
#[derive(Default)]
struct Inventory {
    /// Host ends of ours, with their places.
    links: Vec<(Netns, IfName)>,
    /// Interfaces that are connected as host ends of ours.
    plugged: Vec<IfName>,
    /// What the pods of a subnet share on this node.
    sides: Vec<HostToPodSide>,
    /// Claims of every network; none: the record is damaged, and only its key names the attachment.
    claims: BTreeMap<Attachment, Option<Versioned<ClaimRecord>>>,
    /// etcd did not answer, or the files cannot be listed: nothing may be concluded from the absence of a claim or a file.
    is_blind: bool,
    /// Some namespace could not be read: it may have any host end.
    is_partial: bool,
    /// Attachments of every network that have a file here, with the time at which it was written.
    files: BTreeMap<Attachment, u64>,
    /// Files of attachments that were made under another prefix of etcd.
    others: Vec<RecordedAttachment>,
    /// Attachments with a claim under an earlier prefix.
    elsewhere: Vec<Attachment>,
}

/// An attachment that is being taken apart.
struct StaleAttachment {
    attachment: Attachment,
    lock: AttachmentLock,
    known: KnownAttachment,
}

/// The text and the class of a failure.
type Problem = (String, Class);

impl<S: Store, E: Engine, K: Kernel> Plugin<S, E, K> {
    /// Collects.
    pub async fn gc(&self, call: &GcCall) -> Result<(), CallError> {
        let until = Instant::now() + self.config.timeout;
        timeout_at(until, self.collect(call, until))
            .await
            .unwrap_or_else(|_| Err(self.late(format!("GC of network {}", call.network))))
    }

    async fn collect(&self, call: &GcCall, until: Instant) -> Result<(), CallError> {
        let mut problems = Vec::new();
        let mut inventory = self.trace.stage("inventory", self.inventory(until, &mut problems)).await;
        let mut count = self.collect_here(call, &inventory, until, &mut problems).await;
        for plugin in self.earlier_with(&inventory.others)? {
            let mut there = plugin.trace.stage("inventory", plugin.inventory(until, &mut problems)).await;
            // A file that names no prefix counts as ours.
            there.files.retain(|attachment, _| !inventory.files.contains_key(attachment));
            count += plugin.collect_here(call, &there, until, &mut problems).await;
            inventory.is_blind |= there.is_blind;
            inventory.elsewhere.extend(there.claims.into_keys());
        }
        if !inventory.is_blind {
            self.trace.stage("leftovers", self.remove_leftovers(&inventory, &mut problems)).await;
            self.retry_all_pending_cleanup(until).await;
        }
        tracing::info!(stale = count, problems = problems.len(), "collected");
        match problems.first() {
            None => Ok(()),
            Some((_, class)) => {
                let (class, of) = (*class, count.max(problems.len()));
                Err(CallError::Some { problems: problems.into_iter().map(|(problem, _)| problem).collect(), of, class })
            }
        }
    }

    /// The plugins for every earlier prefix that this machine has recorded or a file names.
    fn earlier_with(&self, files: &[RecordedAttachment]) -> Result<Vec<Self>, CallError> {
        let named = files.iter().filter_map(|noted| noted.prefix.as_ref());
        let prefixes: BTreeSet<_> = self.earlier_prefixes.iter().chain(named).collect();
        prefixes.into_iter().map(|prefix| (self.with_prefix)(prefix)).collect()
    }

    /// Takes apart what was made under this prefix of etcd. How much was stale.
    async fn collect_here(
        &self,
        call: &GcCall,
        inventory: &Inventory,
        until: Instant,
        problems: &mut Vec<Problem>,
    ) -> usize {
        let stale = self.stale(call, inventory);
        for batch in stale.chunks(BATCH) {
            let mut locked = Vec::new();
            for attachment in batch {
                // The local data plane may have moved its host end while the locations were read.
                if attachment.network != call.network && self.has_host_end(attachment).await {
                    continue;
                }
                match self.lock_stale(attachment, inventory) {
                    Ok(found) => locked.extend(found),
                    Err(error) => problems.push(problem(&error)),
                }
            }
            self.trace.stage("interfaces", self.unplug_together(&locked, inventory)).await;
            let now = Instant::now();
            let limits = DetachDeadlines { requests: until.min(now + REQUESTS), records: until.min(now + RECORDS) };
            let ends = locked.drain(..).map(|stale| Box::pin(self.finish(stale, limits)));
            problems.extend(join_all(ends).await.into_iter().flatten());
        }
        if let Err(error) = self.local_tombstones.remove_leftovers(self.youngest()) {
            problems.push(problem(&CallError::file("remove what killed calls left of local tombstones")(error)));
        }
        stale.len()
    }

    /// When the youngest attachment that may be collected was made, seconds since 1970.
    fn youngest(&self) -> u64 {
        (self.clock)().saturating_sub(self.config.timeout.as_secs())
    }

    /// Links first, then claims: the module's head has the reason.
    async fn inventory(&self, until: Instant, problems: &mut Vec<Problem>) -> Inventory {
        // Before links and claims: what is connected later has both.
        let plugged = timeout_at(until.min(Instant::now() + READ), self.engine.plugged()).await;
        let plugged = match plugged {
            Ok(plugged) => plugged.map_err(CallError::from),
            Err(_) => Err(self.late("list the connected host ends")),
        };
        let plugged = plugged.map_err(|error| problems.push(problem(&error))).unwrap_or_default();
        // After them: the file of a side is there before it is connected.
        let sides =
            self.host_to_pod().sides().map_err(CallError::file("list what the pods of subnets share on this node"));
        let sides = sides.map_err(|error| problems.push(problem(&error))).unwrap_or_default();
        let mut links = Vec::new();
        let before = problems.len();
        for place in self.host_places() {
            match self.kernel.list(&place).await {
                Ok(found) => {
                    let names = found.into_iter().filter(crate::kernel::Link::is_ours);
                    links.extend(names.filter_map(|link| Some((place.clone(), IfName::new(link.name).ok()?))));
                }
                Err(error) => problems.push(problem(&error)),
            }
        }
        let is_partial = problems.len() > before;
        let files = self.attachment_states.known().map_err(CallError::file("list the attachment states"));
        let is_unlisted = files.is_err();
        let files = files.map_err(|error| problems.push(problem(&error))).unwrap_or_default();
        let ours = &self.config.etcd.prefix;
        let is_other = |noted: &RecordedAttachment| noted.prefix.as_ref().is_some_and(|prefix| prefix != ours);
        let (others, files): (Vec<_>, Vec<_>) = files.into_iter().partition(is_other);
        let files = files.into_iter().map(|noted| (noted.attachment, noted.written)).collect();
        let claims = timeout_at(until.min(Instant::now() + READ), self.claims()).await;
        let claims = claims.unwrap_or_else(|_| Err(self.late("read the claims of this node")));
        let is_blind = is_unlisted || claims.is_err();
        let claims = claims.map_err(|error| problems.push(problem(&error))).unwrap_or_default();
        Inventory { links, plugged, sides, claims, is_blind, is_partial, files, others, elsewhere: Vec::new() }
    }

    /// The claims of every name of this machine, those included that only the cluster remembers.
    async fn claims(&self) -> Result<BTreeMap<Attachment, Option<Versioned<ClaimRecord>>>, CallError> {
        let mut claims = BTreeMap::new();
        for name in self.names_in_cluster().await? {
            let all = Query::all(ClaimRecord::of_node(&name));
            let Some(snapshot) = self.read_of(&name, vec![all.clone()]).await? else { continue };
            let entries = snapshot.answer(&all).map_err(atoll_ipam::IpamError::from)?.entries.iter();
            claims
                .extend(entries.filter_map(|entry| Some((entry.key.attachment_part()?, Versioned::read(entry).ok()))));
        }
        Ok(claims)
    }

    /// The attachments that are not in the list and old enough to be in it.
    fn stale(&self, call: &GcCall, inventory: &Inventory) -> Vec<Attachment> {
        let youngest = self.youngest();
        let ends: BTreeSet<_> = inventory.links.iter().map(|(_, name)| name).collect();
        let known: BTreeSet<_> = inventory.claims.keys().chain(inventory.files.keys()).collect();
        known
            .into_iter()
            // Of another network this call has no list: what still has an interface may be a pod.
            .filter(|attachment| {
                let has_no_end = !inventory.is_partial && !ends.contains(&attachment.host_interface());
                attachment.network == call.network || has_no_end
            })
            .filter(|attachment| !call.valid.contains(&(attachment.container.clone(), attachment.interface.clone())))
            .filter(|attachment| self.written(attachment, inventory).is_some_and(|written| written < youngest))
            .cloned()
            .collect()
    }

    /// When an attachment was made, seconds since 1970; none: nothing may be concluded.
    ///
    /// A time in the future was written by a clock that was ahead. A file of such a time counts as written now, which is
    /// written down; a claim counts as old as its file, and as old if it has none, for an ADD of this boot leaves a file.
    fn written(&self, attachment: &Attachment, inventory: &Inventory) -> Option<u64> {
        let now = (self.clock)();
        let file = inventory.files.get(attachment).copied().map(|written| {
            if written > now {
                tracing::warn!(%attachment, by = written - now, "its file was written by a clock that was ahead");
                if let Err(error) = self.attachment_states.touch(attachment, now) {
                    tracing::warn!(%attachment, %error, "its file keeps the time");
                }
            }
            written.min(now)
        });
        match inventory.claims.get(attachment) {
            Some(Some(claim)) if claim.record.since <= now => Some(claim.record.since),
            Some(Some(claim)) => {
                let by = claim.record.since - now;
                tracing::warn!(%attachment, by, "its claim was written by a clock that was ahead, by so many s");
                file.or((!inventory.is_blind).then_some(0))
            }
            Some(None) => {
                tracing::warn!(%attachment, "its claim is damaged: it is left alone");
                None
            }
            None => file,
        }
    }

    /// Whether its host end is on this machine, or may be.
    async fn has_host_end(&self, attachment: &Attachment) -> bool {
        let name = attachment.host_interface();
        for place in self.host_places() {
            if !matches!(self.kernel.inspect(&place, &name).await, Ok(None)) {
                return true;
            }
        }
        false
    }

    /// Takes the lock of a stale attachment. None: a call works on it, or it was added again since.
    fn lock_stale(&self, attachment: &Attachment, inventory: &Inventory) -> Result<Option<StaleAttachment>, CallError> {
        let locked = self.attachment_states.try_lock(attachment).map_err(CallError::file("lock the attachment"))?;
        let Some(lock) = locked else { return Ok(None) };
        if self.made_under(lock.before()).is_some() {
            return Ok(None);
        }
        let claim_id = |claim: &Versioned<ClaimRecord>| claim.record.claim;
        let listed = inventory.claims.get(attachment).and_then(Option::as_ref).map(claim_id);
        let noted = lock.before().and_then(|before| before.claim.as_ref()).map(claim_id);
        if listed.is_some() && noted.is_some() && listed != noted {
            return Ok(None);
        }
        let known = self.known(attachment, lock.before());
        Ok(Some(StaleAttachment { attachment: attachment.clone(), lock, known }))
    }

    /// Deletes the interfaces of a batch, those of one place in one request. What is left for [`Plugin::detach`] is to
    /// find that they are gone, or to report why one is not.
    async fn unplug_together(&self, locked: &[StaleAttachment], inventory: &Inventory) {
        let names: BTreeSet<_> = locked.iter().map(|stale| stale.attachment.host_interface()).collect();
        let mut problems = Vec::new();
        self.delete_by_place(inventory, |name| names.contains(name), &mut problems).await;
        for (problem, _) in problems {
            tracing::warn!(problem, "interfaces are deleted one by one");
        }
    }

    /// Host ends that belong to nothing: neither a claim nor a file of this node names them.
    async fn remove_leftovers(&self, inventory: &Inventory, problems: &mut Vec<Problem>) {
        let known = inventory.claims.keys().chain(inventory.files.keys()).chain(&inventory.elsewhere);
        let known = known.chain(inventory.others.iter().map(|noted| &noted.attachment));
        let known: BTreeSet<_> = known.map(Attachment::host_interface).collect();
        let is_leftover = |name: &IfName| !known.contains(name);
        let links: BTreeSet<_> = inventory.links.iter().map(|(_, name)| name).collect();
        let of_sides: BTreeSet<_> = inventory.sides.iter().map(HostToPodSide::switch_end).collect();
        let disconnected = |name: &&IfName| {
            is_leftover(name) && !inventory.is_partial && !links.contains(name) && !of_sides.contains(name)
        };
        for name in inventory.plugged.iter().filter(disconnected) {
            if let Err(error) = self.engine.unplug(name).await {
                problems.push(problem(&CallError::from(error)));
            }
        }
        for side in &inventory.sides {
            if let Err(error) = self.host_to_pod().collect(side, is_leftover).await {
                problems.push(problem(&error));
            }
        }
        let routers: Vec<_> = inventory.links.iter().filter(|(place, _)| *place != Netns::Own).cloned().collect();
        let inventory = Inventory { links: routers, ..Inventory::default() };
        self.delete_by_place(&inventory, is_leftover, problems).await;
    }

    async fn delete_by_place(
        &self,
        inventory: &Inventory,
        is_wanted: impl Fn(&IfName) -> bool,
        problems: &mut Vec<Problem>,
    ) {
        let mut by_place: BTreeMap<&Netns, Vec<IfName>> = BTreeMap::new();
        for (place, name) in inventory.links.iter().filter(|(_, name)| is_wanted(name)) {
            by_place.entry(place).or_default().push(name.clone());
        }
        for (place, names) in by_place {
            if let Err(error) = self.kernel.delete_all(place, &names).await {
                problems.push(problem(&error));
            }
        }
    }

    /// Port and claim, as a DEL does it.
    async fn finish(&self, stale: StaleAttachment, limits: DetachDeadlines) -> Option<Problem> {
        let StaleAttachment { attachment, lock, known } = stale;
        let of = |(text, class): Problem| (format!("{attachment}: {text}"), class);
        let outcome = self.detach(&attachment, DeletionNote::InState(&lock), &known, limits).await;
        if let Err(error) = outcome.link {
            return Some(of(problem(&error)));
        }
        if let Err(error) = outcome.rest {
            return Some(of(problem(&error)));
        }
        lock.remove().map_err(CallError::file("remove the attachment state")).err().map(|error| of(problem(&error)))
    }
}

fn problem(error: &impl Classify) -> Problem {
    let words: Vec<_> = std::iter::once(error.to_string()).chain(causes(error)).collect();
    (words.join(": "), error.class())
}
