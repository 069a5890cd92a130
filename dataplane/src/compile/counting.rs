//! Which line of the filter is which rule, so that the kernel counts for it.
//!
//! The compiler marks the lines that act for a rule. From the marked text come the one that people read, without the
//! marks, and the one that is loaded, in which each marked line has a counter and the rule's id as its comment. A rule
//! may be several lines. A run of like rules is one line, which counts for the first of them and says how many they are.

use uuid::Uuid;

/// Around a mark; no text of nft has it.
const MARK: char = '\u{1}';
/// What comments begin with.
pub(crate) const COMMENT: &str = "rule ";

/// A line that acts for `rules` rules, of which `id` is the first.
pub(super) fn mark(matches: &str, action: &str, id: Uuid, rules: usize) -> String {
    format!("{matches}{MARK}{id} {rules}{MARK}{action}")
}

/// The text without marks.
pub(super) fn plain(text: &str) -> String {
    each(text, |matches, _, action| {
        [matches, action].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    })
}

/// The text with counters.
pub(super) fn counted(text: &str) -> String {
    each(text, |matches, mark, action| {
        // What the action asks first is part of the question.
        let verdict = action.rfind("} meta mark set").map_or(0, |end| end + 2);
        let (asks, acts) = action.split_at(verdict);
        format!("{matches} {asks}counter {acts} comment \"{COMMENT}{mark}\"")
    })
}

fn each(text: &str, line: impl Fn(&str, &str, &str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    for original in text.lines() {
        let mut parts = original.splitn(3, MARK);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(matches), Some(mark), Some(action)) => out.push_str(&line(matches, mark, action)),
            _ => out.push_str(original),
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_line_is_read_without_its_mark_and_loaded_with_a_counter() {
        let line = mark("ip saddr 10.0.0.1", "drop", Uuid::nil(), 4);
        assert_eq!(plain(&line), "ip saddr 10.0.0.1 drop\n");
        let nil = Uuid::nil();
        assert_eq!(counted(&line), format!("ip saddr 10.0.0.1 counter drop comment \"rule {nil} 4\"\n"));
        assert_eq!(plain(&mark("", "accept", Uuid::nil(), 1)), "accept\n");
        assert_eq!(counted("chain x {\n}\n"), "chain x {\n}\n");
        let asks = mark("oifname \"a\"", "meta l4proto { tcp } meta mark set 1 accept", nil, 1);
        assert!(counted(&asks).contains("meta l4proto { tcp } counter meta mark set 1 accept"), "{}", counted(&asks));
    }
}
