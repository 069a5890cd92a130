//! The names of this machine, and the prefixes of etcd under which it has worked, recorded in `<stateDir>/node`.
//!
//! All objects that the node makes are named after it, so the name must outlive a changed host name. The first ADD that the
//! cluster accepts writes the file; from then on it takes precedence over the host name. A `nodeName` of the configuration
//! takes precedence over both: an operator may rename a node once the cluster has forgotten the old name (see
//! `registry::node`). Earlier names stay in the file, because DEL and GC search for objects that were made under them. So do
//! prefixes: a claim is below the `etcd.prefix` that the configuration had at the time of its ADD.
//!
//! Guarantees: the file is whole or absent and survives a power failure; a damaged one counts as absent and is reported.

use atoll_model::ids::{HostId, NodeName};
use atoll_node::files::atomic::{self, Durability};
use atoll_node::files::{make, read};
use atoll_node::paths;
use atoll_records::{Entry, NodeRecord, Versioned};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// The largest file that is read: room for some hundred earlier names, bytes.
const LARGEST: u64 = 64 << 10;

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeIdentity {
    /// The name under which this machine works.
    pub name: NodeName,
    /// The id of its host in the engine when the name was written.
    pub host_id: HostId,
    /// Names that it had before, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<NodeName>,
    /// The prefixes of etcd under which it has made attachments, the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
}

