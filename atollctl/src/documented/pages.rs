//! The pages that users read, and the texts in our sources that name commands.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the workspace, with its path for messages.
pub(super) struct Page {
    pub(super) path: String,
    pub(super) text: String,
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn below(directory: &Path, endings: &[&str], all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            below(&path, endings, all);
        } else if path.extension().is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted)) {
            all.push(path);
        }
    }
}

fn read(paths: Vec<PathBuf>) -> Vec<Page> {
    let root = workspace();
    let page = |path: PathBuf| Page {
        text: fs::read_to_string(&path).expect("a text"),
        path: path.strip_prefix(&root).unwrap_or(&path).display().to_string(),
    };
    paths.into_iter().map(page).collect()
}

/// README, the documentation, and the files for deployment.
pub(super) fn pages() -> Vec<Page> {
    let root = workspace();
    let mut paths = ["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(|name| root.join(name)).to_vec();
    below(&root.join("docs"), &["md"], &mut paths);
    below(&root.join("deploy"), &["md", "yaml", "service", "timer", "conflist"], &mut paths);
    assert!(paths.len() > 20, "pages are missing: {paths:?}");
    read(paths)
}

/// The sources of everything that prints a hint.
pub(super) fn sources() -> Vec<Page> {
    let root = workspace();
    let mut paths = Vec::new();
    for package in ["atollctl", "model", "records", "store", "node", "ipam", "sdn-client", "tenant", "cni-plugin"] {
        below(&root.join(package).join("src"), &["rs"], &mut paths);
    }
    read(paths)
}

/// The code spans of a text: between two backticks of one line.
pub(super) fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// The fenced blocks of a page, with the word behind the fence.
pub(super) fn blocks(text: &str) -> Vec<(&str, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(&str, String)> = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), open.take()) {
            (Some(_), Some(block)) => blocks.push(block),
            (Some(kind), None) => open = Some((kind, String::new())),
            (None, Some((kind, text))) => open = Some((kind, format!("{text}{line}\n"))),
            (None, None) => {}
        }
    }
    blocks
}
