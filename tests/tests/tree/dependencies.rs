//! Checks dependencies: banned crates, licences, sources, and unused dependencies.
//!
//! The lists and their reasons are in `deny.toml`, which `cargo deny` reads as well. A key there that this test does
//! not support is an error, so that no rule is silently unchecked. The dependency graph is that of `cargo metadata` for
//! the targets that are built. A network is used only for crates that no build has downloaded yet.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

/// The registry that packages may come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// `deny.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    graph: Graph,
    bans: Bans,
    licenses: Licenses,
    sources: Sources,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Bans {
    multiple_versions: String,
    wildcards: String,
    allow_wildcard_paths: bool,
    deny: Vec<Banned>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
    /// The packages that may depend on it nevertheless.
    #[serde(default)]
    wrappers: Vec<String>,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Sources {
    unknown_registry: String,
    unknown_git: String,
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn rules() -> Result<Rules> {
    let text = fs::read_to_string(workspace().join("deny.toml"))?;
    let rules: Rules = toml::from_str(&text).context("deny.toml")?;
    let Rules { bans, sources, .. } = &rules;
    let checked = [&bans.multiple_versions, &bans.wildcards, &sources.unknown_registry, &sources.unknown_git];
    ensure!(
        checked == ["allow", "deny", "deny", "deny"] && bans.allow_wildcard_paths,
        "only these are checked: {checked:?}"
    );
    Ok(rules)
}

/// The output of `cargo metadata` for one target.
fn metadata(target: &str) -> Result<Value> {
    let ask = |more: &[&str]| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["metadata", "--locked", "--format-version", "1", "--filter-platform", target]).args(more);
        command.current_dir(workspace()).output().context("cargo")
    };
    let mut out = ask(&["--offline"])?;
    if !out.status.success() {
        // If the other target was never built, its own crates (an allocator) have not been downloaded yet.
        out = ask(&[])?;
    }
    ensure!(out.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&out.stderr));
    Ok(serde_json::from_slice(&out.stdout)?)
}

/// A string of an object; empty if there is none.
fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

/// All violations of the rules in a tree.
fn problems(rules: &Rules, tree: &Value) -> Result<Vec<String>> {
    let packages: BTreeMap<_, _> = list(tree, "packages").map(|package| (text(package, "id"), package)).collect();
    // Unlike `packages`, these are only those of the target.
    let nodes: Vec<_> = list(&tree["resolve"], "nodes").collect();
    let mut wrong = Vec::new();
    let mut users: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for node in &nodes {
        let user = packages.get(text(node, "id")).context("a node without a package")?;
        for dependency in list(node, "deps") {
            let package = packages.get(text(dependency, "pkg")).context("a dependency without a package")?;
            users.entry(text(package, "name")).or_default().insert(text(user, "name"));
        }
    }
    for Banned { name, wrappers, reason } in &rules.bans.deny {
        let users = users.get(name.as_str()).into_iter().flatten().filter(|user| !wrappers.iter().any(|w| w == *user));
        wrong.extend(users.map(|user| format!("{user} depends on {name}, which is banned: {reason}")));
    }
    for node in nodes {
        let package = packages[text(node, "id")];
        let (name, license) = (text(package, "name"), text(package, "license"));
        match allowed(license, &rules.licenses.allow) {
            Ok(true) => {}
            Ok(false) => wrong.push(format!("{name}: its licence {license:?} is not among those of deny.toml")),
            Err(error) => wrong.push(format!("{name}: its licence {license:?} cannot be read: {error}")),
        }
        match package["source"].as_str() {
            None | Some(REGISTRY) => {}
            Some(other) => wrong.push(format!("{name} comes from {other}, which is not {REGISTRY}")),
        }
        for dependency in list(package, "dependencies").filter(|_| package["source"].is_null()) {
            let any = text(dependency, "req") == "*" && dependency["path"].is_null();
            wrong.extend(any.then(|| format!("{name} takes any version of {}", text(dependency, "name"))));
        }
    }
    Ok(wrong)
}

/// Whether an SPDX expression can be met with these licences; `/` is the older way to say OR.
fn allowed(expression: &str, licenses: &[String]) -> Result<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let met = any_of(&mut words, licenses)?;
    ensure!(words.next().is_none(), "something follows its end");
    Ok(met)
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>, licenses: &[String]) -> Result<bool> {
    let mut met = all_of(words, licenses)?;
    while words.next_if_eq(&"OR").is_some() {
        met |= all_of(words, licenses)?;
    }
    Ok(met)
}

fn all_of(words: &mut Words<'_>, licenses: &[String]) -> Result<bool> {
    let mut met = one(words, licenses)?;
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, licenses)?;
    }
    Ok(met)
}

