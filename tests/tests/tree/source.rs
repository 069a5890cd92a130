//! The Rust source of the workspace's crates: their files by module, and what belongs to tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// A module by the names on its way from the crate's root.
pub(crate) type Module = Vec<String>;

/// The files of a crate's library or program, by module.
pub(crate) fn files(root: &Path) -> Result<BTreeMap<Module, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut open = vec![(root.to_owned(), Module::new())];
    while let Some((directory, module)) = open.pop() {
        for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            let path = entry?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let below = [module.as_slice(), std::slice::from_ref(&name)].concat();
            if path.is_dir() {
                // A program of its own.
                if !(module.is_empty() && name == "bin") {
                    open.push((path, below));
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let is_root = ["mod", "lib", "main"].contains(&name.as_str());
                found.insert(if is_root { module.clone() } else { below }, path);
            }
        }
    }
    Ok(found)
}

/// The crates of the workspace and their programs: a name and the directory of their files.
pub(crate) fn crates() -> Result<Vec<(String, PathBuf)>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut all = Vec::new();
    for entry in fs::read_dir(&workspace)? {
        let directory = entry?.path();
        let (name, source) =
            (directory.file_name().unwrap_or_default().to_string_lossy().into_owned(), directory.join("src"));
        if !directory.join("Cargo.toml").exists() || !source.is_dir() {
            continue;
        }
        for program in fs::read_dir(source.join("bin")).into_iter().flatten().flatten().filter(|it| it.path().is_dir())
        {
            all.push((format!("{name}, {}", program.file_name().to_string_lossy()), program.path()));
        }
        all.push((name, source));
    }
    ensure!(all.len() > 10, "these are not all: {all:?}");
    all.sort();
    Ok(all)
}

/// The syntax of one file.
pub(crate) fn syntax(path: &Path) -> Result<syn::File> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    syn::parse_file(&text).with_context(|| path.display().to_string())
}

/// Whether an item has the attribute `#[cfg(test)]`.
pub(crate) fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}
