//! Takes a dead node's pods out of the network, so that their addresses are free for others:
//!
//! 1. the node's record gets a new epoch and is marked: a later write of the node compares the old record and loses, and a
//!    call that reads the new one has to wait;
//! 2. its pods' ports are deleted: no interface sends with their addresses any more. An engine whose servers may execute a request
//!    at any later time compares the node's writer epoch, which is raised along with it; and with an engine that distributes
//!    what it forwards, every other host confirms that it accepts nothing from this one ([`Engine::cut_off`]);
//! 3. the longest time passes in which a call that began before could still make a port: the deadline of a call and the
//!    maximum request lifetime;
//! 4. ports that came back are deleted, claims released, and the pending cleanup of the node is finished, each guarded by the revision that was read;
//! 5. the mark goes. The node may come back: its next call reads its new record and goes on as a new node does.
//!
//! Two evictions of one node do the same work. The slower one finds the node's record changed once the other has finished,
//! and deletes nothing more. Requests that it has in flight by then name the ports that it listed: a node that was evicted
//! once makes no port of an id that it had before (`ClaimRequest::was_evicted`; if it was forgotten, the marks of the
//! releases have this for as long as a call and a late request can take).
//!
//! A record of the node that cannot be read names neither the owner of an address nor the pending cleanup. Its port is
//! deleted like the others if it has the derived id, which follows from the key; its address stays taken, and the eviction
//! ends with an error that names the record: the mark stays until the record is gone.
//!
//! Interrupted anywhere it goes on where it stopped: the mark stays, the rest is found done or is done again. Until the
//! last step an address belongs to the pod that had it.

use std::collections::BTreeMap;
use std::time::Duration;

use atoll_records::{ClaimRecord, ClusterRecord, Key, NodeRecord, Query, Revision, Versioned};

use atoll_model::clock::now;

use atoll_ipam::{LateDeletions, Released, find, records_of, release_beside, remove_tombstone};
use atoll_model::attachment::Attachment;
use atoll_model::ids::NodeName;
use atoll_store::{Committed, Compare, Store, StoreChange, Txn};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use uuid::Uuid;

use super::Admin;
use super::progress::{Deleted, wait_for_late_requests};
use crate::attempts::RecordChange;
use crate::error::TenantError;
use crate::registry::same_engine;
use atoll_network::{Engine, PortRemoval, WriterEpoch};

/// Ports that are deleted at once.
const AT_ONCE: usize = 8;

/// How long the other hosts have for confirming that they accept nothing from the node any more.
const CUT_OFF: Duration = Duration::from_mins(2);

/// For how long a deletion of an eviction that runs beside this one is reckoned with, at least.
const BESIDE: Duration = Duration::from_mins(1);

/// How to evict.
#[derive(Clone, Copy, Debug)]
pub struct Eviction {
    /// Also a node whose host the controller calls alive.
    pub force: bool,
    /// The node is gone for good: its record goes, too, and another machine may have its name.
    pub forget: bool,
    /// How long a call that began before may still be at work, and its last request on its way.
    pub wait: Duration,
    /// How long the addresses are in cool-down.
    pub cooldown: Duration,
}

/// The state of a node that may be evicted.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its record.
    pub record: NodeRecord,
    /// The controller calls its host alive; none: it knows no such host.
    pub alive: Option<bool>,
    /// Its claims.
    pub claims: Vec<ClaimRecord>,
    /// How many tombstones it has.
    pub tombstones: usize,
    /// Keys of its claims and tombstones that cannot be read.
    pub damaged: Vec<Key>,
}

impl Candidate {
    /// Evicting it needs no force: its host is dead or unknown, or the eviction has begun.
    pub fn is_dead(&self) -> bool {
        self.alive != Some(true) || self.record.evicting.is_some()
    }
}

/// Reads a node and changes nothing.
pub async fn candidate<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    node: &NodeName,
) -> Result<Candidate, TenantError> {
    let (_, record) = known(admin, node).await?;
    let records = records_of(admin.store, node).await?;
    Ok(Candidate {
        alive: alive(admin, node, &record.record).await?,
        record: record.record,
        claims: records.claims.into_iter().map(|claim| claim.record).collect(),
        tombstones: records.tombstones.len(),
        damaged: records.damaged,
    })
}

