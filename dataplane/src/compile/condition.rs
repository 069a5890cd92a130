//! The condition of a rule as nftables matches.
//!
//! The answer is a list of alternatives, each a conjunction: no alternative means that the condition never holds, one
//! empty alternative that it always does.

use atoll_model::topology::{Condition, Test};
use ipnetwork::Ipv4Network;
use uuid::Uuid;

use super::context::{ChainContext, End, FragmentClass};
use super::marks::REPLY;
use super::statement::{ARP, Field, IPV4, Match};

const ICMP: u8 = 1;

/// Alternatives of conjunctions.
pub(super) type Alternatives = Vec<Vec<Match>>;

/// A field that cannot be expressed.
#[derive(Debug)]
pub(super) struct Inexpressible {
    pub(super) field: String,
    pub(super) why: String,
}

/// The conjunction of everything but `inverted` and the fragment policy.
pub(super) fn compile(
    condition: &Condition,
    context: &ChainContext<'_>,
    class: FragmentClass,
) -> Result<Alternatives, Inexpressible> {
    if let Some(field) = condition.other.first() {
        return no(field, "this field is not known".to_owned());
    }
    if condition.traversed.is_some() {
        return no("traversedDevice", "the way of a packet is not recorded".to_owned());
    }
    let mut matches = Conjunction::default();
    if condition.forward_flow {
        matches.and(Match::mark_lacks(REPLY));
    }
    if condition.return_flow {
        matches.and(Match::mark_has(REPLY));
    }
    ports(&mut matches, context.input, Field::InputInterface, condition.in_ports.as_ref(), context);
    group(&mut matches, context.input, Field::InputInterface, condition.in_port_group.as_ref(), context);
    ports(&mut matches, context.output, Field::OutputInterface, condition.out_ports.as_ref(), context);
    group(&mut matches, context.output, Field::OutputInterface, condition.out_port_group.as_ref(), context);
    match &condition.ether_type {
        Some(test) if context.bridge => {
            matches.and(Match::compare(Field::EtherType, test.inverted, format_args!("{:#06x}", test.value)));
        }
        Some(test) => matches.never |= (test.value == IPV4) == test.inverted,
        None => {}
    }
    let family = Family::of(condition, context);
    addresses(&mut matches, family.map(Family::source), condition.source_group.as_ref(), context);
    addresses(&mut matches, family.map(Family::destination), condition.destination_group.as_ref(), context);
    let sides = [
        ("dlSrc", Field::EtherSource, &condition.ether_source),
        ("dlDst", Field::EtherDestination, &condition.ether_destination),
    ];
    for (name, field, test) in sides {
        let Some(test) = test else { continue };
        if context.routed() {
            return no(name, "the frame's header is gone once a packet was routed".to_owned());
        }
        let (value, mask) = test.value;
        matches.and(Match::compare(field, test.inverted, value).masked(mask));
    }
    // Tagged frames never get past the port.
    matches.never |= matches!(condition.vlan, Some(Some(_)));
    // Nothing but IPv4 has these.
    let transport_asked = condition.source_port.is_some() || condition.destination_port.is_some();
    matches.never |= family != Some(Family::Ip) && (condition.tos.is_some() || transport_asked);
    if let Some(test) = &condition.tos {
        // Raw bytes: without a test for IP, the first is half of ARP's type of hardware.
        if context.bridge {
            matches.and(Match::ipv4());
        }
        matches.and(Match::compare(Field::IpTypeOfService, test.inverted, test.value));
    }
    if let Some(test) = &condition.protocol {
        matches.asks(family.map(Family::protocol), |field| Match::compare(field, test.inverted, test.value));
    }
    let sides =
        [(family.map(Family::source), &condition.source), (family.map(Family::destination), &condition.destination)];
    for (field, test) in sides {
        match test {
            Some(test) if test.value.prefix() == 0 => matches.never |= test.inverted,
            Some(test) => {
                let network = format!("{}/{}", test.value.network(), test.value.prefix());
                matches.asks(field, |field| Match::compare(field, test.inverted, network));
            }
            None => {}
        }
    }
    if transport_asked && class == FragmentClass::Later {
        // They have no ports.
        return Ok(Alternatives::new());
    }
    Ok(transport(&matches, condition))
}

/// True when nothing but IPv4 can meet the condition.
pub(super) fn is_ip(condition: &Condition, context: &ChainContext<'_>) -> bool {
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
    !condition.inverted && asked && Family::of(condition, context) == Some(Family::Ip)
}

/// Whose addresses and protocol a condition means. MidoNet takes those of an ARP packet for the addresses of its sender
/// and target, and its operation for a protocol; here a rule has to ask for ARP to mean that.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Ip,
    Arp,
}

impl Family {
    /// None: the condition asks for frames that have neither.
    fn of(condition: &Condition, context: &ChainContext<'_>) -> Option<Self> {
        match &condition.ether_type {
            Some(Test { value: ARP, inverted: false }) if context.bridge => Some(Self::Arp),
            Some(test) if (test.value == IPV4) == test.inverted => None,
            _ => Some(Self::Ip),
        }
    }

