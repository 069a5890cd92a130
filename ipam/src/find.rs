//! What is known: of one attachment, and of a node.

use atoll_model::attachment::Attachment;
use atoll_model::ids::NodeName;
use atoll_model::record::{ClaimRecord, TombstoneRecord};
use atoll_store::{Key, Query, Snapshot, Store};

use crate::error::IpamError;
use crate::versioned::Versioned;

/// What is known of an attachment, at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Its claim.
    pub claim: Option<Versioned<ClaimRecord>>,
    /// What is still owed for it.
    pub tombstone: Option<Versioned<TombstoneRecord>>,
}

impl Found {
    /// What to ask for; the answers are read by [`Found::read`].
    pub(crate) fn queries(attachment: &Attachment) -> Vec<Query> {
        vec![Query::Key(Key::attachment(attachment)), Query::Key(Key::tombstone(attachment))]
    }

    /// Reads the first two answers of a snapshot.
    pub(crate) fn read(snapshot: &Snapshot, attachment: &Attachment) -> Result<Self, IpamError> {
        let [claim, tombstone, ..] = snapshot.answers.as_slice() else {
            return Err(IpamError::Answer { object: attachment.to_string() });
        };
        Ok(Self { claim: Versioned::of(claim)?, tombstone: Versioned::of(tombstone)? })
    }
}

/// Reads claim and tombstone of an attachment at one revision.
pub async fn find<S: Store>(store: &S, attachment: &Attachment) -> Result<Found, IpamError> {
    let snapshot = store.read(Found::queries(attachment)).await.map_err(IpamError::store(attachment))?;
    Found::read(&snapshot, attachment)
}

/// What is recorded of a node, at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Its claims.
    pub claims: Vec<Versioned<ClaimRecord>>,
    /// Its tombstones.
    pub tombstones: Vec<Versioned<TombstoneRecord>>,
    /// Keys of claims and tombstones that cannot be read. Nothing may be concluded from their absence in the lists.
    pub damaged: Vec<Key>,
}

/// Reads all claims and tombstones of a node. What is damaged is told.
pub async fn records_of<S: Store>(store: &S, node: &NodeName) -> Result<Records, IpamError> {
    let object = format!("records of node {node}");
    let queries = vec![Query::all(Key::attachments_of(node)), Query::all(Key::tombstones_of(node))];
    let snapshot = store.read(queries).await.map_err(IpamError::store(&object))?;
    let [claims, tombstones] = snapshot.answers.as_slice() else { return Err(IpamError::Answer { object }) };
    let mut damaged = Versioned::<ClaimRecord>::damaged(claims);
    damaged.extend(Versioned::<TombstoneRecord>::damaged(tombstones));
    Ok(Records { claims: Versioned::readable(claims), tombstones: Versioned::readable(tombstones), damaged })
}

/// The oldest names first, at most `limit` tombstones of a node (0: all). Damaged ones are skipped and logged.
pub async fn tombstones_of<S: Store>(
    store: &S,
    node: &NodeName,
    limit: usize,
) -> Result<Vec<Versioned<TombstoneRecord>>, IpamError> {
    list(store, Key::tombstones_of(node), limit).await
}

/// All claims of a node. Damaged ones are skipped and logged: nothing may be concluded from their absence.
pub async fn claims_of<S: Store>(store: &S, node: &NodeName) -> Result<Vec<Versioned<ClaimRecord>>, IpamError> {
    list(store, Key::attachments_of(node), 0).await
}

async fn list<S: Store, T: serde::de::DeserializeOwned>(
    store: &S,
    prefix: Key,
    limit: usize,
) -> Result<Vec<Versioned<T>>, IpamError> {
    let object = prefix.to_string();
    let query = Query::Range { prefix, from: None, until: None, limit, keys_only: false };
    let snapshot = store.read(vec![query]).await.map_err(IpamError::store(&object))?;
    let answer = snapshot.answers.first().ok_or(IpamError::Answer { object })?;
    Ok(Versioned::readable(answer))
}
