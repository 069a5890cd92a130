//! The condition of a rule as nftables matches.
//!
//! The answer is a list of alternatives, each a conjunction: no alternative means that the condition never holds, one
//! empty alternative that it always does.

use std::cell::RefCell;
use std::collections::BTreeMap;

use atoll_model::topology::{Condition, Test};
use ipnetwork::Ipv4Network;
use uuid::Uuid;

use super::fragments::Piece;
use super::{View, names};

/// Packets of the direction that answers carry this bit (`ruleset` sets it).
pub(super) const REPLY: u32 = 0x1_0000;

pub(super) const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const ICMP: u8 = 1;

/// Alternatives of conjunctions.
pub(super) type Matches = Vec<String>;

/// A field that cannot be expressed.
#[derive(Debug)]
pub(super) struct Inexpressible {
    pub(super) field: String,
    pub(super) why: String,
}

/// What a chain can know about the port at one side of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// Not decided yet: the field is unset and equals nothing.
    Unknown,
    /// The interface that the kernel names.
    Interface,
    /// This port: the packet comes from, or goes to, the router's own interface on a bridge.
    Known(Uuid),
}

/// What "reject" can do at some place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Answer at once.
    Answer,
    /// Mark the packet, for the router's hooks to answer.
    Mark,
    /// Drop, and tell nobody.
    Silent,
}

/// Where a chain is evaluated.
pub(super) struct Place<'a> {
    pub(super) view: &'a View<'a>,
    /// The groups of the table that it is written to.
    pub(super) groups: &'a Groups,
    /// The interface of a port, where it has one here.
    pub(super) interface: &'a dyn Fn(Uuid) -> Option<String>,
    /// Where the packet came in.
    pub(super) input: End,
    /// Where it goes out.
    pub(super) output: End,
    /// On a bridge; else on a router.
    pub(super) bridge: bool,
    /// Packets can be translated here: in a router's own chains, not in those of bridges and ports.
    pub(super) translates: bool,
    /// What "reject" can do here.
    pub(super) refusal: Refusal,
    /// Datagrams may have been put together before: connection tracking sees them.
    pub(super) whole: bool,
}

impl Place<'_> {
    /// On a router, after routing.
    pub(super) fn routed(&self) -> bool {
        !self.bridge && self.output != End::Unknown
    }
}

/// The conjunction of everything but `inverted` and the fragment policy.
pub(super) fn compile(condition: &Condition, place: &Place<'_>, piece: Piece) -> Result<Matches, Inexpressible> {
    if let Some(field) = condition.other.first() {
        return no(field, "this field is not known".to_owned());
    }
    if condition.traversed.is_some() {
        return no("traversedDevice", "the way of a packet is not recorded".to_owned());
    }
    let mut matches = Conjunction::default();
    if condition.forward_flow {
        matches.and(format!("meta mark and {REPLY:#x} == 0"));
    }
    if condition.return_flow {
        matches.and(format!("meta mark and {REPLY:#x} != 0"));
    }
    ports(&mut matches, place.input, "iifname", condition.in_ports.as_ref(), place);
    group(&mut matches, place.input, "iifname", condition.in_port_group.as_ref(), place);
    ports(&mut matches, place.output, "oifname", condition.out_ports.as_ref(), place);
    group(&mut matches, place.output, "oifname", condition.out_port_group.as_ref(), place);
    match &condition.ether_type {
        Some(test) if place.bridge => matches.and(format!("ether type {} {:#06x}", sign(test), test.value)),
        Some(test) => matches.never |= (test.value == IPV4) == test.inverted,
        None => {}
    }
    let family = Family::of(condition, place);
    addresses(&mut matches, family, "saddr", condition.source_group.as_ref(), place);
    addresses(&mut matches, family, "daddr", condition.destination_group.as_ref(), place);
    for (field, test) in [("dlSrc", &condition.ether_source), ("dlDst", &condition.ether_destination)] {
        let Some(test) = test else { continue };
        if place.routed() {
            return no(field, "the frame's header is gone once a packet was routed".to_owned());
        }
        let side = if field == "dlSrc" { "saddr" } else { "daddr" };
        let (value, mask) = test.value;
        matches.and(format!("ether {side} and {mask} {} {value}", sign(test)));
    }
    // Tagged frames never get past the port.
    matches.never |= matches!(condition.vlan, Some(Some(_)));
    // Nothing but IPv4 has these.
    let transport_asked = condition.source_port.is_some() || condition.destination_port.is_some();
    matches.never |= family != Family::Ip && (condition.tos.is_some() || transport_asked);
    if let Some(test) = &condition.tos {
        // Raw bytes: the first is half of ARP's type of hardware, if nobody says that it has to be IP.
        let family = if place.bridge { "ether type ip " } else { "" };
        matches.and(format!("{family}@nh,8,8 {} {}", sign(test), test.value));
    }
    if let Some(test) = &condition.protocol {
        matches.asks(family.protocol(), |field| format!("{field} {} {}", sign(test), test.value));
    }
    for (side, test) in [("saddr", &condition.source), ("daddr", &condition.destination)] {
        match test {
            Some(test) if test.value.prefix() == 0 => matches.never |= test.inverted,
            Some(test) => {
                let network = format!("{}/{}", test.value.network(), test.value.prefix());
                matches.asks(family.address(side), |field| format!("{field} {} {network}", sign(test)));
            }
            None => {}
        }
    }
    if transport_asked && piece == Piece::Later {
        // They have no ports.
        return Ok(Matches::new());
    }
    Ok(transport(&matches, condition))
}