fn one(words: &mut Words<'_>, licenses: &[String]) -> Result<bool> {
    match words.next() {
        Some("(") => {
            let met = any_of(words, licenses)?;
            ensure!(words.next() == Some(")"), "a parenthesis is not closed");
            Ok(met)
        }
        None | Some(")" | "OR" | "AND" | "WITH") => bail!("a licence is missing"),
        Some(license) => {
            let whole = match words.next_if_eq(&"WITH") {
                Some(_) => format!("{license} WITH {}", words.next().context("an exception is missing")?),
                None => license.to_owned(),
            };
            // `MPL-2.0+` means that version or any later one.
            let chosen = whole.strip_suffix('+').unwrap_or(&whole);
            Ok(licenses.iter().any(|license| *license == whole || license == chosen))
        }
    }
}

#[test]
fn only_what_is_allowed_comes_into_the_tree() -> Result<()> {
    let rules = rules()?;
    ensure!(!rules.graph.targets.is_empty(), "deny.toml names no target");
    for target in &rules.graph.targets {
        let wrong = problems(&rules, &metadata(target)?)?;
        ensure!(wrong.is_empty(), "for {target}:\n{}", wrong.join("\n"));
    }
    Ok(())
}

#[test]
fn every_rule_is_checked() -> Result<()> {
    let mut rules = rules()?;
    let tree = metadata(rules.graph.targets.first().context("no target")?)?;
    let checked = |rules: &Rules, tree: &Value, wanted: &str| -> Result<()> {
        let found = problems(rules, tree)?;
        ensure!(found.iter().any(|text| text.contains(wanted)), "{wanted} is not among {found:?}");
        Ok(())
    };
    // Each rule is changed so that the present tree violates it.
    let licenses = std::mem::replace(&mut rules.licenses.allow, vec!["MIT".to_owned()]);
    checked(&rules, &tree, "licence \"Apache-2.0\"")?;
    rules.licenses.allow = licenses;
    let banned = Banned { name: "serde".to_owned(), wrappers: vec!["http".to_owned()], reason: "a test".to_owned() };
    rules.bans.deny.push(banned);
    checked(&rules, &tree, "atoll-model depends on serde, which is banned: a test")?;
    rules.bans.deny.pop();
    ensure!(rules.bans.deny.iter().any(|banned| !banned.wrappers.is_empty()), "no crate has wrappers");
    rules.bans.deny.iter_mut().for_each(|banned| banned.wrappers.clear());
    checked(&rules, &tree, "depends on async-trait")?;
    let mut changed = tree.clone();
    let packages = changed["packages"].as_array_mut().context("packages")?;
    for package in packages {
        match package["name"].as_str() {
            Some("tokio") => package["source"] = "git+https://example.org/tokio".into(),
            Some("http") => package["license"] = Value::Null,
            Some("atoll-model") => package["dependencies"][0]["req"] = "*".into(),
            _ => {}
        }
    }
    checked(&rules, &changed, "tokio comes from git+https://example.org/tokio")?;
    checked(&rules, &changed, "http: its licence \"\" cannot be read")?;
    checked(&rules, &changed, "atoll-model takes any version of")
}

#[test]
fn licences_are_read_as_spdx_means_them() -> Result<()> {
    let licenses = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("ISC+", true),
        ("GPL-2.0+", false),
        ("GPL-3.0-only OR MIT", true),
        ("GPL-3.0-only/MIT", true),
        ("GPL-3.0-only AND MIT", false),
        ("MIT AND ISC", true),
        ("GPL-3.0-only AND MIT OR ISC", true),
        ("GPL-3.0-only AND (MIT OR ISC)", false),
        ("Apache-2.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("MIT WITH LLVM-exception", false),
    ] {
        assert_eq!(allowed(expression, &licenses)?, met, "{expression}");
    }
    for bad in ["", "MIT OR", "(MIT", "MIT)", "MIT ISC", "AND", "MIT WITH"] {
        ensure!(allowed(bad, &licenses).is_err(), "{bad}");
    }
    Ok(())
}

/// The text of the Rust files below a directory, and of the files that they include by `#[path]`.
fn texts(directory: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    sources(directory, &mut files)?;
    let mut texts = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file)?;
        for elsewhere in text.lines().filter_map(|line| line.trim().strip_prefix("#[path = \"")?.strip_suffix("\"]")) {
            let path = file.parent().context("a directory")?.join(elsewhere);
            texts.push(fs::read_to_string(&path).with_context(|| path.display().to_string())?);
        }
        texts.push(text);
    }
    Ok(texts)
}

/// The Rust files below a directory.
fn sources(directory: &Path, all: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, all)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(path);
        }
    }
    Ok(())
}

