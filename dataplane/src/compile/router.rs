//! The table `ip atoll` of a router namespace: the router's chains, its ports' chains, its translations and its own addresses.
//!
//! | hook, priority | what |
//! |---|---|
//! | prerouting -450 | which datagrams came in fragments, before they are put together |
//! | prerouting -310 | what enters by an interface that is not the router's is dropped |
//! | prerouting -149 and others | flows of the node, see `host_to_pod` |
//! | prerouting -150 | which packets answer an earlier one |
//! | prerouting -146 | the answer of a router that is down |
//! | prerouting -145 | inbound chains of ports: before any translation is undone |
//! | prerouting -140, -100, -90 | inbound chain of the router, its translations, what follows them |
//! | forward -25 | what is for a service does not leave by an uplink |
//! | forward -20 | how many flows each link may have, where several share the router |
//! | forward -10, input -10 | the answer to what a chain of a bridge or its port rejected |
//! | forward 0 | outbound chain of the router |
//! | forward 20 | what is for an unknown address on a bridge is answered, before the kernel sends ARP requests |
//! | forward 10 | outbound chains of ports, where nothing is translated |
//! | postrouting 100, 110 | translations of the outbound chain, what follows them |
//! | postrouting 120 | outbound chains of ports, where something is: they see the packet as it leaves |
//! | input 0 | its own addresses answer ICMP echo and nothing else |

use std::collections::BTreeSet;

use atoll_model::topology::{Device, Port, Rule};
use uuid::Uuid;

use super::context::{AddressSets, ChainContext, End, RejectMethod};
use super::element::Element;
use super::filters::Filters;
use super::limits::{FLOWS, UNKNOWN_HOSTS};
use super::location::{self, Location};
use super::marks::{DESTINATION_TRANSLATED, REASSEMBLED, REJECTED, REPLY, ROUTED, SOURCE_TRANSLATED, TO_ROUTER};
use super::passes::{self, Passes};
use super::plan::{DeviceKind, GROUP, Neighbour, RouterNamespace};
use super::priorities::{self, BaseHook};
use super::statement::{Action, Field, IcmpError, MarkChange, Match, Statement, Translated, Verdict};
use super::table::{Family, Item, NamedSet, NftChain, Table};
use super::unsupported::Unsupported;
use super::view::View;
use super::{call_graph, host_to_pod, names, port, translation};

/// The answer to a packet that is rejected.
const ANSWER: Verdict = Verdict::Reject(IcmpError::AdminProhibited);

fn accept(matches: Match) -> Statement {
    Statement::Plain(vec![matches], Verdict::Accept.into())
}