/// True when nothing but IPv4 can meet the condition.
pub(super) fn is_ip(condition: &Condition, place: &Place<'_>) -> bool {
    let Condition { ether_type, tos, protocol, source, destination, source_port, destination_port, .. } = condition;
    let network =
        |test: &Option<Test<_>>| test.as_ref().is_some_and(|test: &Test<Ipv4Network>| test.value.prefix() > 0);
    let asked = tos.is_some()
        || protocol.is_some()
        || source_port.is_some()
        || destination_port.is_some()
        || network(source)
        || network(destination)
        || matches!(ether_type, Some(Test { value: IPV4, inverted: false }));
    !condition.inverted && asked && Family::of(condition, place) == Family::Ip
}

/// Whose addresses and protocol a condition means. MidoNet takes those of an ARP packet for the addresses of its sender
/// and target, and its operation for a protocol; here a rule has to ask for ARP to mean that.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Ip,
    Arp,
    /// What has neither.
    Other,
}

impl Family {
    fn of(condition: &Condition, place: &Place<'_>) -> Self {
        match &condition.ether_type {
            Some(Test { value: ARP, inverted: false }) if place.bridge => Self::Arp,
            Some(test) if (test.value == IPV4) == test.inverted => Self::Other,
            _ => Self::Ip,
        }
    }

    fn protocol(self) -> Option<String> {
        match self {
            Self::Ip => Some("ip protocol".to_owned()),
            Self::Arp => Some("arp operation".to_owned()),
            Self::Other => None,
        }
    }

    /// The address of a side: `saddr` or `daddr`.
    fn address(self, side: &str) -> Option<String> {
        match self {
            Self::Ip => Some(format!("ip {side}")),
            Self::Arp => Some(format!("arp {side} ip")),
            Self::Other => None,
        }
    }
}

/// Ranges of ports mean ICMP type and code where the packet is ICMP. No other protocol has either.
fn transport(matches: &Conjunction, condition: &Condition) -> Matches {
    if condition.source_port.is_none() && condition.destination_port.is_none() {
        return matches.alternatives(&[String::new()]);
    }
    let ports = [("th sport", &condition.source_port), ("th dport", &condition.destination_port)];
    let icmp = [("icmp type", &condition.source_port), ("icmp code", &condition.destination_port)];
    let ports = ranges(ports, u16::MAX).map(|ports| format!("meta l4proto {{ tcp, udp }} {ports}"));
    let icmp = ranges(icmp, 255).map(|icmp| format!("meta l4proto icmp {icmp}"));
    let alternatives: Vec<_> = match &condition.protocol {
        Some(Test { value: ICMP, inverted: false }) => icmp.into_iter().collect(),
        Some(Test { inverted: false, .. }) => ports.into_iter().collect(),
        _ => ports.into_iter().chain(icmp).collect(),
    };
    matches.alternatives(&alternatives)
}

/// A range of ports, types or codes, where one is asked for.
type PortTest = Option<Test<(u16, u16)>>;

