//! Runs of like rules as one rule with a set, so that a thousand of them cost about what one does.
//!
//! Rules are alike when they do the same and ask the same fields, differing only in addresses, protocol and ports.
//! As they all do the same, their order does not matter. The kernel refuses sets whose elements overlap: what lies
//! within an earlier element is left out, what overlaps otherwise starts the next set.

use std::net::Ipv4Addr;

use atoll_model::topology::{Action, Condition, Rule};
use ipnetwork::Ipv4Network;

/// Fewer rules than this are written one by one: they are easier to read.
const WORTH_IT: usize = 4;

/// The first rules of a list as one.
pub(super) struct Run {
    /// How many rules it stands for.
    pub(super) length: usize,
    /// What they all ask beside the fields of the set.
    pub(super) rest: Condition,
    /// The match: the fields and their values.
    pub(super) matches: String,
}

/// Which fields a rule asks.
type Shape = [bool; 5];

/// First and last value of each field that is asked.
type Ranges = Vec<(u32, u32)>;

const FIELDS: [&str; 5] = ["ip saddr", "ip daddr", "meta l4proto", "th sport", "th dport"];

/// The run that `rules` begins with, if there is one that is worth it.
pub(super) fn first(rules: &[Rule]) -> Option<Run> {
    let (head, _) = rules.split_first()?;
    let (shape, rest, ranges) = split(head)?;
    let mut elements = vec![ranges];
    let mut length = 1;
    for rule in &rules[1..] {
        let Some((other, condition, ranges)) = split(rule) else { break };
        if other != shape || condition != rest || rule.action != head.action {
            break;
        }
        if !elements.iter().any(|element| within(&ranges, element)) {
            if elements.iter().any(|element| overlap(&ranges, element)) {
                break;
            }
            elements.push(ranges);
        }
        length += 1;
    }
    let fields: Vec<_> = FIELDS.iter().zip(shape).filter(|(_, asked)| *asked).map(|(field, _)| *field).collect();
    let values: Vec<_> = elements.iter().map(|ranges| value(&fields, ranges)).collect();
    let matches = format!("{} {{ {} }}", fields.join(" . "), values.join(", "));
    (length >= WORTH_IT).then_some(Run { length, rest, matches })
}

/// A rule as the fields of a set and the rest; none when it cannot be in a set.
fn split(rule: &Rule) -> Option<(Shape, Condition, Ranges)> {
    if !matches!(rule.action, Action::Accept | Action::Drop | Action::Reject | Action::Return) {
        return None;
    }
    let mut rest = rule.condition.clone();
    let negated = |test: Option<bool>| test.unwrap_or_default();
    if rest.inverted
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

fn value(fields: &[&str], ranges: &Ranges) -> String {
    let one = |(field, (from, to)): (&&str, &(u32, u32))| {
        let show = |value: u32| {
            if field.starts_with("ip ") { Ipv4Addr::from(value).to_string() } else { value.to_string() }
        };
        if from == to { show(*from) } else { format!("{}-{}", show(*from), show(*to)) }
    };
    fields.iter().zip(ranges).map(one).collect::<Vec<_>>().join(" . ")
}

#[cfg(test)]
mod tests {
    use atoll_model::topology::Test;
    use uuid::Uuid;

    use super::*;

    fn rule(source: &str, port: (u16, u16), action: Action) -> Rule {
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
            (0..1000_u16).map(|n| rule(&format!("10.0.{}.{}", n / 250, n % 250), (n, n), Action::Drop)).collect();
        let run = first(&rules).expect("a run");
        assert_eq!((run.length, run.rest), (1000, Condition::default()));
        assert!(run.matches.starts_with("ip saddr . meta l4proto . th dport { 10.0.0.0 . 6 . 0, 10.0.0.1 . 6 . 1, "));
    }

    #[test]
    fn a_run_ends_where_action_fields_or_overlap_end_it() {
        let drop = |source: &str, port| rule(source, port, Action::Drop);
        let four = || (0..4).map(|n| drop(&format!("10.0.{n}.0/24"), (80, 90))).collect::<Vec<_>>();
        let length = |extra: Rule| {
            let rules: Vec<_> = four().into_iter().chain([extra]).collect();
            first(&rules).map(|run| (run.length, run.matches.matches(',').count() + 1))
        };
        assert_eq!(length(drop("10.0.9.0/24", (80, 90))), Some((5, 5)));
        assert_eq!(length(drop("10.0.3.7/32", (81, 82))), Some((5, 4)), "within an earlier one: nothing to add");
        assert_eq!(length(drop("10.0.3.0/24", (85, 95))), Some((4, 4)), "overlaps");
        assert_eq!(length(drop("10.0.3.0/24", (91, 95))), Some((5, 5)));
        assert_eq!(length(rule("10.0.9.0/24", (80, 90), Action::Accept)), Some((4, 4)));
        let mut negated = drop("10.0.9.0/24", (80, 90));
        negated.condition.inverted = true;
        assert_eq!(length(negated), Some((4, 4)));
        assert!(first(&four()[..3]).is_none());
    }
}
