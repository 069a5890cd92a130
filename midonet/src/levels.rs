//! The dependency levels of a graph: the steps of one level are independent of each other, and every object that a step
//! refers to was created in an earlier level. Pure; the number of levels is the number of dependent round trips.
//!
//! Dependencies (MidoNet REST API, sections "Router" to "Rule"): a router or bridge its filter chains; a port its
//! device and its filter chains; a link both ports; a route its port; a rule its chain, the chain it jumps to, and the
//! rule before it, because a position beyond the end is refused. A rule's port ids are not checked by any controller.

use std::collections::{BTreeMap, BTreeSet};

use atoll_model::topology::{RouteAction, RuleAction, Topology};
use uuid::Uuid;

/// One object to make, or one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum BuildStep {
    /// A chain, without its rules.
    Chain(Uuid),
    /// A rule, by its chain and its place in it (0 is the first).
    Rule(Uuid, usize),
    /// A router.
    Router(Uuid),
    /// A bridge.
    Bridge(Uuid),
    /// A port; with `peer` it is created linked, in the same request.
    Port {
        /// The port.
        id: Uuid,
        /// The other end, which is there already.
        peer: Option<Uuid>,
    },
    /// A link of two ports, by itself.
    Link(Uuid, Uuid),
    /// A route.
    Route(Uuid),
}

/// The levels in which `objects` are created. `atomic_links`: the controller can create a linked port in one request.
pub(crate) fn dependency_levels(objects: &Topology, atomic_links: bool) -> Vec<Vec<BuildStep>> {
    let mut levels = Levels { objects, levels: BTreeMap::new() };
    levels.devices();
    let mut at: BTreeMap<Uuid, usize> = objects.ports.keys().map(|id| (*id, levels.port_level(*id))).collect();
    let mut carried: BTreeMap<Uuid, Uuid> = BTreeMap::new();
    for (first, second) in pairs(objects) {
        if atomic_links {
            // The end that comes later anyway carries the link.
            let (early, late) = if at[&first] <= at[&second] { (first, second) } else { (second, first) };
            let level = at[&late].max(at[&early] + 1);
            at.insert(late, level);
            carried.insert(late, early);
        } else {
            levels.put(at[&first].max(at[&second]) + 1, BuildStep::Link(first, second));
        }
    }
    for (id, level) in &at {
        levels.put(*level, BuildStep::Port { id: *id, peer: carried.get(id).copied() });
    }
    for (id, route) in &objects.routes {
        let port = match &route.action {
            RouteAction::Forward { port, .. } | RouteAction::Local { port } => Some(port),
            RouteAction::BlackHole | RouteAction::Reject => None,
        };
        let after_port = port.and_then(|port| at.get(port)).map_or(0, |level| level + 1);
        levels.put(after_port.max(levels.device_ready(route.router)), BuildStep::Route(*id));
    }
    levels.levels.into_values().map(|steps| steps.into_iter().collect()).collect()
}

struct Levels<'a> {
    objects: &'a Topology,
    levels: BTreeMap<usize, BTreeSet<BuildStep>>,
}

impl Levels<'_> {
    fn put(&mut self, level: usize, step: BuildStep) {
        self.levels.entry(level).or_default().insert(step);
    }

    fn devices(&mut self) {
        for (id, chain) in &self.objects.chains {
            self.put(0, BuildStep::Chain(*id));
            let mut level = 0;
            for (place, rule) in chain.rules.iter().enumerate() {
                level = (level + 1).max(match &rule.action {
                    RuleAction::Jump { chain } => self.chain_ready(Some(*chain)),
                    _ => 0,
                });
                self.put(level, BuildStep::Rule(*id, place));
            }
        }
        for id in self.objects.routers.keys() {
            self.put(self.device_ready(*id) - 1, BuildStep::Router(*id));
        }
        for id in self.objects.bridges.keys() {
            self.put(self.device_ready(*id) - 1, BuildStep::Bridge(*id));
        }
    }

    /// The number of levels after which a chain is there; 0 for one that is not ours to make.
    fn chain_ready(&self, chain: Option<Uuid>) -> usize {
        usize::from(chain.is_some_and(|id| self.objects.chains.contains_key(&id)))
    }

    /// The same for a router or bridge.
    fn device_ready(&self, id: Uuid) -> usize {
        let filters = match (self.objects.routers.get(&id), self.objects.bridges.get(&id)) {
            (Some(router), _) => [router.inbound, router.outbound],
            (None, Some(bridge)) => [bridge.inbound, bridge.outbound],
            (None, None) => return 0,
        };
        1 + filters.map(|chain| self.chain_ready(chain)).into_iter().fold(0, usize::max)
    }

    fn port_level(&self, id: Uuid) -> usize {
        let port = &self.objects.ports[&id];
        self.device_ready(port.device.id()).max(self.chain_ready(port.inbound)).max(self.chain_ready(port.outbound))
    }
}

