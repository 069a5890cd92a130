//! The tables of a filter as data, and the one place where they are written as text.
//!
//! A ruleset is written in two forms. The plain form is for people and for comparing. The loaded form counts: a statement
//! that counts for a rule of the topology has a counter and the rule's id as its comment; a rule may be several
//! statements. A rule group becomes a set or map with a name, each of whose elements has a counter and the id of its
//! rule. (A set without a name cannot be a map that counts, and in it the kernel's tools merge networks that touch, so
//! that two rules would be one.)
//!
//! # Guarantees
//! The same tables give the same text and the same id.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;
use uuid::Uuid;

use super::names;
use super::priorities::{BaseHook, id_chain};
use super::statement::{GroupLookup, Statement, line};
use crate::counters::Count;

/// The prefix of comments of counted rules.
pub(crate) const COMMENT: &str = "rule ";
/// The prefix of the names of sets of rule groups.
pub(crate) const GROUP_SET: &str = "group_";

/// The family of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Ip,
    Bridge,
}

impl Family {
    /// The word of `nft` for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Bridge => "bridge",
        }
    }
}

/// A set or map with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedSet {
    name: String,
    key: &'static str,
    /// What a map gives.
    data: Option<&'static str>,
    /// Packets add elements: how many at most, and how long each stays.
    dynamic: Option<(u32, Option<&'static str>)>,
    elements: Vec<String>,
}

impl NamedSet {
    /// A set whose elements are these, or come and go while the ruleset stays.
    pub(super) fn set(name: impl Into<String>, key: &'static str, elements: Vec<String>) -> Self {
        Self { name: name.into(), key, data: None, dynamic: None, elements }
    }

    /// A map whose elements come and go.
    pub(super) fn map(name: impl Into<String>, key: &'static str, data: &'static str) -> Self {
        Self { data: Some(data), ..Self::set(name, key, Vec::new()) }
    }

    /// A set that packets add elements to.
    pub(super) fn dynamic(name: &str, key: &'static str, size: u32, timeout: Option<&'static str>) -> Self {
        Self { dynamic: Some((size, timeout)), ..Self::set(name, key, Vec::new()) }
    }

    fn write(&self, out: &mut String) {
        let Self { name, key, data, dynamic, elements } = self;
        let kind = if data.is_some() { "map" } else { "set" };
        let data = data.map_or_else(String::new, |data| format!(" : {data}"));
        let _ = write!(out, "{kind} {name} {{\ntype {key}{data}\n");
        if let Some((size, timeout)) = dynamic {
            let _ = match timeout {
                Some(timeout) => write!(out, "size {size}\nflags dynamic,timeout\ntimeout {timeout}\n"),
                None => write!(out, "size {size}\nflags dynamic\n"),
            };
        }
        if !elements.is_empty() {
            let _ = writeln!(out, "elements = {{ {} }}", elements.join(", "));
        }
        out.push_str("}\n");
    }
}

/// A chain: a base chain where it has a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NftChain {
    pub(super) name: String,
    pub(super) hook: Option<BaseHook>,
    pub(super) statements: Vec<Statement>,
}

impl NftChain {
    /// A chain that others jump to.
    pub(super) fn new(name: impl Into<String>, statements: Vec<Statement>) -> Self {
        Self { name: name.into(), hook: None, statements }
    }

    /// A base chain.
    pub(super) fn base(name: impl Into<String>, hook: BaseHook, statements: Vec<Statement>) -> Self {
        Self { hook: Some(hook), ..Self::new(name, statements) }
    }

    /// A base chain of the structure, a statement for each line of `text`.
    pub(super) fn fixed(name: &str, hook: BaseHook, text: &str) -> Self {
        Self::base(name, hook, Statement::fixed(text).collect())
    }

    /// True when some packet can be dropped by a rule of the topology here.
    pub(super) fn drops(&self) -> bool {
        self.statements.iter().any(Statement::drops)
    }
}

/// An item of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Set(NamedSet),
    Chain(NftChain),
}

impl From<NamedSet> for Item {
    fn from(set: NamedSet) -> Self {
        Self::Set(set)
    }
}

impl From<NftChain> for Item {
    fn from(chain: NftChain) -> Self {
        Self::Chain(chain)
    }
}

