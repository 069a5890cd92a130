//! The table `ip atoll` of a domain: the router's chains, its ports' chains, its translations and its own addresses.
//!
//! | hook, priority | what |
//! |---|---|
//! | prerouting -450 | which datagrams came in fragments, before they are put together |
//! | prerouting -310 | what comes in by none of the router's interfaces is dropped |
//! | prerouting -149 and others | flows of the node, see `node_side` |
//! | prerouting -150 | which packets answer an earlier one |
//! | prerouting -146 | the answer of a router that is down |
//! | prerouting -145 | inbound chains of ports: before any translation is undone |
//! | prerouting -140, -100, -90 | inbound chain of the router, its translations, what follows them |
//! | forward -25 | what is for a service does not leave by an uplink |
//! | forward -20 | how many flows each link may have, where several share the router |
//! | forward -10, input -10 | the answer to what a chain of a bridge or its port rejected |
//! | forward 0 | outbound chain of the router |
//! | forward 20 | what is for nobody on a bridge is answered, before the kernel asks for them |
//! | forward 10 | outbound chains of ports, where nothing is translated |
//! | postrouting 100, 110 | translations of the outbound chain, what follows them |
//! | postrouting 120 | outbound chains of ports, where something is: they see the packet as it leaves |
//! | input 0 | its own addresses answer ICMP echo and nothing else |

use std::fmt::Write;

use atoll_model::topology::{Device, Port, Rule};
use uuid::Uuid;

use super::condition::{End, Groups, Place, REPLY, Refusal};
use super::domain::Place as Location;
use super::filters::Filters;
use super::fragments::PIECES;
use super::rules::{self, ANSWER, NO_FLOW, Passes, REFUSED, ROUTED};
use super::ruleset::{STRANGERS, TO_ROUTER};
use super::{DeviceKind, Domain, Element, GROUP, Neighbour, View, domain, jumps, names, node_side, places, port};

/// How many flows of one link a router tracks that others share. The kernel's bound is for the whole namespace, and
/// counting costs the more the higher the bound is (70 microseconds for a new flow at this one).
const FLOWS: u32 = 8192;

/// Writes the table, and notes what could not be expressed.
pub(super) fn table(
    view: &View<'_>,
    id: Uuid,
    bridges: &[Uuid],
    domain: &mut Domain,
    filters: &Filters,
    text: &mut String,
) {
    text.push_str("table ip atoll {\n@generation\n");
    text.push_str(&uninvited(domain));
    if filters.rejects {
        for (hook, place) in [("forward", places::REFUSED_FORWARD), ("input", places::REFUSED_INPUT)] {
            let head = format!("type filter hook {hook} priority {place}; policy accept;");
            let _ = write!(text, "chain refused_{hook} {{\n{head}\nmeta mark and {REFUSED:#x} != 0 {ANSWER}\n}}\n");
        }
    }
    if domain.track_bridged && domain.node.is_none() {
        // What the router says has the mark of what it speaks of: that matters where it was rejected only.
        let head = format!("type filter hook output priority {}; policy accept;", places::SAID);
        let _ = write!(text, "chain said {{\n{head}\nmeta mark set meta mark and {REFUSED:#x}\n}}\n");
    }
    let guard = node_side::guard_input(domain);
    let head = format!("type filter hook input priority {}; policy accept;", places::INPUT);
    let _ = write!(text, "chain input {{\n{head}\n{guard}icmp type echo-request accept\ndrop\n}}\n");
    text.push_str(&node_side::router_chains(domain));
    text.push_str(&services(view, domain));
    text.push_str(&nobody(view, id, bridges, domain));
    let router = view.router(id);
    if router.is_some_and(|router| !router.up) {
        // Whoever sends something through it or to it is told.
        let head = format!("type filter hook prerouting priority {}; policy accept;", places::DOWN);
        let _ = write!(text, "chain down {{\n{head}\n{}{}{ANSWER}\n}}\n", node_side::pass_by(domain), bridged(domain));
    }
    let (mut pieces, groups) = (filters.pieces, Groups::default());
    if let Some(router) = router.filter(|router| router.up) {
        let interface = |port| domain::interface(view, id, port);
        let ports = view.ports_of(id).flat_map(|(_, port)| [port.inbound, port.outbound]);
        let chains = ports.chain([router.inbound, router.outbound]).flatten();
        let tracked = |rule: &Rule| {
            rule.condition.forward_flow || rule.condition.return_flow || jumps::is_translation(&rule.action)
        };
        // Connection tracking is on in the whole namespace or nowhere.
        let whole = domain.node.is_some()
            || domain.track_bridged
            || chains.into_iter().any(|chain| jumps::any(view, chain, tracked));
        let compile = |root, output, translates, refusal| {
            let input = End::Interface;
            let (interface, groups) = (&interface, &groups);
            let place = Place { view, groups, interface, input, output, bridge: false, whole, translates, refusal };
            rules::compile(root, &place)
        };
        let inbound = compile(router.inbound, End::Unknown, true, Refusal::Answer);
        let outbound = compile(router.outbound, End::Interface, true, Refusal::Answer);
        let translated = !inbound.translate.is_empty() || !outbound.translate.is_empty();
        let refusal = if translated { Refusal::Silent } else { Refusal::Answer };
        if !inbound.translate.is_empty() {
            domain.unsupported.extend(filters.late(view));
        }
        let (mut entering, mut leaving) = (Ports::default(), Ports::default());
        for (port, it) in view.ports_of(id) {
            let Some(name) = interface(port) else { continue };
            let chain = |chain: fn(&Port) -> Option<Uuid>| chain(it).filter(|id| has_rules(view, *id));
            if let Some(chain) = chain(|port| port.inbound) {
                entering.add(&name, compile(Some(chain), End::Unknown, false, Refusal::Answer), chain, "in");
            }
            if let Some(chain) = chain(|port| port.outbound) {
                leaving.add(&name, compile(Some(chain), End::Interface, false, refusal), chain, "out");
            }
        }
        pieces |= inbound.pieces || outbound.pieces || entering.pieces || leaving.pieces;
        let stages = Stages { inbound, outbound, entering, leaving, translated };
        stages.write(domain, text);
        for passes in [stages.inbound, stages.outbound] {
            domain.unsupported.extend(passes.unsupported);
        }
        for ports in [stages.entering, stages.leaving] {
            domain.unsupported.extend(ports.unsupported);
        }
    }
    if domain.track_bridged && router.is_none_or(|router| !router.up) {
        flows(text);
    }
    text.push_str(&groups.text());
    if pieces {
        let head = format!("type filter hook prerouting priority {}; policy accept;", places::PIECES);
        let mark = format!("ip frag-off and 0x3fff != 0 meta mark set meta mark or {PIECES:#x}");
        let _ = write!(text, "chain pieces {{\n{head}\n{mark}\n}}\n");
    }
    text.push_str("}\n");
}

