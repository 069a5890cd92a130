//! Tables for people, JSON for programs.

use clap::ValueEnum;
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

/// The output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// A table or a tree
    Table,
    /// JSON; fields are added in later versions, never renamed
    Json,
}

/// The output of a command and the exit code of the process.
pub(crate) struct CommandOutput {
    /// For standard output.
    pub(crate) text: String,
    /// 0 unless an operator has to act.
    pub(crate) exit_code: u8,
}

impl From<String> for CommandOutput {
    fn from(text: String) -> Self {
        Self { text, exit_code: 0 }
    }
}

impl CommandOutput {
    /// The result of a check. `alarming`: it found a problem that needs an operator.
    pub(crate) fn check(text: String, alarming: bool) -> Self {
        Self { text, exit_code: if alarming { 7 } else { 0 } }
    }
}

/// A document of JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("what is printed is plain data with text keys");
    text.push('\n');
    text
}

/// A table with its headings in capitals.
pub(crate) fn table<const N: usize>(heads: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heads.map(str::to_uppercase));
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `1 pod`, `2 pods`.
pub(crate) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// An optional value; a dash if it is absent.
pub(crate) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Lines of text.
pub(crate) fn lines(lines: &[String]) -> String {
    let mut text = lines.join("\n");
    text.push('\n');
    text
}
