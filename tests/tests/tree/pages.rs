//! References of the documentation: every relative link of a page leads to a file and a heading that exist, so does every
//! page that a file names, pages name only tests and source files that exist, the index of the design pages covers every
//! folder with code, and fuzz targets include only files that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

const INDEX: &str = "docs/design/README.md";

/// A text file of the tree.
struct Text {
    /// Relative to the root of the tree.
    path: PathBuf,
    text: String,
}

fn root() -> Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace is the parent directory")?.to_owned())
}

/// The text files below a directory, without build output.
fn walk(root: &Path, directory: &Path, texts: &mut Vec<Text>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_symlink() || ["target", ".git"].iter().any(|skipped| name == *skipped) {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, texts)?;
        } else if let Ok(text) = fs::read_to_string(&path) {
            texts.push(Text { path: path.strip_prefix(root)?.to_owned(), text });
        }
    }
    Ok(())
}

fn tree() -> Result<Vec<Text>> {
    let root = root()?;
    let mut texts = Vec::new();
    walk(&root, &root, &mut texts)?;
    Ok(texts)
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// The lines of a page that are not in a fenced block.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fence && !fenced
    })
}

fn headings(text: &str) -> impl Iterator<Item = &str> {
    prose(text).filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')))
}

/// The anchor that a forge gives to a heading.
fn anchor(heading: &str) -> String {
    let letters = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    letters.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// The targets of the links `[text](target)` of a page.
fn links(text: &str) -> impl Iterator<Item = &str> {
    prose(text).flat_map(|line| line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)))
}

/// `docs/design/../a.md` as `docs/a.md`.
fn normal(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = parts.pop(),
            Component::CurDir => {}
            other => parts.push(other),
        }
    }
    parts
}

/// What is wrong with a link of the page `from`; nothing for a link to another site.
fn broken(root: &Path, texts: &[Text], from: &Path, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, wanted) = link.split_once('#').unwrap_or((link, ""));
    let target = match file {
        "" => from.to_owned(),
        file => normal(&from.parent().unwrap_or(Path::new("")).join(file)),
    };
    if !root.join(&target).exists() {
        return Some(format!("{}: {link}: there is no {}", from.display(), target.display()));
    }
    let page = texts.iter().find(|text| text.path == target && is_page(&target))?;
    let found = wanted.is_empty() || headings(&page.text).any(|heading| anchor(heading) == wanted);
    (!found).then(|| format!("{}: {link}: {} has no such heading", from.display(), target.display()))
}

#[test]
fn every_relative_link_leads_to_a_file_and_a_heading() -> Result<()> {
    let (root, texts) = (root()?, tree()?);
    let mut wrong = Vec::new();
    let mut number = 0;
    for page in texts.iter().filter(|text| is_page(&text.path)) {
        for link in links(&page.text) {
            number += 1;
            wrong.extend(broken(&root, &texts, &page.path, link));
        }
    }
    ensure!(number > 60, "only {number} links were found");
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The check itself.
    let check = |link| broken(&root, &texts, Path::new(INDEX), link);
    for link in ["missing.md", "../missing/", "README.md#missing", "#missing", "../../README.md#missing"] {
        ensure!(check(link).is_some(), "{link} is not reported");
    }
    for link in ["https://www.cni.dev", "../operations.md#backup-and-restore", "#terms", "../../model"] {
        ensure!(check(link).is_none(), "{link} is reported: {:?}", check(link));
    }
    Ok(())
}

/// The pages that a text names by their path from the root, each with the heading that follows in quotes:
/// `docs/operations.md, "Backup and restore"`.
fn named(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let is_path = |c: char| c.is_ascii_alphanumeric() || "-_/.".contains(c);
    text.lines().flat_map(move |line| {
        line.match_indices("docs/").filter_map(move |(at, _)| {
            let rest = &line[at..];
            let end = rest.find(".md")? + 3;
            let page = rest[..end].chars().all(is_path).then_some(&rest[..end])?;
            let after = rest[end..].trim_start_matches('`').strip_prefix(", ").unwrap_or_default();
            let quoted = after.trim_start_matches('\\').strip_prefix('"');
            // A heading that goes on in the next line is not compared.
            let heading = quoted.and_then(|quoted| quoted.find(['"', '\\']).map(|end| &quoted[..end]));
            Some((page, heading.filter(|heading| !heading.ends_with(' '))))
        })
    })
}

#[test]
fn every_page_that_a_file_names_exists() -> Result<()> {
    let texts = tree()?;
    let (mut wrong, mut number) = (Vec::new(), 0);
    for text in texts.iter().filter(|text| !text.path.ends_with("pages.rs")) {
        for (name, heading) in named(&text.text) {
            number += 1;
            match (texts.iter().find(|page| page.path == Path::new(name)), heading) {
                (None, _) => wrong.push(format!("{} names {name}, which does not exist", text.path.display())),
                (Some(page), Some(heading)) if headings(&page.text).all(|found| found != heading) => {
                    wrong.push(format!(
                        "{} names {name}, {heading:?}, a heading that is not there",
                        text.path.display()
                    ));
                }
                _ => {}
            }
        }
    }
    ensure!(number > 20, "only {number} names were found");
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let sample = "see `docs/a.md`, \"A heading\", and (docs/b-c.md, \\\"Another\\\")";
    let found: Vec<_> = named(sample).collect();
    ensure!(found == [("docs/a.md", Some("A heading")), ("docs/b-c.md", Some("Another"))], "{found:?}");
    Ok(())
}