/// An interface that is in the namespace and no port of a bridge, such as that of a pod whose port is closed, is none of
/// the router's: all of its own carry the mark of our links, uplinks aside.
fn uninvited(domain: &Domain) -> String {
    let uplinks = domain.devices.iter().filter(|(_, device)| matches!(device.kind, DeviceKind::Uplink { .. }));
    let names: Vec<_> = ["lo"].into_iter().chain(uplinks.map(|(name, _)| name.as_str())).collect();
    let names = names.join("\", \"");
    let head = format!("type filter hook prerouting priority {}; policy accept;", places::UNINVITED);
    format!("chain uninvited {{\n{head}\niifgroup != {GROUP:#x} iifname != {{ \"{names}\" }} drop\n}}\n")
}

/// Addresses of services mean something in the cluster only: outside they are a stranger's, or this machine's, whose rules
/// know no tenants.
fn services(view: &View<'_>, domain: &Domain) -> String {
    let uplinks = domain.devices.iter().filter(|(_, device)| matches!(device.kind, DeviceKind::Uplink { .. }));
    let names: Vec<_> = uplinks.map(|(name, _)| format!("\"{name}\"")).collect();
    let Some(services) = view.site.services.filter(|_| !names.is_empty()) else { return String::new() };
    let head = format!("type filter hook forward priority {}; policy accept;", places::SERVICES);
    format!("chain services {{\n{head}\noifname {{ {} }} ip daddr {services} {ANSWER}\n}}\n", names.join(", "))
}

/// Bridged packets pass the router's hooks too when they are tracked; they are none of its business. Nor is what a
/// chain of a bridge or its port has rejected.
fn bridged(domain: &Domain) -> String {
    if !domain.track_bridged {
        return String::new();
    }
    format!("iifname \"br*\" meta mark and {TO_ROUTER:#x} == 0 accept\nmeta mark and {REFUSED:#x} != 0 accept\n")
}

/// Links to other routers, and to bridges of other routers.
fn links(domain: &Domain) -> usize {
    domain.devices.values().filter(|device| matches!(device.kind, DeviceKind::Link { bridge: None, .. })).count()
}

