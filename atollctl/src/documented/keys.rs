//! Checks the configuration's keys in pages: the table of `docs/configuration.md` has exactly the keys that the parser reads,
//! the parser accepts every example, and no page names a key that does not exist.

use std::collections::BTreeMap;

use atoll_model::config::Config;
use serde_json::{Value, json};

use super::pages::{blocks, pages, spans};

const PAGE: &str = include_str!("../../../docs/configuration.md");

/// Keys of a plugin's entry that belong to CNI.
const CNI: [&str; 7] = ["type", "name", "cniVersion", "capabilities", "args", "runtimeConfig", "prevResult"];

/// Words that look like keys of the configuration and are not: keys of Kubernetes and of our JSON output.
const OTHERS: [&str; 3] = ["terminationGracePeriodSeconds", "waitSeconds", "cluster.local"];

/// The keys of the table, each with the text of its row. `a.b`, `c` in one cell means `a.b` and `a.c`.
fn table() -> BTreeMap<String, &'static str> {
    let (_, rows) = PAGE.split_once("\n| key | default | meaning |\n").expect("the table of keys");
    let rows = rows.lines().skip(1).take_while(|line| line.starts_with('|'));
    let mut keys = BTreeMap::new();
    for row in rows {
        let cell = row.split('|').nth(1).expect("a first cell");
        let mut parent = "";
        for name in spans(cell) {
            let name = name.trim_start_matches('.');
            let key =
                if name.contains('.') || parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") };
            if let Some((above, _)) = name.rsplit_once('.') {
                parent = above;
            }
            keys.insert(key, row);
        }
    }
    assert!(keys.len() > 40, "the table was not understood: {keys:?}");
    keys
}

/// Configurations that together use every part.
fn bases() -> [Value; 4] {
    let plain = json!({
        "etcd": { "endpoints": ["http://192.0.2.1:2379"] },
        "controller": { "endpoints": ["http://192.0.2.2:8181/midonet-api"] },
    });
    let mut auto = plain.clone();
    auto["mtu"] = "auto".into();
    let mut keystone = plain.clone();
    keystone["controller"]["keystone"] = json!({
        "endpoints": ["http://192.0.2.3:5000/v3"],
        "applicationCredential": { "id": "a", "secretFile": "/etc/atoll/secret" },
    });
    let ovn = json!({
        "etcd": { "endpoints": ["http://192.0.2.1:2379"] },
        "ovn": { "northbound": ["ssl:192.0.2.4:6641"] },
    });
    [plain, auto, keystone, ovn]
}

/// Values of which at least one is wrong for every key.
fn wrong_values() -> Vec<Value> {
    vec![json!([[]]), json!({ "type": "host-local" }), json!(true), json!(3.5), json!("\u{0}/"), json!([{ "dst": 1 }])]
}

fn set(config: &mut Value, key: &str, value: Value) {
    let place = key.split('.').fold(config, |place, name| {
        if !place.is_object() {
            *place = json!({});
        }
        &mut place[name]
    });
    *place = value;
}

/// Whether the parser reads a key: it rejects a wrong value.
fn is_read(key: &str) -> bool {
    let minds = |base: &Value, value: &Value| {
        let mut config = base.clone();
        set(&mut config, key, value.clone());
        let error = Config::parse(&config).err();
        error.is_some_and(|error| {
            error.key == key || error.key.strip_prefix(key).is_some_and(|rest| rest.starts_with(['.', '[']))
        })
    };
    bases().iter().any(|base| wrong_values().iter().any(|value| minds(base, value)))
}

#[test]
fn every_key_of_the_table_is_read_by_the_parser() {
    let unread: Vec<_> = table().into_keys().filter(|key| !is_read(key)).collect();
    assert!(unread.is_empty(), "docs/configuration.md has keys that nothing reads: {unread:?}");
    assert!(!is_read("log.maxBytes") && !is_read("etcd.user") && !is_read("nonsense"));
}