/// The table of the router, and notes of what could not be expressed.
pub(super) fn table(
    view: &View<'_>,
    id: Uuid,
    bridges: &[Uuid],
    namespace: &mut RouterNamespace,
    filters: &Filters,
) -> Table {
    let mut items = vec![unknown_interfaces(namespace).into()];
    if filters.rejects {
        for (name, hook) in
            [("refused_forward", priorities::REJECTED_FORWARD), ("refused_input", priorities::REJECTED_INPUT)]
        {
            let answered = Statement::Plain(vec![Match::mark_has(REJECTED)], ANSWER.into());
            items.push(NftChain::base(name, hook, vec![answered]).into());
        }
    }
    if namespace.track_bridged && namespace.node.is_none() {
        // What the router sends about a packet has that packet's mark: only the bit for rejected ones matters.
        let kept = format!("meta mark set meta mark and {REJECTED:#x}");
        items.push(NftChain::fixed("own_output", priorities::OWN_OUTPUT, &kept).into());
    }
    let input =
        host_to_pod::guard_input(namespace).into_iter().chain(Statement::fixed("icmp type echo-request accept\ndrop"));
    items.push(NftChain::base("input", priorities::INPUT, input.collect()).into());
    items.extend(host_to_pod::router_chains(namespace));
    items.extend(services(view, namespace).map(Item::from));
    items.extend(unknown_destinations(view, id, bridges, namespace));
    let router = view.router(id);
    if router.is_some_and(|router| !router.up) {
        // The sender of whatever goes through it or to it gets an answer.
        let answer = [Statement::always(ANSWER)];
        let statements = host_to_pod::pass_by(namespace).into_iter().chain(bridged(namespace)).chain(answer).collect();
        items.push(NftChain::base("down", priorities::DOWN, statements).into());
    }
    let (mut asks_fragments, groups) = (filters.asks_fragments, AddressSets::default());
    if let Some(router) = router.filter(|router| router.up) {
        let interface = |port| location::interface(view, id, port);
        let ports = view.ports_of(id).flat_map(|(_, port)| [port.inbound, port.outbound]);
        let chains = ports.chain([router.inbound, router.outbound]).flatten();
        let tracked = |rule: &Rule| {
            rule.condition.forward_flow || rule.condition.return_flow || call_graph::is_translation(&rule.action)
        };
        // Connection tracking is on in the whole namespace or nowhere.
        let reassembled = namespace.node.is_some()
            || namespace.track_bridged
            || chains.into_iter().any(|chain| call_graph::any(view, chain, tracked));
        let compile = |root, output, translates, refusal| {
            let input = End::Interface;
            let (interface, groups) = (&interface, &groups);
            let context = ChainContext {
                view,
                groups,
                interface,
                input,
                output,
                bridge: false,
                reassembled,
                translates,
                refusal,
            };
            passes::compile(root, &context)
        };
        let inbound = compile(router.inbound, End::Unknown, true, RejectMethod::Answer);
        let outbound = compile(router.outbound, End::Interface, true, RejectMethod::Answer);
        let translated = !inbound.translate.is_empty() || !outbound.translate.is_empty();
        let refusal = if translated { RejectMethod::Silent } else { RejectMethod::Answer };
        if !inbound.translate.is_empty() {
            namespace.unsupported.extend(filters.late(view));
        }
        let (mut entering, mut leaving) = (PortChains::default(), PortChains::default());
        for (port, it) in view.ports_of(id) {
            let Some(name) = interface(port) else { continue };
            let chain = |chain: fn(&Port) -> Option<Uuid>| chain(it).filter(|id| has_rules(view, *id));
            if let Some(chain) = chain(|port| port.inbound) {
                entering.add(&name, compile(Some(chain), End::Unknown, false, RejectMethod::Answer), chain, "in");
            }
            if let Some(chain) = chain(|port| port.outbound) {
                leaving.add(&name, compile(Some(chain), End::Interface, false, refusal), chain, "out");
            }
        }
        asks_fragments |= [&inbound, &outbound].into_iter().any(|passes| passes.asks_fragments)
            || [&entering, &leaving].into_iter().any(|ports| ports.asks_fragments);
        let stages = Stages { inbound, outbound, entering, leaving, translated };
        let unsupported = stages.write(namespace, &mut items);
        namespace.unsupported.extend(unsupported);
    }
    if namespace.track_bridged && router.is_none_or(|router| !router.up) {
        items.extend(flows());
    }
    items.extend(groups.into_items());
    if asks_fragments {
        let mark = format!("ip frag-off and 0x3fff != 0 meta mark set meta mark or {REASSEMBLED:#x}");
        items.push(NftChain::fixed("fragments", priorities::FRAGMENTS, &mark).into());
    }
    Table { family: Family::Ip, name: "atoll", items }
}

/// An interface that is in the namespace and no port of a bridge, such as that of a pod whose port is closed, is none of
/// the router's: all of its own carry the mark of our links, uplinks aside.
fn unknown_interfaces(namespace: &RouterNamespace) -> NftChain {
    let uplinks = namespace.devices.iter().filter(|(_, device)| matches!(device.kind, DeviceKind::Uplink { .. }));
    let names: Vec<_> = ["lo"].into_iter().chain(uplinks.map(|(name, _)| name.as_str())).collect();
    let names = names.join("\", \"");
    let drops = format!("iifgroup != {GROUP:#x} iifname != {{ \"{names}\" }} drop");
    NftChain::fixed("unknown_interfaces", priorities::UNKNOWN_INTERFACES, &drops)
}

