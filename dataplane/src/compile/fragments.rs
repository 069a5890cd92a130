//! Fragment policies.
//!
//! MidoNet judges every fragment for itself: the first one has ports, later ones have none. Connection tracking puts a
//! datagram together before any chain sees it, and sends it on in fragments again. So a datagram that came in fragments
//! is marked before, and where the mark tells, a list of rules is evaluated twice: for the later fragments first, then
//! for the first one. The datagram passes when both do. Where nothing is put together, a rule asks the fragment itself.
//!
//! Rules that translate mean whole datagrams, whatever their policy: the kernel has put them together.

use atoll_model::topology::{Condition, Fragments, Rule};
use uuid::Uuid;

use super::condition::{Matches, Place};
use super::{View, jumps};

/// The datagram came in fragments and was put together.
pub(super) const PIECES: u32 = 0x40_0000;
/// Its later fragments are accepted: nothing more is asked of them in this list.
pub(super) const ACCEPTED: u32 = 0x80_0000;

/// What a list of rules is evaluated for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A whole packet, or the first fragment.
    First,
    /// Later fragments.
    Later,
}

/// The policy as alternatives. `ip`: nothing else can meet the rule.
pub(super) fn matches(policy: Fragments, place: &Place<'_>, piece: Piece, ip: bool) -> Matches {
    let raw = |condition: &str| {
        let other = (place.bridge && !ip).then(|| "ether type != ip".to_owned());
        other.into_iter().chain([condition.to_owned()]).collect()
    };
    let marked = format!("meta mark and {PIECES:#x} == 0");
    let all = || vec![String::new()];
    match (policy, piece) {
        (Fragments::Any, _) | (Fragments::NonHeader, Piece::Later) => all(),
        (_, Piece::Later) => Matches::new(),
        // Some stages of a bridge look before anything is put together, others after.
        (Fragments::NonHeader, _) if place.bridge || !place.whole => vec!["ip frag-off and 0x1fff != 0".to_owned()],
        (Fragments::NonHeader, _) => Matches::new(),
        (Fragments::Header, _) if place.bridge || !place.whole => raw("ip frag-off and 0x1fff == 0"),
        (Fragments::Header, _) => all(),
        (Fragments::Unfragmented, _) if !place.whole => raw("ip frag-off and 0x3fff == 0"),
        (Fragments::Unfragmented, _) if place.bridge => raw(&format!("ip frag-off and 0x3fff == 0 {marked}")),
        (Fragments::Unfragmented, _) => vec![marked],
    }
}

/// True when some rule of the chain, or of one that it can come to, tells the first fragment from later ones.
pub(super) fn tell(view: &View<'_>, chain: Uuid) -> bool {
    jumps::any(view, chain, |rule| {
        let asks = rule.condition.fragments != Fragments::Any || asks_ports(&rule.condition);
        asks && !jumps::is_translation(&rule.action)
    })
}

/// The rules that later fragments can meet.
pub(super) fn of_later(rules: &[Rule]) -> Vec<Rule> {
    let meets = |rule: &&Rule| {
        let Condition { fragments, inverted, .. } = rule.condition;
        let policy = matches!(fragments, Fragments::Any | Fragments::NonHeader);
        jumps::is_translation(&rule.action) || policy && (inverted || !asks_ports(&rule.condition))
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
