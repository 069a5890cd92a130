//! Programs that the commands of the tree start are declared in `.ci/programs`: every line is used, and tests start
//! programs with the function whose error names the declaration.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::program::DECLARATION;

const GROUPS: [&str; 6] = ["build", "run", "ovn", "test", "measure", "long"];

/// One line of the declaration.
#[derive(Debug)]
struct Declared {
    group: String,
    /// A program, or a file with its absolute path.
    name: String,
    why: String,
}

fn root() -> Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace is the parent directory")?.to_owned())
}

fn declarations(text: &str) -> Result<Vec<Declared>> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| {
            let mut words = line.split(' ').map(str::to_owned);
            let mut next =
                || words.next().filter(|word| !word.is_empty()).with_context(|| format!("too short: {line}"));
            let (group, name, _package) = (next()?, next()?, next()?);
            let why = words.collect::<Vec<_>>().join(" ");
            ensure!(GROUPS.contains(&group.as_str()) && !why.is_empty(), "group, program, package, what for: {line}");
            Ok(Declared { group, name, why })
        })
        .collect()
}

/// The lines of code of every Rust file and script, without comments. The declaration is not among them.
fn code(directory: &Path, found: &mut Vec<(PathBuf, String)>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            if !["target", ".git", "docs", "deploy"].contains(&name.as_str()) {
                code(&path, found)?;
            }
            continue;
        }
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let script = text.starts_with("#!") || directory.file_name().is_some_and(|name| name == ".ci");
        let rust = is_rust(&path);
        if rust || script && !path.ends_with(DECLARATION) {
            let comment = if rust { "//" } else { "#" };
            let lines: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with(comment)).collect();
            found.push((path, lines.join("\n")));
        }
    }
    Ok(())
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// Whether `text` has `name` as a word of its own: `ip`, but not in `iptables` or `skip`.
fn has_word(text: &str, name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || "_-./".contains(c);
    text.match_indices(name).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(part) && !text[at + name.len()..].chars().next().is_some_and(part)
    })
}

/// In Rust a program is a word of a string; in a script it is a word of a line.
fn starts(path: &Path, text: &str, name: &str) -> bool {
    if is_rust(path) {
        text.split('"').skip(1).step_by(2).any(|string| has_word(string, name))
    } else {
        has_word(text, name)
    }
}

/// Programs of the base system that need a declared one.
const BASE: [&str; 2] = ["apt", "tar"];

fn unused(declared: &[Declared], code: &[(PathBuf, String)], crates: &str) -> Vec<String> {
    let names: BTreeSet<_> = declared.iter().map(|line| line.name.as_str()).collect();
    let short = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    let mut unused = Vec::new();
    for line in declared {
        let user = line.why.strip_suffix(" needs it");
        let used = match user {
            Some(user) => {
                names.iter().any(|name| short(name) == user)
                    || BASE.contains(&user)
                    || crates.contains(&format!("name = \"{user}\"\n"))
            }
            None => code.iter().any(|(path, text)| starts(path, text, &short(&line.name))),
        };
        if !used {
            unused.push(format!("{} {}: {}", line.group, line.name, line.why));
        }
    }
    unused
}

#[test]
fn every_declared_program_is_used() -> Result<()> {
    let root = root()?;
    let declared = declarations(&fs::read_to_string(root.join(DECLARATION))?)?;
    let mut files = Vec::new();
    code(&root, &mut files)?;
    ensure!(files.len() > 100, "the tree has more files than {}", files.len());
    let crates = fs::read_to_string(root.join("Cargo.lock"))?;
    let none = unused(&declared, &files, &crates);
    ensure!(none.is_empty(), "{DECLARATION} declares what nothing uses: {none:#?}");
    // The check itself: a program that is not started, and one for another that is not declared.
    let vain = declarations("run at-in-vain cowsay a joke\nrun conmon conmon at-in-vain-too needs it")?;
    files.retain(|(path, _)| !path.ends_with(file!()));
    let found = unused(&vain, &files, &crates);
    ensure!(found.len() == 2, "{found:?}");
    Ok(())
}

#[test]
fn tests_start_programs_by_the_function_that_names_the_declaration() -> Result<()> {
    let mut files = Vec::new();
    code(&root()?, &mut files)?;
    let direct: Vec<_> = files
        .iter()
        .filter(|(path, _)| {
            path.components().any(|part| ["tests", "testkit", "tools"].iter().any(|room| part.as_os_str() == *room))
        })
        .filter(|(path, _)| !path.ends_with(file!()))
        .flat_map(|(path, text)| {
            let lines = text.lines().filter(|line| line.contains("Command::new(\"") && !line.contains("new(\"/"));
            lines.map(move |line| format!("{}: {}", path.display(), line.trim()))
        })
        .collect();
    ensure!(direct.is_empty(), "use atoll_testkit::program::command instead: {direct:#?}");
    Ok(())
}
