//! The mutants as `tools/mutants/*.toml` lists them, and how they change the code.
//!
//! # Guarantees
//! * A mutant's text occurs exactly once in its file; otherwise the list is refused with the mutant's name.
//! * Several mutants of one file apply in the order of the list, each to what the ones before it left.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

/// Stands in a replacement for "this mutant is switched on".
const SWITCH: &str = "MUTANT";

/// The environment variable that names the mutant which is switched on.
pub(crate) const VARIABLE: &str = "ATOLL_MUTANT";

/// One change of the code that removes a guarantee.
#[derive(Clone, Debug)]
pub(crate) struct Mutant {
    /// Its name, unique in the list: the guarantee that is removed.
    pub(crate) name: String,
    /// The file, relative to the root of the tree.
    pub(crate) file: String,
    /// The tests that must fail, as a filter of nextest.
    pub(crate) tests: String,
    find: String,
    replace: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    /// The tests of each mutant that names none itself.
    tests: String,
    mutant: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    file: String,
    find: String,
    replace: String,
    tests: Option<String>,
}

/// Reads all lists of a directory, in the order of their names.
///
/// # Errors
/// A list that cannot be read, a name that is used twice, a replacement without the switch.
pub(crate) fn read(directory: &Path) -> Result<Vec<Mutant>> {
    let entries = fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    let mut mutants: Vec<Mutant> = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml")) {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let listed: Listed = toml::from_str(&text).with_context(|| format!("read {}", path.display()))?;
        for Entry { name, file, find, replace, tests } in listed.mutant {
            ensure!(!mutants.iter().any(|there| there.name == name), "two mutants are named \"{name}\"");
            ensure!(replace.contains(SWITCH), "mutant \"{name}\" has no {SWITCH} in its replacement");
            let tests = tests.unwrap_or_else(|| listed.tests.clone());
            mutants.push(Mutant { name, file, tests, find, replace });
        }
    }
    Ok(mutants)
}

/// The files that the mutants change, with their new text.
///
/// # Errors
/// A file that cannot be read; a text that does not occur exactly once.
pub(crate) fn apply(root: &Path, mutants: &[Mutant]) -> Result<BTreeMap<String, String>> {
    let mut changed = BTreeMap::new();
    for mutant in mutants {
        if !changed.contains_key(&mutant.file) {
            let text = fs::read_to_string(root.join(&mutant.file));
            changed
                .insert(mutant.file.clone(), text.with_context(|| format!("{}: read {}", mutant.name, mutant.file))?);
        }
        let text = &changed[&mutant.file];
        match text.matches(&mutant.find).count() {
            1 => {
                let text = text.replacen(&mutant.find, &mutant.replace.replace(SWITCH, &switch(&mutant.name)), 1);
                changed.insert(mutant.file.clone(), text);
            }
            times => bail!(
                "mutant \"{}\": its text occurs {times} times in {}, not once: {:?}",
                mutant.name,
                mutant.file,
                mutant.find
            ),
        }
    }
    Ok(changed)
}

/// An expression that is true in a process which has the mutant switched on.
fn switch(name: &str) -> String {
    format!("(::std::env::var_os({VARIABLE:?}).is_some_and(|mutant| mutant == {name:?}))")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(find: &str, replace: &str) -> Mutant {
        let text = |text: &str| text.to_owned();
        Mutant { name: text("m"), file: text("a.rs"), tests: text("all()"), find: text(find), replace: text(replace) }
    }

    #[test]
    fn every_mutant_finds_its_place() -> Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mutants = read(&root.join("tools/mutants"))?;
        ensure!(!mutants.is_empty(), "there are none");
        apply(&root, &mutants).map(drop)
    }

    #[test]
    fn a_text_that_is_not_there_exactly_once_is_refused() -> Result<()> {
        let root = tempfile::tempdir()?;
        fs::write(root.path().join("a.rs"), "one two two")?;
        let applied = apply(root.path(), &[mutant("one", "if MUTANT { one }")])?;
        assert!(applied["a.rs"].starts_with("if (::std::env::var_os(\"ATOLL_MUTANT\")"), "{applied:?}");
        assert!(applied["a.rs"].ends_with(" { one } two two"), "{applied:?}");
        for (find, times) in [("two", "2 times"), ("three", "0 times")] {
            let error = apply(root.path(), &[mutant(find, "MUTANT")]).expect_err("it is refused").to_string();
            assert!(error.contains(times), "{error}");
        }
        Ok(())
    }
}
