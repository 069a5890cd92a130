//! One machine has one name, and works under one prefix of etcd.

use super::super::names::Names;
use super::finding::{Check, DoctorFinding};
use crate::output::count;

const NAME: Check = Check::new(
    "name",
    "everything a node makes is named after it: a second name for one machine is refused, for it would not find that",
);

const PREFIX: Check = Check::new(
    "prefix",
    "a claim stays below the `etcd.prefix` that its ADD had; DEL and GC look there as well, and other calls refuse what is there",
);

/// Other prefixes and names below which this machine has claims.
fn prefixes(names: &Names) -> Vec<DoctorFinding> {
    let Names { prefix, earlier_prefixes, file, .. } = names;
    let judge = |(earlier, claims): &(String, Option<usize>)| {
        let remembered = format!("{} remembers it, and the configuration has {prefix}", file.display());
        match claims {
            Some(0) => PREFIX.ok(earlier, format!("{remembered}; no claim of this machine is left there")),
            Some(claims) => PREFIX.warn(
                earlier,
                format!("{remembered}; this machine has {} there", count(*claims, "claim")),
                format!("delete those pods (`atollctl gc` collects what has no container), or set `etcd.prefix` to {earlier}"),
            ),
            None => PREFIX.warn(
                earlier,
                format!("{remembered}; what is there cannot be read"),
                format!("let this node's certificate or user read {earlier}, or set `etcd.prefix` to it"),
            ),
        }
    };
    earlier_prefixes.iter().map(judge).collect()
}

pub(super) fn judge(names: &Names) -> Vec<DoctorFinding> {
    let Names { present, is_configured, host, file, remembered, registered, .. } = names;
    let source = match remembered {
        _ if *is_configured => "set in the configuration".to_owned(),
        Some(_) => format!("remembered in {}", file.display()),
        None => "the host name; the first pod writes it down".to_owned(),
    };
    let host = host.as_ref().filter(|host| !is_configured && *host != present);
    let host = host.map_or_else(String::new, |host| format!("; the host is called {host} now, which changes nothing"));
    let mut findings = vec![NAME.ok(present, format!("{source}{host}"))];
    findings.extend(prefixes(names));
    if let Some(earlier) = remembered.as_ref().filter(|remembered| remembered.name != *present) {
        findings.push(NAME.warn(
            &earlier.name,
            format!("{} remembers this name, and the configuration has {present}", file.display()),
            format!("set `nodeName` to {}, or rename the node as docs/operations.md describes", earlier.name),
        ));
    }
    let registered = registered.as_deref().unwrap_or_default();
    let is_registered = registered.iter().any(|(name, _)| name == present);
    for (other, claims) in registered.iter().filter(|(name, _)| name != present) {
        let found = format!("this machine is registered under this name as well, with {}", count(*claims, "claim"));
        let hint = format!(
            "set `nodeName` to {other}; or delete its pods and run `atollctl attachment evict-node {other} --forget`"
        );
        findings.push(if is_registered {
            NAME.warn(other, found, hint)
        } else {
            NAME.fail(other, format!("{found}; every ADD as {present} is refused"), hint)
        });
    }
    findings
}