/// Addresses of services mean something in the cluster only: elsewhere they belong to others, or to this machine, whose rules
/// know no tenants.
fn services(view: &View<'_>, namespace: &RouterNamespace) -> Option<NftChain> {
    let uplinks = namespace.devices.iter().filter(|(_, device)| matches!(device.kind, DeviceKind::Uplink { .. }));
    let names: Vec<_> = uplinks.map(|(name, _)| format!("\"{name}\"")).collect();
    let services = view.site.services.filter(|_| !names.is_empty())?;
    let matches = vec![
        Match::lookup(Field::OutputInterface, false, format_args!("{{ {} }}", names.join(", "))),
        Match::lookup(Field::IpDestination, false, services),
    ];
    Some(NftChain::base("services", priorities::SERVICES, vec![Statement::Plain(matches, ANSWER.into())]))
}

/// Bridged packets pass the router's hooks too when they are tracked; the router's chains do not apply to them. Nor do
/// they to what a chain of a bridge or its port has rejected.
fn bridged(namespace: &RouterNamespace) -> Vec<Statement> {
    if !namespace.track_bridged {
        return Vec::new();
    }
    let from_bridge = vec![Match::lookup(Field::InputInterface, false, "\"br*\""), Match::mark_lacks(TO_ROUTER)];
    vec![Statement::Plain(from_bridge, Verdict::Accept.into()), accept(Match::mark_has(REJECTED))]
}

/// Links to other routers, and to bridges of other routers.
fn links(namespace: &RouterNamespace) -> usize {
    namespace.devices.values().filter(|device| matches!(device.kind, DeviceKind::Link { bridge: None, .. })).count()
}

/// Chains and sets because of which the router asks on its bridges for those only who are there.
///
/// For every address that it asks for, the kernel makes an entry in a table that all namespaces share: without this, a
/// tenant that sends to every address of a wide subnet fills it, and no router of the machine finds its next hops any more.
fn unknown_destinations(view: &View<'_>, id: Uuid, bridges: &[Uuid], namespace: &mut RouterNamespace) -> Vec<Item> {
    let (mut known, mut strange, mut elements) = (Vec::new(), Vec::new(), Vec::new());
    for bridge in bridges {
        let (name, mut own) = (names::bridge(*bridge), false);
        for (_, port) in view.ports_of(*bridge) {
            let Some((peer, it)) = view.peer(port) else { continue };
            let Device::Router { id: router, address, .. } = it.device else { continue };
            if router == id && matches!(location::locate(view, id, peer, it), Location::Bridge(_)) {
                own = true;
            } else {
                elements.push((name.clone(), address.ip(), Some(names::router_mac(peer, &it.device))));
            }
        }
        let entries = view.bridge(*bridge).into_iter().flat_map(|bridge| bridge.arp.keys());
        elements.extend(entries.map(|address| (name.clone(), *address, None)));
        if own {
            let quoted = format!("\"{name}\"");
            if port::has_open_ports(view, *bridge) { strange.push(quoted) } else { known.push(quoted) }
        }
    }
    for (bridge, address, mac) in elements {
        namespace.elements.insert(Element::known(&bridge, address));
        namespace.neighbours.extend(mac.map(|mac| Neighbour { device: bridge, address, mac }));
    }
    let items = [
        NamedSet::set("known", "ifname . ipv4_addr", Vec::new()).into(),
        NamedSet::dynamic("asked", "ifname . ipv4_addr", UNKNOWN_HOSTS, Some("5m")).into(),
    ];
    let mut statements = Vec::new();
    let answer = Verdict::Reject(IcmpError::HostUnreachable);
    if !strange.is_empty() {
        let to = format!("oifname {{ {} }} oifname . rt nexthop != @known", strange.join(", "));
        let bounded = format!("{to} update @asked {{ oifname . rt nexthop }} accept");
        statements.extend([bounded, format!("{to} {answer}")]);
    }
    if !known.is_empty() {
        statements.push(format!("oifname {{ {} }} oifname . rt nexthop != @known {answer}", known.join(", ")));
    }
    if statements.is_empty() {
        return items.into();
    }
    let statements = bridged(namespace).into_iter().chain(statements.into_iter().map(Statement::Fixed)).collect();
    let chain = NftChain::base("unknown_destinations", priorities::KNOWN_HOSTS, statements).into();
    items.into_iter().chain([chain]).collect()
}

