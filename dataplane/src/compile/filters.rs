//! The chains of bridges and of their ports: stages in the hooks of the bridge.
//!
//! Each stage is a base chain of its own, so that "accept" ends that stage and no other. What a stage does with an
//! interface is an element of its map, so that a port costs elements and no rule.
//!
//! | a frame | stages |
//! |---|---|
//! | enters through a port | port's inbound, bridge's inbound |
//! | leaves through a port | bridge's outbound, port's outbound |
//! | goes to the router | bridge's outbound, outbound of the bridge's port to the router |
//! | comes from the router | inbound of that port, bridge's inbound, bridge's outbound, port's outbound |

use std::collections::{BTreeMap, BTreeSet};

use atoll_model::topology::{Condition, Port, Rule, RuleAction};
use uuid::Uuid;

use super::context::{AddressSets, ChainContext, End, RejectMethod};
use super::element::{Element, NftSet, Stage};
use super::location::{self, Location};
use super::marks::{REJECTED, TO_ROUTER};
use super::plan::RouterNamespace;
use super::pod::RouterEnd;
use super::priorities::{self, BaseHook};
use super::statement::{Field, Match, Statement, Verdict};
use super::table::{Item, NamedSet, NftChain};
use super::unsupported::Unsupported;
use super::view::View;
use super::{call_graph, host_to_pod, names, passes};

impl Stage {
    /// Hook, priority and the key of its map.
    ///
    /// Where bridged packets are tracked, connection tracking is at 0 of the first hook that a frame meets, and so are
    /// the router's inbound chains; its answer to what was rejected is at -1 of the hook "forward". Stages for what
    /// enters or goes to the router stand before all of that, unless they match on flows.
    fn hook(self, early: bool) -> (BaseHook, Field) {
        let (input, output) = (Field::InputInterface, Field::OutputInterface);
        match self {
            Self::PortIn if early => (priorities::EARLY_PORT_IN, input),
            Self::BridgeIn if early => (priorities::EARLY_BRIDGE_IN, input),
            Self::RouterOut if early => (priorities::EARLY_ROUTER_OUT, input),
            Self::RouterPortOut if early => (priorities::EARLY_ROUTER_PORT_OUT, input),
            Self::PortIn => (priorities::PORT_IN, input),
            Self::BridgeIn => (priorities::BRIDGE_IN, input),
            Self::BridgeOut => (priorities::BRIDGE_OUT, output),
            Self::PortOut => (priorities::PORT_OUT, output),
            Self::RouterOut => (priorities::ROUTER_OUT, input),
            Self::RouterPortOut => (priorities::ROUTER_PORT_OUT, input),
            Self::RouterPortIn => (priorities::ROUTER_PORT_IN, output),
            Self::RouterIn => (priorities::ROUTER_IN, output),
            Self::RoutedOut => (priorities::ROUTED_OUT, output),
            Self::RoutedPortOut => (priorities::ROUTED_PORT_OUT, output),
        }
    }

    /// What is known of the ways in and out; `router` is the bridge's port to the router.
    fn ends(self, router: Option<Uuid>) -> Option<(End, End)> {
        Some(match self {
            Self::PortIn | Self::BridgeIn => (End::Interface, End::Unknown),
            Self::BridgeOut | Self::PortOut => (End::Interface, End::Interface),
            Self::RouterOut | Self::RouterPortOut => (End::Interface, End::Known(router?)),
            Self::RouterPortIn | Self::RouterIn => (End::Known(router?), End::Unknown),
            Self::RoutedOut | Self::RoutedPortOut => (End::Known(router?), End::Interface),
        })
    }
}

/// The compiled filters of a router namespace, and what they need.
#[derive(Default)]
pub(super) struct Filters {
    /// Maps and chains.
    pub(super) items: Vec<Item>,
    /// Some rule matches on flows, or rejects: bridged packets have to pass the hooks of IP.
    pub(super) tracks: bool,
    /// Some rule rejects: the router answers.
    pub(super) rejects: bool,
    /// Some rule asks whether a datagram that was reassembled came in fragments.
    pub(super) asks_fragments: bool,
    /// What could not be expressed.
    pub(super) unsupported: BTreeSet<Unsupported>,
    /// Chains that restrict more than could be expressed.
    pub(super) closed: BTreeSet<String>,
    /// Stages that have to wait for connection tracking, with a chain because of which each has to.
    late: BTreeMap<Stage, Uuid>,
    /// The elements of ends of links, which belong to the structure.
    pub(super) elements: BTreeSet<Element>,
}

