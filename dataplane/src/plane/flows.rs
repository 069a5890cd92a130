//! A flow that was removed in one namespace is removed in every other that it passes. Its packets have there the addresses that
//! they have here after translation, so the flow of each namespace identifies the flow of the next.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::state::Plane;
use crate::apply::{Way, ways};
use crate::error::PlaneError;
use crate::kernel::flows::Flow;

impl Plane {
    /// Removes from other namespaces the flows that were removed from a router namespace.
    pub(super) fn forget_elsewhere(&mut self, namespace: Uuid) {
        let Some(managed) = self.namespaces.get_mut(&namespace) else { return };
        let forgotten = managed.kernel.take_forgotten();
        if forgotten.is_empty() {
            return;
        }
        if let Err(error) = self.follow(namespace, forgotten) {
            self.fail(namespace, &error);
        }
    }

    /// Removes the flows of a namespace's pods from the other namespaces that they pass.
    pub(super) fn forget_pods(&mut self, namespace: Uuid) {
        let ports = self.by_namespace.get(&namespace).into_iter().flatten();
        let pods: Vec<_> = ports.filter_map(|port| self.pods.get(port)).cloned().collect();
        let Some(managed) = self.namespaces.get_mut(&namespace) else { return };
        if let Err(error) = pods.iter().try_for_each(|pod| managed.kernel.forget(pod)) {
            self.fail(namespace, &error);
        }
        self.forget_elsewhere(namespace);
    }

    fn follow(&mut self, namespace: Uuid, forgotten: Vec<Flow>) -> Result<(), PlaneError> {
        let mut queue: Vec<_> = forgotten.into_iter().map(|flow| (namespace, flow)).collect();
        let mut seen = BTreeSet::new();
        while let Some((namespace, flow)) = queue.pop() {
            // Each end of it is the source of one direction.
            for tuple in [flow.original, flow.reply] {
                let Some(managed) = self.namespaces.get(&namespace) else { continue };
                for way in ways(&managed.applied, tuple.source) {
                    if !seen.insert((way, tuple)) {
                        continue;
                    }
                    let there = tuple.inverse();
                    match way {
                        Way::External => self.node.forget_tuple(&there)?,
                        Way::RouterNamespace(next) => {
                            let Some(managed) = self.namespaces.get_mut(&next) else { continue };
                            queue.extend(managed.kernel.forget_tuple(&there)?.map(|flow| (next, flow)));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