/// Chains and sets because of which the router asks on its bridges for those only who are there.
///
/// For every address that it asks for, the kernel makes an entry in a table that all namespaces share: without this, a
/// tenant that sends to every address of a wide subnet fills it, and nobody's router finds anybody any more.
fn nobody(view: &View<'_>, id: Uuid, bridges: &[Uuid], domain: &mut Domain) -> String {
    let (mut known, mut strange, mut elements) = (Vec::new(), Vec::new(), Vec::new());
    for bridge in bridges {
        let (name, mut own) = (names::bridge(*bridge), false);
        for (_, port) in view.ports_of(*bridge) {
            let Some((peer, it)) = view.peer(port) else { continue };
            let Device::Router { id: router, address, .. } = it.device else { continue };
            if router == id && matches!(domain::place(view, id, peer, it), Location::Bridge(_)) {
                own = true;
            } else {
                elements.push((name.clone(), address.ip(), Some(names::router_mac(peer, &it.device))));
            }
        }
        let seeds = view.bridge(*bridge).into_iter().flat_map(|bridge| bridge.arp.keys());
        elements.extend(seeds.map(|address| (name.clone(), *address, None)));
        if own {
            let quoted = format!("\"{name}\"");
            if port::has_strangers(view, *bridge) { strange.push(quoted) } else { known.push(quoted) }
        }
    }
    for (bridge, address, mac) in elements {
        domain.elements.insert(Element::known(&bridge, address));
        domain.neighbours.extend(mac.map(|mac| Neighbour { device: bridge, address, mac }));
    }
    let mut body = String::new();
    let answer = "reject with icmp type host-unreachable";
    if !strange.is_empty() {
        let strange = strange.join(", ");
        let to = format!("oifname {{ {strange} }} oifname . rt nexthop != @known");
        let _ = write!(body, "{to} update @asked {{ oifname . rt nexthop }} accept\n{to} {answer}\n");
    }
    if !known.is_empty() {
        let known = known.join(", ");
        let _ = writeln!(body, "oifname {{ {known} }} oifname . rt nexthop != @known {answer}");
    }
    let sets = format!(
        "set known {{\ntype ifname . ipv4_addr\n}}\nset asked {{\ntype ifname . ipv4_addr\nsize {STRANGERS}\nflags \
         dynamic,timeout\ntimeout 5m\n}}\n"
    );
    if body.is_empty() {
        return sets;
    }
    let head = format!("type filter hook forward priority {}; policy accept;", places::KNOWN);
    format!("{sets}chain nobody {{\n{head}\n{}{body}}}\n", bridged(domain))
}

fn has_rules(view: &View<'_>, chain: Uuid) -> bool {
    view.chain(chain).is_some_and(|chain| !chain.rules.is_empty())
}

/// The chains of a router's ports in one direction.
#[derive(Default)]
struct Ports {
    chains: String,
    /// Elements of the map from interface to chain.
    jumps: Vec<String>,
    tracks: bool,
    pieces: bool,
    unsupported: std::collections::BTreeSet<super::Unsupported>,
}

impl Ports {
    fn add(&mut self, interface: &str, passes: Passes, chain: Uuid, direction: &str) {
        let name = format!("p_{direction}_{}", names::digits(chain.as_bytes()));
        if !self.chains.contains(&format!("chain {name} {{")) {
            self.chains.push_str(&passes.chains);
            let body = if passes.closed { "drop\n" } else { passes.before.as_str() };
            let _ = write!(self.chains, "chain {name} {{\n{body}}}\n");
        }
        self.jumps.push(format!("\"{interface}\" : jump {name}"));
        self.tracks |= passes.tracks;
        self.pieces |= passes.pieces;
        self.unsupported.extend(passes.unsupported);
    }

    fn dispatch(&self, key: &str) -> String {
        if self.jumps.is_empty() { String::new() } else { format!("{key} vmap {{ {} }}\n", self.jumps.join(", ")) }
    }
}

/// Which packets answer an earlier one. ICMP errors about a flow count as part of it; protocols without a flow are always
/// forward. What the router says itself answers somebody.
fn flows(text: &mut String) {
    let reply = format!("meta mark set meta mark or {REPLY:#x}");
    let tracked = format!("ct direction reply meta l4proto {{ tcp, udp, icmp }} {reply}");
    let errors = "icmp type { destination-unreachable, time-exceeded, parameter-problem }";
    for (name, hook, place, further) in
        [("flows", "prerouting", places::FLOWS_ARRIVING, ""), ("own", "output", places::FLOWS_SAID, errors)]
    {
        let head = format!("type filter hook {hook} priority {place}; policy accept;");
        let further = if further.is_empty() { String::new() } else { format!("{further} {reply}\n") };
        let _ = write!(text, "chain {name} {{\n{head}\n{tracked}\n{further}}}\n");
    }
}