impl Filters {
    /// Chains that see a packet for the router as the router has translated it.
    pub(super) fn late(&self, view: &View<'_>) -> Vec<Unsupported> {
        let entering = [Stage::PortIn, Stage::BridgeIn, Stage::RouterOut, Stage::RouterPortOut];
        let chains = entering.iter().filter_map(|stage| self.late.get(stage));
        let destined = |rule: &Rule| {
            let Condition { destination, destination_group, destination_port, .. } = &rule.condition;
            destination.is_some() || destination_group.is_some() || destination_port.is_some()
        };
        let asks = |chain: &&Uuid| call_graph::any(view, **chain, destined);
        let note = |chain: &Uuid| Unsupported {
            object: *chain,
            field: "matchReturnFlow".to_owned(),
            why: "flows are known only after the router has translated the destination".to_owned(),
            effect: "what is for a floating address has its pod's address here".to_owned(),
            closes: false,
        };
        chains.filter(asks).map(note).collect()
    }
}

/// The chains that frames of a port with these chains pass on this bridge: id and name of the chain of each stage.
pub(super) fn stages(
    view: &View<'_>,
    bridge: Uuid,
    router: Option<&RouterEnd>,
    port_inbound: Option<Uuid>,
    port_outbound: Option<Uuid>,
) -> BTreeMap<Stage, (Uuid, String)> {
    let mut stages = BTreeMap::new();
    for stage in Stage::ALL {
        let Some((input, output)) = stage.ends(router.map(|router| router.id)) else { continue };
        let device = view.bridge(bridge);
        let chain = match stage {
            Stage::PortIn => port_inbound,
            Stage::PortOut | Stage::RoutedPortOut => port_outbound,
            Stage::BridgeIn | Stage::RouterIn => device.and_then(|bridge| bridge.inbound),
            Stage::BridgeOut | Stage::RouterOut | Stage::RoutedOut => device.and_then(|bridge| bridge.outbound),
            Stage::RouterPortOut => router.and_then(|router| router.outbound),
            Stage::RouterPortIn => router.and_then(|router| router.inbound),
        };
        let filters = |chain: &Uuid| view.chain(*chain).is_some_and(|chain| !chain.rules.is_empty());
        if let Some(chain) = chain.filter(filters) {
            // One text for all who come by the same chain with the same knowledge.
            let key = format!("{chain} {input:?} {output:?}");
            stages.insert(stage, (chain, format!("s_{}", names::digits(key.as_bytes()))));
        }
    }
    stages
}

/// Finds the bridge's port to the router.
pub(super) fn router_end(view: &View<'_>, bridge: Uuid) -> Option<RouterEnd> {
    let mut ends = view.ports_of(bridge).filter(|(_, port)| {
        view.peer(port).is_some_and(
            |(id, peer)| matches!(location::locate(view, peer.device.id(), id, peer), Location::Bridge(on) if on == bridge),
        )
    });
    ends.next().map(|(id, port)| RouterEnd { id, inbound: port.inbound, outbound: port.outbound })
}

/// The interface of a bridge's port: bound, or the end of a link.
fn interface(view: &View<'_>, id: Uuid, port: &Port) -> Option<String> {
    match (&port.binding, port.peer) {
        (Some(binding), None) if binding.host == view.site.host => {
            Some(binding.interface.clone()).filter(|name| names::unusable(name).is_none())
        }
        (_, Some(peer)) => Some(names::link(id, peer)),
        _ => None,
    }
}

