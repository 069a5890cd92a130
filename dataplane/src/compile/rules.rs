//! Chains as nftables chains.
//!
//! MidoNet evaluates one list in which translations stand between filters. The kernel decides about a translation
//! once per flow, in hooks of its own. So a list becomes up to three passes:
//!
//! 1. *before*: everything up to the last translation. A translation that applies leaves its number in the mark;
//! 2. *translate*: what the number says (only the first packet of a flow gets here, the kernel repeats it for the
//!    rest and undoes it for what returns);
//! 3. *after*: what stands behind the last translation, unless the packet was accepted already.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::Ipv4Addr;

use atoll_model::topology::{Action, Chain, Condition, Flow, Fragments, NatTarget, Rule};
use uuid::Uuid;

use super::condition::{self, Place, REPLY, Refusal};
use super::counting::{self, Elements};
use super::fragments::{self, PIECES, Piece};
use super::runs::{self, Run};
use super::{Unsupported, jumps, names};

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

/// The kernel has translated the source of the flow (`IPS_SRC_NAT`).
const SOURCE: u32 = 0x10;
/// The kernel has translated the destination of the flow (`IPS_DST_NAT`).
const DESTINATION: u32 = 0x20;
/// What belongs to no flow.
pub(super) const NO_FLOW: &str = "ct state { invalid, untracked }";

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
    /// Some rule asks whether a datagram that was put together came in fragments.
    pub(super) pieces: bool,
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
        piece: Piece::First,
        done: BTreeSet::new(),
        heights: BTreeMap::new(),
        height: 0,
        after: false,
        refusal: place.refusal,
    };
    let Some(chain) = root.and_then(|id| place.view.chain(id)) else { return compiler.passes };
    let root = root.unwrap_or_default();
    let split =
        chain.rules.iter().rposition(|rule| jumps::translates(place.view, &rule.action)).map_or(0, |last| last + 1);
    let (before, after) = chain.rules.split_at(split);
    // Without a translation there is one pass, and it is the first.
    let (before, after) = if split == 0 { (after, before) } else { (before, after) };
    compiler.refuse_between(before);
    compiler.passes.pieces = place.whole && fragments::tell(place.view, root);
    let mut lists = [before, after];
    [compiler.passes.before, compiler.passes.after] = compiler.passes_of(lists, root);
    if compiler.passes.pieces {
        let (mut before, mut after) = (fragments::of_later(lists[0]), fragments::of_later(lists[1]));
        lists = [&mut before, &mut after];
        compiler.piece = Piece::Later;
        compiler.later(lists, root);
    }
    if !compiler.passes.after.is_empty() {
        let done = format!("meta mark and {ACCEPTED:#x} != 0 accept\n");
        compiler.passes.after.insert_str(0, &done);
    }
    compiler.passes
}

/// Drops what belongs to a flow that the kernel translates still, although no rule asks for it any more. `routed`: where
/// sources are translated.
pub(super) fn outdated(routed: bool) -> String {
    let status = if routed { SOURCE } else { DESTINATION };
    let flow = format!("ct status and {status:#x} != 0 ct direction original ct state established");
    // A translation that has not happened yet is none of the kernel's, and answers ask for none.
    format!("{flow} meta mark and {NUMBER:#x} == 0 drop\n")
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

/// What the text of a chain depends on beside the chain.
fn context(place: &Place<'_>, after: bool, refusal: Refusal, piece: Piece) -> impl std::fmt::Debug {
    (place.bridge, place.input, place.output, after, refusal, piece)
}

struct Compiler<'a> {
    place: &'a Place<'a>,
    passes: Passes,
    numbers: u32,
    /// What the list is evaluated for.
    piece: Piece,
    /// Chains of verdicts that were written already, by name.
    done: BTreeSet<String>,
    /// Chains that are jumped to and were written already, by name: how many jumps are nested inside them.
    heights: BTreeMap<String, usize>,
    /// How many jumps are nested inside the chain that is being written.
    height: usize,
    /// An *after* pass follows the one being compiled.
    after: bool,
    /// What "reject" can do in this pass.
    refusal: Refusal,
}

