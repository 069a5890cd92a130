//! A chain of a device as statements of nftables.
//!
//! MidoNet evaluates one list in which translations stand between filters. The kernel decides about a translation
//! once per flow, in hooks of its own. So a list becomes up to three passes:
//!
//! 1. *before*: everything up to the last translation. A translation that applies leaves its number in the mark;
//! 2. *translate*: by the number (only the first packet of a flow gets here, the kernel repeats it for the
//!    rest and undoes it for what returns);
//! 3. *after*: what stands behind the last translation, unless the packet was accepted already.

use std::collections::BTreeSet;

use atoll_model::topology::{FlowAction, Rule, RuleAction};
use uuid::Uuid;

use super::context::{ChainContext, FragmentClass, RejectMethod};
use super::fragments::FRAGMENT;
use super::marks::{ACCEPTED, LATER_ACCEPTED, REASSEMBLED};
use super::rule_list::{Compiler, Output, variant};
use super::statement::{MarkChange, Match, Statement, Verdict};
use super::table::NftChain;
use super::unsupported::Unsupported;
use super::{call_graph, fragments, names};

/// A chain of a device, compiled.
#[derive(Default)]
pub(super) struct Passes {
    /// The chains that the passes jump to.
    pub(super) chains: Vec<NftChain>,
    /// The statements of the first pass.
    pub(super) before: Vec<Statement>,
    /// The statements of the translation.
    pub(super) translate: Vec<Statement>,
    /// The statements of the last pass.
    pub(super) after: Vec<Statement>,
    /// What a translation should have changed and did not: behind the translation, before the last pass.
    pub(super) untranslated: Vec<Statement>,
    /// Some rule matches on flows or translates.
    pub(super) tracks: bool,
    /// Some rule asks whether a datagram that was reassembled came in fragments.
    pub(super) asks_fragments: bool,
    /// Some rule asks whether a frame is ARP.
    pub(super) asks_arp: bool,
    /// Interfaces on which everything that leaves is translated: what enters there must belong to a translation.
    pub(super) translated: BTreeSet<String>,
    /// What could not be expressed.
    pub(super) unsupported: BTreeSet<Unsupported>,
    /// A rule that restricts could not be expressed: nothing may pass.
    pub(super) closed: bool,
}

/// Compiles the chain `root` of a device. None, or one that does not exist, accepts everything.
pub(super) fn compile(root: Option<Uuid>, context: &ChainContext<'_>) -> Passes {
    let Some((root, chain)) = root.and_then(|id| Some((id, context.view.chain(id)?))) else { return Passes::default() };
    let mut compiler = Compiler::new(context);
    let translates = |rule: &Rule| call_graph::translates(context.view, &rule.action);
    let split = chain.rules.iter().rposition(translates).map_or(0, |last| last + 1);
    let (before, after) = chain.rules.split_at(split);
    // Without a translation there is one pass, and it is the first.
    let (before, after) = if split == 0 { (after, before) } else { (before, after) };
    refuse_between(&mut compiler, context, before);
    let asks_fragments = context.reassembled && fragments::distinguishes(context.view, root);
    let mut bodies = both(&mut compiler, context, [before, after], root);
    if asks_fragments {
        compiler.class = FragmentClass::Later;
        later(&mut compiler, context, [before, after], root, &mut bodies);
    }
    let [before, mut after] = bodies;
    if !after.is_empty() {
        after.insert(0, Statement::Plain(vec![Match::mark_has(ACCEPTED)], Verdict::Accept.into()));
    }
    let Output { chains, translate, untranslated, tracks, asks_arp, translated, unsupported, closed } = compiler.output;
    Passes {
        chains,
        before,
        translate,
        after,
        untranslated,
        tracks,
        asks_fragments,
        asks_arp,
        translated,
        unsupported,
        closed,
    }
}

