//! A list of rules as statements, with the chains that it jumps to.

use std::collections::{BTreeMap, BTreeSet};

use atoll_model::topology::{Chain, Condition, FlowAction, Fragments, NatTarget, Rule, RuleAction};
use uuid::Uuid;

use super::context::{ChainContext, FragmentClass, RejectMethod};
use super::groups::RuleGroup;
use super::marks::{ACCEPTED, LATER_ACCEPTED, REJECTED, UNMATCHED};
use super::statement::{
    ARP, Action, GroupElement, GroupLookup, IcmpError, MarkChange, Match, Statement, Translated, Verdict, line,
};
use super::table::NftChain;
use super::unsupported::Unsupported;
use super::{call_graph, condition, fragments, groups, names, translation};

/// What compiling lists of rules has added so far.
#[derive(Default)]
pub(super) struct Output {
    /// Chains that the lists jump to.
    pub(super) chains: Vec<NftChain>,
    /// The statements of the hook that translates.
    pub(super) translate: Vec<Statement>,
    /// What a translation should have changed and did not.
    pub(super) untranslated: Vec<Statement>,
    /// Some rule matches on flows or translates.
    pub(super) tracks: bool,
    /// Some rule asks whether a frame is ARP.
    pub(super) asks_arp: bool,
    /// Interfaces on which everything that leaves is translated.
    pub(super) translated: BTreeSet<String>,
    /// What could not be expressed.
    pub(super) unsupported: BTreeSet<Unsupported>,
    /// A rule that restricts could not be expressed.
    pub(super) closed: bool,
}

/// One way of meeting a rule: a packet that does not match `asks` has not met it.
#[derive(Clone, Default)]
struct Act {
    asks: Vec<Match>,
    action: Action,
}

impl<T: Into<Action>> From<T> for Act {
    fn from(action: T) -> Self {
        Self { asks: Vec::new(), action: action.into() }
    }
}

/// What the statements of a chain depend on beside its rules.
pub(super) fn variant(
    context: &ChainContext<'_>,
    after: bool,
    refusal: RejectMethod,
    class: FragmentClass,
) -> impl std::fmt::Debug {
    (context.bridge, context.input, context.output, after, refusal, class)
}

