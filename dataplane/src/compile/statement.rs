//! One rule of nftables as data: what it matches, what it does, and which rule of the topology it counts for.
//!
//! The compiler builds these and decides by their types. They become text in one place, when a table is written
//! (`table.rs`); nothing reads that text again.

use std::fmt::{self, Display};
use std::net::Ipv4Addr;

use uuid::Uuid;

/// The ether type of IPv4.
pub(super) const IPV4: u16 = 0x0800;
/// The ether type of ARP.
pub(super) const ARP: u16 = 0x0806;

/// A field of a packet or frame, or what the kernel knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    InputInterface,
    OutputInterface,
    EtherType,
    EtherSource,
    EtherDestination,
    IpSource,
    IpDestination,
    IpProtocol,
    IpFragment,
    /// Raw bytes of the network header: it is undefined unless the packet is known to be IP.
    IpTypeOfService,
    ArpOperation,
    ArpSource,
    ArpDestination,
    Transport,
    SourcePort,
    DestinationPort,
    IcmpType,
    IcmpCode,
    Mark,
    FlowState,
    FlowStatus,
    FlowDirection,
}

impl Field {
    /// The type of the field in a set, for the fields that rule groups look up.
    pub(super) fn set_type(self) -> &'static str {
        match self {
            Self::IpSource | Self::IpDestination | Self::ArpSource | Self::ArpDestination => "ipv4_addr",
            Self::IpProtocol | Self::Transport => "inet_proto",
            Self::SourcePort | Self::DestinationPort => "inet_service",
            Self::InputInterface | Self::OutputInterface => "ifname",
            Self::EtherSource | Self::EtherDestination => "ether_addr",
            Self::EtherType => "ether_type",
            Self::IcmpType => "icmp_type",
            Self::IcmpCode => "icmp_code",
            Self::Mark => "mark",
            Self::FlowState => "ct_state",
            Self::FlowStatus => "ct_status",
            Self::FlowDirection => "ct_dir",
            Self::IpFragment | Self::IpTypeOfService | Self::ArpOperation => "integer",
        }
    }

    /// A value of the field, given as a number.
    fn value(self, number: u32) -> String {
        match self {
            Self::IpSource | Self::IpDestination => Ipv4Addr::from(number).to_string(),
            _ => number.to_string(),
        }
    }

    /// A range of values of the field; both ends belong to it.
    fn range(self, (from, to): (u32, u32)) -> String {
        if from == to { self.value(from) } else { format!("{}-{}", self.value(from), self.value(to)) }
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InputInterface => "iifname",
            Self::OutputInterface => "oifname",
            Self::EtherType => "ether type",
            Self::EtherSource => "ether saddr",
            Self::EtherDestination => "ether daddr",
            Self::IpSource => "ip saddr",
            Self::IpDestination => "ip daddr",
            Self::IpProtocol => "ip protocol",
            Self::IpFragment => "ip frag-off",
            Self::IpTypeOfService => "@nh,8,8",
            Self::ArpOperation => "arp operation",
            Self::ArpSource => "arp saddr ip",
            Self::ArpDestination => "arp daddr ip",
            Self::Transport => "meta l4proto",
            Self::SourcePort => "th sport",
            Self::DestinationPort => "th dport",
            Self::IcmpType => "icmp type",
            Self::IcmpCode => "icmp code",
            Self::Mark => "meta mark",
            Self::FlowState => "ct state",
            Self::FlowStatus => "ct status",
            Self::FlowDirection => "ct direction",
        })
    }
}

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    /// Equal, or within a range or network.
    Is,
    /// Neither equal nor within.
    IsNot,
    /// Equal to a name, or an element of a set.
    In,
}

/// A test of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Match {
    field: Field,
    mask: Option<String>,
    operator: Operator,
    value: String,
}

impl Match {
    /// `field` equals `value`, or does not where `inverted`.
    pub(super) fn compare(field: Field, inverted: bool, value: impl Display) -> Self {
        let operator = if inverted { Operator::IsNot } else { Operator::Is };
        Self { field, mask: None, operator, value: value.to_string() }
    }

    /// `field` is an element of `set`, or is none where `inverted`.
    pub(super) fn lookup(field: Field, inverted: bool, set: impl Display) -> Self {
        let operator = if inverted { Operator::IsNot } else { Operator::In };
        Self { field, mask: None, operator, value: set.to_string() }
    }

    /// The same test of those bits only that `mask` has.
    pub(super) fn masked(self, mask: impl Display) -> Self {
        Self { mask: Some(mask.to_string()), ..self }
    }

    /// The frame is IPv4.
    pub(super) fn ipv4() -> Self {
        Self::lookup(Field::EtherType, false, "ip")
    }

    /// The bits of the packet mark that `mask` has equal `value`.
    pub(super) fn mark_is(mask: u32, value: u32) -> Self {
        Self::compare(Field::Mark, false, format_args!("{value:#x}")).masked(format_args!("{mask:#x}"))
    }

