//! `docs/configuration.md` against the parser, key by key: every key that the parser asks for has its row there, and every
//! row is of a key that the parser asks for.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::Config;

const PAGE: &str = include_str!("../../../../docs/configuration.md");

thread_local! {
    static ASKED: RefCell<BTreeSet<String>> = RefCell::default();
}

/// The parser asks for a key.
pub(super) fn asked(path: &str) {
    // An element of a list is described with the list.
    let path = path.split('[').next().unwrap_or(path).to_owned() + path.rsplit_once(']').map_or("", |(_, rest)| rest);
    ASKED.with_borrow_mut(|asked| asked.insert(path));
}

/// The text between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The keys of the first column of the table, whole, each with the rest of its row.
fn rows() -> Vec<(String, &'static str)> {
    let mut rows: Vec<(String, &str)> = Vec::new();
    for line in PAGE.lines().filter(|line| line.starts_with("| `")) {
        let (keys, rest) = line[2..].split_once(" | ").expect("a second column");
        let first = quoted(keys)[0];
        for key in quoted(keys) {
            // `a.b.c`, or `.d`, or `d`: beside a key that was written out, only what differs is.
            let parent = first.rsplit_once('.').map_or("", |(parent, _)| parent);
            let key = match key.strip_prefix('.') {
                Some(last) => format!("{parent}.{last}"),
                None if key == first || key.contains('.') => key.to_owned(),
                None => format!("{parent}.{key}"),
            };
            rows.push((key, rest));
        }
    }
    rows
}

#[test]
fn every_key_has_its_row_and_every_row_its_key() {
    let mut config = json!({
        "etcd": { "endpoints": ["http://127.0.0.1:2379"] },
        "controller": {
            "endpoints": ["http://127.0.0.1:8181/midonet-api"],
            "keystone": { "endpoints": ["http://127.0.0.1:5000"], "applicationCredential": { "id": "a", "secretFile": "/s" } },
        },
        "routes": [{ "dst": "10.96.0.0/12" }],
        "cluster": { "providerRouter": "auto" },
    });
    for ipam in [Value::Null, json!({ "type": "atoll" })] {
        config["ipam"] = ipam;
        Config::parse(&config).expect("valid");
    }
    let ovn = json!({ "etcd": config["etcd"], "ovn": { "northbound": ["ssl:192.0.2.1:6641"] } });
    Config::parse(&ovn).expect("valid");
    let asked = ASKED.take();
    let rows = rows();
    let is_section = |path: &String| asked.iter().any(|other| other.starts_with(&format!("{path}.")));
    for path in &asked {
        let is_row = rows.iter().any(|(key, _)| key == path);
        // `routes` and `dns` and `ipam` describe what is in them in their own row.
        let in_parent = path
            .rsplit_once('.')
            .is_some_and(|(parent, last)| rows.iter().any(|(key, rest)| key == parent && quoted(rest).contains(&last)));
        assert!(is_row || in_parent || is_section(path), "docs/configuration.md has no row for {path}");
    }
    for (key, _) in rows {
        assert!(asked.contains(&key), "docs/configuration.md has a row for {key}, which is not read");
    }
}