fn has_rules(view: &View<'_>, chain: Uuid) -> bool {
    view.chain(chain).is_some_and(|chain| !chain.rules.is_empty())
}

/// The chains of a router's ports in one direction.
#[derive(Default)]
struct PortChains {
    chains: Vec<NftChain>,
    /// The chains of ports among them, by name.
    written: BTreeSet<String>,
    /// Elements of the map from interface to chain.
    dispatched: Vec<String>,
    tracks: bool,
    asks_fragments: bool,
    unsupported: BTreeSet<Unsupported>,
}

impl PortChains {
    fn add(&mut self, interface: &str, passes: Passes, chain: Uuid, direction: &str) {
        let name = format!("p_{direction}_{}", names::digits(chain.as_bytes()));
        if self.written.insert(name.clone()) {
            self.chains.extend(passes.chains);
            let body = if passes.closed { vec![Statement::always(Verdict::Drop)] } else { passes.before };
            self.chains.push(NftChain::new(name.clone(), body));
        }
        self.dispatched.push(format!("\"{interface}\" : {}", Verdict::Jump(name)));
        self.tracks |= passes.tracks;
        self.asks_fragments |= passes.asks_fragments;
        self.unsupported.extend(passes.unsupported);
    }

    fn dispatch(&self, key: Field) -> Option<Statement> {
        let map = self.dispatched.join(", ");
        (!map.is_empty()).then(|| Statement::Fixed(format!("{key} vmap {{ {map} }}")))
    }
}

/// Which packets answer an earlier one. ICMP errors about a flow count as part of it; protocols without a flow are always
/// forward. ICMP errors of the router itself are answers.
fn flows() -> [Item; 2] {
    let reply = || Action::from(MarkChange::Set(REPLY));
    let tracked = || Statement::Plain(vec![Match::direction(true), Match::translatable()], reply());
    let errors = "{ destination-unreachable, time-exceeded, parameter-problem }";
    let errors = Statement::Plain(vec![Match::lookup(Field::IcmpType, false, errors)], reply());
    [
        NftChain::base("flows", priorities::FLOWS_ARRIVING, vec![tracked()]).into(),
        NftChain::base("own", priorities::FLOWS_OWN, vec![tracked(), errors]).into(),
    ]
}

struct Stages {
    inbound: Passes,
    outbound: Passes,
    entering: PortChains,
    leaving: PortChains,
    /// Something is translated in one direction or the other.
    translated: bool,
}