    /// Some of these bits of `field` are set, or none where `clear`.
    fn bits(field: Field, clear: bool, bits: u32) -> Self {
        Self::compare(field, !clear, 0).masked(format_args!("{bits:#x}"))
    }

    /// Some of these bits of the packet mark are set.
    pub(super) fn mark_has(bits: u32) -> Self {
        Self::bits(Field::Mark, false, bits)
    }

    /// None of these bits of the packet mark is set.
    pub(super) fn mark_lacks(bits: u32) -> Self {
        Self::bits(Field::Mark, true, bits)
    }

    /// Some of these bits of the flow's status are set.
    pub(super) fn flow_status_has(bits: u32) -> Self {
        Self::bits(Field::FlowStatus, false, bits)
    }

    /// None of these bits of the flow's status is set.
    pub(super) fn flow_status_lacks(bits: u32) -> Self {
        Self::bits(Field::FlowStatus, true, bits)
    }

    /// Some of these bits of the fragment field are set, or none where `clear`.
    pub(super) fn fragment_bits(clear: bool, bits: u32) -> Self {
        Self::bits(Field::IpFragment, clear, bits)
    }

    /// The packet belongs to no flow: connection tracking calls it invalid, or has not seen it.
    pub(super) fn no_flow() -> Self {
        Self::lookup(Field::FlowState, false, "{ invalid, untracked }")
    }

    /// The packet has the direction in which its flow was opened, or the other one where `reply`.
    pub(super) fn direction(reply: bool) -> Self {
        Self::lookup(Field::FlowDirection, false, if reply { "reply" } else { "original" })
    }

    /// The packet belongs to a protocol whose flows can be translated.
    pub(super) fn translatable() -> Self {
        Self::lookup(Field::Transport, false, "{ tcp, udp, icmp }")
    }
}

impl Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, mask, operator, value } = self;
        write!(f, "{field}")?;
        if let Some(mask) = mask {
            write!(f, " and {mask}")?;
        }
        let operator = match operator {
            Operator::Is => " ==",
            Operator::IsNot => " !=",
            Operator::In => "",
        };
        write!(f, "{operator} {value}")
    }
}

/// A change of the packet mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MarkChange {
    /// Sets these bits.
    Set(u32),
    /// Clears these bits.
    Clear(u32),
    /// Keeps the first bits, clears all others, and sets the second.
    KeepAndSet(u32, u32),
}

impl Display for MarkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "meta mark set meta mark ")?;
        match self {
            Self::Set(bits) => write!(f, "or {bits:#x}"),
            Self::Clear(bits) => write!(f, "and {:#x}", !bits),
            Self::KeepAndSet(keep, set) => write!(f, "and {keep:#x} or {set:#x}"),
        }
    }
}

/// The ICMP error that a rejected packet's sender gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IcmpError {
    /// Type 3, code 13, as MidoNet sends it.
    AdminProhibited,
    /// Type 3, code 1.
    HostUnreachable,
}

/// What a translation changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Translated {
    Source,
    Destination,
}

/// Addresses and ports that something is translated to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TranslationRange {
    pub(super) addresses: (Ipv4Addr, Ipv4Addr),
    /// None: the ports stay as they are.
    pub(super) ports: Option<(u16, u16)>,
}

impl Display for TranslationRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Field::IpSource.range((self.addresses.0.into(), self.addresses.1.into())))?;
        match self.ports {
            None => Ok(()),
            Some((from, to)) => write!(f, ":{}", Field::SourcePort.range((from.into(), to.into()))),
        }
    }
}

/// How the evaluation of a packet goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Drop,
    Return,
    /// With the next rule: for the sake of the counter.
    Continue,
    Jump(String),
    Goto(String),
    Reject(IcmpError),
    Translate(Translated, TranslationRange),
    /// To one of these chains, by chance.
    GotoOneOf(Vec<String>),
}

impl Verdict {
    /// True for a verdict that can be an element of a map.
    fn fits_a_map(&self) -> bool {
        matches!(self, Self::Accept | Self::Drop | Self::Return | Self::Jump(_) | Self::Goto(_))
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Continue => f.write_str("continue"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::Reject(IcmpError::AdminProhibited) => f.write_str("reject with icmp type admin-prohibited"),
            Self::Reject(IcmpError::HostUnreachable) => f.write_str("reject with icmp type host-unreachable"),
            Self::Translate(Translated::Source, range) => write!(f, "snat to {range}"),
            Self::Translate(Translated::Destination, range) => write!(f, "dnat to {range}"),
            Self::GotoOneOf(chains) => {
                let choice = chains.iter().enumerate().map(|(number, chain)| format!("{number} : goto {chain}"));
                let choice = choice.collect::<Vec<_>>().join(", ");
                write!(f, "numgen random mod {} vmap {{ {choice} }}", chains.len())
            }
        }
    }
}