/// Tests of fields whose highest value is `most`; none when they cannot all hold.
fn ranges(tests: [(&str, &PortTest); 2], most: u16) -> Option<String> {
    let mut parts = Vec::new();
    for (field, test) in tests {
        let Some(test) = test else { continue };
        let (from, to) = (test.value.0, test.value.1.min(most));
        let (none, all) = (from > to, from == 0 && to == most);
        if if test.inverted { all } else { none } {
            return None;
        }
        if !none && !all {
            let range = if from == to { from.to_string() } else { format!("{from}-{to}") };
            parts.push(format!("{field} {} {range}", sign(test)));
        }
    }
    Some(parts.join(" "))
}

#[derive(Default)]
struct Conjunction {
    never: bool,
    parts: Vec<String>,
}

impl Conjunction {
    fn and(&mut self, part: String) {
        self.parts.push(part);
    }

    /// A test of a field; without the field, it never holds.
    fn asks(&mut self, field: Option<String>, test: impl FnOnce(String) -> String) {
        self.never |= field.is_none();
        self.parts.extend(field.map(test));
    }

    fn alternatives(&self, tails: &[String]) -> Matches {
        if self.never {
            return Matches::new();
        }
        let parts = self.parts.join(" ");
        tails.iter().map(|tail| format!("{parts} {}", tail.trim()).trim().to_owned()).collect()
    }
}

fn ports(matches: &mut Conjunction, end: End, key: &str, test: Option<&Test<Vec<Uuid>>>, place: &Place<'_>) {
    // No port at all is no condition.
    if let Some(test) = test.filter(|test| !test.value.is_empty()) {
        interfaces(matches, end, key, &test.value, test.inverted, place);
    }
}

fn group(matches: &mut Conjunction, end: End, key: &str, test: Option<&Test<Uuid>>, place: &Place<'_>) {
    if let Some(test) = test {
        let members = place.view.port_group(test.value).map_or(&[][..], |group| &group.members);
        interfaces(matches, end, key, members, test.inverted, place);
    }
}

fn interfaces(matches: &mut Conjunction, end: End, key: &str, ports: &[Uuid], inverted: bool, place: &Place<'_>) {
    if let End::Known(port) = end {
        matches.never |= ports.contains(&port) == inverted;
        return;
    }
    let named = ports.iter().filter(|_| end == End::Interface);
    let mut names: Vec<_> =
        named.filter_map(|port| (place.interface)(*port)).map(|name| format!("\"{name}\"")).collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        matches.never |= !inverted;
        return;
    }
    matches.and(format!("{key} {}{{ {} }}", if inverted { "!= " } else { "" }, names.join(", ")));
}

fn addresses(matches: &mut Conjunction, family: Family, side: &str, test: Option<&Test<Uuid>>, place: &Place<'_>) {
    let Some(test) = test else { return };
    let group = place.view.address_group(test.value);
    let mut members: Vec<_> =
        group.into_iter().flat_map(|group| &group.members).filter(|ip| ip.is_ipv4()).map(ToString::to_string).collect();
    members.sort();
    members.dedup();
    if members.is_empty() {
        // Everybody is outside an empty group, but only who has an address at all.
        matches.never |= !test.inverted || family == Family::Other;
        if place.bridge && family == Family::Ip {
            matches.and("ether type ip".to_owned());
        }
    } else {
        let sign = if test.inverted { "!= " } else { "" };
        let name = place.groups.name(test.value, &members);
        matches.asks(family.address(side), |field| format!("{field} {sign}@{name}"));
    }
}

/// Groups of addresses that the rules of a table ask for. Each is one set of that table, however many rules ask.
#[derive(Default)]
pub(super) struct Groups(RefCell<BTreeMap<String, String>>);

impl Groups {
    fn name(&self, id: Uuid, members: &[String]) -> String {
        let name = format!("g_{}", names::digits(id.as_bytes()));
        self.0.borrow_mut().entry(name.clone()).or_insert_with(|| members.join(", "));
        name
    }

    /// The sets.
    pub(super) fn text(self) -> String {
        let set = |(name, members)| format!("set {name} {{\ntype ipv4_addr\nelements = {{ {members} }}\n}}\n");
        self.0.into_inner().into_iter().map(set).collect()
    }
}

fn sign<T>(test: &Test<T>) -> &'static str {
    if test.inverted { "!=" } else { "==" }
}

fn no<T>(field: &str, why: String) -> Result<T, Inexpressible> {
    Err(Inexpressible { field: field.to_owned(), why })
}