/// The code spans of a text.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn the_index_of_design_pages_covers_the_tree() -> Result<()> {
    let root = root()?;
    let index = fs::read_to_string(root.join(INDEX))?;
    let (_, table) = index.split_once("\n## Pages\n").context("no heading \"Pages\"")?;
    let rows: Vec<_> = table.lines().skip_while(|line| !line.starts_with("|---")).skip(1).collect();
    let rows: Vec<_> = rows.into_iter().take_while(|line| line.starts_with('|')).collect();
    let code: BTreeSet<_> = rows.iter().filter_map(|row| row.split('|').nth(3)).flat_map(spans).collect();
    ensure!(code.len() > 10, "the table was not understood: {code:?}");
    for path in &code {
        ensure!(root.join(path).exists(), "{INDEX} names {path}, which does not exist");
    }
    let manifest: toml::Table = toml::from_str(&fs::read_to_string(root.join("Cargo.toml"))?)?;
    let members = manifest["workspace"]["members"].as_array().context("members")?;
    for member in members.iter().filter_map(toml::Value::as_str) {
        ensure!(code.iter().any(|path| path.split('/').next() == Some(member)), "{INDEX} has no page for {member}/");
    }
    for entry in fs::read_dir(root.join("docs/design"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let is_listed = rows.iter().any(|row| links(row).any(|link| link == name));
        ensure!(name == "README.md" || is_listed, "{INDEX} does not list docs/design/{name}");
    }
    Ok(())
}

/// What pages name and no source file has: a Rust file, or a test or function (an identifier of at least four words).
/// `a_name_that_...` stands for every identifier with that beginning.
fn unknown(page: &str, files: &[&Path], identifiers: &BTreeSet<&str>) -> Vec<String> {
    let is_known = |span: &str| {
        let is_path = is_rust(Path::new(span)) && span.chars().all(|c| c.is_ascii_alphanumeric() || "-_/.".contains(c));
        let name = span.rsplit("::").next().unwrap_or_default();
        let begin = name.trim_end_matches(['.', '…']);
        let is_name = begin.matches('_').count() >= 3
            && begin.chars().all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit());
        if is_path {
            files.iter().any(|file| file.ends_with(span))
        } else if is_name && name != begin {
            identifiers.range(begin..).next().is_some_and(|found| found.starts_with(begin))
        } else {
            !is_name || identifiers.contains(name)
        }
    };
    prose(page).flat_map(spans).filter(|span| !is_known(span)).map(str::to_owned).collect()
}

#[test]
fn every_test_and_source_file_that_a_page_names_exists() -> Result<()> {
    let texts = tree()?;
    let sources = texts.iter().filter(|text| is_rust(&text.path));
    let mut identifiers = BTreeSet::new();
    let mut files = Vec::new();
    for source in sources {
        files.push(source.path.as_path());
        if source.path != Path::new("tests/tests/tree/pages.rs") {
            identifiers.extend(source.text.split(|c: char| c != '_' && !c.is_alphanumeric()));
        }
    }
    let pages = texts.iter().filter(|text| is_page(&text.path) && !text.path.ends_with("CHANGELOG.md"));
    let wrong: Vec<_> = pages
        .flat_map(|page| {
            let missing = unknown(&page.text, &files, &identifiers);
            missing.into_iter().map(|name| format!("{} names `{name}`, which does not exist", page.path.display()))
        })
        .collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The check itself.
    let sample = "`gone/pages.rs`, `x::a_test_that_is_gone`, `a_test_that_goes...`, `one_of_two`, `tree/declared.rs`";
    let found = unknown(sample, &files, &identifiers);
    ensure!(found == ["gone/pages.rs", "x::a_test_that_is_gone", "a_test_that_goes..."], "{found:?}");
    Ok(())
}

/// Fuzz targets take code of the tests by its path, and no build of the workspace compiles them.
#[test]
fn every_file_that_is_included_by_path_exists() -> Result<()> {
    let (root, texts) = (root()?, tree()?);
    let mut number = 0;
    for text in texts.iter().filter(|text| is_rust(&text.path)) {
        let included =
            text.text.lines().filter_map(|line| line.trim().strip_prefix("#[path = \"")?.strip_suffix("\"]"));
        for path in included {
            number += 1;
            let target = normal(&text.path.parent().context("a directory")?.join(path));
            ensure!(root.join(&target).is_file(), "{} includes {path}, which does not exist", text.path.display());
        }
    }
    ensure!(number > 0, "no fuzz target was found");
    Ok(())
}
