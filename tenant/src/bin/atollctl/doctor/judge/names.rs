//! One machine has one name.

use super::super::names::Names;
use super::{Check, Finding};
use crate::output::count;

const NAME: Check = Check::new(
    "name",
    "everything a node makes is named after it: a second name for one machine is refused, for it would not find that",
);

pub(super) fn judge(names: &Names) -> Vec<Finding> {
    let Names { present, is_configured, host, file, remembered, registered } = names;
    let source = match remembered {
        _ if *is_configured => "set in the configuration".to_owned(),
        Some(_) => format!("remembered in {}", file.display()),
        None => "the host name; the first pod writes it down".to_owned(),
    };
    let host = host.as_ref().filter(|host| !is_configured && *host != present);
    let host = host.map_or_else(String::new, |host| format!("; the host is called {host} now, which changes nothing"));
    let mut findings = vec![NAME.ok(present, format!("{source}{host}"))];
    if let Some(earlier) = remembered.as_ref().filter(|remembered| remembered.name != *present) {
        findings.push(NAME.warn(
            &earlier.name,
            format!("{} remembers this name, and the configuration says {present}", file.display()),
            format!("set `nodeName` to {}, or rename the node as docs/operations.md says", earlier.name),
        ));
    }
    let registered = registered.as_deref().unwrap_or_default();
    let is_registered = registered.iter().any(|(name, _)| name == present);
    for (other, claims) in registered.iter().filter(|(name, _)| name != present) {
        let found = format!("this machine is registered under this name as well, with {}", count(*claims, "claim"));
        let hint = format!(
            "set `nodeName` to {other}; or delete its pods and say `atollctl attachment evict-node {other} --forget`"
        );
        findings.push(if is_registered {
            NAME.warn(other, found, hint)
        } else {
            NAME.fail(other, format!("{found}; every ADD as {present} is refused"), hint)
        });
    }
    findings
}
