//! Rule groups: like rules as one rule with a set or a map, so that a thousand of them cost about what one does.
//!
//! Rules are alike when they ask the same fields, differing only in addresses, protocol and ports, and in what they do.
//! The kernel finds the one element that a packet lies in, so the order of elements that do not overlap does not matter.
//! An element within an earlier one is never reached and is left out, unless the earlier one jumps and comes back; an
//! element that overlaps otherwise starts the next group.

use std::collections::HashSet;

use atoll_model::topology::{Condition, Rule, RuleAction};
use ipnetwork::Ipv4Network;

use super::statement::{Field, IPV4};

/// Fewer rules than this are written one by one: they are easier to read.
const WORTH_IT: usize = 4;

/// The first rules of a list as one.
pub(super) struct RuleGroup {
    /// The number of its rules.
    pub(super) length: usize,
    /// The condition that all its rules share, besides the fields of the set.
    pub(super) rest: Condition,
    /// The fields of the set.
    pub(super) fields: Vec<Field>,
    /// Its elements, a range for each field, each with the place of its rule in the list.
    pub(super) elements: Vec<(Ranges, usize)>,
    /// Whether its rules have different actions.
    pub(super) mixed: bool,
}

/// Which fields a rule asks.
type Shape = [bool; 5];

/// First and last value of each field that is asked.
pub(super) type Ranges = Vec<(u32, u32)>;

/// The fields that a set can have.
const FIELDS: [Field; 5] =
    [Field::IpSource, Field::IpDestination, Field::Transport, Field::SourcePort, Field::DestinationPort];

/// The group that `rules` begins with, if there is one that is worth it.
pub(super) fn first(rules: &[Rule]) -> Option<RuleGroup> {
    let (head, _) = rules.split_first()?;
    let (shape, rest, _) = split(head)?;
    let mut taken = Taken::default();
    let mut elements = Vec::new();
    let (mut length, mut mixed) = (0, false);
    for (place, rule) in rules.iter().enumerate() {
        let Some((other, condition, ranges)) = split(rule) else { break };
        if other != shape || condition != rest {
            break;
        }
        match taken.relation(&ranges) {
            Relation::Apart => {
                taken.take(ranges.clone(), matches!(rule.action, RuleAction::Jump { .. }));
                elements.push((ranges, place));
            }
            Relation::Within => {}
            Relation::Overlaps => break,
        }
        mixed |= rule.action != head.action;
        length += 1;
    }
    let fields = FIELDS.into_iter().zip(shape).filter(|(_, asked)| *asked).map(|(field, _)| field).collect();
    (length >= WORTH_IT).then_some(RuleGroup { length, rest, fields, elements, mixed })
}

/// How an element lies to those before it.
enum Relation {
    Apart,
    /// Within one of them: every packet for it ends there.
    Within,
    Overlaps,
}

/// The elements so far. Single values, which most are, are found at once.
#[derive(Default)]
struct Taken {
    points: HashSet<Ranges>,
    wide: Vec<Ranges>,
    /// Those whose rule jumps: packets come back, and go on to the next rule.
    jumping: HashSet<Ranges>,
}

impl Taken {
    fn relation(&self, ranges: &Ranges) -> Relation {
        let single = is_point(ranges);
        let over: Vec<_> = self
            .wide
            .iter()
            .chain(self.points.get(ranges))
            .chain(self.points.iter().filter(|_| !single))
            .filter(|other| overlap(ranges, other))
            .collect();
        if over.is_empty() {
            Relation::Apart
        } else if over.iter().any(|other| within(ranges, other)) && !over.iter().any(|o| self.jumping.contains(*o)) {
            Relation::Within
        } else {
            Relation::Overlaps
        }
    }

    fn take(&mut self, ranges: Ranges, jumps: bool) {
        if jumps {
            self.jumping.insert(ranges.clone());
        }
        if is_point(&ranges) {
            self.points.insert(ranges);
        } else {
            self.wide.push(ranges);
        }
    }
}

fn is_point(ranges: &Ranges) -> bool {
    ranges.iter().all(|(from, to)| from == to)
}

/// A rule as the fields of a set and the rest; none when it cannot be in a set.
fn split(rule: &Rule) -> Option<(Shape, Condition, Ranges)> {
    if !matches!(
        rule.action,
        RuleAction::Accept | RuleAction::Drop | RuleAction::Reject | RuleAction::Return | RuleAction::Jump { .. }
    ) {
        return None;
    }
    let mut rest = rule.condition.clone();
    let negated = |test: Option<bool>| test.unwrap_or_default();
    // The fields of the set are those of IPv4.
    let other = rest.ether_type.as_ref().is_some_and(|test| (test.value == IPV4) == test.inverted);
    if rest.inverted
        || other
        || negated(rest.source.as_ref().map(|test| test.inverted))
        || negated(rest.destination.as_ref().map(|test| test.inverted))
        || negated(rest.protocol.as_ref().map(|test| test.inverted))
        || negated(rest.source_port.as_ref().map(|test| test.inverted))
        || negated(rest.destination_port.as_ref().map(|test| test.inverted))
    {
        return None;
    }
    let some = |network: &Ipv4Network| network.prefix() != 0;
    let fields = [
        rest.source.take().map(|test| test.value).filter(some).map(network),
        rest.destination.take().map(|test| test.value).filter(some).map(network),
        rest.protocol.take().map(|test| (u32::from(test.value), u32::from(test.value))),
        rest.source_port.take().map(|test| ports(test.value)),
        rest.destination_port.take().map(|test| ports(test.value)),
    ];
    // Ports of ICMP are type and code, and without a protocol they may be either.
    let transport = fields[2].is_some_and(|(protocol, _)| [6, 17].contains(&protocol));
    let has_ports = fields[3].is_some() || fields[4].is_some();
    if (has_ports && !transport) || fields.iter().all(Option::is_none) {
        return None;
    }
    Some((fields.map(|field| field.is_some()), rest, fields.into_iter().flatten().collect()))
}