/// A table of nftables, its items in the order in which they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) family: Family,
    pub(super) name: &'static str,
    pub(super) items: Vec<Item>,
}

/// Which of the versions of one ruleset is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RulesetVersion {
    /// The distance of each base chain from its own priority.
    pub(crate) step: i32,
    /// The tables have other names, so that they can be loaded beside the ruleset itself.
    pub(crate) copy: bool,
}

impl RulesetVersion {
    /// The name of a table in this version.
    pub(crate) fn table(self, name: &str) -> String {
        if self.copy { format!("{name}_copy") } else { name.to_owned() }
    }
}

/// The tables of one network namespace, without the elements of pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ruleset {
    /// All tables, in the plain form.
    pub text: String,
    #[serde(skip)]
    tables: Vec<Table>,
    /// The ruleset id: a hash of the loaded form.
    pub id: String,
}

impl Ruleset {
    pub(super) fn new(tables: Vec<Table>) -> Self {
        let form = Form::Loaded { version: RulesetVersion { step: 0, copy: false }, before: &mut BTreeMap::new() };
        let id = names::digits(Writer { form, id: None, groups: 0 }.tables(&tables).as_bytes());
        let text = Writer { form: Form::Plain, id: Some(&id), groups: 0 }.tables(&tables);
        Self { text, tables, id }
    }

    /// One IP table without chains of its own.
    pub(crate) fn empty(name: &'static str) -> Self {
        Self::new(vec![Table { family: Family::Ip, name, items: Vec::new() }])
    }

    /// The loaded form. The first counter of each rule begins with what `before` has for it, which is taken out.
    pub(crate) fn loaded(&self, version: RulesetVersion, before: &mut BTreeMap<Uuid, Count>) -> String {
        Writer { form: Form::Loaded { version, before }, id: Some(&self.id), groups: 0 }.tables(&self.tables)
    }
}

enum Form<'a> {
    Plain,
    Loaded { version: RulesetVersion, before: &'a mut BTreeMap<Uuid, Count> },
}

struct Writer<'a> {
    form: Form<'a>,
    id: Option<&'a str>,
    /// How many rule groups have a name so far.
    groups: usize,
}

impl Writer<'_> {
    fn tables(&mut self, tables: &[Table]) -> String {
        let mut out = String::new();
        for Table { family, name, items } in tables {
            let name = self.version().map_or_else(|| (*name).to_owned(), |version| version.table(name));
            let _ = writeln!(out, "table {} {name} {{", family.name());
            if let Some(id) = self.id {
                let _ = write!(out, "chain {} {{\n}}\n", id_chain(id, self.version().map(|version| version.step)));
            }
            for item in items {
                match item {
                    Item::Set(set) => set.write(&mut out),
                    Item::Chain(chain) => self.chain(chain, &mut out),
                }
            }
            out.push_str("}\n");
        }
        out
    }

    fn version(&self) -> Option<RulesetVersion> {
        match &self.form {
            Form::Plain => None,
            Form::Loaded { version, .. } => Some(*version),
        }
    }

    fn chain(&mut self, NftChain { name, hook, statements }: &NftChain, out: &mut String) {
        let _ = writeln!(out, "chain {name} {{");
        if let Some(BaseHook { kind, hook, priority }) = hook {
            let priority = priority + self.version().map_or(0, |version| version.step);
            let _ = writeln!(out, "type {kind} hook {hook} priority {priority}; policy accept;");
        }
        // A set is written beside the chain that uses it.
        let mut sets = String::new();
        for statement in statements {
            match statement {
                Statement::Plain(matches, action) => out.push_str(&line(matches, &[], action)),
                Statement::Counted(rule, matches, action) => match &mut self.form {
                    Form::Plain => out.push_str(&line(matches, &[], action)),
                    Form::Loaded { before, .. } => {
                        let counter = counter(*rule, before);
                        let _ = write!(out, "{} {}", line(matches, &[counter], action), comment(*rule));
                    }
                },
                Statement::Group(matches, lookup, action) => {
                    let set = match &mut self.form {
                        Form::Plain => format!("{{ {} }}", lookup.elements(|_| String::new())),
                        Form::Loaded { before, .. } => {
                            self.groups += 1;
                            let name = format!("{GROUP_SET}{}", self.groups);
                            group_set(lookup, &name, before, &mut sets);
                            format!("@{name}")
                        }
                    };
                    let looked_up = lookup.concatenated(|field| field);
                    let map = if lookup.is_map() { "vmap " } else { "" };
                    out.push_str(&line(matches, &[format!("{looked_up} {map}{set}")], action));
                }
                Statement::Fixed(text) => out.push_str(text),
            }
            out.push('\n');
        }
        out.push_str("}\n");
        out.push_str(&sets);
    }
}