/// Compiles the lists of one chain of a device.
pub(super) struct Compiler<'a> {
    context: &'a ChainContext<'a>,
    pub(super) output: Output,
    /// How many translations there are so far.
    translations: u32,
    /// What the list is evaluated for.
    pub(super) class: FragmentClass,
    /// An *after* pass follows the one that is being compiled.
    pub(super) after: bool,
    /// What "reject" can do in this pass.
    pub(super) refusal: RejectMethod,
    /// Chains that stand for a verdict and were written already, by name.
    verdict_chains: BTreeSet<String>,
    /// Chains that are jumped to and were written already, by name: how many jumps are nested inside them.
    heights: BTreeMap<String, usize>,
    /// How many jumps are nested inside the chain that is being written.
    height: usize,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(context: &'a ChainContext<'a>) -> Self {
        Self {
            context,
            output: Output::default(),
            translations: 0,
            class: FragmentClass::First,
            after: false,
            refusal: context.refusal,
            verdict_chains: BTreeSet::new(),
            heights: BTreeMap::new(),
            height: 0,
        }
    }

    /// Rules as statements. `path`: the chains that are being evaluated, outermost first.
    pub(super) fn rules(&mut self, mut rules: &[Rule], path: &[Uuid]) -> Vec<Statement> {
        let mut statements = Vec::new();
        while let Some(rule) = rules.first() {
            let group =
                groups::first(rules).filter(|group| condition::compile(&group.rest, self.context, self.class).is_ok());
            let length = group.as_ref().map_or(1, |group| group.length);
            match group {
                Some(group) => statements.extend(self.group(group, rules, path)),
                None => statements.extend(self.rule(rule, path)),
            }
            let jumps = |rule: &Rule| matches!(rule.action, RuleAction::Jump { .. });
            if self.class == FragmentClass::Later && rules[..length].iter().any(jumps) {
                let accepted = vec![Match::mark_has(LATER_ACCEPTED)];
                statements.push(Statement::Plain(accepted, Verdict::Return.into()));
            }
            rules = &rules[length..];
        }
        statements
    }

    /// The first of `rules` as one with a set, or with a map from what is asked to what is done.
    fn group(&mut self, group: RuleGroup, rules: &[Rule], path: &[Uuid]) -> Vec<Statement> {
        let mut actions = vec![Act::default()];
        if !group.mixed {
            let Some(same) = self.actions(&rules[0], path) else { return Vec::new() };
            actions = same;
            // What is in the set is IP: nothing is left for another.
            actions.truncate(1);
            actions[0].asks.clear();
        }
        let mut known: Vec<(&RuleAction, Option<Verdict>)> = Vec::new();
        let mut elements = Vec::new();
        for (ranges, place) in group.elements {
            let rule = &rules[place];
            let mut verdict = None;
            if group.mixed {
                let earlier = known.iter().find(|(action, _)| **action == rule.action);
                let earlier = earlier.map(|(_, verdict)| verdict.clone());
                verdict = earlier.unwrap_or_else(|| {
                    let verdict = self.verdict(rule, path);
                    known.push((&rule.action, verdict.clone()));
                    verdict
                });
                if verdict.is_none() {
                    continue;
                }
            }
            elements.push(GroupElement { ranges, rule: rule.id, verdict });
        }
        if elements.is_empty() {
            return Vec::new();
        }
        let lookup = GroupLookup { fields: group.fields, elements };
        // Only IP has the fields of the set.
        let family = self.context.bridge.then(Match::ipv4);
        self.lines(&group.rest, family.as_ref(), &actions, &|matches, action| {
            Statement::Group(matches, lookup.clone(), action)
        })
    }

    /// What a rule does, as an element of a map: a verdict, or a chain of its own.
    fn verdict(&mut self, rule: &Rule, path: &[Uuid]) -> Option<Verdict> {
        let actions = self.actions(rule, path)?;
        if let [Act { asks, action }] = actions.as_slice()
            && asks.is_empty()
            && let Some(verdict) = action.map_element()
        {
            return Some(verdict.clone());
        }
        let lines: Vec<_> = actions.iter().map(|act| line(&act.asks, &[], &act.action)).collect();
        let name = format!("v_{}", names::digits(lines.join("\n").as_bytes()));
        if self.verdict_chains.insert(name.clone()) {
            let statements = actions.into_iter().map(|act| Statement::Plain(act.asks, act.action)).collect();
            self.output.chains.push(NftChain::new(name.clone(), statements));
        }
        Some(Verdict::Goto(name))
    }

    fn rule(&mut self, rule: &Rule, path: &[Uuid]) -> Vec<Statement> {
        if let Err(error) = condition::compile(&rule.condition, self.context, self.class) {
            self.refuse(rule, &error.field, error.why);
            return Vec::new();
        }
        let Some(actions) = self.actions(rule, path) else { return Vec::new() };
        let counted = |matches, action| Statement::Counted(rule.id, matches, action);
        if call_graph::is_translation(&rule.action) {
            let condition = fragments::whole(&rule.condition);
            let class = std::mem::replace(&mut self.class, FragmentClass::First);
            let statements = self.lines(&condition, None, &actions, &counted);
            self.class = class;
            return statements;
        }
        self.lines(&rule.condition, None, &actions, &counted)
    }

    /// What a rule does: alternatives, each for what the one before leaves.
    fn actions(&mut self, rule: &Rule, path: &[Uuid]) -> Option<Vec<Act>> {
        let act = self.action(rule, path)?;
        Some(match (&rule.action, self.refusal) {
            // Only IP has an answer.
            (RuleAction::Reject, RejectMethod::Mark) if self.class == FragmentClass::First => {
                vec![Act { asks: vec![Match::ipv4()], ..act }, Verdict::Drop.into()]
            }
            _ => vec![act],
        })
    }

    /// A condition that can be expressed, with the family that only IP meets, and what is done. `statement` makes the
    /// statement that counts from what is asked and done.
    fn lines(
        &mut self,
        condition: &Condition,
        family: Option<&Match>,
        actions: &[Act],
        statement: &dyn Fn(Vec<Match>, Action) -> Statement,
    ) -> Vec<Statement> {
        self.output.tracks |= condition.forward_flow || condition.return_flow;
        // Never negated with the rest.
        let ip = condition::is_ip(condition, self.context) || family.is_some();
        let fragments = fragments::matches(condition.fragments, self.context, self.class, ip);
        let alternatives = condition::compile(condition, self.context, self.class).unwrap_or_default();
        let arp = condition.ether_type.as_ref().is_some_and(|test| test.value == ARP);
        self.output.asks_arp |= arp && self.context.bridge && !alternatives.is_empty();
        let mut statements = Vec::new();
        let unmatched = vec![Match::mark_has(UNMATCHED)];
        if condition.inverted {
            // The mark holds "not matched" until an alternative clears it; then the action applies to what is left.
            statements.push(Statement::always(MarkChange::Set(UNMATCHED)));
            let clear =
                |alternative: &Vec<Match>| Statement::Plain(alternative.clone(), MarkChange::Clear(UNMATCHED).into());
            statements.extend(alternatives.iter().map(clear));
        }
        let alternatives = if condition.inverted { std::slice::from_ref(&unmatched) } else { &alternatives };
        for fragment in &fragments {
            for alternative in alternatives {
                for Act { asks, action } in actions {
                    let matches = fragment.iter().chain(alternative).chain(family).chain(asks).cloned().collect();
                    statements.push(statement(matches, action.clone()));
                }
            }
        }
        statements
    }

    fn action(&mut self, rule: &Rule, path: &[Uuid]) -> Option<Act> {
        let top = path.len() == 1;
        Some(match &rule.action {
            RuleAction::Accept => self.accept().into(),
            RuleAction::Return if top => self.accept().into(),
            RuleAction::Return => Verdict::Return.into(),
            // A fragment that is not the first is never answered (RFC 1122, section 3.2.2).
            RuleAction::Reject if self.class == FragmentClass::Later => Verdict::Drop.into(),
            RuleAction::Reject => match self.refusal {
                RejectMethod::Answer => Verdict::Reject(IcmpError::AdminProhibited).into(),
                RejectMethod::Mark => Action::mark_and(MarkChange::Set(REJECTED), Verdict::Accept).into(),
                RejectMethod::Silent => {
                    let effect = "the packet is dropped and its sender gets no answer";
                    self.note(rule, "type", "this stage cannot answer", effect, false);
                    Verdict::Drop.into()
                }
            },
            RuleAction::Drop => Verdict::Drop.into(),
            RuleAction::Jump { chain } => {
                // A chain that is being evaluated already is skipped, one that does not exist accepts nothing.
                if path.contains(chain) {
                    return None;
                }
                let target = self.context.view.chain(*chain)?;
                match self.chain(*chain, target, path) {
                    Ok(name) => Verdict::Jump(name).into(),
                    Err(why) => {
                        self.refuse(rule, "jumpChainId", why);
                        return None;
                    }
                }
            }
            _ if !self.context.translates && call_graph::translates(self.context.view, &rule.action) => {
                self.refuse(rule, "type", "packets are translated by a router's own chains only");
                return None;
            }
            RuleAction::Snat { then, .. } | RuleAction::Dnat { then, .. } if self.class == FragmentClass::Later => {
                let action = match then {
                    FlowAction::Continue => return None,
                    FlowAction::Return if !top => Verdict::Return.into(),
                    FlowAction::Accept | FlowAction::Return => self.accept(),
                };
                Act { asks: vec![Match::translatable()], action }
            }
            RuleAction::Snat { targets, then } if self.context.routed() => {
                self.translate(rule, Translated::Source, targets, *then, top)?
            }
            RuleAction::Dnat { targets, then } if !self.context.routed() => {
                self.translate(rule, Translated::Destination, targets, *then, top)?
            }
            RuleAction::Snat { .. } | RuleAction::Dnat { .. } => {
                self.refuse(rule, "type", "the kernel translates sources after and destinations before routing");
                return None;
            }
            RuleAction::ReverseSnat { then } => self.reverse(Translated::Source, *then, top),
            RuleAction::ReverseDnat { then } => self.reverse(Translated::Destination, *then, top),
            RuleAction::Other { kind } => {
                self.refuse(rule, "type", format!("rules of kind {kind} are not known"));
                return None;
            }
        })
    }

    fn accept(&self) -> Action {
        if self.class == FragmentClass::Later {
            return Action::mark_and(MarkChange::Set(LATER_ACCEPTED), Verdict::Return);
        }
        if self.after { Action::mark_and(MarkChange::Set(ACCEPTED), Verdict::Accept) } else { Verdict::Accept.into() }
    }

    /// A chain that is jumped to, written once for each set of chains that must be skipped inside it.
    fn chain(&mut self, id: Uuid, chain: &Chain, path: &[Uuid]) -> Result<String, &'static str> {
        const TOO_DEEP: &str = "jumps nest deeper than the kernel follows";
        let reached = call_graph::reached(self.context.view, id);
        let skipped: BTreeSet<_> = path.iter().filter(|id| reached.contains(id)).collect();
        let mut key: Vec<u8> = [&id].into_iter().chain(skipped).flat_map(|id| *id.as_bytes()).collect();
        key.extend(format!("{:?}", variant(self.context, self.after, self.refusal, self.class)).into_bytes());
        let name = format!("c_{}", names::digits(&key));
        if !self.heights.contains_key(&name) {
            if path.len() > call_graph::DEEPEST {
                return Err(TOO_DEEP);
            }
            if self.heights.len() >= call_graph::MOST {
                return Err("jumps that lead back to each other can be followed in too many ways");
            }
            self.heights.insert(name.clone(), 0);
            let outer = std::mem::take(&mut self.height);
            let path = [path, &[id]].concat();
            let statements = match self.class {
                FragmentClass::First => self.rules(&chain.rules, &path),
                FragmentClass::Later => self.rules(&fragments::of_later(&chain.rules), &path),
            };
            self.heights.insert(name.clone(), std::mem::replace(&mut self.height, outer));
            self.output.chains.push(NftChain::new(name.clone(), statements));
        }
        let height = 1 + self.heights[&name];
        if path.len() - 1 + height > call_graph::DEEPEST {
            return Err(TOO_DEEP);
        }
        self.height = self.height.max(height);
        Ok(name)
    }

    fn translate(
        &mut self,
        rule: &Rule,
        translated: Translated,
        targets: &[NatTarget],
        then: FlowAction,
        top: bool,
    ) -> Option<Act> {
        if translation::has_empty_range(targets) {
            self.refuse(rule, "natTargets", "a range of addresses or ports is empty");
            return None;
        }
        if !top && then != FlowAction::Accept {
            self.refuse(rule, "flowAction", "a translation inside a jump must accept");
            return None;
        }
        self.output.tracks = true;
        self.translations += 1;
        let number = self.translations;
        let compiled = translation::compile(number, translated, targets);
        self.output.chains.extend(compiled.chains);
        self.output.translate.push(compiled.translate);
        self.output.untranslated.extend(compiled.untranslated);
        if translated == Translated::Source && everything_that_leaves(rule) {
            let ports = rule.condition.out_ports.iter().flat_map(|test| &test.value);
            self.output.translated.extend(ports.filter_map(|port| (self.context.interface)(*port)));
        }
        let accepted = if self.after && then != FlowAction::Continue { ACCEPTED } else { 0 };
        let action = Action::mark_and(MarkChange::Set(number | accepted), Verdict::Accept);
        Some(Act { asks: vec![Match::translatable()], action })
    }

    /// The kernel has undone the translation, or will, by itself; the rule only decides what follows.
    fn reverse(&mut self, translated: Translated, then: FlowAction, top: bool) -> Act {
        self.output.tracks = true;
        let action = match then {
            FlowAction::Continue => Verdict::Continue.into(),
            FlowAction::Return if !top => Verdict::Return.into(),
            FlowAction::Accept | FlowAction::Return => self.accept(),
        };
        Act { asks: vec![Match::direction(true), Match::flow_status_has(translated.status())], action }
    }

    /// Notes that a rule cannot be expressed. What only lets pass can be left out; whatever restricts or rewrites closes.
    pub(super) fn refuse(&mut self, rule: &Rule, field: &str, why: impl Into<String>) {
        let permits = match &rule.action {
            RuleAction::Accept | RuleAction::Return => true,
            RuleAction::Other { kind } => kind == "trace",
            _ => false,
        };
        let device = match (self.context.bridge, self.context.translates) {
            (true, _) => "the ports it filters stay inactive",
            (false, true) => "nothing passes the router",
            (false, false) => "nothing passes the port",
        };
        let effect = if permits { "the rule is left out" } else { device };
        self.output.closed |= !permits;
        self.note(rule, field, why, effect, !permits);
    }

    fn note(&mut self, rule: &Rule, field: &str, why: impl Into<String>, effect: &str, closes: bool) {
        let (field, why, effect) = (field.to_owned(), why.into(), effect.to_owned());
        self.output.unsupported.insert(Unsupported { object: rule.id, field, why, effect, closes });
    }
}

/// True when the rule's only question is the port that packets leave through.
fn everything_that_leaves(rule: &Rule) -> bool {
    let mut rest = rule.condition.clone();
    rest.out_ports = None;
    rest.fragments = Fragments::Any;
    rule.condition.out_ports.as_ref().is_some_and(|test| !test.inverted) && rest == Condition::default()
}
