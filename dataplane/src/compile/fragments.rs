//! Fragment policies.
//!
//! MidoNet judges every fragment for itself: the first one has ports, later ones have none. Connection tracking
//! reassembles a datagram before any chain sees it, and sends it on in fragments again. So a datagram that came in
//! fragments is marked before reassembly, and where the mark is set, a list of rules is evaluated twice: for the later
//! fragments first, then for the first one. The datagram passes when both do. Where nothing is reassembled, a rule asks
//! the fragment itself.
//!
//! Rules that translate apply to whole datagrams, whatever their policy: the kernel has reassembled them.

use atoll_model::topology::{Condition, Fragments, Rule};
use uuid::Uuid;

use super::call_graph;
use super::condition::Alternatives;
use super::context::{ChainContext, FragmentClass};
use super::marks::REASSEMBLED;
use super::statement::{Field, Match};
use super::view::View;

/// Bits of the fragment field of IPv4: the offset, and the offset with "more fragments".
const OFFSET: u32 = 0x1fff;
/// See [`OFFSET`].
pub(super) const FRAGMENT: u32 = 0x3fff;

/// The policy as alternatives. `ip`: nothing else can meet the rule.
pub(super) fn matches(policy: Fragments, context: &ChainContext<'_>, class: FragmentClass, ip: bool) -> Alternatives {
    let raw = |matches: Vec<Match>| {
        let other = (context.bridge && !ip).then(|| vec![Match::compare(Field::EtherType, true, "ip")]);
        other.into_iter().chain([matches]).collect()
    };
    let unmarked = || Match::mark_lacks(REASSEMBLED);
    let all = || vec![Vec::new()];
    let asks_the_fragment = context.bridge || !context.reassembled;
    match (policy, class) {
        (Fragments::Any, _) | (Fragments::NonHeader, FragmentClass::Later) => all(),
        (_, FragmentClass::Later) => Alternatives::new(),
        // Some stages of a bridge come before reassembly, others after.
        (Fragments::NonHeader, _) if asks_the_fragment => vec![vec![Match::fragment_bits(false, OFFSET)]],
        (Fragments::NonHeader, _) => Alternatives::new(),
        (Fragments::Header, _) if asks_the_fragment => raw(vec![Match::fragment_bits(true, OFFSET)]),
        (Fragments::Header, _) => all(),
        (Fragments::Unfragmented, _) if !context.reassembled => raw(vec![Match::fragment_bits(true, FRAGMENT)]),
        (Fragments::Unfragmented, _) if context.bridge => raw(vec![Match::fragment_bits(true, FRAGMENT), unmarked()]),
        (Fragments::Unfragmented, _) => vec![vec![unmarked()]],
    }
}

/// True when some rule of the chain, or of one that it can come to, distinguishes the first fragment from later ones.
pub(super) fn distinguishes(view: &View<'_>, chain: Uuid) -> bool {
    call_graph::any(view, chain, |rule| {
        let asks = rule.condition.fragments != Fragments::Any || asks_ports(&rule.condition);
        asks && !call_graph::is_translation(&rule.action)
    })
}

/// The rules that later fragments can meet.
pub(super) fn of_later(rules: &[Rule]) -> Vec<Rule> {
    let meets = |rule: &&Rule| {
        let Condition { fragments, inverted, .. } = rule.condition;
        let policy = matches!(fragments, Fragments::Any | Fragments::NonHeader);
        call_graph::is_translation(&rule.action) || policy && (inverted || !asks_ports(&rule.condition))
    };
    rules.iter().filter(meets).cloned().collect()
}

/// The condition of a rule that translates.
pub(super) fn whole(condition: &Condition) -> Condition {
    let fragments = match condition.fragments {
        Fragments::NonHeader => Fragments::NonHeader,
        Fragments::Any | Fragments::Header | Fragments::Unfragmented => Fragments::Any,
    };
    Condition { fragments, ..condition.clone() }
}

fn asks_ports(condition: &Condition) -> bool {
    condition.source_port.is_some() || condition.destination_port.is_some()
}