struct Stages {
    inbound: Passes,
    outbound: Passes,
    entering: Ports,
    leaving: Ports,
    /// Something is translated in one direction or the other.
    translated: bool,
}

impl Stages {
    fn write(&self, domain: &Domain, text: &mut String) {
        let Self { inbound, outbound, entering, leaving, translated } = self;
        for chains in [&inbound.chains, &outbound.chains, &entering.chains, &leaving.chains] {
            text.push_str(chains);
        }
        let chain = |text: &mut String, name: &str, (head, place): (&str, i32), body: &str| {
            if !body.is_empty() {
                let _ = write!(text, "chain {name} {{\ntype {head} priority {place}; policy accept;\n{body}}}\n");
            }
        };
        let tracks = inbound.tracks || outbound.tracks || entering.tracks || leaving.tracks || domain.track_bridged;
        if tracks {
            flows(text);
        }
        if tracks && links(domain) > 1 {
            // Nobody may use up the room of all: neither who sends, nor who is sent to.
            for (name, key) in [("sending", "iifname"), ("receiving", "oifname")] {
                let _ = write!(text, "set {name} {{\ntype ifname\nsize 65535\nflags dynamic\n}}\n");
                let linked = format!("{key} \"rl*\" ct state new");
                let body = format!("{linked} add @{name} {{ {key} ct count over {FLOWS} }} drop\n");
                chain(text, &format!("flows_{name}"), ("filter hook forward", places::FLOWS_COUNTED), &body);
            }
        }
        let bridged = bridged(domain);
        let node = node_side::pass_by(domain);
        let unless_empty =
            |head: &str, body: &str| if body.is_empty() { String::new() } else { format!("{head}{body}") };
        let guarded = |body: &str| unless_empty(&format!("{node}{bridged}"), body);
        chain(
            text,
            "ports_inbound",
            ("filter hook prerouting", places::PORTS_INBOUND),
            &guarded(&entering.dispatch("iifname")),
        );
        chain(text, "inbound", ("filter hook prerouting", places::INBOUND), &guarded(&inbound.before));
        chain(text, "destinations", ("nat hook prerouting", places::DESTINATIONS), &guarded(&inbound.translate));
        // The kernel goes on translating a flow when its rule is gone.
        let remembers = tracks || domain.node.is_some();
        let outdated = |routed| if remembers { rules::outdated(routed) } else { String::new() };
        let after = format!("{}{}{}", inbound.untranslated, outdated(false), inbound.after);
        chain(text, "inbound_after", ("filter hook prerouting", places::INBOUND_AFTER), &guarded(&after));
        let mut forward =
            if domain.shut || inbound.closed || outbound.closed { "drop\n".to_owned() } else { String::new() };
        if !outbound.translated.is_empty() {
            // Everything that leaves here is translated, so whatever belongs to no translation has no business here: a
            // packet for the addresses behind the router must not be let in only because somebody upstream routes it.
            let _ = write!(text, "chain entering {{\n{NO_FLOW} drop\nct status and 0x30 == 0 drop\n}}\n");
            for interface in &outbound.translated {
                let _ = writeln!(forward, "iifname \"{interface}\" jump entering");
            }
        }
        let late = leaving.dispatch("oifname");
        if remembers || !outbound.before.is_empty() || (*translated && !late.is_empty()) {
            // What the inbound chain noted is no affair of the outbound one.
            let keep = REPLY | TO_ROUTER | PIECES;
            let _ = writeln!(forward, "meta mark set meta mark and {keep:#x} or {ROUTED:#x}");
            forward.push_str(&outbound.before);
        }
        chain(text, "outbound", ("filter hook forward", places::OUTBOUND), &guarded(&forward));
        if !translated {
            chain(text, "ports_outbound", ("filter hook forward", places::PORTS_OUTBOUND), &guarded(&late));
        }
        chain(text, "sources", ("nat hook postrouting", places::SOURCES), &outbound.translate);
        let routed = format!("meta mark and {ROUTED:#x} == 0 accept\n");
        let after = format!("{}{}{}", outbound.untranslated, outdated(true), outbound.after);
        let after = unless_empty(&routed, &after);
        chain(
            text,
            "outbound_after",
            ("filter hook postrouting", places::OUTBOUND_AFTER),
            &unless_empty(&node, &after),
        );
        if *translated && !late.is_empty() {
            let late = format!("{node}{routed}{late}");
            chain(text, "ports_outbound", ("filter hook postrouting", places::PORTS_OUTBOUND_AFTER), &late);
        }
    }
}
