//! Checks that `atollctl` accepts every command line in a page, a help text or a hint.

use clap::error::ErrorKind;
use clap::{Command, CommandFactory as _, Parser as _};

use super::pages::{blocks, pages, sources, spans};
use crate::args::Args;

/// Placeholders in our texts, each with a value.
const PLACEHOLDERS: [(&str, &str); 9] = [
    ("NUMBER", "7"),
    ("NAMESPACE/POD", "red/web-0"),
    ("TENANT", "red"),
    ("NAMESPACE", "blue"),
    ("NODE", "n1"),
    ("ADDRESS", "10.128.3.7"),
    ("FILE", "file"),
    ("ID", "3f5e1b9a"),
    ("NAME", "red"),
];

/// The words of a command line, as a shell splits it, up to the next command, comment or pipe.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '\'' | '"') => quote = Some(letter),
            (None, '|' | '>' | '<' | ';' | '&' | ')') => break,
            (None, '#') if word.is_empty() => break,
            (None, _) if letter.is_whitespace() => words.push(std::mem::take(&mut word)),
            _ => word.push(letter),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty() && word != "…" && word != "...");
    words
}

/// Values for `{value}` in a format string of our sources: a name, a number, a network, a part of an option's name.
const VALUES: [&str; 4] = ["x1", "7", "10.9.0.0/16", "subnets"];

/// The value for a placeholder: `TENANT`, `{tenant}`, `$tenant`.
fn filled(word: &str, value: &str) -> String {
    if word.starts_with('$') {
        return value.to_owned();
    }
    if let (Some(open), Some(close)) = (word.find('{'), word.find('}')) {
        return format!("{}{value}{}", &word[..open], &word[close + 1..]);
    }
    PLACEHOLDERS
        .iter()
        .find(|(name, _)| *name == word)
        .map_or_else(|| word.to_owned(), |(_, value)| (*value).to_owned())
}

/// Why a command line is refused for every value of its placeholders. `whole`: it is meant to be typed; otherwise it may be a
/// mention without its arguments.
fn wrong(line: &str, whole: bool) -> Option<String> {
    let words = words(line);
    if words.len() < 2 {
        return None;
    }
    // Every combination of values; at most three placeholders are open.
    let mut ways: Vec<Vec<String>> = vec![Vec::new()];
    for word in &words {
        let values: Vec<_> = VALUES.iter().map(|value| filled(word, value)).collect();
        let number = if values.iter().all(|value| value == &values[0]) { 1 } else { values.len() };
        let longer = |way: &Vec<String>| -> Vec<Vec<String>> {
            values[..number].iter().map(|value| [way.as_slice(), std::slice::from_ref(value)].concat()).collect()
        };
        ways = ways.iter().flat_map(longer).collect();
    }
    let mut problem = None;
    for words in ways {
        let error = Args::try_parse_from(&words).err()?;
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => return None,
            ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                if !whole =>
            {
                return None;
            }
            _ => {
                let message = error.to_string();
                problem.get_or_insert(format!("`{}`: {}", words.join(" "), message.lines().next().unwrap_or_default()));
            }
        }
    }
    problem
}

/// The command lines in a fenced block, and whether they are whole: `xargs` adds the rest of its arguments.
fn typed(block: &str) -> Vec<(String, bool)> {
    let text = block.replace("\\\n", " ");
    let all = text.lines().flat_map(|line| {
        let begins = line.match_indices("atollctl ").filter_map(|(at, _)| {
            // The command itself, not the end of a path in an argument or a word of a comment.
            let before = line[..at].trim_end();
            let is_first = before.is_empty() || before.ends_with(['#', '$', '(', '|', ';', '&', '/']);
            let is_fed = before.ends_with("xargs -n1");
            (is_first || is_fed).then(|| (line[at..].to_owned(), !is_fed))
        });
        begins.collect::<Vec<_>>()
    });
    all.collect()
}

#[test]
fn every_command_in_a_page_is_one_that_is_taken() {
    let mut problems = Vec::new();
    let mut number = 0;
    for page in pages() {
        let mut check = |line: &str, whole| {
            number += 1;
            problems.extend(wrong(line, whole).map(|problem| format!("{}: {problem}", page.path)));
        };
        for (kind, block) in blocks(&page.text) {
            if ["console", "sh", "text", ""].contains(&kind) {
                for (line, whole) in typed(&block) {
                    check(&line, whole);
                }
            }
        }
        for line in spans(&page.text).filter(|span| span.starts_with("atollctl ")) {
            check(line, false);
        }
    }
    assert!(number > 80, "only {number} commands were found");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_command_in_a_hint_is_one_that_is_taken() {
    let mut problems = Vec::new();
    let mut number = 0;
    // The tests of this module contain invalid commands.
    for page in sources().iter().filter(|page| !page.path.contains("/documented/")) {
        for span in spans(&page.text).filter(|span| span.starts_with("atollctl ")) {
            number += 1;
            problems.extend(wrong(span, false).map(|problem| format!("{}: {problem}", page.path)));
        }
    }
    assert!(number > 30, "only {number} commands were found");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn helps(command: &Command, problems: &mut Vec<String>) {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines = help.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| line.starts_with("atollctl "));
    problems.extend(lines.filter_map(|line| wrong(line, true)));
    command.get_subcommands().for_each(|below| helps(below, problems));
}

#[test]
fn every_example_of_a_help_text_is_one_that_is_taken() {
    let mut problems = Vec::new();
    helps(&Args::command(), &mut problems);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_command_that_is_none_is_found() {
    for line in ["atollctl tenant purge", "atollctl gc --sandbox x", "atollctl nothing", "atollctl tenant show 'Red!'"]
    {
        assert!(wrong(line, false).is_some(), "{line}");
    }
    assert!(wrong("atollctl tenant show", true).is_some() && wrong("atollctl tenant show", false).is_none());
    assert!(wrong("atollctl gc --sandboxes /run/x | jq . # then", true).is_none());
    let block = "# podman ps > /l && atollctl gc --sandboxes \\\n  /l\n# x | xargs -n1 atollctl tenant plan\n";
    let wanted = [("atollctl gc --sandboxes    /l", true), ("atollctl tenant plan", false)];
    assert_eq!(typed(block), wanted.map(|(line, whole)| (line.to_owned(), whole)));
}
