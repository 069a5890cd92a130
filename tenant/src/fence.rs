//! Fences a node: raises its writer epoch, so that what was sent before with an older one fails. In etcd, claims compare the
//! node's record. In an engine that compares writer epochs, the creation of a port does.

use atoll_model::ids::NodeName;
use atoll_records::{NodeRecord, Query, Versioned};
use atoll_store::{Committed, Compare, Store, StoreChange, Txn};

use crate::attempts::RecordChange;
use crate::error::TenantError;

/// Raises the writer epoch of a node. Returns its record since then.
///
/// # Errors
/// [`TenantError::NoNode`]: the node is not registered.
pub async fn raise_writer_epoch<S: Store>(store: &S, node: &NodeName) -> Result<Versioned<NodeRecord>, TenantError> {
    let mut change = RecordChange::repeated(format!("raise the writer epoch of node {node}"));
    let key = NodeRecord::at(node);
    let read = store.read(vec![Query::key(&key)]).await.map_err(TenantError::store(change.what()))?;
    let mut seen = read.get(&key)?;
    loop {
        change.begin()?;
        let Some(there) = seen else { return Err(TenantError::NoNode { node: node.clone() }) };
        let record = NodeRecord { writer: there.record.writer + 1, ..there.record.clone() };
        let txn = Txn {
            compare: vec![Compare::modified(&key, there.mod_revision)],
            then: vec![StoreChange::put(&key, &record)],
            read: Vec::new(),
            otherwise: vec![Query::key(&key)],
        };
        match change.commit(store, txn).await? {
            Committed::Yes(done) => return Ok(there.updated(record, done.revision)),
            // Raised by another call, or by this one whose answer was lost: once more harms nothing.
            Committed::Lost(snapshot) => seen = snapshot.get(&key)?,
        }
    }
}