impl Stages {
    /// Writes the chains of all stages; answers what could not be expressed.
    fn write(self, namespace: &RouterNamespace, items: &mut Vec<Item>) -> BTreeSet<Unsupported> {
        let Self { inbound, outbound, entering, leaving, translated } = self;
        let tracks = inbound.tracks || outbound.tracks || entering.tracks || leaving.tracks || namespace.track_bridged;
        let (dispatch_entering, late) =
            (entering.dispatch(Field::InputInterface), leaving.dispatch(Field::OutputInterface));
        for chains in [inbound.chains, outbound.chains, entering.chains, leaving.chains] {
            items.extend(chains.into_iter().map(Item::from));
        }
        if tracks {
            items.extend(flows());
        }
        if tracks && links(namespace) > 1 {
            // No link may use up the room of all: neither that of the sender nor that of the receiver.
            for (name, key) in [("sending", Field::InputInterface), ("receiving", Field::OutputInterface)] {
                items.push(NamedSet::dynamic(name, "ifname", 65535, None).into());
                let linked = format!("{key} \"rl*\" ct state new");
                let body = format!("{linked} add @{name} {{ {key} ct count over {FLOWS} }} drop");
                items.push(NftChain::fixed(&format!("flows_{name}"), priorities::FLOWS_COUNTED, &body).into());
            }
        }
        let node: Vec<_> = host_to_pod::pass_by(namespace).into_iter().collect();
        let guard: Vec<_> = node.iter().cloned().chain(bridged(namespace)).collect();
        guarded(items, "ports_inbound", priorities::PORTS_INBOUND, &guard, dispatch_entering.into_iter().collect());
        guarded(items, "inbound", priorities::INBOUND, &guard, inbound.before);
        guarded(items, "destinations", priorities::DESTINATIONS, &guard, inbound.translate);
        // The kernel goes on translating a flow when its rule is gone.
        let remembers = tracks || namespace.node.is_some();
        let outdated = |translated| remembers.then(|| translation::outdated(translated));
        let after = inbound.untranslated.into_iter().chain(outdated(Translated::Destination)).chain(inbound.after);
        guarded(items, "inbound_after", priorities::INBOUND_AFTER, &guard, after.collect());
        let mut forward = Vec::new();
        if namespace.shut || inbound.closed || outbound.closed {
            forward.push(Statement::always(Verdict::Drop));
        }
        if !outbound.translated.is_empty() {
            // Everything that leaves here is translated, so whatever belongs to no translation has no business here: a
            // packet for the addresses behind the router must not be let in only because the next router routes it.
            let untranslated = Match::flow_status_lacks(SOURCE_TRANSLATED | DESTINATION_TRANSLATED);
            let drops = |matches| Statement::Plain(vec![matches], Verdict::Drop.into());
            let entering = NftChain::new("entering", vec![drops(Match::no_flow()), drops(untranslated)]);
            forward.extend(outbound.translated.iter().map(|interface| {
                let from = Match::lookup(Field::InputInterface, false, format_args!("\"{interface}\""));
                Statement::Plain(vec![from], Verdict::Jump(entering.name.clone()).into())
            }));
            items.push(entering.into());
        }
        if remembers || !outbound.before.is_empty() || (translated && late.is_some()) {
            // What the inbound chain noted does not concern the outbound one.
            let keep = REPLY | TO_ROUTER | REASSEMBLED;
            forward.push(Statement::always(MarkChange::KeepAndSet(keep, ROUTED)));
            forward.extend(outbound.before);
        }
        guarded(items, "outbound", priorities::OUTBOUND, &guard, forward);
        let late: Vec<_> = late.into_iter().collect();
        if !translated {
            guarded(items, "ports_outbound", priorities::PORTS_OUTBOUND, &guard, late.clone());
        }
        guarded(items, "sources", priorities::SOURCES, &[], outbound.translate);
        let routed: Vec<_> = node.into_iter().chain([accept(Match::mark_lacks(ROUTED))]).collect();
        let after = outbound.untranslated.into_iter().chain(outdated(Translated::Source)).chain(outbound.after);
        guarded(items, "outbound_after", priorities::OUTBOUND_AFTER, &routed, after.collect());
        if translated {
            guarded(items, "ports_outbound", priorities::PORTS_OUTBOUND_AFTER, &routed, late);
        }
        [inbound.unsupported, outbound.unsupported, entering.unsupported, leaving.unsupported]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// Adds a base chain whose statements stand behind a guard, unless there are none.
fn guarded(items: &mut Vec<Item>, name: &str, hook: BaseHook, guard: &[Statement], statements: Vec<Statement>) {
    if !statements.is_empty() {
        let statements = guard.iter().cloned().chain(statements).collect();
        items.push(NftChain::base(name, hook, statements).into());
    }
}