/// Writes the set or map of a rule group.
fn group_set(lookup: &GroupLookup, name: &str, before: &mut BTreeMap<Uuid, Count>, out: &mut String) {
    let (kind, verdict) = if lookup.is_map() { ("map", " : verdict") } else { ("set", "") };
    let flags = if lookup.has_intervals() { "flags interval\n" } else { "" };
    let types = lookup.concatenated(super::statement::Field::set_type);
    let elements = lookup.elements(|rule| format!(" {} {}", counter(rule, before), comment(rule)));
    let _ = write!(out, "{kind} {name} {{\ntype {types}{verdict}\n{flags}counter\nelements = {{ {elements} }}\n}}\n");
}

/// The counter of a rule.
fn counter(rule: Uuid, before: &mut BTreeMap<Uuid, Count>) -> String {
    match before.remove(&rule) {
        Some(Count { packets, bytes }) => format!("counter packets {packets} bytes {bytes}"),
        None => "counter".to_owned(),
    }
}

fn comment(rule: Uuid) -> String {
    format!("comment \"{COMMENT}{rule}\"")
}

#[cfg(test)]
mod tests {
    use super::super::priorities::Hook;
    use super::super::statement::{Action, Field, GroupElement, Match, Verdict};
    use super::*;

    fn ruleset(statements: Vec<Statement>) -> Ruleset {
        let chain = NftChain::new("c", statements);
        Ruleset::new(vec![Table { family: Family::Ip, name: "t", items: vec![chain.into()] }])
    }

    /// The text of the chain `c` and what follows it, without the head of the table.
    fn body(text: &str) -> &str {
        text.split_once("chain c {\n").and_then(|(_, rest)| rest.strip_suffix("}\n")).expect("the chain")
    }

    fn loaded(ruleset: &Ruleset, before: &mut BTreeMap<Uuid, Count>) -> String {
        body(&ruleset.loaded(RulesetVersion { step: 0, copy: false }, before)).to_owned()
    }

    fn counted(rule: Uuid, source: &str, verdict: Verdict) -> Statement {
        Statement::Counted(rule, vec![Match::lookup(Field::IpSource, false, source)], verdict.into())
    }

    /// Two rules, of which the second asks for this protocol range and does this.
    fn group(last: (u32, u32), verdicts: [Option<Verdict>; 2], action: Action) -> Statement {
        let [first, second] = verdicts;
        let address = 0x0a00_0001;
        let element = |rule, address, port, verdict| GroupElement {
            ranges: vec![(address, address), port],
            rule: Uuid::from_u128(rule),
            verdict,
        };
        let elements = vec![element(1, address, (5, 5), first), element(2, address + 1, last, second)];
        let fields = vec![Field::IpSource, Field::DestinationPort];
        Statement::Group(vec![Match::ipv4()], GroupLookup { fields, elements }, action)
    }

    #[test]
    fn a_counted_statement_is_loaded_with_a_counter() {
        let nil = Uuid::nil();
        let one = ruleset(vec![counted(nil, "10.0.0.1", Verdict::Drop)]);
        assert_eq!(body(&one.text), "ip saddr 10.0.0.1 drop\n}\n");
        assert_eq!(
            loaded(&one, &mut BTreeMap::new()),
            format!("ip saddr 10.0.0.1 counter drop comment \"rule {nil}\"\n}}\n")
        );
        let all = ruleset(vec![Statement::Counted(nil, vec![], Verdict::Accept.into())]);
        assert_eq!(loaded(&all, &mut BTreeMap::new()), format!("counter accept comment \"rule {nil}\"\n}}\n"));
        let plain = ruleset(vec![Statement::always(Verdict::Accept)]);
        assert_eq!(body(&plain.text), loaded(&plain, &mut BTreeMap::new()));
    }