/// Everything that the ports of these bridges can jump to. `answers`: there is a router that can answer senders.
pub(super) fn compile(view: &View<'_>, bridges: &[Uuid], namespace: &RouterNamespace, answers: bool) -> Filters {
    let mut filters = Filters::default();
    let mut used = BTreeSet::new();
    // Connection tracking is on for all stages or for none, and that decides how fragments are matched.
    let uses = uses(view, bridges);
    let any = |test: fn(&Rule) -> bool| uses.iter().any(|(chain, ..)| call_graph::any(view, *chain, test));
    let flows = |rule: &Rule| rule.condition.forward_flow || rule.condition.return_flow;
    filters.rejects = answers && any(|rule| rule.action == RuleAction::Reject);
    filters.tracks = filters.rejects || any(flows);
    let looking = uses.iter().filter(|(chain, ..)| call_graph::any(view, *chain, flows));
    filters.late = looking.map(|(chain, _, stage, ..)| (*stage, *chain)).collect();
    let early = |stage: Stage| filters.tracks && !filters.late.contains_key(&stage);
    let (mut written, mut asks_arp, groups) = (BTreeSet::new(), false, AddressSets::default());
    for (chain, name, stage, router, end) in uses {
        used.insert(stage);
        filters.elements.extend(end.map(|interface| Element {
            set: NftSet::Stage(stage),
            interface,
            source: None,
            chain: Some(name.clone()),
            node: None,
        }));
        let Some((input, output)) = stage.ends(router).filter(|_| written.insert(name.clone())) else { continue };
        let interface = |id| view.port(id).and_then(|port| interface(view, id, port));
        // From the router, packets have passed its hooks already.
        let refusal =
            if filters.rejects && input == End::Interface { RejectMethod::Mark } else { RejectMethod::Silent };
        let context = ChainContext {
            view,
            groups: &groups,
            interface: &interface,
            input,
            output,
            bridge: true,
            reassembled: filters.tracks,
            translates: false,
            refusal,
        };
        let passes = passes::compile(Some(chain), &context);
        filters.asks_fragments |= passes.asks_fragments;
        asks_arp |= passes.asks_arp;
        filters.items.extend(passes.chains.into_iter().map(Item::from));
        filters.items.push(NftChain::new(name.clone(), passes.before).into());
        if passes.closed {
            filters.closed.insert(name);
        }
        filters.unsupported.extend(passes.unsupported);
    }
    filters.items.extend(groups.into_items());
    for stage in used {
        let ((hook, key), name) = (stage.hook(early(stage)), stage.name());
        filters.items.push(NamedSet::map(name, "ifname", "verdict").into());
        let mut statements: Vec<_> = host_to_pod::pass_stage(namespace, hook.hook, asks_arp);
        let pass = |matches| Statement::Plain(vec![matches], Verdict::Accept.into());
        // What was rejected at one stage does not concern the next.
        statements.extend(filters.rejects.then(|| pass(Match::mark_has(REJECTED))));
        if early(stage) && matches!(stage, Stage::RouterOut | Stage::RouterPortOut) {
            statements.push(pass(Match::mark_lacks(TO_ROUTER)));
        }
        statements.push(Statement::Fixed(format!("{key} vmap @{name}")));
        let chain = format!("{}_{}", hook.hook, hook.priority.unsigned_abs());
        filters.items.push(NftChain::base(chain, hook, statements).into());
    }
    filters
}

type Use = (Uuid, String, Stage, Option<Uuid>, Option<String>);

/// Which chain is used where: its id, its name, the stage, the bridge's port to the router, and for ends of links,
/// which are part of the structure, their interface.
fn uses(view: &View<'_>, bridges: &[Uuid]) -> Vec<Use> {
    let mut uses = Vec::new();
    for bridge in bridges {
        let router = router_end(view, *bridge);
        let mut add = |inbound, outbound, end: Option<String>| {
            for (stage, (chain, name)) in stages(view, *bridge, router.as_ref(), inbound, outbound) {
                uses.push((chain, name, stage, router.as_ref().map(|router| router.id), end.clone()));
            }
        };
        // The bridge's own chains stand before its first port does.
        add(None, None, None);
        for (id, port) in view.ports_of(*bridge) {
            let end = port.peer.map(|peer| names::link(id, peer));
            let to_router = router.as_ref().is_some_and(|router| router.id == id);
            if !to_router && interface(view, id, port).is_some() {
                add(port.inbound, port.outbound, end);
            }
        }
    }
    uses
}
