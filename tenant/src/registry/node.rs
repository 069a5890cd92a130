//! `nodes/<node>`: written by the first machine of that name; another machine of the same name is refused, because two
//! machines that share a name would delete each other's pods. A second name for one machine is refused as well: what was
//! made under the first would not be found any more. A node that is being evicted has to wait.

use atoll_model::clock::now;
use atoll_records::{NodeRecord, Query, SCHEMA, Versioned};
use atoll_store::{Store, StoreError};

use super::Registry;
use crate::binding::Node;
use crate::error::TenantError;
use crate::identity;
use atoll_network::Engine;

impl<S: Store, E: Engine> Registry<'_, S, E> {
    /// This machine's record.
    pub(super) async fn ensure_node(
        &self,
        node: &Node,
        seen: Option<Versioned<NodeRecord>>,
    ) -> Result<Versioned<NodeRecord>, TenantError> {
        let record = if let Some(record) = seen {
            record
        } else {
            self.refuse_second_name(node).await?;
            let writer = if self.engine.fences() { now() } else { 0 };
            self.create_once(&NodeRecord::at(&node.name), record(node, writer)).await?
        };
        same(node, &record.record)?;
        if record.record.evicting.is_some() {
            return Err(TenantError::Evicting { node: node.name.clone() });
        }
        Ok(record)
    }

    /// A name that is new must not be the second one of a machine.
    async fn refuse_second_name(&self, node: &Node) -> Result<(), TenantError> {
        let what = "find other names of this machine";
        let nodes = Query::all(NodeRecord::all());
        let snapshot = match self.store.read(vec![nodes.clone()]).await {
            // The role of this node's certificate names the node: with it no other name can be registered.
            Err(StoreError::Denied(_)) => return Ok(()),
            read => read.map_err(TenantError::store(what))?,
        };
        let names = identity::names(&snapshot.answer(&nodes)?.entries, &[], Some(&node.host_id), "");
        match names.into_iter().find(|name| *name != node.name) {
            None => Ok(()),
            Some(registered) => {
                Err(TenantError::SecondName { host: node.host_id.clone(), registered, ours: node.name.clone() })
            }
        }
    }
}

/// `writer`: larger than any that an earlier registration of this name had, which an engine may still remember.
fn record(node: &Node, writer: u64) -> NodeRecord {
    NodeRecord {
        v: SCHEMA,
        host_id: node.host_id.clone(),
        machine_id: node.machine_id.clone(),
        epoch: 0,
        writer,
        evicting: None,
        unknown: serde_json::Map::new(),
    }
}

/// Whether the registered machine is this one. A machine without an id is identified by its host id alone.
pub fn same(node: &Node, registered: &NodeRecord) -> Result<(), TenantError> {
    let taken = |what, registered: &str, ours: &str| TenantError::NodeTaken {
        node: node.name.clone(),
        what,
        registered: registered.to_owned(),
        ours: ours.to_owned(),
    };
    let known = !registered.machine_id.is_empty() && !node.machine_id.is_empty();
    if known && registered.machine_id != node.machine_id {
        return Err(taken("machine id", &registered.machine_id, &node.machine_id));
    }
    if registered.host_id != node.host_id {
        return Err(taken("host id", registered.host_id.as_str(), node.host_id.as_str()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use atoll_model::ids::NodeName;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn another_machine_of_the_same_name_is_refused_and_both_are_named() {
        let node = |machine: &str, host: u128| Node {
            name: NodeName::new("n1").expect("valid"),
            host_id: Uuid::from_u128(host).into(),
            machine_id: machine.to_owned(),
        };
        let registered = record(&node("aaaa", 1), 0);
        assert!(same(&node("aaaa", 1), &registered).is_ok());
        assert!(same(&node("", 1), &registered).is_ok(), "a machine without an id is identified by its host id");
        let error = same(&node("bbbb", 1), &registered).expect_err("another machine");
        assert_eq!(error.to_string(), "node n1 is registered with machine id aaaa, this machine has bbbb");
        let error = same(&node("aaaa", 2), &registered).expect_err("another agent");
        assert!(error.to_string().starts_with("node n1 is registered with host id 00000000-"), "{error}");
    }
}