/// Evicts a node as the module's head describes. Returns the claims that were released; `progress` receives each step.
pub async fn evict<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    node: &NodeName,
    how: Eviction,
    mut progress: impl FnMut(Deleted),
) -> Result<Vec<ClaimRecord>, TenantError> {
    let (cluster, record) = known(admin, node).await?;
    let begun = record.record.evicting.is_some();
    if !begun && !how.force && alive(admin, node, &record.record).await? == Some(true) {
        return Err(TenantError::Alive { node: node.clone(), host: record.record.host_id.clone() });
    }
    let record = if begun { record } else { close(admin, node, record).await? };
    progress(Deleted::Closed);

    let mut pending = pending_cleanup(admin, node, &cluster.record).await?;
    close_ports(admin, node, &record, &pending).await?;
    let what = format!("cut off the host of node {node}");
    admin.engine.cut_off(&record.record.host_id, CUT_OFF).await.map_err(TenantError::engine(what))?;
    progress(Deleted::Objects(pending.ports().count()));
    wait_for_late_requests(admin.engine, how.wait, &mut progress).await;

    let mut released = Vec::new();
    let mut rounds = RecordChange::repeated(format!("evict node {node}"));
    loop {
        rounds.begin()?;
        close_ports(admin, node, &record, &pending).await?;
        for cleanup in pending.readable.values() {
            released.extend(finish(admin, cleanup, how).await?);
        }
        // A call of the node that began before may have written one more tombstone.
        pending = pending_cleanup(admin, node, &cluster.record).await?;
        if pending.readable.values().any(|cleanup| cleanup.claim.is_some()) {
            // Nothing claims for a node that is closed, so this cannot be; if it is, its port needs the same time.
            close_ports(admin, node, &record, &pending).await?;
            wait_for_late_requests(admin.engine, how.wait, &mut progress).await;
        }
        if !pending.readable.is_empty() {
            continue;
        }
        if !pending.damaged.is_empty() {
            let keys = pending.damaged.iter().map(|(key, _)| key.to_string()).collect();
            return Err(TenantError::Unreadable { node: node.clone(), keys, released: released.len() });
        }
        open(admin, node, &record, how.forget).await?;
        progress(Deleted::All);
        return Ok(released);
    }
}

async fn known<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    node: &NodeName,
) -> Result<(Versioned<ClusterRecord>, Versioned<NodeRecord>), TenantError> {
    let (cluster, record) = (ClusterRecord::at(), NodeRecord::at(node));
    let queries = vec![Query::key(&cluster), Query::key(&record)];
    let snapshot = admin.store.read(queries).await.map_err(TenantError::store(format!("read node {node}")))?;
    let both = snapshot.get(&cluster)?.zip(snapshot.get(&record)?);
    let both = both.ok_or_else(|| TenantError::NoNode { node: node.clone() })?;
    same_engine(admin.engine.name(), &both.0.record.engine)?;
    Ok(both)
}

/// Whether the controller reports the node's host as alive.
async fn alive<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    node: &NodeName,
    record: &NodeRecord,
) -> Result<Option<bool>, TenantError> {
    let what = format!("ask whether the host of node {node} is alive");
    Ok(admin.engine.host(&record.host_id).await.map_err(TenantError::engine(what))?.map(|host| host.alive))
}

/// Raises the epoch and marks the node. From here on no claim of it commits, and none is found again by it.
async fn close<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    node: &NodeName,
    seen: Versioned<NodeRecord>,
) -> Result<Versioned<NodeRecord>, TenantError> {
    let mut seen = seen;
    let mut change = RecordChange::repeated(format!("close node {node}"));
    loop {
        change.begin()?;
        let writer = if admin.engine.fences() { seen.record.writer + 1 } else { seen.record.writer };
        let record = NodeRecord { epoch: seen.record.epoch + 1, writer, evicting: Some(now()), ..seen.record.clone() };
        match write(admin, node, &seen, Some(&record), &mut change).await? {
            Committed::Yes(done) => return Ok(seen.updated(record, done.revision)),
            Committed::Lost(snapshot) => {
                let there = snapshot.get(&NodeRecord::at(node))?;
                seen = there.ok_or_else(|| TenantError::NoNode { node: node.clone() })?;
                // Ours, and the answer was lost; or another eviction: then both do the same work.
                if seen.record.evicting.is_some() {
                    return Ok(seen);
                }
            }
        }
    }
}

/// No other call has finished this eviction: otherwise the node may have returned, with new claims and ports.
async fn still_ours<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    node: &NodeName,
    ours: &Versioned<NodeRecord>,
) -> Result<(), TenantError> {
    let (_, record) = known(admin, node).await?;
    if record.mod_revision == ours.mod_revision {
        return Ok(());
    }
    Err(TenantError::Contended { what: format!("evict node {node}"), attempts: 1 })
}

/// The last step: the node may come back, or is forgotten.
async fn open<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    node: &NodeName,
    ours: &Versioned<NodeRecord>,
    forget: bool,
) -> Result<(), TenantError> {
    let record = NodeRecord { evicting: None, ..ours.record.clone() };
    let mut change = RecordChange::repeated(format!("end the eviction of node {node}"));
    loop {
        change.begin()?;
        match write(admin, node, ours, (!forget).then_some(&record), &mut change).await? {
            Committed::Yes(_) => return Ok(()),
            Committed::Lost(snapshot) => match snapshot.revision_of(&NodeRecord::at(node))? {
                // The answer was lost, and nothing happened.
                Some(revision) if revision == ours.mod_revision => {}
                // It happened, or another eviction did it.
                _ => return Ok(()),
            },
        }
    }
}