impl Compiler<'_> {
    /// The statements of the first and the last pass.
    fn passes_of(&mut self, [before, after]: [&[Rule]; 2], root: Uuid) -> [String; 2] {
        let refusal = self.refusal;
        self.after = !after.is_empty();
        let before = self.rules(before, &[root]);
        self.after = false;
        if self.place.routed() {
            // Behind the translation nobody can be answered.
            self.refusal = Refusal::Silent;
        }
        let after = self.rules(after, &[root]);
        self.refusal = refusal;
        [before, after]
    }

    /// Both passes once more, for later fragments of datagrams that were put together.
    fn later(&mut self, lists: [&[Rule]; 2], root: Uuid) {
        let written = self.passes.chains.len();
        let bodies = self.passes_of(lists, root);
        let drops = |text: &str| text.contains("drop");
        if !bodies.iter().any(|body| drops(body)) && !drops(&self.passes.chains[written..]) {
            // They are accepted whatever they are.
            self.passes.chains.truncate(written);
            return;
        }
        let Passes { before, after, chains, .. } = &mut self.passes;
        let begin = format!("meta mark set meta mark and {:#x}\n", !fragments::ACCEPTED);
        let done = format!("meta mark and {:#x} != 0 return\n", fragments::ACCEPTED);
        for (pass, (head, body), place) in
            [(before, (begin, &bodies[0]), "before"), (after, (done, &bodies[1]), "after")]
        {
            if place == "after" && body.is_empty() {
                continue;
            }
            let key = format!("{root} {place} {:?}", context(self.place, false, self.refusal, Piece::Later));
            let name = format!("l_{}", names::digits(key.as_bytes()));
            let _ = write!(chains, "chain {name} {{\n{head}{body}}}\n");
            // What a router has sent on in fragments again is judged fragment by fragment.
            let whole = if self.place.bridge { "ip frag-off and 0x3fff == 0 " } else { "" };
            pass.insert_str(0, &format!("{whole}meta mark and {PIECES:#x} != 0 jump {name}\n"));
        }
    }

    /// Rules as statements, a line each. `path`: the chains that are being evaluated, outermost first.
    fn rules(&mut self, mut rules: &[Rule], path: &[Uuid]) -> String {
        let mut lines = String::new();
        while let Some(rule) = rules.first() {
            let run = runs::first(rules).filter(|run| condition::compile(&run.rest, self.place, self.piece).is_ok());
            let length = run.as_ref().map_or(1, |run| run.length);
            if let Some(run) = run {
                lines.push_str(&self.run(&run, rules, path));
            } else {
                lines.push_str(&self.rule(rule, path));
            }
            if self.piece == Piece::Later
                && rules[..length].iter().any(|rule| matches!(rule.action, Action::Jump { .. }))
            {
                let _ = writeln!(lines, "meta mark and {:#x} != 0 return", fragments::ACCEPTED);
            }
            rules = &rules[length..];
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
        if let Err(error) = condition::compile(&rule.condition, self.place, self.piece) {
            self.refuse(rule, &error.field, error.why);
            return String::new();
        }
        let Some(actions) = self.actions(rule, path) else { return String::new() };
        if jumps::is_translation(&rule.action) {
            let condition = fragments::whole(&rule.condition);
            let piece = std::mem::replace(&mut self.piece, Piece::First);
            let lines = self.lines(&condition, "", &actions, &|matches, acts| counting::rule(matches, acts, rule.id));
            self.piece = piece;
            return lines;
        }
        self.lines(&rule.condition, "", &actions, &|matches, acts| counting::rule(matches, acts, rule.id))
    }

    /// What a rule does: alternatives, each for what the one before leaves.
    fn actions(&mut self, rule: &Rule, path: &[Uuid]) -> Option<Vec<Act>> {
        let act = self.action(rule, path)?;
        Some(match (&rule.action, self.refusal) {
            // Only IP has an answer.
            (Action::Reject, Refusal::Mark) if self.piece == Piece::First => {
                vec![Act { asks: IP.to_owned(), ..act }, "drop".into()]
            }
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
        let ip = condition::is_ip(condition, self.place) || further == IP;
        let fragments = fragments::matches(condition.fragments, self.place, self.piece, ip);
        let alternatives = condition::compile(condition, self.place, self.piece).unwrap_or_default();
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
            // Nobody is told about a fragment that is not the first (RFC 1122, section 3.2.2).
            Action::Reject if self.piece == Piece::Later => "drop".into(),
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
                match self.chain(*chain, target, path) {
                    Ok(name) => format!("jump {name}").into(),
                    Err(why) => {
                        self.refuse(rule, "jumpChainId", why);
                        return None;
                    }
                }
            }
            _ if !self.place.translates && jumps::translates(self.place.view, &rule.action) => {
                self.refuse(rule, "type", "packets are translated by a router's own chains only");
                return None;
            }
            Action::Snat { then, .. } | Action::Dnat { then, .. } if self.piece == Piece::Later => {
                let acts = match then {
                    Flow::Continue => return None,
                    Flow::Return if !top => "return".to_owned(),
                    Flow::Accept | Flow::Return => self.accept(),
                };
                Act { asks: TRANSLATABLE.to_owned(), acts }
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
            Action::ReverseSnat { then } => self.reverse(SOURCE, *then, top),
            Action::ReverseDnat { then } => self.reverse(DESTINATION, *then, top),
            Action::Other { kind } => {
                self.refuse(rule, "type", format!("rules of kind {kind} are not known"));
                return None;
            }
        })
    }

    fn accept(&self) -> String {
        if self.piece == Piece::Later {
            return format!("meta mark set meta mark or {:#x} return", fragments::ACCEPTED);
        }
        if self.after { format!("meta mark set meta mark or {ACCEPTED:#x} accept") } else { "accept".to_owned() }
    }

    /// A chain that is jumped to, written once for each set of chains that must be skipped inside it.
    fn chain(&mut self, id: Uuid, chain: &Chain, path: &[Uuid]) -> Result<String, &'static str> {
        const TOO_DEEP: &str = "jumps nest deeper than the kernel follows";
        let reached = jumps::reached(self.place.view, id);
        let skipped: BTreeSet<_> = path.iter().filter(|id| reached.contains(id)).collect();
        let mut key: Vec<u8> = [&id].into_iter().chain(skipped).flat_map(|id| *id.as_bytes()).collect();
        key.extend(format!("{:?}", context(self.place, self.after, self.refusal, self.piece)).into_bytes());
        let name = format!("c_{}", names::digits(&key));
        if !self.heights.contains_key(&name) {
            if path.len() > jumps::DEEPEST {
                return Err(TOO_DEEP);
            }
            if self.heights.len() >= jumps::MOST {
                return Err("jumps that lead back to each other can be followed in too many ways");
            }
            self.heights.insert(name.clone(), 0);
            let outer = std::mem::take(&mut self.height);
            let path = [path, &[id]].concat();
            let body = match self.piece {
                Piece::First => self.rules(&chain.rules, &path),
                Piece::Later => self.rules(&fragments::of_later(&chain.rules), &path),
            };
            self.heights.insert(name.clone(), std::mem::replace(&mut self.height, outer));
            let _ = write!(self.passes.chains, "chain {name} {{\n{body}}}\n");
        }
        let height = 1 + self.heights[&name];
        if path.len() - 1 + height > jumps::DEEPEST {
            return Err(TOO_DEEP);
        }
        self.height = self.height.max(height);
        Ok(name)
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
        // The kernel leaves alone what belongs to no flow, and flows that are older than the rule: neither may pass. Flows
        // that an earlier rule has translated stay as they are.
        let (field, status) = if verb == "snat" { ("ip saddr", SOURCE) } else { ("ip daddr", DESTINATION) };
        let targets = merged(targets).join(", ");
        for unchanged in [NO_FLOW.to_owned(), format!("ct status and {status:#x} == 0")] {
            let mark = NUMBER | REPLY;
            let unchanged =
                format!("meta mark and {mark:#x} == {number:#x} {field} != {{ {targets} }} {unchanged} drop");
            let _ = writeln!(self.passes.untranslated, "{unchanged}");
        }
        if verb == "snat" && everything_that_leaves(rule) {
            let ports = rule.condition.out_ports.iter().flat_map(|test| &test.value);
            self.passes.translated.extend(ports.filter_map(|port| (self.place.interface)(*port)));
        }
        let accepted = if self.after && then != Flow::Continue { ACCEPTED } else { 0 };
        let acts = format!("meta mark set meta mark or {:#x} accept", number | accepted);
        Some(Act { asks: TRANSLATABLE.to_owned(), acts })
    }

    /// The kernel has undone the translation, or will, without being told; the rule only decides what follows.
    fn reverse(&mut self, status: u32, then: Flow, top: bool) -> Act {
        self.passes.tracks = true;
        let acts = match then {
            // For the sake of the count.
            Flow::Continue => "continue".to_owned(),
            Flow::Return if !top => "return".to_owned(),
            Flow::Accept | Flow::Return => self.accept(),
        };
        Act { asks: format!("ct direction reply ct status and {status:#x} != 0"), acts }
    }

    /// A rule between two translations would have to see what the first one made of the packet.
    fn refuse_between(&mut self, rules: &[Rule]) {
        // What has been translated by the time a rule is asked; a forward translation ends the pass.
        let (mut translated, mut source, mut destination) = (false, false, false);
        for rule in rules {
            let nat = jumps::translates(self.place.view, &rule.action);
            let back = matches!(rule.action, Action::ReverseSnat { .. } | Action::ReverseDnat { .. });
            let asks = |rule: &Rule| {
                let it = &rule.condition;
                source && (it.source.is_some() || it.source_group.is_some() || it.source_port.is_some())
                    || destination
                        && (it.destination.is_some() || it.destination_group.is_some() || it.destination_port.is_some())
            };
            let jumped = |chain| jumps::any(self.place.view, chain, asks);
            let sees = asks(rule) || matches!(rule.action, Action::Jump { chain } if jumped(chain));
            if translated && !back || sees && !nat {
                self.refuse(rule, "position", "a rule between two translations sees the packet untranslated");
            }
            match rule.action {
                Action::Snat { then: Flow::Continue, .. } | Action::Dnat { then: Flow::Continue, .. } => {
                    translated = true;
                }
                Action::ReverseSnat { then: Flow::Continue } => destination = true,
                Action::ReverseDnat { then: Flow::Continue } => source = true,
                _ => {}
            }
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
