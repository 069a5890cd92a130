//! Which line of the filter is which rule, so that the kernel counts for it.
//!
//! The compiler marks the lines that act for a rule or for a run of them. From the marked text come the one that people
//! read, without the marks, and the one that is loaded. In that, a rule's line has a counter and the rule's id as its
//! comment; a rule may be several lines. A run becomes a set or map with a name, each of whose elements has a counter
//! and the id of its rule. (A set without a name cannot be a map that counts, and in it the kernel's tools merge networks
//! that touch, so that two rules would be one.)

use std::collections::BTreeMap;
use std::fmt::Write;

use uuid::Uuid;

use crate::counters::Count;

/// Around a mark; no text of nft has it.
const MARK: char = '\u{1}';
/// Between the parts of a run.
const PART: char = '\u{2}';
/// Between the parts of its elements.
const FIELD: char = '\u{3}';
/// What comments begin with.
pub(crate) const COMMENT: &str = "rule ";
/// What names of the sets of runs begin with.
pub(crate) const RUN: &str = "run_";

/// Like rules as one line.
pub(super) struct Elements {
    /// What their packets are looked up by.
    pub(super) fields: String,
    /// The types of these fields.
    pub(super) types: String,
    /// The value of each rule, and what it does where they do different things.
    pub(super) list: Vec<(String, Uuid, Option<String>)>,
}

/// A line that acts for this rule.
pub(super) fn rule(matches: &str, action: &str, id: Uuid) -> String {
    format!("{matches}{MARK}{id}{MARK}{action}")
}

/// A line that acts for many rules.
pub(super) fn run(matches: &str, action: &str, run: &Elements) -> String {
    let mut mark = format!("{}{PART}{}", run.fields, run.types);
    for (value, id, verdict) in &run.list {
        let _ = write!(mark, "{PART}{value}{FIELD}{id}{FIELD}{}", verdict.as_deref().unwrap_or_default());
    }
    format!("{matches}{MARK}{mark}{MARK}{action}")
}

/// A run, read from its mark.
struct Marked<'a> {
    fields: &'a str,
    types: &'a str,
    /// Value, id, verdict.
    elements: Vec<[&'a str; 3]>,
}

impl<'a> Marked<'a> {
    fn read(mark: &'a str) -> Option<Self> {
        let mut parts = mark.split(PART);
        let (fields, types) = (parts.next()?, parts.next()?);
        let element = |part: &'a str| {
            let mut of = part.split(FIELD);
            Some([of.next()?, of.next()?, of.next()?])
        };
        Some(Self { fields, types, elements: parts.map(element).collect::<Option<_>>()? })
    }

    fn is_map(&self) -> bool {
        self.elements.iter().any(|[.., verdict]| !verdict.is_empty())
    }

    /// How the line looks it up, in a set that is written like this.
    fn lookup(&self, set: &str) -> String {
        format!("{} {}{set}", self.fields, if self.is_map() { "vmap " } else { "" })
    }

    /// The elements, with what stands behind the value of each rule.
    fn elements(&self, mut behind: impl FnMut(&str) -> String) -> String {
        let element = |[value, id, verdict]: &[&str; 3]| {
            let verdict = if verdict.is_empty() { String::new() } else { format!(" : {verdict}") };
            format!("{value}{}{verdict}", behind(id))
        };
        self.elements.iter().map(element).collect::<Vec<_>>().join(", ")
    }

    /// The set or map of this name.
    fn definition(&self, name: &str, before: &mut BTreeMap<Uuid, Count>) -> String {
        let (kind, verdict) = if self.is_map() { ("map", " : verdict") } else { ("set", "") };
        let interval = self.elements.iter().any(|[value, ..]| value.contains(['-', '/']));
        let flags = if interval { "flags interval\n" } else { "" };
        format!(
            "{kind} {name} {{\ntype {}{verdict}\n{flags}counter\nelements = {{ {} }}\n}}\n",
            self.types,
            self.elements(|id| format!(" {} {}", counter(id, before), comment(id)))
        )
    }
}

/// The text without marks.
pub(super) fn plain(text: &str) -> String {
    each(text, |out, matches, mark, action| {
        let run = Marked::read(mark).map(|run| run.lookup(&format!("{{ {} }}", run.elements(|_| String::new()))));
        line(out, &[matches, run.as_deref().unwrap_or_default(), action]);
    })
}

/// The text with counters. The first of a rule's counters begins with what `before` has for it, which is taken out.
pub(super) fn counted(text: &str, before: &mut BTreeMap<Uuid, Count>) -> String {
    let mut runs = 0;
    let mut definitions = String::new();
    each(text, |out, matches, mark, action| {
        if let Some(run) = Marked::read(mark) {
            runs += 1;
            let name = format!("{RUN}{runs}");
            line(out, &[matches, &run.lookup(&format!("@{name}")), action]);
            definitions.push_str(&run.definition(&name, before));
        } else if !mark.is_empty() {
            line(out, &[matches, &counter(mark, before), action, &comment(mark)]);
        } else {
            line(out, &[matches]);
            // A set stands beside the chain that looks into it.
            if matches == "}" {
                out.push_str(&std::mem::take(&mut definitions));
            }
        }
    })
}

