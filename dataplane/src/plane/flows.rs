//! A flow that was forgotten in one namespace is forgotten in every other that it passed: its packets look there as they
//! look here after translation, so each step of its way tells the next.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::state::Plane;
use crate::apply::{Way, ways};
use crate::error::PlaneError;
use crate::kernel::flows::Flow;

impl Plane {
    /// Goes after the flows that a domain has forgotten.
    pub(super) fn forget_elsewhere(&mut self, domain: Uuid) {
        let Some(live) = self.realms.get_mut(&domain) else { return };
        let forgotten = live.realm.take_forgotten();
        if forgotten.is_empty() {
            return;
        }
        if let Err(error) = self.follow(domain, forgotten) {
            self.fail(domain, &error);
        }
    }

    /// The domain goes with its flows; the rest of their way stays.
    pub(super) fn forget_pods(&mut self, domain: Uuid) {
        let ports = self.by_domain.get(&domain).into_iter().flatten();
        let pods: Vec<_> = ports.filter_map(|port| self.pods.get(port)).cloned().collect();
        let Some(live) = self.realms.get_mut(&domain) else { return };
        if let Err(error) = pods.iter().try_for_each(|pod| live.realm.forget(pod)) {
            self.fail(domain, &error);
        }
        self.forget_elsewhere(domain);
    }

    fn follow(&mut self, domain: Uuid, forgotten: Vec<Flow>) -> Result<(), PlaneError> {
        let mut queue: Vec<_> = forgotten.into_iter().map(|flow| (domain, flow)).collect();
        let mut seen = BTreeSet::new();
        while let Some((domain, flow)) = queue.pop() {
            // Each end of it is the source of one direction.
            for tuple in [flow.original, flow.reply] {
                let Some(live) = self.realms.get(&domain) else { continue };
                for way in ways(&live.applied, tuple.source) {
                    if !seen.insert((way, tuple)) {
                        continue;
                    }
                    let there = tuple.inverse();
                    match way {
                        Way::Outside => self.node.forget_tuple(&there)?,
                        Way::Domain(next) => {
                            let Some(live) = self.realms.get_mut(&next) else { continue };
                            queue.extend(live.realm.forget_tuple(&there)?.map(|flow| (next, flow)));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