/// The paths of the keys of an entry that are in no table.
fn unknown(entry: &Value, path: &str, keys: &BTreeMap<String, &str>, all: &mut Vec<String>) {
    for (name, value) in entry.as_object().into_iter().flatten() {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let is_parent = keys.keys().any(|known| known.starts_with(&format!("{key}.")));
        if path.is_empty() && CNI.contains(&name.as_str()) {
            continue;
        }
        match keys.get(&key) {
            // The row describes what is inside: `dst`, `nameservers`.
            Some(row) => {
                let inside: Vec<&Value> = value.as_array().map_or_else(|| vec![value], |list| list.iter().collect());
                let names = inside.into_iter().filter_map(Value::as_object).flat_map(|object| object.keys());
                all.extend(
                    names.filter(|name| !spans(row).any(|span| span == **name)).map(|name| format!("{key}.{name}")),
                );
            }
            None if is_parent => unknown(value, &key, keys, all),
            None => all.push(key),
        }
    }
}

#[test]
fn every_example_is_a_configuration_that_is_taken() {
    let keys = table();
    let (mut number, mut problems) = (0, Vec::new());
    for page in pages() {
        let mut documents: Vec<_> =
            blocks(&page.text).into_iter().filter(|(kind, _)| *kind == "json").map(|(_, text)| text).collect();
        if page.path.ends_with(".conflist") {
            documents.push(page.text.clone());
        }
        for text in documents {
            let document: Value = match serde_json::from_str(&text) {
                Ok(document) => document,
                Err(error) => {
                    problems.push(format!("{}: an example is no JSON: {error}: {text}", page.path));
                    continue;
                }
            };
            let Some(entry) = crate::settings::entry(&document) else { continue };
            number += 1;
            problems.extend(Config::parse(entry).err().map(|error| format!("{}: {error}", page.path)));
            let mut unknown_keys = Vec::new();
            unknown(entry, "", &keys, &mut unknown_keys);
            problems
                .extend(unknown_keys.iter().map(|key| format!("{}: nothing reads `{key}` of an example", page.path)));
        }
    }
    assert!(number >= 3, "only {number} examples were found");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Words of a text that look like keys: they begin with a section of the configuration and a dot, or have an ending of our keys.
fn mentions(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '.' || letter == '_'));
    words.map(|word| word.trim_matches('.')).filter(|word| {
        let (part, rest) = word.split_once('.').unwrap_or(("", word));
        let is_part = ["etcd", "controller", "cluster", "tenant", "tunnel", "log"].contains(&part);
        // `etcd.pem` and `tenant.rs` are files.
        let is_file = ["pem", "json", "rs", "md", "service", "html"].contains(&rest);
        let endings = ["Seconds", "Cidr", "Dir", "Megabytes", "Bytes", "Router", "File", "DomainId", "DomainName"];
        let is_camel = word.starts_with(|letter: char| letter.is_ascii_lowercase()) && !word.contains(['_', '.']);
        let ends = |ending: &&str| rest.ends_with(ending) && rest != *ending;
        (is_part && !is_file && rest.starts_with(|letter: char| letter.is_ascii_lowercase()))
            || (is_camel && endings.iter().any(ends))
    })
}

#[test]
fn no_page_names_a_key_that_does_not_exist() {
    let keys = table();
    let exists = |word: &str| {
        let is_parent = keys.keys().any(|key| key.starts_with(&format!("{word}.")));
        is_parent || keys.contains_key(word) || keys.keys().any(|key| key.rsplit('.').next() == Some(word))
    };
    assert!(exists("log.maxMegabytes") && exists("podCidr") && !exists("log.maxBytes") && !exists("podPool"));
    let mut problems = Vec::new();
    for page in pages().iter().filter(|page| !page.path.starts_with("docs/design/")) {
        let unknown_keys = mentions(&page.text).filter(|word| !exists(word) && !OTHERS.contains(word));
        problems.extend(unknown_keys.map(|word| format!("{}: there is no key `{word}`", page.path)));
    }
    problems.sort();
    problems.dedup();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