/// Whether the code of a line, without its comment, names a crate.
fn names(line: &str, name: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let is_word = |found: char| found.is_alphanumeric() || found == '_';
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        !before.ends_with(is_word)
            && (after.starts_with("::") || !after.starts_with(is_word) && before.contains("use "))
    })
}

#[test]
fn every_dependency_is_used() -> Result<()> {
    let tree = metadata(rules()?.graph.targets.first().context("no target")?)?;
    let own: Vec<_> = list(&tree, "packages").filter(|package| package["source"].is_null()).collect();
    ensure!(own.len() > 5, "the workspace has more packages: {own:?}");
    let mut unused = Vec::new();
    for package in &own {
        let directory = Path::new(text(package, "manifest_path")).parent().context("a directory")?;
        let texts = texts(directory)?;
        for dependency in list(package, "dependencies") {
            // A library may have another name than its package (`rustls-webpki`).
            let package_name = text(dependency, "name");
            let library =
                list(&tree, "packages").filter(|other| text(other, "name") == package_name).find_map(|other| {
                    let target =
                        list(other, "targets").find(|target| list(target, "kind").any(|kind| kind == "lib"))?;
                    target["name"].as_str()
                });
            let name = dependency["rename"].as_str().or(library).unwrap_or(package_name).replace('-', "_");
            if !texts.iter().any(|text| text.lines().any(|line| names(line, &name))) {
                unused.push(format!("{} does not use {name}", text(package, "name")));
            }
        }
    }
    let manifest: toml::Table = toml::from_str(&fs::read_to_string(workspace().join("Cargo.toml"))?)?;
    let shared = manifest["workspace"]["dependencies"].as_table().context("the dependencies of the workspace")?;
    let taken: BTreeSet<_> = own
        .iter()
        .flat_map(|package| list(package, "dependencies"))
        .map(|dependency| dependency["rename"].as_str().unwrap_or(text(dependency, "name")))
        .collect();
    unused.extend(
        shared.keys().filter(|name| !taken.contains(name.as_str())).map(|name| format!("no crate depends on {name}")),
    );
    ensure!(unused.is_empty(), "{}", unused.join("\n"));
    ensure!(names("use http::Method;", "http") && names("#[derive(prost::Message)]", "prost"));
    ensure!(!names("// http::Method", "http") && !names("let http = 1;", "http") && !names("use xhttp::A;", "http"));
    Ok(())
}

/// The packages of the workspace that no release contains.
const NOT_RELEASED: [&str; 3] = ["atoll-testkit", "atoll-tools", "atoll-tests"];

/// Released packages that link the testkit, directly or through another package. Dev-dependencies are not linked.
fn test_doubles(tree: &Value) -> Result<Vec<String>> {
    let names: BTreeMap<_, _> =
        list(tree, "packages").map(|package| (text(package, "id"), text(package, "name"))).collect();
    let linked: BTreeMap<_, Vec<_>> = list(&tree["resolve"], "nodes")
        .map(|node| {
            let links = |dependency: &&Value| list(dependency, "dep_kinds").any(|kind| text(kind, "kind") != "dev");
            (text(node, "id"), list(node, "deps").filter(links).map(|dependency| text(dependency, "pkg")).collect())
        })
        .collect();
    let members: Vec<_> = list(tree, "workspace_members").filter_map(Value::as_str).collect();
    let released: Vec<_> = members.iter().filter(|id| !NOT_RELEASED.contains(&names[**id])).collect();
    ensure!(released.len() > 7 && released.len() + NOT_RELEASED.len() == members.len(), "{members:?}");
    let mut wrong = Vec::new();
    for id in released {
        let (mut reached, mut next) = (BTreeSet::new(), vec![*id]);
        while let Some(package) = next.pop() {
            if reached.insert(package) {
                next.extend(linked.get(package).into_iter().flatten());
            }
        }
        let found = reached.iter().any(|package| names[package] == NOT_RELEASED[0]);
        wrong.extend(found.then(|| format!("{} links {}", names[id], NOT_RELEASED[0])));
    }
    Ok(wrong)
}

#[test]
fn no_released_package_links_a_test_double() -> Result<()> {
    for target in &rules()?.graph.targets {
        let mut tree = metadata(target)?;
        let wrong = test_doubles(&tree)?;
        ensure!(wrong.is_empty(), "for {target}:\n{}", wrong.join("\n"));
        // The check itself: dev-dependencies become normal ones.
        for node in tree["resolve"]["nodes"].as_array_mut().context("nodes")? {
            for dependency in node["deps"].as_array_mut().context("deps")? {
                for kind in dependency["dep_kinds"].as_array_mut().context("kinds")? {
                    kind["kind"] = Value::Null;
                }
            }
        }
        let found = test_doubles(&tree)?;
        ensure!(found.iter().any(|text| text == "atoll-store links atoll-testkit"), "{found:?}");
    }
    Ok(())
}
