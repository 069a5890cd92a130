//! The records of an attachment, and of a node.

use atoll_model::attachment::Attachment;
use atoll_model::ids::NodeName;
use atoll_records::{ClaimRecord, Key, Listed, Prefix, Query, ReadError, Snapshot, TombstoneRecord, Versioned};
use atoll_store::Store;

use crate::error::IpamError;
use crate::holder::Holder;

/// The records of an attachment, at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Its claim.
    pub claim: Option<Versioned<ClaimRecord>>,
    /// Its pending cleanup.
    pub tombstone: Option<Versioned<TombstoneRecord>>,
}

impl Found {
    /// The queries; [`Found::read`] reads the answers.
    pub(crate) fn queries(attachment: &Attachment) -> Vec<Query> {
        vec![Query::key(ClaimRecord::at(attachment)), Query::key(TombstoneRecord::at(attachment))]
    }

    /// Reads the answers to [`Found::queries`]; the snapshot may have others.
    pub(crate) fn read(snapshot: &Snapshot, attachment: &Attachment) -> Result<Self, ReadError> {
        Ok(Self {
            claim: snapshot.get(&ClaimRecord::at(attachment))?,
            tombstone: snapshot.get(&TombstoneRecord::at(attachment))?,
        })
    }
}

/// Reads claim and tombstone of an attachment at one revision.
pub async fn find<S: Store>(store: &S, attachment: &Attachment) -> Result<Found, IpamError> {
    let snapshot = store.read(Found::queries(attachment)).await.map_err(IpamError::store(attachment))?;
    Ok(Found::read(&snapshot, attachment)?)
}

/// The holder of an address, with the name of the pod as the claim knows it. An error while reading the claim does not hide
/// the attachment.
pub(crate) async fn find_holder<S: Store>(store: &S, attachment: Attachment) -> Holder {
    match find(store, &attachment).await {
        Ok(Found { claim: Some(claim), .. }) => Holder::of(&claim.record),
        _ => Holder { attachment, namespace: None, pod: None },
    }
}

/// The records of a node, at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeRecords {
    /// Its claims.
    pub claims: Vec<Versioned<ClaimRecord>>,
    /// Its tombstones.
    pub tombstones: Vec<Versioned<TombstoneRecord>>,
    /// Keys of claims and tombstones that cannot be read. Nothing may be concluded from their absence in the lists.
    pub damaged: Vec<Key>,
}

impl NodeRecords {
    /// The queries; [`NodeRecords::read`] reads the answers.
    pub fn queries(node: &NodeName) -> [Query; 2] {
        [Query::all(ClaimRecord::of_node(node)), Query::all(TombstoneRecord::of_node(node))]
    }

    /// Reads the answers to [`NodeRecords::queries`]; the snapshot may have others.
    ///
    /// # Errors
    /// The queries were not asked.
    pub fn read(snapshot: &Snapshot, node: &NodeName) -> Result<Self, ReadError> {
        let claims = snapshot.list(&ClaimRecord::of_node(node))?;
        let tombstones = snapshot.list(&TombstoneRecord::of_node(node))?;
        let damaged = claims.damaged.iter().chain(&tombstones.damaged);
        let damaged = damaged.filter_map(ReadError::damaged_key).cloned().collect();
        Ok(Self { claims: claims.readable(), tombstones: tombstones.readable(), damaged })
    }
}

/// Reads all claims and tombstones of a node.
pub async fn records_of<S: Store>(store: &S, node: &NodeName) -> Result<NodeRecords, IpamError> {
    let queries = NodeRecords::queries(node).into();
    let snapshot = store.read(queries).await.map_err(IpamError::store(format!("records of node {node}")))?;
    Ok(NodeRecords::read(&snapshot, node)?)
}

/// The oldest names first, at most `limit` tombstones of a node (0: all). Damaged ones are skipped and logged.
pub async fn tombstones_of<S: Store>(
    store: &S,
    node: &NodeName,
    limit: usize,
) -> Result<Vec<Versioned<TombstoneRecord>>, IpamError> {
    list(store, &TombstoneRecord::of_node(node), limit).await
}

/// All claims of a node. Damaged ones are skipped and logged: nothing may be concluded from their absence.
pub async fn claims_of<S: Store>(store: &S, node: &NodeName) -> Result<Vec<Versioned<ClaimRecord>>, IpamError> {
    list(store, &ClaimRecord::of_node(node), 0).await
}

async fn list<S: Store, R: serde::de::DeserializeOwned>(
    store: &S,
    prefix: &Prefix<R>,
    limit: usize,
) -> Result<Vec<Versioned<R>>, IpamError> {
    let query = Query::Range { prefix: prefix.into(), from: None, until: None, limit, keys_only: false };
    let snapshot = store.read(vec![query.clone()]).await.map_err(IpamError::store(prefix))?;
    Ok(Listed::read(&snapshot.answer(&query)?.entries).readable())
}
