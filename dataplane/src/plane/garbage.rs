//! What is removed with a namespace, and which namespaces are removed at the start.
//!
//! A controller that starts without its state has no tenant. So a namespace that the topology does not have is removed only if
//! the topology has more namespaces than are to be removed, and no foreign interface is inside. Anything else is preserved, with the
//! links that lead to it, is reported (`preserved`), and is removed by an explicit purge only.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::state::Plane;
use crate::apply::{self, Contents};
use crate::error::PlaneError;
use crate::kernel::netns::{self, OpenNetns};
use crate::mutex::lock;
use crate::pins::pinned;

/// True if `stale` namespaces may be removed for a topology that has `known` others.
fn may_remove(stale: usize, known: usize) -> bool {
    stale < known
}

impl Plane {
    /// Gives interfaces back to this machine, deletes its end of the link, and removes the namespace with the rest.
    pub(super) fn remove_namespace(&mut self, path: &Path) -> Result<(), PlaneError> {
        if let Some(netns) = OpenNetns::open(path)? {
            apply::close(&netns)?;
            apply::give_back(&netns, &mut self.node)?;
            apply::host_ends(&netns)?.iter().try_for_each(|end| self.node.disconnect(end))?;
        }
        netns::unpin(path)
    }

    /// Notes that the topology has this namespace now.
    pub(super) fn adopt(&mut self, id: Uuid) {
        if self.preserved.0.remove(&id).is_some() {
            lock(&self.report).preserved.remove(&id);
        }
    }

    /// Removes or preserves, at the start, the namespaces that the topology does not have.
    pub(super) fn collect_garbage(&mut self) {
        if let Err(error) = self.try_collect_garbage() {
            self.fail(Uuid::nil(), &error);
        }
    }

    fn try_collect_garbage(&mut self) -> Result<(), PlaneError> {
        let id = |path: &PathBuf| Uuid::try_parse(&path.file_name().unwrap_or_default().to_string_lossy()).ok();
        let found: Vec<_> =
            pinned(&self.settings.directory)?.into_iter().filter_map(|path| Some((id(&path)?, path))).collect();
        let (known, stale): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(id, _)| self.compiled.plan().namespaces.contains_key(id));
        for (id, path) in &stale {
            let insides = OpenNetns::open(path)?.map(|netns| Contents::of(&netns)).transpose()?.unwrap_or_default();
            if may_remove(stale.len(), known.len()) && !insides.has_foreign_interfaces {
                self.remove_namespace(path)?;
                continue;
            }
            tracing::warn!(
                namespace = %path.display(),
                "no router of the topology stands for it; it is left alone, `dataplane purge` removes it"
            );
            self.preserved.0.insert(*id, insides.links);
            lock(&self.report).preserved.insert(*id);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::may_remove;

    #[test]
    fn an_empty_topology_removes_nothing() {
        // A controller without state has the provider router alone.
        assert!((1..200).all(|stale| !may_remove(stale, 0) && !may_remove(stale, 1)));
        assert!(may_remove(1, 2) && may_remove(9, 10) && !may_remove(10, 10));
    }
}