/// Every link once, also to a peer that is not in the graph.
fn pairs(objects: &Topology) -> BTreeSet<(Uuid, Uuid)> {
    let ends = objects.ports.iter().filter_map(|(id, port)| Some((*id, port.peer?)));
    ends.filter(|(_, peer)| objects.ports.contains_key(peer)).map(|(a, b)| (a.min(b), a.max(b))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::tests::sample;

    /// The object that a step makes, and the objects that it needs.
    fn needs(objects: &Topology, step: BuildStep) -> (String, Vec<String>) {
        let named = |kind: &str, id: &Uuid| format!("{kind} {id}");
        let chains = |filters: [Option<Uuid>; 2]| filters.iter().flatten().map(|c| named("chain", c)).collect();
        match step {
            BuildStep::Chain(id) => (named("chain", &id), vec![]),
            BuildStep::Rule(chain, place) => {
                let mut before = vec![named("chain", &chain)];
                before.extend((0..place).map(|n| named("rule", &objects.chains[&chain].rules[n].id)));
                (named("rule", &objects.chains[&chain].rules[place].id), before)
            }
            BuildStep::Router(id) => {
                (named("device", &id), chains([objects.routers[&id].inbound, objects.routers[&id].outbound]))
            }
            BuildStep::Bridge(id) => {
                (named("device", &id), chains([objects.bridges[&id].inbound, objects.bridges[&id].outbound]))
            }
            BuildStep::Port { id, peer } => {
                let device = objects.ports[&id].device.id();
                let ours = objects.routers.contains_key(&device) || objects.bridges.contains_key(&device);
                let mut before: Vec<_> = ours.then(|| named("device", &device)).into_iter().collect();
                before.extend(peer.iter().map(|peer| named("port", peer)));
                (named("port", &id), before)
            }
            BuildStep::Link(a, b) => (format!("link {a} {b}"), vec![named("port", &a), named("port", &b)]),
            BuildStep::Route(id) => {
                let RouteAction::Forward { port, .. } = &objects.routes[&id].action else { panic!("only forwards") };
                (named("route", &id), vec![named("port", port)])
            }
        }
    }

    #[test]
    fn every_object_that_a_step_refers_to_was_created_in_an_earlier_level() {
        for subnets in 0..4u8 {
            for atomic in [true, false] {
                let objects = sample(subnets).objects;
                let mut there = BTreeSet::new();
                for (number, level) in dependency_levels(&objects, atomic).into_iter().enumerate() {
                    let made: Vec<_> = level.into_iter().map(|step| needs(&objects, step)).collect();
                    for (what, before) in &made {
                        let missing: Vec<_> = before.iter().filter(|b| !there.contains(*b)).collect();
                        assert!(missing.is_empty(), "level {number} makes {what} before {missing:?}");
                    }
                    there.extend(made.into_iter().map(|(what, _)| what));
                }
                let links = if atomic { 0 } else { 1 + usize::from(subnets) };
                let rules: usize = objects.chains.values().map(|chain| chain.rules.len()).sum();
                let all = objects.chains.len()
                    + rules
                    + objects.routers.len()
                    + objects.bridges.len()
                    + objects.ports.len()
                    + objects.routes.len();
                assert_eq!(there.len(), all + links, "every object is made once");
            }
        }
    }

    #[test]
    fn a_new_tenant_takes_four_levels_in_either_dialect() {
        let objects = sample(2).objects;
        assert_eq!((dependency_levels(&objects, true).len(), dependency_levels(&objects, false).len()), (4, 4));
    }

    #[test]
    fn a_linked_port_is_carried_by_exactly_one_end() {
        let objects = sample(2).objects;
        let carried: Vec<_> = dependency_levels(&objects, true)
            .into_iter()
            .flatten()
            .filter_map(|step| match step {
                BuildStep::Port { id, peer: Some(peer) } => Some((id, peer)),
                _ => None,
            })
            .collect();
        assert_eq!(carried.len(), 3);
        for (id, peer) in carried {
            assert_eq!(objects.ports[&id].peer, Some(peer));
        }
    }
}
