//! Chains as nftables chains.
//!
//! MidoNet evaluates one list in which translations stand between filters. The kernel decides about a translation
//! once per flow, in hooks of its own. So a list becomes up to three passes:
//!
//! 1. *before*: everything up to the last translation. A translation that applies leaves its number in the mark;
//! 2. *translate*: what the number says (only the first packet of a flow gets here, the kernel repeats it for the
//!    rest and undoes it for what returns);
//! 3. *after*: what stands behind the last translation, unless the packet was accepted already.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::Ipv4Addr;

use atoll_model::topology::{Action, Chain, Condition, Flow, Fragments, NatTarget, Rule};
use uuid::Uuid;

use super::condition::{self, Place, REPLY, Refusal};
use super::counting::{self, Elements};
use super::runs::{self, Run};
use super::{Unsupported, View, names};

/// The packet was accepted before the *after* pass.
const ACCEPTED: u32 = 0x2_0000;
/// Scratch bit for conditions that are negated as a whole.
const HELD: u32 = 0x4_0000;
/// The packet is being routed; without it, it is the router's own, which passes no chain.
pub(super) const ROUTED: u32 = 0x8_0000;
/// A chain of a bridge or its port refused the packet: the router's hooks tell its sender.
pub(super) const REFUSED: u32 = 0x10_0000;
/// Which translation applies.
const NUMBER: u32 = 0xffff;

/// What a rejected packet's sender is told, as MidoNet tells it: ICMP 3, code 13.
pub(super) const ANSWER: &str = "reject with icmp type admin-prohibited";

/// Asks a frame whether it is IP.
const IP: &str = "ether type ip";

/// Protocols that can be translated; rules of translation do not apply to others.
const TRANSLATABLE: &str = "meta l4proto { tcp, udp, icmp }";

/// A router's chain, compiled.
#[derive(Default)]
pub(super) struct Passes {
    /// Definitions of the chains that the passes jump to.
    pub(super) chains: String,
    /// The statements of the first pass.
    pub(super) before: String,
    /// The statements of the translation.
    pub(super) translate: String,
    /// The statements of the last pass.
    pub(super) after: String,
    /// What a translation should have changed and did not: behind the translation, before the last pass.
    pub(super) untranslated: String,
    /// Some rule looks at flows or translates.
    pub(super) tracks: bool,
    /// Interfaces on which everything that leaves is translated: what enters there must belong to a translation.
    pub(super) translated: BTreeSet<String>,
    /// What could not be expressed.
    pub(super) unsupported: BTreeSet<Unsupported>,
    /// A rule that restricts could not be expressed: nothing may pass.
    pub(super) closed: bool,
}

/// Compiles the chain `root` of a router. None, or one that does not exist, accepts everything.
pub(super) fn compile(root: Option<Uuid>, place: &Place<'_>) -> Passes {
    let mut compiler = Compiler {
        place,
        passes: Passes::default(),
        numbers: 0,
        done: BTreeSet::new(),
        after: false,
        refusal: place.refusal,
    };
    let Some(chain) = root.and_then(|id| place.view.chain(id)) else { return compiler.passes };
    let root = root.unwrap_or_default();
    let split = chain
        .rules
        .iter()
        .rposition(|rule| translates(place.view, &rule.action, &mut BTreeSet::new()))
        .map_or(0, |last| last + 1);
    let (before, after) = chain.rules.split_at(split);
    // Without a translation there is one pass, and it is the first.
    let (before, after) = if split == 0 { (after, before) } else { (before, after) };
    compiler.after = !after.is_empty();
    compiler.refuse_between(before);
    let before = compiler.rules(before, &[root]);
    compiler.after = false;
    if place.routed() {
        // Behind the translation nobody can be answered.
        compiler.refusal = Refusal::Silent;
    }
    let after = compiler.rules(after, &[root]);
    if !after.is_empty() {
        let routed = if place.routed() { format!("meta mark and {ROUTED:#x} == 0 accept\n") } else { String::new() };
        compiler.passes.after = format!("{routed}meta mark and {ACCEPTED:#x} != 0 accept\n{after}");
    }
    compiler.passes.before = before;
    compiler.passes
}

/// What a rule does.
#[derive(Clone, Default)]
struct Act {
    /// What it asks beside its condition. A packet that does not meet this has not met the rule.
    asks: String,
    /// Statements and verdict.
    acts: String,
}

impl From<&str> for Act {
    fn from(acts: &str) -> Self {
        acts.to_owned().into()
    }
}

impl From<String> for Act {
    fn from(acts: String) -> Self {
        Self { asks: String::new(), acts }
    }
}