/// The statements of the first and the last pass.
fn both(
    compiler: &mut Compiler<'_>,
    context: &ChainContext<'_>,
    [before, after]: [&[Rule]; 2],
    root: Uuid,
) -> [Vec<Statement>; 2] {
    let refusal = compiler.refusal;
    compiler.after = !after.is_empty();
    let before = compiler.rules(before, &[root]);
    compiler.after = false;
    if context.routed() {
        // Behind the translation an answer would not reach the sender.
        compiler.refusal = RejectMethod::Silent;
    }
    let after = compiler.rules(after, &[root]);
    compiler.refusal = refusal;
    [before, after]
}

/// Both passes once more, for later fragments of datagrams that were reassembled: they come first in each pass.
fn later(
    compiler: &mut Compiler<'_>,
    context: &ChainContext<'_>,
    [before, after]: [&[Rule]; 2],
    root: Uuid,
    passes: &mut [Vec<Statement>; 2],
) {
    let written = compiler.output.chains.len();
    let (before, after) = (fragments::of_later(before), fragments::of_later(after));
    let bodies = both(compiler, context, [&before, &after], root);
    let chains = &mut compiler.output.chains;
    if !bodies.iter().flatten().any(Statement::drops) && !chains[written..].iter().any(NftChain::drops) {
        // They are accepted whatever they are.
        chains.truncate(written);
        return;
    }
    let [before, after] = bodies;
    let begin = Statement::always(MarkChange::Clear(LATER_ACCEPTED));
    let done = Statement::Plain(vec![Match::mark_has(LATER_ACCEPTED)], Verdict::Return.into());
    let [first_pass, last_pass] = passes;
    let last = (!after.is_empty()).then_some((last_pass, done, after, "after"));
    for (pass, head, body, place) in [(first_pass, begin, before, "before")].into_iter().chain(last) {
        let key = format!("{root} {place} {:?}", variant(context, false, compiler.refusal, FragmentClass::Later));
        let name = format!("l_{}", names::digits(key.as_bytes()));
        chains.push(NftChain::new(name.clone(), [head].into_iter().chain(body).collect()));
        // What a router has sent on in fragments again is judged fragment by fragment.
        let whole = context.bridge.then(|| Match::fragment_bits(true, FRAGMENT));
        let matches = whole.into_iter().chain([Match::mark_has(REASSEMBLED)]).collect();
        pass.insert(0, Statement::Plain(matches, Verdict::Jump(name).into()));
    }
}

/// A rule between two translations would have to see what the first one made of the packet.
fn refuse_between(compiler: &mut Compiler<'_>, context: &ChainContext<'_>, rules: &[Rule]) {
    // What has been translated by the time a rule is asked; a forward translation ends the pass.
    let (mut translated, mut source, mut destination) = (false, false, false);
    for rule in rules {
        let nat = call_graph::translates(context.view, &rule.action);
        let back = matches!(rule.action, RuleAction::ReverseSnat { .. } | RuleAction::ReverseDnat { .. });
        let asks = |rule: &Rule| {
            let it = &rule.condition;
            source && (it.source.is_some() || it.source_group.is_some() || it.source_port.is_some())
                || destination
                    && (it.destination.is_some() || it.destination_group.is_some() || it.destination_port.is_some())
        };
        let jumped = |chain| call_graph::any(context.view, chain, asks);
        let sees = asks(rule) || matches!(rule.action, RuleAction::Jump { chain } if jumped(chain));
        if translated && !back || sees && !nat {
            compiler.refuse(rule, "position", "a rule between two translations sees the packet untranslated");
        }
        match rule.action {
            RuleAction::Snat { then: FlowAction::Continue, .. }
            | RuleAction::Dnat { then: FlowAction::Continue, .. } => {
                translated = true;
            }
            RuleAction::ReverseSnat { then: FlowAction::Continue } => destination = true,
            RuleAction::ReverseDnat { then: FlowAction::Continue } => source = true,
            _ => {}
        }
    }
}