    fn protocol(self) -> Field {
        match self {
            Self::Ip => Field::IpProtocol,
            Self::Arp => Field::ArpOperation,
        }
    }

    fn source(self) -> Field {
        match self {
            Self::Ip => Field::IpSource,
            Self::Arp => Field::ArpSource,
        }
    }

    fn destination(self) -> Field {
        match self {
            Self::Ip => Field::IpDestination,
            Self::Arp => Field::ArpDestination,
        }
    }
}

/// Ranges of ports mean ICMP type and code where the packet is ICMP. No other protocol has either.
fn transport(matches: &Conjunction, condition: &Condition) -> Alternatives {
    let (source, destination) = (&condition.source_port, &condition.destination_port);
    if source.is_none() && destination.is_none() {
        return matches.alternatives([Vec::new()]);
    }
    let ports = ranges([(Field::SourcePort, source), (Field::DestinationPort, destination)], u16::MAX);
    let ports = ports.map(|ports| behind(Match::lookup(Field::Transport, false, "{ tcp, udp }"), ports));
    let icmp = ranges([(Field::IcmpType, source), (Field::IcmpCode, destination)], 255);
    let icmp = icmp.map(|icmp| behind(Match::lookup(Field::Transport, false, "icmp"), icmp));
    match &condition.protocol {
        Some(Test { value: ICMP, inverted: false }) => matches.alternatives(icmp),
        Some(Test { inverted: false, .. }) => matches.alternatives(ports),
        _ => matches.alternatives(ports.into_iter().chain(icmp)),
    }
}

fn behind(first: Match, rest: Vec<Match>) -> Vec<Match> {
    [first].into_iter().chain(rest).collect()
}

/// A range of ports, ICMP types or codes; none: the rule does not restrict it.
type PortTest = Option<Test<(u16, u16)>>;

/// Tests of fields whose highest value is `most`; none when they cannot all hold.
fn ranges(tests: [(Field, &PortTest); 2], most: u16) -> Option<Vec<Match>> {
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
            parts.push(Match::compare(field, test.inverted, range));
        }
    }
    Some(parts)
}

#[derive(Default)]
struct Conjunction {
    never: bool,
    parts: Vec<Match>,
}

impl Conjunction {
    fn and(&mut self, part: Match) {
        self.parts.push(part);
    }

    /// A test of a field; without the field, it never holds.
    fn asks(&mut self, field: Option<Field>, test: impl FnOnce(Field) -> Match) {
        self.never |= field.is_none();
        self.parts.extend(field.map(test));
    }

    fn alternatives(&self, tails: impl IntoIterator<Item = Vec<Match>>) -> Alternatives {
        if self.never {
            return Alternatives::new();
        }
        tails.into_iter().map(|tail| self.parts.iter().cloned().chain(tail).collect()).collect()
    }
}

fn ports(
    matches: &mut Conjunction,
    end: End,
    field: Field,
    test: Option<&Test<Vec<Uuid>>>,
    context: &ChainContext<'_>,
) {
    // No port at all is no condition.
    if let Some(test) = test.filter(|test| !test.value.is_empty()) {
        interfaces(matches, end, field, &test.value, test.inverted, context);
    }
}

fn group(matches: &mut Conjunction, end: End, field: Field, test: Option<&Test<Uuid>>, context: &ChainContext<'_>) {
    if let Some(test) = test {
        let members = context.view.port_group(test.value).map_or(&[][..], |group| &group.members);
        interfaces(matches, end, field, members, test.inverted, context);
    }
}

fn interfaces(
    matches: &mut Conjunction,
    end: End,
    field: Field,
    ports: &[Uuid],
    inverted: bool,
    context: &ChainContext<'_>,
) {
    if let End::Known(port) = end {
        matches.never |= ports.contains(&port) == inverted;
        return;
    }
    let named = ports.iter().filter(|_| end == End::Interface);
    let mut names: Vec<_> =
        named.filter_map(|port| (context.interface)(*port)).map(|name| format!("\"{name}\"")).collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        matches.never |= !inverted;
        return;
    }
    matches.and(Match::lookup(field, inverted, format_args!("{{ {} }}", names.join(", "))));
}

fn addresses(matches: &mut Conjunction, field: Option<Field>, test: Option<&Test<Uuid>>, context: &ChainContext<'_>) {
    let Some(test) = test else { return };
    let group = context.view.address_group(test.value);
    let mut members: Vec<_> =
        group.into_iter().flat_map(|group| &group.members).filter(|ip| ip.is_ipv4()).map(ToString::to_string).collect();
    members.sort();
    members.dedup();
    if members.is_empty() {
        // Every address is outside an empty group, but what has no address does not match.
        matches.never |= !test.inverted || field.is_none();
        if context.bridge && matches!(field, Some(Field::IpSource | Field::IpDestination)) {
            matches.and(Match::ipv4());
        }
    } else {
        let name = context.groups.name(test.value, &members);
        matches.asks(field, |field| Match::lookup(field, test.inverted, format_args!("@{name}")));
    }
}

fn no<T>(field: &str, why: String) -> Result<T, Inexpressible> {
    Err(Inexpressible { field: field.to_owned(), why })
}