/// The counter of a rule.
fn counter(id: &str, before: &mut BTreeMap<Uuid, Count>) -> String {
    match Uuid::try_parse(id).ok().and_then(|id| before.remove(&id)) {
        Some(Count { packets, bytes }) => format!("counter packets {packets} bytes {bytes}"),
        None => "counter".to_owned(),
    }
}

fn comment(id: &str) -> String {
    format!("comment \"{COMMENT}{id}\"")
}

/// Appends what is not empty as one line.
fn line(out: &mut String, parts: &[&str]) {
    let mut parts = parts.iter().filter(|part| !part.is_empty());
    out.extend(parts.next().copied());
    for part in parts {
        out.push(' ');
        out.push_str(part);
    }
    out.push('\n');
}

/// Hands over each line: what it asks, its mark, what it does. The latter two are empty where there is no mark.
fn each(text: &str, mut write: impl FnMut(&mut String, &str, &str, &str)) -> String {
    let mut out = String::with_capacity(text.len());
    for original in text.lines() {
        let mut parts = original.splitn(3, MARK);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(matches), Some(mark), Some(action)) => write(&mut out, matches, mark, action),
            _ => write(&mut out, original, "", ""),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without what was counted before.
    fn fresh(text: &str) -> String {
        counted(text, &mut BTreeMap::new())
    }

    #[test]
    fn a_marked_line_is_read_without_its_mark_and_loaded_with_a_counter() {
        let nil = Uuid::nil();
        let marked = rule("ip saddr 10.0.0.1", "drop", nil);
        assert_eq!(plain(&marked), "ip saddr 10.0.0.1 drop\n");
        assert_eq!(fresh(&marked), format!("ip saddr 10.0.0.1 counter drop comment \"rule {nil}\"\n"));
        assert_eq!(plain(&rule("", "accept", nil)), "accept\n");
        for text in ["chain x {\n}\n", "chain x {\n\n}\n"] {
            assert_eq!((plain(text), fresh(text)), (text.to_owned(), text.to_owned()));
        }
    }

    /// A line with a set or map of two rules, in a chain.
    fn two(second: &str, verdicts: [Option<&str>; 2], action: &str) -> String {
        let values = ["10.0.0.1 . 5", second].into_iter().zip(1..).zip(verdicts);
        let list =
            values.map(|((value, id), verdict)| (value.to_owned(), Uuid::from_u128(id), verdict.map(str::to_owned)));
        let (fields, types) = ("ip saddr . th dport".to_owned(), "ipv4_addr . inet_service".to_owned());
        let elements = Elements { fields, types, list: list.collect() };
        format!("chain c {{\n{}\n}}\n", run("ether type ip", action, &elements))
    }

    #[test]
    fn each_element_of_a_run_counts_for_its_rule() {
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let alike = two("10.0.0.2 . 6", [None, None], "drop");
        let set = "ether type ip ip saddr . th dport { 10.0.0.1 . 5, 10.0.0.2 . 6 } drop";
        assert_eq!(plain(&alike), format!("chain c {{\n{set}\n}}\n"));
        assert_eq!(
            fresh(&alike),
            format!(
                "chain c {{\nether type ip ip saddr . th dport @run_1 drop\n}}\n\
                 set run_1 {{\ntype ipv4_addr . inet_service\ncounter\nelements = {{ \
                 10.0.0.1 . 5 counter comment \"rule {one}\", 10.0.0.2 . 6 counter comment \"rule {other}\" }}\n}}\n"
            )
        );
        let mixed = two("10.0.0.2 . 6-9", [Some("drop"), Some("jump x")], "");
        let map = "ether type ip ip saddr . th dport vmap { 10.0.0.1 . 5 : drop, 10.0.0.2 . 6-9 : jump x }";
        assert_eq!(plain(&mixed), format!("chain c {{\n{map}\n}}\n"));
        let loaded = fresh(&mixed);
        let map = "map run_1 {\ntype ipv4_addr . inet_service : verdict\nflags interval\ncounter\n";
        assert!(loaded.contains(&format!("th dport vmap @run_1\n}}\n{map}")), "{loaded}");
        let element = format!("10.0.0.2 . 6-9 counter comment \"rule {other}\" : jump x }}");
        assert!(loaded.contains(&element), "{loaded}");
        let both = fresh(&(alike + &mixed));
        assert!(both.contains("@run_1 drop") && both.contains("vmap @run_2"), "{both}");
    }

    #[test]
    fn counters_begin_with_what_was_counted_once() {
        let [one, other, gone] = [1, 2, 3].map(Uuid::from_u128);
        let count = |packets| Count { packets, bytes: packets * 10 };
        let mut before = BTreeMap::from([(one, count(1)), (other, count(2)), (gone, count(3))]);
        let text = rule("a", "accept", one)
            + "\n"
            + &rule("b", "accept", one)
            + "\n"
            + &two("10.0.0.2 . 6", [None; 2], "drop");
        let loaded = counted(&text, &mut before);
        assert!(
            loaded
                .starts_with(&format!("a counter packets 1 bytes 10 accept comment \"rule {one}\"\nb counter accept"))
        );
        assert!(loaded.contains(&format!("10.0.0.1 . 5 counter comment \"rule {one}\"")), "{loaded}");
        assert!(loaded.contains("10.0.0.2 . 6 counter packets 2 bytes 20 comment"), "{loaded}");
        assert_eq!(before.into_keys().collect::<Vec<_>>(), [gone], "no line for it");
    }
}
