//! No two files of a crate import each other, directly or through others.
//!
//! What a file imports is read from its syntax: each path of its code, and each private `use`, leads to the file that
//! defines the name. A re-export (`pub use`) is followed and is no import itself, nor is the declaration of a module
//! (`mod x;`). Code for tests is left out. The files of a circle can only be read together, so each is listed with the
//! import that closes it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Result, ensure};
use syn::visit::{self, Visit};

use crate::source::{Module, crates, files, is_for_tests, syntax};

/// Crates that still have circles, with the number of files in them. A number only ever gets smaller, and a crate without
/// circles is not listed.
const KNOWN: &[(&str, usize)] = &[];

/// The syntax of one file, as far as imports go.
#[derive(Default)]
struct Source {
    /// Names that a `use` of this file brings into scope, with their paths from the crate's root.
    scope: BTreeMap<String, Vec<String>>,
    /// Paths of its code, from the crate's root, and of its private `use` declarations.
    paths: Vec<Vec<String>>,
    /// Modules that are declared for tests only.
    for_tests: Vec<Module>,
}

/// Reads a file's syntax.
struct Reader {
    /// Where the reader is: the file's module, and modules written inside it.
    here: Module,
    source: Source,
}

impl Reader {
    /// A path from the crate's root. A bare first word is taken as a name in scope here.
    fn whole(&self, path: &[String]) -> Vec<String> {
        let (mut from, mut rest) = match path.first().map(String::as_str) {
            Some("crate") => (Module::new(), &path[1..]),
            Some("self") => (self.here.clone(), &path[1..]),
            _ => (self.here.clone(), path),
        };
        while let Some((_, tail)) = rest.split_first().filter(|(first, _)| *first == "super") {
            from.pop();
            rest = tail;
        }
        [from.as_slice(), rest].concat()
    }

    fn tree(&mut self, tree: &syn::UseTree, before: &mut Vec<String>, is_private: bool) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.tree(&path.tree, before, is_private);
                before.pop();
            }
            syn::UseTree::Name(name) => self.leaf(&name.ident.to_string(), &name.ident.to_string(), before, is_private),
            syn::UseTree::Rename(name) => {
                self.leaf(&name.ident.to_string(), &name.rename.to_string(), before, is_private);
            }
            syn::UseTree::Glob(_) => self.source.paths.push(self.whole(before)),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(tree, before, is_private)),
        }
    }

    fn leaf(&mut self, name: &str, known_as: &str, before: &[String], is_private: bool) {
        let (path, known_as) = match (name, known_as, before.last()) {
            ("self", "self", Some(last)) => (before.to_vec(), last.clone()),
            ("self", ..) => (before.to_vec(), known_as.to_owned()),
            _ => ([before, &[name.to_owned()]].concat(), known_as.to_owned()),
        };
        // `use std::…` names another crate: a first word that is neither a keyword nor a module leads nowhere below.
        let whole = self.whole(&path);
        if is_private {
            self.source.paths.push(whole.clone());
        }
        self.source.scope.insert(known_as, whole);
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_for_tests(&item.attrs) {
            self.tree(&item.tree, &mut Vec::new(), matches!(item.vis, syn::Visibility::Inherited));
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.here.push(item.ident.to_string());
        match (is_for_tests(&item.attrs), &item.content) {
            (true, None) => self.source.for_tests.push(self.here.clone()),
            (false, Some(_)) => visit::visit_item_mod(self, item),
            _ => {}
        }
        self.here.pop();
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if !is_for_tests(&call.attrs) {
            visit::visit_expr_call(self, call);
        }
    }

    /// `pub(crate)` holds a path and imports nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.source.paths.push(self.whole(&words));
        visit::visit_path(self, path);
    }
}

/// The file that defines what `path` names; re-exports are followed.
fn definition(sources: &BTreeMap<Module, Source>, path: &[String]) -> Option<Module> {
    let mut path = path.to_vec();
    // Two files whose `use` declarations name each other would never end.
    for _ in 0..16 {
        let known = (0..=path.len()).rev().find(|length| sources.contains_key(&path[..*length]))?;
        let (module, rest) = path.split_at(known);
        match rest.split_first().and_then(|(name, rest)| Some((sources[module].scope.get(name)?, rest))) {
            Some((target, rest)) if *target != path => path = [target.as_slice(), rest].concat(),
            _ => return Some(module.to_vec()),
        }
    }
    None
}

/// Which files of a crate each file imports.
fn imports(files: &BTreeMap<Module, PathBuf>) -> Result<BTreeMap<Module, BTreeSet<Module>>> {
    let read = |(module, path): (&Module, &PathBuf)| {
        let mut reader = Reader { here: module.clone(), source: Source::default() };
        reader.visit_file(&syntax(path)?);
        Ok((module.clone(), reader.source))
    };
    let mut sources: BTreeMap<_, _> = files.iter().map(read).collect::<Result<_>>()?;
    let for_tests: Vec<_> = sources.values().flat_map(|source| source.for_tests.clone()).collect();
    sources.retain(|module, _| !for_tests.iter().any(|tests| module.starts_with(tests)));
    let imported = |(module, source): (&Module, &Source)| {
        let of = source.paths.iter().filter_map(|path| definition(&sources, path)).filter(|it| it != module).collect();
        (module.clone(), of)
    };
    Ok(sources.iter().map(imported).collect())
}

/// What can be reached from each module.
fn reach(imports: &BTreeMap<Module, BTreeSet<Module>>, from: &Module) -> BTreeSet<Module> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from.clone()]);
    while let Some(module) = open.pop() {
        for next in imports.get(&module).into_iter().flatten() {
            if seen.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    seen
}

/// The imports between files that reach each other.
fn circles(imports: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeMap<Module, BTreeSet<Module>> {
    let reached: BTreeMap<_, _> = imports.keys().map(|module| (module.clone(), reach(imports, module))).collect();
    let closes = |from: &Module, to: &Module| reached.get(to).is_some_and(|back| back.contains(from));
    let closing = imports
        .iter()
        .map(|(from, to)| (from.clone(), to.iter().filter(|to| closes(from, to)).cloned().collect::<BTreeSet<_>>()));
    closing.filter(|(_, to)| !to.is_empty()).collect()
}

#[test]
fn files_of_a_crate_do_not_import_each_other_in_circles() -> Result<()> {
    let (mut report, mut counts) = (String::new(), BTreeMap::new());
    for (name, root) in crates()? {
        let circles = circles(&imports(&files(&root)?)?);
        for (from, to) in &circles {
            let to: Vec<_> = to.iter().map(|module| module.join("/")).collect();
            report.extend([&name, ": ", &from.join("/"), " imports ", &to.join(", "), "\n"]);
        }
        if !circles.is_empty() {
            counts.insert(name, circles.len());
        }
    }
    let known: BTreeMap<_, _> = KNOWN.iter().map(|(name, files)| ((*name).to_owned(), *files)).collect();
    ensure!(counts == known, "{counts:?}, and known are {known:?}\n{report}");
    Ok(())
}

#[test]
fn a_circle_is_found_wherever_it_closes() {
    let module = |name: &str| vec![name.to_owned()];
    let imports = |of: &[(&str, &[&str])]| {
        of.iter().map(|(from, to)| (module(from), to.iter().map(|to| module(to)).collect())).collect()
    };
    assert!(circles(&imports(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])])).is_empty());
    let round = circles(&imports(&[("a", &["b"]), ("b", &["c"]), ("c", &["a", "d"]), ("d", &[])]));
    assert_eq!(round, imports(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"])]));
}