    #[test]
    fn each_element_of_a_group_counts_for_its_rule() {
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let alike = || group((6, 6), [None, None], Verdict::Drop.into());
        let set = "ether type ip ip saddr . th dport { 10.0.0.1 . 5, 10.0.0.2 . 6 } drop";
        assert_eq!(body(&ruleset(vec![alike()]).text), format!("{set}\n}}\n"));
        assert_eq!(
            loaded(&ruleset(vec![alike()]), &mut BTreeMap::new()),
            format!(
                "ether type ip ip saddr . th dport @group_1 drop\n}}\n\
                 set group_1 {{\ntype ipv4_addr . inet_service\ncounter\nelements = {{ \
                 10.0.0.1 . 5 counter comment \"rule {one}\", 10.0.0.2 . 6 counter comment \"rule {other}\" }}\n}}\n"
            )
        );
        let verdicts = [Some(Verdict::Drop), Some(Verdict::Jump("x".to_owned()))];
        let mixed = || group((6, 9), verdicts.clone(), Action::default());
        let map = "ether type ip ip saddr . th dport vmap { 10.0.0.1 . 5 : drop, 10.0.0.2 . 6-9 : jump x }";
        assert_eq!(body(&ruleset(vec![mixed()]).text), format!("{map}\n}}\n"));
        let text = loaded(&ruleset(vec![mixed()]), &mut BTreeMap::new());
        let map = "map group_1 {\ntype ipv4_addr . inet_service : verdict\nflags interval\ncounter\n";
        assert!(text.contains(&format!("th dport vmap @group_1\n}}\n{map}")), "{text}");
        let element = format!("10.0.0.2 . 6-9 counter comment \"rule {other}\" : jump x }}");
        assert!(text.contains(&element), "{text}");
        let both = loaded(&ruleset(vec![alike(), mixed()]), &mut BTreeMap::new());
        assert!(both.contains("@group_1 drop") && both.contains("vmap @group_2"), "{both}");
    }

    #[test]
    fn counters_begin_with_what_was_counted_once() {
        let [one, other, gone] = [1, 2, 3].map(Uuid::from_u128);
        let count = |packets| Count { packets, bytes: packets * 10 };
        let mut before = BTreeMap::from([(one, count(1)), (other, count(2)), (gone, count(3))]);
        let all = ruleset(vec![
            counted(one, "10.0.0.3", Verdict::Accept),
            counted(one, "10.0.0.4", Verdict::Accept),
            group((6, 6), [None, None], Verdict::Drop.into()),
        ]);
        let text = loaded(&all, &mut before);
        let first = format!("ip saddr 10.0.0.3 counter packets 1 bytes 10 accept comment \"rule {one}\"\n");
        assert!(text.starts_with(&(first + "ip saddr 10.0.0.4 counter accept")), "{text}");
        assert!(text.contains(&format!("10.0.0.1 . 5 counter comment \"rule {one}\"")), "{text}");
        assert!(text.contains("10.0.0.2 . 6 counter packets 2 bytes 20 comment"), "{text}");
        assert_eq!(before.into_keys().collect::<Vec<_>>(), [gone], "no statement counts for it");
    }

    #[test]
    fn a_version_steps_base_chains_and_says_how_far_and_a_copy_has_other_names_and_nothing_else() {
        let hook = BaseHook { kind: "nat", hook: Hook::Prerouting, priority: -150 };
        let base = NftChain::base("a", hook, vec![Statement::always(Verdict::Accept)]);
        let items = vec![base.into(), NamedSet::set("s", "ifname . ipv4_addr", vec![]).into()];
        let ruleset = Ruleset::new(vec![Table { family: Family::Ip, name: "t", items }]);
        let written = |step, copy| ruleset.loaded(RulesetVersion { step, copy }, &mut BTreeMap::new());
        let id = id_chain(&ruleset.id, None);
        assert_eq!(written(3, false), ruleset.text.replace("-150", "-147").replace(&id, &format!("{id}_3")));
        assert_eq!(written(0, false), ruleset.text.replace(&id, &format!("{id}_0")));
        assert_eq!(written(3, true), written(3, false).replace("table ip t {", "table ip t_copy {"));
    }
}