/// Writes a node's record, or deletes it, if it is still as it was seen.
async fn write<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    node: &NodeName,
    seen: &Versioned<NodeRecord>,
    record: Option<&NodeRecord>,
    change: &mut RecordChange,
) -> Result<Committed, TenantError> {
    let key = NodeRecord::at(node);
    let txn = Txn {
        compare: vec![Compare::modified(&key, seen.mod_revision)],
        then: vec![record.map_or_else(|| StoreChange::delete(&key), |record| StoreChange::put(&key, record))],
        read: Vec::new(),
        otherwise: vec![Query::key(&key)],
    };
    change.commit(admin.store, txn).await
}

/// The cleanup of one attachment of the node.
struct Cleanup {
    attachment: Attachment,
    port: Uuid,
    /// Its claim when it was listed.
    claim: Option<Versioned<ClaimRecord>>,
    /// The revision of its tombstone when it was listed.
    tombstone: Option<Revision>,
}

/// The cleanup of a node.
struct PendingCleanup {
    readable: BTreeMap<String, Cleanup>,
    /// Records that cannot be read, with the port of their attachment.
    damaged: Vec<(Key, Option<Uuid>)>,
}

impl PendingCleanup {
    fn ports(&self) -> impl Iterator<Item = Uuid> {
        self.readable.values().map(|cleanup| cleanup.port).chain(self.damaged.iter().filter_map(|(_, port)| *port))
    }
}

/// Lists what is left of a node.
async fn pending_cleanup<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    node: &NodeName,
    cluster: &ClusterRecord,
) -> Result<PendingCleanup, TenantError> {
    let records = records_of(admin.store, node).await?;
    let mut readable = BTreeMap::new();
    for tombstone in records.tombstones {
        let seen = Some(tombstone.mod_revision);
        let attachment = tombstone.record.attachment;
        let port = tombstone.record.port.unwrap_or_else(|| attachment.port(cluster.id));
        readable.insert(attachment.to_string(), Cleanup { attachment, port, claim: None, tombstone: seen });
    }
    for claim in records.claims {
        let attachment = claim.record.attachment.clone();
        let name = attachment.to_string();
        let tombstone = readable.get(&name).and_then(|cleanup: &Cleanup| cleanup.tombstone);
        readable.insert(name, Cleanup { attachment, port: claim.record.port, claim: Some(claim), tombstone });
    }
    let mut damaged = Vec::new();
    for key in records.damaged {
        let attachment = key.attachment_part();
        if let Some(attachment) = &attachment {
            // Half of what is known of it: nothing is released by that.
            readable.remove(&attachment.to_string());
        }
        damaged.push((key, attachment.map(|attachment| attachment.port(cluster.id))));
    }
    Ok(PendingCleanup { readable, damaged })
}

/// Deletes the ports that were listed. Whether the node is still closed is asked after the list was made, and right before:
/// an eviction that is behind has nothing to do any more.
async fn close_ports<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    node: &NodeName,
    record: &Versioned<NodeRecord>,
    pending: &PendingCleanup,
) -> Result<(), TenantError> {
    still_ours(admin, node, record).await?;
    if admin.engine.fences() {
        let writer = WriterEpoch { node: node.clone(), epoch: record.record.writer };
        let ports: Vec<_> = pending.ports().map(PortRemoval::by_id).collect();
        let what = format!("fence node {node}");
        let (cluster, _) = known(admin, node).await?;
        return admin.engine.fence(cluster.record.id, &writer, &ports).await.map_err(TenantError::engine(what));
    }
    stream::iter(pending.ports().map(async |port| admin.engine.delete_port(&PortRemoval::by_id(port)).await))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
        .map_err(TenantError::engine(format!("delete the ports of node {node}")))
}

/// Releases the claim as it was listed, with its present tombstone, if any. Returns it if it existed.
async fn finish<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    cleanup: &Cleanup,
    how: Eviction,
) -> Result<Option<ClaimRecord>, TenantError> {
    let listed = cleanup.claim.as_ref();
    // Another eviction may have sent deletions that it does not wait for.
    let within = how.wait.max(BESIDE);
    let late = Some(LateDeletions { until: now() + within.as_secs(), within });
    let mut change = RecordChange::repeated(format!("clean up {}", cleanup.attachment));
    loop {
        change.begin()?;
        let found = find(admin.store, &cleanup.attachment).await?;
        let tombstone: Option<Revision> = found.tombstone.as_ref().map(|tombstone| tombstone.mod_revision);
        match (found.claim, tombstone) {
            (None, None) => return Ok(None),
            // A tombstone that was not listed may be of a node that is back: the next round lists it.
            (None, seen) if seen != cleanup.tombstone => return Ok(None),
            (None, Some(seen)) => {
                if remove_tombstone(admin.store, &cleanup.attachment, seen).await? {
                    return Ok(None);
                }
            }
            (Some(claim), seen) => {
                // A claim that was not listed has a port that was not deleted in time: the next round has both.
                if listed.is_none_or(|listed| listed.create_revision != claim.create_revision) {
                    return Ok(None);
                }
                if let Released::Done = release_beside(admin.store, &claim, seen, how.cooldown, late).await? {
                    return Ok(Some(claim.record));
                }
            }
        }
    }
}
