//! A graph as waves of steps: the steps of one wave are independent of each other, and everything a step refers to was
//! made in an earlier wave. Pure; the number of waves is the number of dependent round trips.
//!
//! What needs what (MidoNet REST API, sections "Router" to "Rule"): a router or bridge its filter chains; a port its
//! device and its filter chains; a link both ports; a route its port; a rule its chain, the chain it jumps to, and the
//! rule before it, because a position beyond the end is refused. A rule's port ids are not checked by any controller.

use std::collections::{BTreeMap, BTreeSet};

use atoll_model::topology::{Action, RouteAction, Topology};
use uuid::Uuid;

/// One object to make, or one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
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

/// The waves in which `objects` come into being. `atomic_links`: the controller can create a port already linked.
pub fn waves(objects: &Topology, atomic_links: bool) -> Vec<Vec<Step>> {
    let mut plan = Plan { objects, waves: BTreeMap::new() };
    plan.devices();
    let mut at: BTreeMap<Uuid, usize> = objects.ports.keys().map(|id| (*id, plan.port_wave(*id))).collect();
    let mut carried: BTreeMap<Uuid, Uuid> = BTreeMap::new();
    for (first, second) in pairs(objects) {
        if atomic_links {
            // The end that comes later anyway carries the link.
            let (early, late) = if at[&first] <= at[&second] { (first, second) } else { (second, first) };
            let wave = at[&late].max(at[&early] + 1);
            at.insert(late, wave);
            carried.insert(late, early);
        } else {
            plan.put(at[&first].max(at[&second]) + 1, Step::Link(first, second));
        }
    }
    for (id, wave) in &at {
        plan.put(*wave, Step::Port { id: *id, peer: carried.get(id).copied() });
    }
    for (id, route) in &objects.routes {
        let port = match &route.action {
            RouteAction::Forward { port, .. } | RouteAction::Local { port } => Some(port),
            RouteAction::BlackHole | RouteAction::Reject => None,
        };
        let after_port = port.and_then(|port| at.get(port)).map_or(0, |wave| wave + 1);
        plan.put(after_port.max(plan.device_ready(route.router)), Step::Route(*id));
    }
    plan.waves.into_values().map(|steps| steps.into_iter().collect()).collect()
}

struct Plan<'a> {
    objects: &'a Topology,
    waves: BTreeMap<usize, BTreeSet<Step>>,
}

impl Plan<'_> {
    fn put(&mut self, wave: usize, step: Step) {
        self.waves.entry(wave).or_default().insert(step);
    }

    fn devices(&mut self) {
        for (id, chain) in &self.objects.chains {
            self.put(0, Step::Chain(*id));
            let mut wave = 0;
            for (place, rule) in chain.rules.iter().enumerate() {
                wave = (wave + 1).max(match &rule.action {
                    Action::Jump { chain } => self.chain_ready(Some(*chain)),
                    _ => 0,
                });
                self.put(wave, Step::Rule(*id, place));
            }
        }
        for id in self.objects.routers.keys() {
            self.put(self.device_ready(*id) - 1, Step::Router(*id));
        }
        for id in self.objects.bridges.keys() {
            self.put(self.device_ready(*id) - 1, Step::Bridge(*id));
        }
    }

    /// The number of waves after which a chain is there; 0 for one that is not ours to make.
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

    fn port_wave(&self, id: Uuid) -> usize {
        let port = &self.objects.ports[&id];
        self.device_ready(port.device.id()).max(self.chain_ready(port.inbound)).max(self.chain_ready(port.outbound))
    }
}

/// Every link once; a peer outside of the graph is linked to as well.
fn pairs(objects: &Topology) -> BTreeSet<(Uuid, Uuid)> {
    let ends = objects.ports.iter().filter_map(|(id, port)| Some((*id, port.peer?)));
    ends.filter(|(_, peer)| objects.ports.contains_key(peer)).map(|(a, b)| (a.min(b), a.max(b))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::tests::sample;

    /// What a step makes, and what must be there before it.
    fn needs(objects: &Topology, step: Step) -> (String, Vec<String>) {
        let named = |kind: &str, id: &Uuid| format!("{kind} {id}");
        let chains = |filters: [Option<Uuid>; 2]| filters.iter().flatten().map(|c| named("chain", c)).collect();
        match step {
            Step::Chain(id) => (named("chain", &id), vec![]),
            Step::Rule(chain, place) => {
                let mut before = vec![named("chain", &chain)];
                before.extend((0..place).map(|n| named("rule", &objects.chains[&chain].rules[n].id)));
                (named("rule", &objects.chains[&chain].rules[place].id), before)
            }
            Step::Router(id) => {
                (named("device", &id), chains([objects.routers[&id].inbound, objects.routers[&id].outbound]))
            }
            Step::Bridge(id) => {
                (named("device", &id), chains([objects.bridges[&id].inbound, objects.bridges[&id].outbound]))
            }
            Step::Port { id, peer } => {
                let device = objects.ports[&id].device.id();
                let ours = objects.routers.contains_key(&device) || objects.bridges.contains_key(&device);
                let mut before: Vec<_> = ours.then(|| named("device", &device)).into_iter().collect();
                before.extend(peer.iter().map(|peer| named("port", peer)));
                (named("port", &id), before)
            }
            Step::Link(a, b) => (format!("link {a} {b}"), vec![named("port", &a), named("port", &b)]),
            Step::Route(id) => {
                let RouteAction::Forward { port, .. } = &objects.routes[&id].action else { panic!("only forwards") };
                (named("route", &id), vec![named("port", port)])
            }
        }
    }

    #[test]
    fn everything_a_step_refers_to_was_made_in_an_earlier_wave() {
        for subnets in 0..4 {
            for atomic in [true, false] {
                let objects = sample(subnets).objects;
                let mut there = BTreeSet::new();
                for (number, wave) in waves(&objects, atomic).into_iter().enumerate() {
                    let made: Vec<_> = wave.into_iter().map(|step| needs(&objects, step)).collect();
                    for (what, before) in &made {
                        let missing: Vec<_> = before.iter().filter(|b| !there.contains(*b)).collect();
                        assert!(missing.is_empty(), "wave {number} makes {what} before {missing:?}");
                    }
                    there.extend(made.into_iter().map(|(what, _)| what));
                }
                let links = if atomic { 0 } else { 1 + subnets };
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
    fn a_new_tenant_takes_four_waves_in_either_dialect() {
        let objects = sample(2).objects;
        assert_eq!((waves(&objects, true).len(), waves(&objects, false).len()), (4, 4));
    }

    #[test]
    fn a_linked_port_is_carried_by_exactly_one_end() {
        let objects = sample(2).objects;
        let carried: Vec<_> = waves(&objects, true)
            .into_iter()
            .flatten()
            .filter_map(|step| match step {
                Step::Port { id, peer: Some(peer) } => Some((id, peer)),
                _ => None,
            })
            .collect();
        assert_eq!(carried.len(), 3);
        for (id, peer) in carried {
            assert_eq!(objects.ports[&id].peer, Some(peer));
        }
    }
}