/// The recorded identity; `None`: there is none, or it cannot be read.
pub fn load(state_dir: &Path) -> Option<NodeIdentity> {
    let path = paths::node_identity(state_dir);
    let problem = match read::own(&path, LARGEST) {
        Ok(text) => match serde_json::from_slice(&text) {
            Ok(identity) => return Some(identity),
            Err(error) => error.to_string(),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => error.to_string(),
    };
    tracing::error!(problem, path = %path.display(), "the file with this node's name cannot be read");
    None
}

/// Remembers a name, the host id that it goes with, and the prefix of etcd that is worked under. Writes nothing when that is
/// remembered already. What was remembered before stays as an earlier name or prefix.
///
/// # Errors
/// The file cannot be written; what was there stays.
pub fn remember(state_dir: &Path, name: &NodeName, host_id: &HostId, prefix: &str) -> io::Result<()> {
    let before = load(state_dir);
    let is_last = |before: &NodeIdentity| before.prefixes.last().is_some_and(|last| last == prefix);
    if before.as_ref().is_some_and(|before| before.name == *name && before.host_id == *host_id && is_last(before)) {
        return Ok(());
    }
    let mut prefixes = before.as_ref().map(|before| before.prefixes.clone()).unwrap_or_default();
    prefixes.retain(|other| other != prefix);
    prefixes.push(prefix.to_owned());
    let mut earlier = before.as_ref().map(|before| before.earlier.clone()).unwrap_or_default();
    earlier.extend(before.map(|before| before.name));
    earlier.retain(|other| other != name);
    earlier.dedup();
    let identity = NodeIdentity { name: name.clone(), host_id: host_id.clone(), earlier, prefixes };
    make::directory(state_dir, make::PRIVATE_DIRECTORY)?;
    let text = serde_json::to_vec(&identity).map_err(io::Error::other)?;
    atomic::replace(&paths::node_identity(state_dir), &text, Durability::Durable)
}

/// Whether a node's record is that of another machine. A machine is identified by its machine id, or if that is unknown, by
/// the id of its host in the engine.
pub fn is_another_machine(record: &NodeRecord, host_id: Option<&HostId>, machine_id: &str) -> bool {
    if !machine_id.is_empty() && !record.machine_id.is_empty() {
        return machine_id != record.machine_id;
    }
    host_id.is_some_and(|host| *host != record.host_id)
}

/// Every name under which records can be this machine's: those that it knows (`known`), unless another machine has them now,
/// and those under which the cluster has registered its host. `nodes`: the records of all nodes.
pub fn names(nodes: &[Entry], known: &[NodeName], host_id: Option<&HostId>, machine_id: &str) -> BTreeSet<NodeName> {
    let mut names: BTreeSet<NodeName> = known.iter().cloned().collect();
    for entry in nodes {
        let name = NodeRecord::name_in(&entry.key);
        let record = Versioned::<NodeRecord>::read(entry).ok();
        let Some((name, record)) = name.zip(record.map(|record| record.record)) else { continue };
        if is_another_machine(&record, host_id, machine_id) {
            names.remove(&name);
        } else if host_id == Some(&record.host_id) {
            names.insert(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {

    use atoll_records::{Key, NodeRecord, SCHEMA, Unknown, encode};
    use std::fs;
    use uuid::Uuid;

    use super::*;

    fn name(text: &str) -> NodeName {
        NodeName::new(text).expect("valid")
    }

    #[test]
    fn a_name_is_remembered_with_those_before_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let (state, host) = (directory.path().join("lib"), HostId::from(Uuid::from_u128(7)));
        assert_eq!(load(&state), None);
        for text in ["n1", "n1", "n2", "n3", "n1"] {
            remember(&state, &name(text), &host, "/atoll/a").expect("works");
        }
        let identity = load(&state).expect("there");
        assert_eq!((identity.name, identity.host_id), (name("n1"), host.clone()));
        assert_eq!(identity.earlier, [name("n2"), name("n3")]);
        for prefix in ["/atoll/b", "/atoll/c", "/atoll/a"] {
            remember(&state, &name("n1"), &host, prefix).expect("works");
        }
        assert_eq!(load(&state).expect("there").prefixes, ["/atoll/b", "/atoll/c", "/atoll/a"]);
        assert_eq!(fs::read_dir(&state).expect("there").count(), 1, "nothing is left aside");
    }

    #[test]
    fn a_name_that_another_machine_has_by_now_is_not_ours() {
        let node = |name: &str, host, machine: &str| Entry {
            key: Key::from(NodeRecord::at(&self::name(name))),
            value: encode(&NodeRecord {
                v: SCHEMA,
                host_id: Uuid::from_u128(host).into(),
                machine_id: machine.to_owned(),
                epoch: 0,
                writer: 0,
                evicting: None,
                unknown: Unknown::new(),
            }),
            create_revision: 1,
            mod_revision: 1,
            lease: None,
        };
        let entries = vec![
            node("ours", 7, "m"),
            node("ours-without-id", 7, ""),
            node("agent-made-anew", 8, "m"),
            node("cloned", 7, "other"),
            node("taken", 9, "other"),
            node("foreign", 9, ""),
        ];
        let nodes = entries;
        let known = ["now", "taken", "foreign", "agent-made-anew"].map(name);
        let expected = ["agent-made-anew", "now", "ours", "ours-without-id"].map(name);
        let host = HostId::from(Uuid::from_u128(7));
        assert_eq!(names(&nodes, &known, Some(&host), "m").into_iter().collect::<Vec<_>>(), expected);
        // Without ids of its own a machine believes what it remembers.
        assert_eq!(names(&nodes, &known, None, "").into_iter().collect::<Vec<_>>().len(), known.len());
    }

    #[test]
    fn what_is_no_such_file_counts_as_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let (state, path) = (directory.path(), paths::node_identity(directory.path()));
        fs::write(&path, "{").expect("works");
        assert_eq!(load(state), None);
        fs::write(&path, vec![b' '; 100_000]).expect("works");
        assert_eq!(load(state), None);
        fs::remove_file(&path).expect("works");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("works");
        assert_eq!(load(state), None, "and it does not wait");
        remember(state, &name("n1"), &Uuid::nil().into(), "/atoll/a").expect("it is replaced");
        assert_eq!(load(state).map(|identity| identity.name), Some(name("n1")));
    }
}