struct Compiler<'a> {
    place: &'a Place<'a>,
    passes: Passes,
    numbers: u32,
    /// Chains that were written already, by name.
    done: BTreeSet<String>,
    /// An *after* pass follows the one being compiled.
    after: bool,
    /// What "reject" can do in this pass.
    refusal: Refusal,
}

impl Compiler<'_> {
    /// Rules as statements, a line each. `path`: the chains that are being evaluated, outermost first.
    fn rules(&mut self, mut rules: &[Rule], path: &[Uuid]) -> String {
        let mut lines = String::new();
        while let Some((rule, rest)) = rules.split_first() {
            let run = runs::first(rules).filter(|run| condition::compile(&run.rest, self.place).is_ok());
            if let Some(run) = run {
                lines.push_str(&self.run(&run, rules, path));
                rules = &rules[run.length..];
            } else {
                lines.push_str(&self.rule(rule, path));
                rules = rest;
            }
        }
        lines
    }

    /// The first of `rules` as one with a set, or with a map from what is asked to what is done.
    fn run(&mut self, run: &Run, rules: &[Rule], path: &[Uuid]) -> String {
        // Only IP has the fields of the set.
        let family = if self.place.bridge { IP } else { "" };
        let mut actions = vec![Act::default()];
        if !run.mixed {
            let Some(same) = self.actions(&rules[0], path) else { return String::new() };
            actions = same;
            // What is in the set is IP: nothing is left for another.
            actions.truncate(1);
            actions[0].asks.clear();
        }
        let mut known: Vec<(&Action, Option<String>)> = Vec::new();
        let mut list = Vec::new();
        for (value, place) in &run.elements {
            let rule = &rules[*place];
            let mut verdict = None;
            if run.mixed {
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
            list.push((value.clone(), rule.id, verdict));
        }
        if list.is_empty() {
            return String::new();
        }
        let elements = Elements { fields: run.fields.clone(), types: run.types.clone(), list };
        self.lines(&run.rest, family, &actions, &|matches, acts| counting::run(matches, acts, &elements))
    }

    /// What a rule does, as a verdict: that of the kernel, or a chain of its own.
    fn verdict(&mut self, rule: &Rule, path: &[Uuid]) -> Option<String> {
        let actions = self.actions(rule, path)?;
        match actions.as_slice() {
            [Act { asks, acts }]
                if asks.is_empty()
                    && (["accept", "drop", "return"].contains(&acts.as_str()) || acts.starts_with("jump ")) =>
            {
                Some(acts.clone())
            }
            several => {
                let body = several.iter().map(|act| format!("{} {}", act.asks, act.acts).trim().to_owned());
                let body = body.collect::<Vec<_>>().join("\n");
                let name = format!("v_{}", names::digits(body.as_bytes()));
                if self.done.insert(name.clone()) {
                    let _ = write!(self.passes.chains, "chain {name} {{\n{body}\n}}\n");
                }
                Some(format!("goto {name}"))
            }
        }
    }

    fn rule(&mut self, rule: &Rule, path: &[Uuid]) -> String {
        if let Err(error) = condition::compile(&rule.condition, self.place) {
            self.refuse(rule, &error.field, error.why);
            return String::new();
        }
        let Some(actions) = self.actions(rule, path) else { return String::new() };
        self.lines(&rule.condition, "", &actions, &|matches, acts| counting::rule(matches, acts, rule.id))
    }

    /// What a rule does: alternatives, each for what the one before leaves.
    fn actions(&mut self, rule: &Rule, path: &[Uuid]) -> Option<Vec<Act>> {
        let act = self.action(rule, path)?;
        Some(match (&rule.action, self.refusal) {
            // Only IP has an answer.
            (Action::Reject, Refusal::Mark) => vec![Act { asks: IP.to_owned(), ..act }, "drop".into()],
            _ => vec![act],
        })
    }

    /// A condition that can be expressed, with a further match, and what is done. `mark` makes the line of what is asked
    /// and done one that counts.
    fn lines(
        &mut self,
        condition: &Condition,
        further: &str,
        actions: &[Act],
        mark: &dyn Fn(&str, &str) -> String,
    ) -> String {
        self.passes.tracks |= condition.forward_flow || condition.return_flow;
        // Never negated with the rest.
        let fragments = condition::fragments(condition.fragments, self.place);
        let alternatives = condition::compile(condition, self.place).unwrap_or_default();
        let mut lines = String::new();
        let held = format!("meta mark and {HELD:#x} != 0");
        if condition.inverted {
            // The mark holds "not matched" until an alternative clears it; then the action applies to what is left.
            let _ = writeln!(lines, "meta mark set meta mark or {HELD:#x}");
            for alternative in &alternatives {
                let clear = format!("{alternative} meta mark set meta mark and {:#x}", !HELD);
                let _ = writeln!(lines, "{}", clear.trim());
            }
        }
        let alternatives = if condition.inverted { std::slice::from_ref(&held) } else { &alternatives };
        for fragment in &fragments {
            for alternative in alternatives {
                for act in actions {
                    let parts = [fragment, alternative, further, &act.asks];
                    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                    let _ = writeln!(lines, "{}", mark(&parts.join(" "), &act.acts));
                }
            }
        }
        lines
    }

    fn action(&mut self, rule: &Rule, path: &[Uuid]) -> Option<Act> {
        let top = path.len() == 1;
        Some(match &rule.action {
            Action::Accept => self.accept().into(),
            Action::Return if top => self.accept().into(),
            Action::Return => "return".into(),
            Action::Reject => match self.refusal {
                Refusal::Answer => ANSWER.into(),
                Refusal::Mark => format!("meta mark set meta mark or {REFUSED:#x} accept").into(),
                Refusal::Silent => {
                    let effect = "the packet is dropped and its sender not told";
                    self.note(rule, "type", "this stage cannot answer", effect, false);
                    "drop".into()
                }
            },
            Action::Drop => "drop".into(),
            Action::Jump { chain } => {
                // A chain that is being evaluated already is skipped, one that does not exist accepts nothing.
                if path.contains(chain) {
                    return None;
                }
                let target = self.place.view.chain(*chain)?;
                format!("jump {}", self.chain(*chain, target, path)).into()
            }
            _ if !self.place.translates && translates(self.place.view, &rule.action, &mut BTreeSet::new()) => {
                self.refuse(rule, "type", "packets are translated by a router's own chains only");
                return None;
            }
            Action::Snat { targets, then } if self.place.routed() => {
                self.translate(rule, "snat", targets, *then, top)?
            }
            Action::Dnat { targets, then } if !self.place.routed() => {
                self.translate(rule, "dnat", targets, *then, top)?
            }
            Action::Snat { .. } | Action::Dnat { .. } => {
                self.refuse(rule, "type", "the kernel translates sources after and destinations before routing");
                return None;
            }
            Action::ReverseSnat { then } => self.reverse("0x10", *then, top),
            Action::ReverseDnat { then } => self.reverse("0x20", *then, top),
            Action::Other { kind } => {
                self.refuse(rule, "type", format!("rules of kind {kind} are not known"));
                return None;
            }
        })
    }

    fn accept(&self) -> String {
        if self.after { format!("meta mark set meta mark or {ACCEPTED:#x} accept") } else { "accept".to_owned() }
    }

    /// A chain that is jumped to, written once for each set of chains that must be skipped inside it.
    fn chain(&mut self, id: Uuid, chain: &Chain, path: &[Uuid]) -> String {
        let mut path = path.to_vec();
        path.push(id);
        let mut key: Vec<u8> = path.iter().flat_map(|id| *id.as_bytes()).collect();
        let context = (self.place.bridge, self.place.input, self.place.output, self.after, self.refusal);
        key.extend(format!("{context:?}").into_bytes());
        let name = format!("c_{}", names::digits(&key));
        if self.done.insert(name.clone()) {
            let body = self.rules(&chain.rules, &path);
            let _ = write!(self.passes.chains, "chain {name} {{\n{body}}}\n");
        }
        name
    }

    fn translate(&mut self, rule: &Rule, verb: &str, targets: &[NatTarget], then: Flow, top: bool) -> Option<Act> {
        let backwards = |target: &NatTarget| target.from > target.to || target.port_from > target.port_to;
        if targets.is_empty() || targets.iter().any(backwards) {
            self.refuse(rule, "natTargets", "a range of addresses or ports is empty");
            return None;
        }
        if !top && then != Flow::Accept {
            self.refuse(rule, "flowAction", "a translation inside a jump must accept");
            return None;
        }
        self.passes.tracks = true;
        self.numbers += 1;
        let number = self.numbers;
        let applies = format!("meta mark and {NUMBER:#x} == {number:#x} {TRANSLATABLE}");
        if let [target] = targets {
            let _ = writeln!(self.passes.translate, "{applies} {verb} to {}", range(target));
        } else {
            // Each flow takes one of them.
            let mut choice = Vec::new();
            for (place, target) in targets.iter().enumerate() {
                let _ = write!(
                    self.passes.chains,
                    "chain t_{verb}_{number}_{place} {{\n{TRANSLATABLE} {verb} to {}\n}}\n",
                    range(target)
                );
                choice.push(format!("{place} : goto t_{verb}_{number}_{place}"));
            }
            let choice = format!("numgen random mod {} vmap {{ {} }}", targets.len(), choice.join(", "));
            let _ = writeln!(self.passes.translate, "{applies} {choice}");
        }
        // The kernel leaves alone what belongs to no flow, and flows that are older than the rule: neither may pass.
        let field = if verb == "snat" { "ip saddr" } else { "ip daddr" };
        let _ = writeln!(
            self.passes.untranslated,
            "meta mark and {:#x} == {number:#x} {field} != {{ {} }} drop",
            NUMBER | REPLY,
            merged(targets).join(", ")
        );
        if verb == "snat" && everything_that_leaves(rule) {
            let ports = rule.condition.out_ports.iter().flat_map(|test| &test.value);
            self.passes.translated.extend(ports.filter_map(|port| (self.place.interface)(*port)));
        }
        let accepted = if self.after && then != Flow::Continue { ACCEPTED } else { 0 };
        let acts = format!("meta mark set meta mark or {:#x} accept", number | accepted);
        Some(Act { asks: TRANSLATABLE.to_owned(), acts })
    }

    /// The kernel has undone the translation, or will, without being told; the rule only decides what follows.
    fn reverse(&mut self, status: &str, then: Flow, top: bool) -> Act {
        self.passes.tracks = true;
        let acts = match then {
            // For the sake of the count.
            Flow::Continue => "continue".to_owned(),
            Flow::Return if !top => "return".to_owned(),
            Flow::Accept | Flow::Return => self.accept(),
        };
        Act { asks: format!("ct direction reply ct status and {status} != 0"), acts }
    }

    /// A filter between two translations would have to see what the first one made of the packet.
    fn refuse_between(&mut self, rules: &[Rule]) {
        let mut continued = false;
        for rule in rules {
            let nat = translates(self.place.view, &rule.action, &mut BTreeSet::new());
            if continued && !nat {
                self.refuse(rule, "position", "a filter between two translations sees the packet untranslated");
            }
            continued |= match rule.action {
                Action::Snat { then, .. }
                | Action::Dnat { then, .. }
                | Action::ReverseSnat { then }
                | Action::ReverseDnat { then } => then == Flow::Continue,
                _ => false,
            };
        }
    }

    fn refuse(&mut self, rule: &Rule, field: &str, why: impl Into<String>) {
        // What only lets pass can be left out; whatever restricts or rewrites must not be.
        let permits = match &rule.action {
            Action::Accept | Action::Return => true,
            Action::Other { kind } => kind == "trace",
            _ => false,
        };
        let device = match (self.place.bridge, self.place.translates) {
            (true, _) => "the ports it filters stay inactive",
            (false, true) => "nothing passes the router",
            (false, false) => "nothing passes the port",
        };
        let effect = if permits { "the rule is left out" } else { device };
        self.passes.closed |= !permits;
        self.note(rule, field, why, effect, !permits);
    }

    fn note(&mut self, rule: &Rule, field: &str, why: impl Into<String>, effect: &str, closes: bool) {
        let (field, why, effect) = (field.to_owned(), why.into(), effect.to_owned());
        self.passes.unsupported.insert(Unsupported { object: rule.id, field, why, effect, closes });
    }
}

