//! A copy of the tree with the mutants applied.
//!
//! # Guarantees
//! * The copy holds the files that git tracks or would add, and nothing else but what a build made.
//! * A file that is the same as before is not written, so that an incremental build stays incremental.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Error, Result, ensure};
use atoll_testkit::program::find;

/// The record of the files that the last run copied.
const COPIED: &str = ".copied";

/// Makes `tree` a copy of `root` in which `changed` files have another text.
///
/// # Errors
/// git or a file operation failed.
pub(crate) fn bring_up_to_date(root: &Path, tree: &Path, changed: &BTreeMap<String, String>) -> Result<()> {
    let files = tracked(root)?;
    fs::create_dir_all(tree).with_context(|| format!("make {}", tree.display()))?;
    for file in fs::read_to_string(tree.join(COPIED)).unwrap_or_default().lines().filter(|file| !files.contains(*file))
    {
        fs::remove_file(tree.join(file)).with_context(|| format!("remove {file} from the copy"))?;
    }
    for file in &files {
        let (from, to) = (root.join(file), tree.join(file));
        let content = match changed.get(file) {
            Some(text) => text.clone().into_bytes(),
            // A file that git tracks and the working tree lacks.
            None if !from.exists() => continue,
            None => fs::read(&from).with_context(|| format!("read {file}"))?,
        };
        if fs::read(&to).is_ok_and(|there| there == content) {
            continue;
        }
        fs::create_dir_all(to.parent().unwrap_or(tree)).with_context(|| format!("make the directory of {file}"))?;
        fs::write(&to, content).with_context(|| format!("write the copy of {file}"))?;
        fs::set_permissions(&to, fs::metadata(&from)?.permissions())?;
    }
    fs::write(tree.join(COPIED), files.into_iter().collect::<Vec<_>>().join("\n")).context("write the list of copies")
}

fn tracked(root: &Path) -> Result<BTreeSet<String>> {
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let git = find("git").map_err(Error::msg)?;
    let output = Command::new(git).current_dir(root).args(arguments).output().context("start git")?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim());
    let names = String::from_utf8(output.stdout).context("a file's name is not UTF-8")?;
    Ok(names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}