/// What a rule does with a packet that it matches. Without a verdict, the next rule follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Action {
    mark: Option<MarkChange>,
    verdict: Option<Verdict>,
}

impl Action {
    /// Changes the mark, then gives the verdict.
    pub(super) fn mark_and(change: MarkChange, verdict: Verdict) -> Self {
        Self { mark: Some(change), verdict: Some(verdict) }
    }

    /// The action as an element of a map, where it is a verdict and nothing else.
    pub(super) fn map_element(&self) -> Option<&Verdict> {
        self.verdict.as_ref().filter(|verdict| self.mark.is_none() && verdict.fits_a_map())
    }

    fn drops(&self) -> bool {
        self.verdict == Some(Verdict::Drop)
    }
}

impl From<Verdict> for Action {
    fn from(verdict: Verdict) -> Self {
        Self { mark: None, verdict: Some(verdict) }
    }
}

impl From<MarkChange> for Action {
    fn from(change: MarkChange) -> Self {
        Self { mark: Some(change), verdict: None }
    }
}

impl Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.mark, &self.verdict) {
            (Some(mark), Some(verdict)) => write!(f, "{mark} {verdict}"),
            (Some(mark), None) => write!(f, "{mark}"),
            (None, Some(verdict)) => write!(f, "{verdict}"),
            (None, None) => Ok(()),
        }
    }
}

/// One rule of the topology in a rule group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GroupElement {
    /// First and last value of each field.
    pub(super) ranges: Vec<(u32, u32)>,
    /// The rule that it counts for.
    pub(super) rule: Uuid,
    /// What it does, where the rules of the group do different things.
    pub(super) verdict: Option<Verdict>,
}

/// Like rules of the topology as one lookup in a set, or in a map where they do different things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GroupLookup {
    /// The fields that packets are looked up by.
    pub(super) fields: Vec<Field>,
    /// Its elements; they do not overlap.
    pub(super) elements: Vec<GroupElement>,
}

impl GroupLookup {
    pub(super) fn is_map(&self) -> bool {
        self.elements.iter().any(|element| element.verdict.is_some())
    }

    /// True when some element is more than a single value.
    pub(super) fn has_intervals(&self) -> bool {
        self.elements.iter().flat_map(|element| &element.ranges).any(|(from, to)| from != to)
    }

    /// The fields, or their types, as a concatenation.
    pub(super) fn concatenated<T: Display>(&self, of: impl Fn(Field) -> T) -> String {
        self.fields.iter().map(|field| of(*field).to_string()).collect::<Vec<_>>().join(" . ")
    }

    /// The elements with what `behind` puts between the value of each and its verdict.
    pub(super) fn elements(&self, mut behind: impl FnMut(Uuid) -> String) -> String {
        let element = |GroupElement { ranges, rule, verdict }: &GroupElement| {
            let value = self.fields.iter().zip(ranges).map(|(field, range)| field.range(*range));
            let value = value.collect::<Vec<_>>().join(" . ");
            let verdict = verdict.as_ref().map_or_else(String::new, |verdict| format!(" : {verdict}"));
            format!("{value}{}{verdict}", behind(*rule))
        };
        self.elements.iter().map(element).collect::<Vec<_>>().join(", ")
    }
}

/// One rule of a chain of nftables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    /// Part of the structure: it counts for no rule of the topology.
    Plain(Vec<Match>, Action),
    /// Counts for this rule of the topology. One rule can become several statements.
    Counted(Uuid, Vec<Match>, Action),
    /// Each element of the lookup counts for its rule. The action is empty where elements have verdicts.
    Group(Vec<Match>, GroupLookup, Action),
    /// Fixed text of the structure, which no decision depends on.
    Fixed(String),
}

impl Statement {
    /// A statement of the structure that applies to every packet.
    pub(super) fn always(action: impl Into<Action>) -> Self {
        Self::Plain(Vec::new(), action.into())
    }

    /// The lines of `text` as statements.
    pub(super) fn fixed(text: &str) -> impl Iterator<Item = Self> + '_ {
        text.lines().map(|line| Self::Fixed(line.to_owned()))
    }

    /// True when some packet can be dropped here, for rules of the topology.
    pub(super) fn drops(&self) -> bool {
        match self {
            Self::Plain(_, action) | Self::Counted(_, _, action) => action.drops(),
            Self::Group(_, lookup, action) => {
                action.drops() || lookup.elements.iter().any(|element| element.verdict == Some(Verdict::Drop))
            }
            Self::Fixed(_) => false,
        }
    }
}

/// Matches and an action as one line.
pub(super) fn line(matches: &[Match], middle: &[String], action: &Action) -> String {
    let mut parts: Vec<String> = matches.iter().map(ToString::to_string).collect();
    parts.extend(middle.iter().cloned());
    if *action != Action::default() {
        parts.push(action.to_string());
    }
    parts.join(" ")
}