/// What the kernel translates to.
fn range(target: &NatTarget) -> String {
    let ports = match (target.port_from, target.port_to) {
        (0, 0) => String::new(),
        (from, to) if from == to => format!(":{from}"),
        (from, to) => format!(":{}-{to}", from.max(1)),
    };
    format!("{}{ports}", addresses(target.from, target.to))
}

fn addresses(from: Ipv4Addr, to: Ipv4Addr) -> String {
    if from == to { from.to_string() } else { format!("{from}-{to}") }
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
    merged.into_iter().map(|(from, to)| addresses(from, to)).collect()
}

/// True when the rule's only question is the port that packets leave through.
fn everything_that_leaves(rule: &Rule) -> bool {
    let mut rest = rule.condition.clone();
    rest.out_ports = None;
    rest.fragments = Fragments::Any;
    rule.condition.out_ports.as_ref().is_some_and(|test| !test.inverted) && rest == Condition::default()
}

/// True when the action translates, or jumps to a chain that does.
fn translates(view: &View<'_>, action: &Action, seen: &mut BTreeSet<Uuid>) -> bool {
    match action {
        Action::Snat { .. } | Action::Dnat { .. } | Action::ReverseSnat { .. } | Action::ReverseDnat { .. } => true,
        Action::Jump { chain } => {
            seen.insert(*chain)
                && view
                    .chain(*chain)
                    .is_some_and(|chain| chain.rules.iter().any(|rule| translates(view, &rule.action, seen)))
        }
        _ => false,
    }
}