fn network(network: Ipv4Network) -> (u32, u32) {
    (network.network().into(), network.broadcast().into())
}

fn ports((from, to): (u16, u16)) -> (u32, u32) {
    (from.into(), to.into())
}

fn within(inner: &Ranges, outer: &Ranges) -> bool {
    inner.iter().zip(outer).all(|(inner, outer)| outer.0 <= inner.0 && inner.1 <= outer.1)
}

fn overlap(a: &Ranges, b: &Ranges) -> bool {
    a.iter().zip(b).all(|(a, b)| a.0 <= b.1 && b.0 <= a.1)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use atoll_model::topology::Test;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn rule(source: &str, port: (u16, u16), action: RuleAction) -> Rule {
        let condition = Condition {
            source: Some(Test::is(source.parse().expect("a network"))),
            protocol: Some(Test::is(6)),
            destination_port: Some(Test::is(port)),
            ..Condition::default()
        };
        Rule { id: Uuid::nil(), condition, action }
    }

    #[test]
    fn a_thousand_like_rules_are_one() {
        let rules: Vec<_> =
            (0..1000_u16).map(|n| rule(&format!("10.0.{}.{}", n / 250, n % 250), (n, n), RuleAction::Drop)).collect();
        let group = first(&rules).expect("a group");
        assert_eq!((group.length, &group.rest), (1000, &Condition::default()));
        assert!(!group.mixed);
        assert_eq!(group.fields, [Field::IpSource, Field::Transport, Field::DestinationPort]);
        assert_eq!(group.elements[1], (vec![(0x0a00_0001, 0x0a00_0001), (6, 6), (1, 1)], 1));
    }

    #[test]
    fn a_group_ends_where_fields_or_overlap_end_it() {
        let drop = |source: &str, port| rule(source, port, RuleAction::Drop);
        let four = || (0..4).map(|n| drop(&format!("10.0.{n}.0/24"), (80, 90))).collect::<Vec<_>>();
        let length = |extra: Rule| {
            let rules: Vec<_> = four().into_iter().chain([extra]).collect();
            first(&rules).map(|group| (group.length, group.elements.len()))
        };
        assert_eq!(length(drop("10.0.9.0/24", (80, 90))), Some((5, 5)));
        assert_eq!(length(drop("10.0.3.7/32", (81, 82))), Some((5, 4)), "within an earlier one: nothing to add");
        assert_eq!(length(drop("10.0.3.0/24", (85, 95))), Some((4, 4)), "overlaps");
        assert_eq!(length(drop("10.0.3.0/24", (91, 95))), Some((5, 5)));
        assert_eq!(length(rule("10.0.9.0/24", (80, 90), RuleAction::Accept)), Some((5, 5)), "it does something else");
        assert_eq!(length(rule("10.0.3.7", (81, 82), RuleAction::Accept)), Some((5, 4)), "the earlier one drops it");
        let mut negated = drop("10.0.9.0/24", (80, 90));
        negated.condition.inverted = true;
        assert_eq!(length(negated), Some((4, 4)));
        assert!(first(&four()[..3]).is_none());
        // Packets come back from a jump: what lies within has its turn.
        let jump = RuleAction::Jump { chain: Uuid::nil() };
        let jumps: Vec<_> = (0..4).map(|n| rule(&format!("10.0.{n}.0/24"), (80, 90), jump.clone())).collect();
        let with: Vec<_> = jumps.into_iter().chain([drop("10.0.3.7", (81, 82))]).collect();
        assert_eq!(first(&with).map(|group| (group.length, group.mixed)), Some((4, false)));
    }

    proptest! {
        /// Whatever the list: a packet meets the same rules one by one and in a group.
        #[test]
        fn a_group_does_what_its_rules_do_one_by_one(list in prop::collection::vec((0..8_u32, 29..=32_u8, 0..4_u16, 0..3_u16, 0..4_u8), 4..40)) {
            let rules: Vec<_> = list
                .iter()
                .map(|(host, length, port, more, action)| {
                    let action = match action {
                        0 => RuleAction::Accept,
                        1 => RuleAction::Return,
                        2 => RuleAction::Jump { chain: Uuid::nil() },
                        _ => RuleAction::Drop,
                    };
                    rule(&format!("{}/{length}", Ipv4Addr::from(0x0a00_0000 + host)), (*port, port + more), action)
                })
                .collect();
            let Some(group) = first(&rules) else { return Ok(()) };
            for (source, port) in (0..8).flat_map(|host| (0..8).map(move |port| (0x0a00_0000 + host, port))) {
                let packet = [source, 6, port];
                let meets = |ranges: &[(u32, u32)]| ranges.iter().zip(packet).all(|((from, to), it)| (*from..=*to).contains(&it));
                let mut one_by_one = Vec::new();
                for rule in &rules[..group.length] {
                    let (_, _, ranges) = split(rule).expect("like the others");
                    if meets(&ranges) {
                        one_by_one.push(&rule.action);
                        if !matches!(rule.action, RuleAction::Jump { .. }) {
                            break;
                        }
                    }
                }
                let found: Vec<_> = group.elements.iter().filter(|(ranges, _)| meets(ranges)).map(|(_, place)| &rules[*place].action).collect();
                prop_assert_eq!(found, one_by_one, "{:?}", packet);
            }
        }
    }
}
