//! A node's cache between two calls: the [`TenantBinding`] of each namespace, in `<stateDir>/cache/`.
//!
//! # Guarantees
//! - Everything here may be lost or damaged at any time; this costs only a read.
//! - A file is complete or absent (temporary file and rename), and readable only by root.
//! - Entries of one epoch of the cluster are discarded when another epoch is seen.
//! - The cache is never trusted: every claim compares the revisions on which it is based.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use atoll_model::ids::{ClusterId, Epoch};
use atoll_node::files::atomic::{self, Durability};
use atoll_node::files::{RECORD, make, read};
use atoll_node::paths;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::binding::{TenantBinding, Who};

/// The file that names the cluster of the other files.
const CLUSTER: &str = "cluster";

/// A cache of records. Without a directory it stores nothing.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: Option<PathBuf>,
    /// `stateDir`, and below it the path of `directory`.
    base: (PathBuf, PathBuf),
}

#[derive(Serialize, Deserialize)]
struct Known {
    id: ClusterId,
    epoch: Epoch,
}

impl Cache {
    /// The cache of one installation (`etcd.prefix`) on this node. Touches nothing yet.
    pub fn new(state_dir: &Path, etcd_prefix: &str) -> Self {
        let below = paths::tenant_bindings(etcd_prefix);
        Self { directory: Some(state_dir.join(&below)), base: (state_dir.to_owned(), below) }
    }

    /// Remembers nothing.
    pub fn none() -> Self {
        Self { directory: None, base: Default::default() }
    }

    /// The id of the cluster, for a DEL that cannot reach etcd.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.known().map(|known| known.id)
    }

    /// The cached binding of `who`.
    pub(crate) fn get(&self, who: &Who) -> Option<TenantBinding> {
        let binding: TenantBinding = load(&self.directory.as_ref()?.join(file(who)?))?;
        let epoch = self.known()?.epoch;
        (binding.cluster.record.epoch == epoch).then_some(binding)
    }

    /// Remembers where `who` belongs. A failure is logged: the next call reads again.
    pub(crate) fn put(&self, who: &Who, binding: &TenantBinding) {
        let (Some(directory), Some(file)) = (&self.directory, file(who)) else { return };
        let cluster = &binding.cluster.record;
        let done = (|| {
            if self.known().is_none_or(|known| known.epoch != cluster.epoch || known.id != cluster.id) {
                match fs::remove_dir_all(directory) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                make::private(&self.base.0, &self.base.1)?;
                save(directory, CLUSTER, &Known { id: cluster.id, epoch: cluster.epoch })?;
            }
            save(directory, &file, binding)
        })();
        if let Err(error) = done {
            tracing::warn!(%error, directory = %directory.display(), "could not remember where a namespace belongs");
        }
    }

    /// Forgets where `who` belongs.
    pub(crate) fn drop(&self, who: &Who) {
        let (Some(directory), Some(file)) = (&self.directory, file(who)) else { return };
        match fs::remove_file(directory.join(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, directory = %directory.display(), "could not remove a cached tenant binding");
            }
            _ => {}
        }
    }

    fn known(&self) -> Option<Known> {
        load(&self.directory.as_ref()?.join(CLUSTER))
    }
}

/// The file of a namespace, or of the default tenant. Both are names that are safe in a path.
fn file(who: &Who) -> Option<String> {
    match (&who.namespace, &who.default_tenant) {
        (Some(namespace), _) => Some(format!("namespace-{namespace}")),
        (None, Some(tenant)) => Some(format!("default-{tenant}")),
        (None, None) => None,
    }
}

/// A damaged file is as good as none.
fn load<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = read::own(path, RECORD).ok()?;
    serde_json::from_slice(&bytes)
        .inspect_err(|error| tracing::warn!(%error, path = %path.display(), "ignored a damaged file of the cache"))
        .ok()
}

fn save<T: Serialize>(directory: &Path, file: &str, value: &T) -> io::Result<()> {
    atomic::replace(&directory.join(file), &serde_json::to_vec(value).map_err(io::Error::other)?, Durability::Lossy)
}
