//! The name of a public type is one concept in the workspace.
//!
//! A name is public if another file can use it: `pub`, `pub(crate)` or `pub(super)`. Types of tests are left out. One concept
//! may have several representations under one name: these are listed, with the modules that define them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use syn::visit::{self, Visit};

use crate::source::{Module, crates, files, is_for_tests, syntax};

/// One concept that has several representations.
struct Known {
    names: &'static [&'static str],
    /// The modules that define these names, each with its crate.
    modules: &'static [&'static str],
    reason: &'static str,
}

const KNOWN: &[Known] = &[
    Known {
        names: &[
            "AddressGroup",
            "Binding",
            "Bridge",
            "Chain",
            "NatTarget",
            "Port",
            "PortGroup",
            "Route",
            "Router",
            "Rule",
        ],
        modules: &[
            "mock-controller/state/objects",
            "model/topology",
            "sdn-client/api/device",
            "sdn-client/api/group",
            "sdn-client/api/port",
            "sdn-client/api/route",
            "sdn-client/api/rule",
        ],
        reason: "MidoNet's objects: in a topology, as JSON of the API, and in the mock controller's state",
    },
    Known {
        names: &["Host", "Interface", "TunnelZone"],
        modules: &["mock-controller/state/objects", "sdn-client/api/host"],
        reason: "MidoNet's objects that are no part of a topology: as JSON of the API, and in the mock controller's state",
    },
    Known {
        names: &["Violation"],
        modules: &["mock-controller/refusal", "sdn-client/api/system"],
        reason: "a field that the API refuses: as the server writes it, and as the client reads it",
    },
];

/// The public types of one file.
struct Types {
    /// The module that is being read: the file's, or one that is written inside it.
    here: Module,
    found: Vec<(String, Module)>,
    /// Modules that are declared for tests only.
    for_tests: Vec<Module>,
}

impl Types {
    fn add(&mut self, name: &syn::Ident, visibility: &syn::Visibility, attributes: &[syn::Attribute]) {
        if !matches!(visibility, syn::Visibility::Inherited) && !is_for_tests(attributes) {
            self.found.push((name.to_string(), self.here.clone()));
        }
    }
}

impl<'ast> Visit<'ast> for Types {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.here.push(item.ident.to_string());
        match (is_for_tests(&item.attrs), &item.content) {
            (true, None) => self.for_tests.push(self.here.clone()),
            (false, Some(_)) => visit::visit_item_mod(self, item),
            _ => {}
        }
        self.here.pop();
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.add(&item.ident, &item.vis, &item.attrs);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.add(&item.ident, &item.vis, &item.attrs);
    }

    fn visit_item_union(&mut self, item: &'ast syn::ItemUnion) {
        self.add(&item.ident, &item.vis, &item.attrs);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.add(&item.ident, &item.vis, &item.attrs);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.add(&item.ident, &item.vis, &item.attrs);
    }
}

/// The public types of the workspace: the modules that define each name.
fn public_types() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut all = BTreeMap::<_, BTreeSet<_>>::new();
    for (name, root) in crates()? {
        let mut types = Types { here: Module::new(), found: Vec::new(), for_tests: Vec::new() };
        for (module, path) in files(&root)? {
            types.here = module;
            types.visit_file(&syntax(&path)?);
        }
        let Types { found, for_tests, .. } = types;
        for (type_name, module) in found {
            if !for_tests.iter().any(|tests| module.starts_with(tests)) {
                let module = [[name.clone()].as_slice(), module.as_slice()].concat().join("/");
                all.entry(type_name).or_default().insert(module);
            }
        }
    }
    Ok(all)
}

#[test]
fn the_name_of_a_public_type_is_one_concept() -> Result<()> {
    let types = public_types()?;
    ensure!(types.len() > 400, "these are not all: {types:?}");
    let mut several: BTreeMap<_, _> = types.into_iter().filter(|(_, modules)| modules.len() > 1).collect();
    let mut report = String::new();
    for Known { names, modules, reason } in KNOWN {
        let modules: BTreeSet<_> = modules.iter().map(|&module| module.to_owned()).collect();
        for &name in *names {
            let found = several.remove(name).unwrap_or_default();
            if found.len() < 2 || !found.is_subset(&modules) {
                report.extend([name, " (", reason, ") is defined in ", &format!("{found:?}"), "\n"]);
            }
        }
    }
    for (name, modules) in several {
        report.extend([&name, " is defined in ", &modules.into_iter().collect::<Vec<_>>().join(", "), "\n"]);
    }
    ensure!(report.is_empty(), "names with more than one definition, or listed and not defined so:\n{report}");
    Ok(())
}
