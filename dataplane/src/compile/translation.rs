//! What translations become: the statements that translate, and those that drop what was not translated.

use std::net::Ipv4Addr;

use atoll_model::topology::NatTarget;

use super::marks::{DESTINATION_TRANSLATED, REPLY, SOURCE_TRANSLATED, TRANSLATION};
use super::statement::{Field, Match, Statement, Translated, TranslationRange, Verdict};
use super::table::NftChain;

impl Translated {
    /// The bit of a flow's status that shows the translation.
    pub(super) fn status(self) -> u32 {
        match self {
            Self::Source => SOURCE_TRANSLATED,
            Self::Destination => DESTINATION_TRANSLATED,
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Self::Source => "snat",
            Self::Destination => "dnat",
        }
    }

    fn field(self) -> Field {
        match self {
            Self::Source => Field::IpSource,
            Self::Destination => Field::IpDestination,
        }
    }
}

/// One translation of a list of rules.
pub(super) struct Translation {
    /// Chains for the choice between several targets.
    pub(super) chains: Vec<NftChain>,
    /// The statement of the hook that translates.
    pub(super) translate: Statement,
    /// Statements behind the translation: they drop what it should have changed and did not.
    pub(super) untranslated: Vec<Statement>,
}

/// Translation `number` of a list: packets whose mark has the number are translated to one of `targets`.
pub(super) fn compile(number: u32, translated: Translated, targets: &[NatTarget]) -> Translation {
    let applies = vec![Match::mark_is(TRANSLATION, number), Match::translatable()];
    let mut chains = Vec::new();
    let verdict = if let [target] = targets {
        Verdict::Translate(translated, range(target))
    } else {
        // Each flow takes one of them.
        for (place, target) in targets.iter().enumerate() {
            let name = format!("t_{}_{number}_{place}", translated.verb());
            let verdict = Verdict::Translate(translated, range(target)).into();
            chains.push(NftChain::new(name, vec![Statement::Plain(vec![Match::translatable()], verdict)]));
        }
        Verdict::GotoOneOf(chains.iter().map(|chain| chain.name.clone()).collect())
    };
    // The kernel leaves alone what belongs to no flow, and flows that are older than the rule: neither may pass. Flows
    // that an earlier rule has translated stay as they are.
    let list = merged(targets).join(", ");
    let drops = |unchanged| {
        let marked = Match::mark_is(TRANSLATION | REPLY, number);
        let elsewhere = Match::lookup(translated.field(), true, format_args!("{{ {list} }}"));
        Statement::Plain(vec![marked, elsewhere, unchanged], Verdict::Drop.into())
    };
    let untranslated = vec![drops(Match::no_flow()), drops(Match::flow_status_lacks(translated.status()))];
    Translation { chains, translate: Statement::Plain(applies, verdict.into()), untranslated }
}

/// Drops the packets of a flow that the kernel still translates although no rule asks for it any more.
pub(super) fn outdated(translated: Translated) -> Statement {
    let matches = vec![
        Match::flow_status_has(translated.status()),
        Match::direction(false),
        Match::lookup(Field::FlowState, false, "established"),
        // A translation that has not happened yet has no status, and answers ask for none.
        Match::mark_lacks(TRANSLATION),
    ];
    Statement::Plain(matches, Verdict::Drop.into())
}

/// True when a target has no address or no port.
pub(super) fn has_empty_range(targets: &[NatTarget]) -> bool {
    let backwards = |target: &NatTarget| target.from > target.to || target.port_from > target.port_to;
    targets.is_empty() || targets.iter().any(backwards)
}

fn range(target: &NatTarget) -> TranslationRange {
    let ports = match (target.port_from, target.port_to) {
        (0, 0) => None,
        (from, to) => Some((from.max(1), to)),
    };
    TranslationRange { addresses: (target.from, target.to), ports }
}

/// All addresses of the targets as ranges that do not overlap, as the kernel wants them in a set.
fn merged(targets: &[NatTarget]) -> Vec<String> {
    let mut ranges: Vec<_> = targets.iter().map(|target| (target.from, target.to)).collect();
    ranges.sort_unstable();
    let mut merged: Vec<(Ipv4Addr, Ipv4Addr)> = Vec::new();
    for (from, to) in ranges {
        match merged.last_mut() {
            Some((_, last)) if u32::from(from) <= u32::from(*last).saturating_add(1) => *last = (*last).max(to),
            _ => merged.push((from, to)),
        }
    }
    let show = |(from, to)| if from == to { format!("{from}") } else { format!("{from}-{to}") };
    merged.into_iter().map(show).collect()
}
