//! Compares the records of pods in etcd, in the kernel and in this node's files.

use std::collections::{BTreeMap, BTreeSet};

use atoll_model::attachment::Attachment;
use atoll_model::config::Config;
use atoll_records::{TombstoneKind, TombstoneRecord};

use super::super::seen::{DoctorEvidence, Records, Site};
use super::finding::{Check, DoctorFinding, time};
use crate::gc::decide;
use crate::gc::observe::NodeObservation;
use crate::nodefiles::{AddState, Lock};
use crate::output::count;

const CLUSTER: Check =
    Check::new("cluster", "all nodes must agree with the cluster's record; an ADD on a node that does not fails");
const NODE: Check =
    Check::new("node", "two machines of one name would take each other's pods apart; the second is refused");
const RECORD: Check = Check::new("record", "a record that cannot be read is not changed, and its addresses stay taken");
const INTERFACE: Check = Check::new(
    "interface",
    "a host interface without a claim was left by a dead call; it has no port, and no call will remove it",
);
const CLAIM: Check = Check::new(
    "claim",
    "a claim keeps its address taken; when its container is no more, no runtime will ask for its release",
);
const ATTACHMENT_STATE: Check = Check::new(
    "attachment-state",
    "each attachment has a file with its lock and the phase of its ADD; a file left at `adding` is from an ADD that died",
);
const TOMBSTONE: Check = Check::new(
    "tombstone",
    "what a DEL could not finish, or a fence for an ADD that died; until its cleanup is finished its address stays taken",
);

/// Claims that are named in one finding.
const NAMED: usize = 5;

/// A tombstone that is older is a warning, seconds.
const OLD: u64 = 600;

pub(super) fn cluster(site: &Site) -> Vec<DoctorFinding> {
    let records = match &site.records {
        Ok(records) => records,
        Err(problem) => return vec![CLUSTER.skip("record", format!("etcd did not answer: {}", problem.text))],
    };
    let mut findings = Vec::new();
    findings.push(match (&records.cluster, &records.disagreement) {
        (None, _) => CLUSTER.warn(
            "record",
            "there is none yet",
            "`atollctl init` writes it, or the first pod does; from then on all nodes must agree with it",
        ),
        (Some(cluster), Some(problem)) => {
            CLUSTER.problem(cluster.id.0, problem, "make this node's file agree with the cluster's record")
        }
        (Some(cluster), None) => CLUSTER.ok(cluster.id.0, "this node's file agrees with it"),
    });
    if let Ok(machine) = &site.machine {
        findings.push(match (&records.node, &records.impostor) {
            (_, Some(problem)) => NODE.problem(
                &machine.name,
                problem,
                "give this machine another `nodeName`; if it was set up anew: `atollctl attachment evict-node`",
            ),
            (Some(record), None) if record.evicting.is_some() => NODE.fail(
                &machine.name,
                "it is being evicted: it attaches no pod until that is done",
                format!("atollctl attachment evict-node {} goes on where it stopped", machine.name),
            ),
            (None, _) => NODE.ok(&machine.name, "not registered yet: its first pod does that"),
            (Some(_), None) => NODE.ok(&machine.name, format!("registered; {}", count(records.claims.len(), "claim"))),
        });
    }
    let hint = "read it with etcdctl; a newer version of Atoll may have written it";
    findings.extend(records.damaged.iter().map(|key| RECORD.warn(key, "it cannot be read", hint)));
    findings
}

/// Interfaces that a claim, a tombstone or an attachment state names.
pub(super) fn known_interfaces(site: &Site, records: &Records) -> BTreeSet<String> {
    let claims = records.claims.iter().map(|claim| claim.record.host_interface.to_string());
    let in_etcd = records.tombstones.iter().map(|tombstone| tombstone.attachment.host_interface().to_string());
    let files = site.attachment_states.as_ref().map(Vec::as_slice).unwrap_or_default();
    let adding = files.iter().filter_map(|file| Some(file.phase.claim()?.host_interface.to_string()));
    let local_tombstones = site.local_tombstones.as_ref().map(Vec::as_slice).unwrap_or_default();
    let in_tombstones = local_tombstones
        .iter()
        .filter_map(|(_, tombstone)| Some(tombstone.as_ref()?.attachment.host_interface().to_string()));
    claims.chain(in_etcd).chain(adding).chain(in_tombstones).collect()
}

pub(super) fn interfaces(site: &Site) -> Vec<DoctorFinding> {
    let (links, records) = match (&site.links, &site.records) {
        (Ok(links), Ok(records)) => (links, records),
        (Err(problem), _) => return vec![INTERFACE.problem("host ends", problem, "run as root")],
        (_, Err(_)) => return vec![INTERFACE.skip("host ends", "etcd did not answer: their owners are unknown")],
    };
    if site.attachment_states.is_err() || site.local_tombstones.is_err() {
        return vec![INTERFACE.skip("host ends", "this node's files cannot be read: one of them may name their owner")];
    }
    if !records.damaged.is_empty() {
        return vec![INTERFACE.skip("host ends", "some records cannot be read: one of them may be theirs")];
    }
    let known = known_interfaces(site, records);
    let left: Vec<_> = links.iter().filter(|link| !known.contains(&link.name)).collect();
    if left.is_empty() {
        return vec![INTERFACE.ok("host ends", format!("{}, each with its claim", count(links.len(), "interface")))];
    }
    let hint = "`atollctl gc` removes it, if it is still there two deadlines later";
    left.into_iter().map(|link| INTERFACE.warn(&link.name, format!("no claim; in {}", link.place), hint)).collect()
}

/// Claims without a container, by the decision that `gc` makes of them in its first comparison.
pub(super) fn claims(site: &Site, seen: &DoctorEvidence, config: &Config) -> Vec<DoctorFinding> {
    let object = "containers";
    let sandboxes = match &seen.sandboxes {
        Ok(Some(sandboxes)) => sandboxes,
        Ok(None) => {
            let why = "no container runtime with a CRI socket is here; give a list with --sandboxes";
            return vec![CLAIM.skip(object, why)];
        }
        Err(problem) => return vec![CLAIM.skip(object, problem.text.clone())],
    };
    let (Ok(machine), Ok(records)) = (&site.machine, &site.records) else {
        return vec![CLAIM.skip(object, "etcd did not answer: the claims of this node are unknown")];
    };
    let (Ok(files), Ok(local_tombstones), Ok(links)) = (&site.attachment_states, &site.local_tombstones, &site.links)
    else {
        return vec![CLAIM.skip(object, "the attachments that calls work on are unknown")];
    };
    let in_tombstones = local_tombstones.iter().filter_map(|(_, tombstone)| tombstone.clone());
    let observed = NodeObservation {
        node: machine.name.clone(),
        now: seen.now,
        claims: records.claims.clone(),
        tombstones: records.tombstones.iter().cloned().chain(in_tombstones).collect(),
        is_damaged: !records.damaged.is_empty(),
        attachment_states: files.clone(),
        links: links.clone(),
        sandboxes: sandboxes.clone(),
    };
    let claimed = records.claims.iter().map(|claim| &claim.record.attachment.network);
    let networks: BTreeSet<_> = claimed.chain(&site.network).cloned().collect();
    let mut findings = Vec::new();
    for network in networks {
        let left = decide::attachments(&observed, &network, config.timeout.as_secs());
        // An attachment of another network without an interface is reported with its own network.
        let left: Vec<_> = left.into_iter().filter(|(attachment, _)| attachment.network == network).collect();
        if left.is_empty() {
            continue;
        }
        let mut names: Vec<_> = left.iter().take(NAMED).map(|(attachment, _)| named(attachment, records)).collect();
        if left.len() > NAMED {
            names.push(format!("{} more", left.len() - NAMED));
        }
        let found = format!("{} of {network} without a container: {}", count(left.len(), "claim"), names.join(", "));
        let which = match &site.network {
            Some(own) if *own == network => String::new(),
            _ => format!(" --config with the configuration of network {network}"),
        };
        let hint = if sandboxes.is_empty() {
            format!("no container at all is there: if that is so, `atollctl gc --empty-is-true`{which}")
        } else {
            format!("`atollctl gc`{which} releases them; first: `atollctl gc --dry-run`")
        };
        findings.push(CLAIM.warn(object, found, hint));
    }
    if findings.is_empty() {
        let found = format!("{}, {}", count(sandboxes.len(), "container"), count(records.claims.len(), "claim"));
        findings.push(CLAIM.ok(object, format!("{found}; none without its container")));
    }
    findings
}

/// `red/web-0 (3f9a5b7c9d1e, eth0)`, or only the container.
fn named(attachment: &Attachment, records: &Records) -> String {
    let short: String = attachment.container.as_str().chars().take(12).collect();
    let interface = &attachment.interface;
    let claim = records.claims.iter().find(|claim| claim.record.attachment == *attachment);
    let pod = claim.and_then(|claim| Some((claim.record.namespace.as_ref()?, claim.record.pod.as_ref()?)));
    match pod {
        Some((namespace, pod)) => format!("{namespace}/{pod} ({short}, {interface})"),
        None => format!("{short}, {interface}"),
    }
}

pub(super) fn attachment_states(site: &Site, config: &Config, now: u64) -> Vec<DoctorFinding> {
    let files = match &site.attachment_states {
        Ok(files) => files,
        Err(problem) => return vec![ATTACHMENT_STATE.problem("files", problem, "run as root; check `runDir`")],
    };
    let deadline = config.timeout.as_secs();
    let died = files.iter().filter(|file| {
        let begun = matches!(file.phase, AddState::Adding(_) | AddState::Unreadable);
        begun && file.lock == Lock::Free && now.saturating_sub(file.written) > deadline
    });
    let held = files.iter().filter(|file| file.lock == Lock::Held).count();
    let mut findings: Vec<_> = died
        .map(|file| {
            let since = time(now.saturating_sub(file.written));
            let whose = file.phase.claim().map_or_else(String::new, |claim| format!(" of {}", claim.attachment));
            let hint = "the runtime's DEL cleans up; `atollctl gc` does if no call comes";
            ATTACHMENT_STATE.warn(file.path.display(), format!("an ADD{whose} died {since} ago"), hint)
        })
        .collect();
    if findings.is_empty() {
        let found = format!("{}, {held} being worked on", count(files.len(), "attachment"));
        findings.push(ATTACHMENT_STATE.ok("files", found));
    }
    findings
}

pub(super) fn tombstones(site: &Site, now: u64) -> Vec<DoctorFinding> {
    let mut findings = Vec::new();
    match &site.records {
        Err(_) => findings.push(TOMBSTONE.skip("in etcd", "etcd did not answer")),
        Ok(records) if records.tombstones.is_empty() => findings.push(TOMBSTONE.ok("in etcd", "none")),
        Ok(records) => {
            let mut nodes: BTreeMap<&str, Vec<&TombstoneRecord>> = BTreeMap::new();
            for tombstone in &records.tombstones {
                nodes.entry(tombstone.attachment.node.as_str()).or_default().push(tombstone);
            }
            let own = site.machine.as_ref().map(|machine| machine.name.as_str()).unwrap_or_default();
            for (node, pending) in nodes {
                let hint = if node == own {
                    "the next calls on this node finish it; now: `atollctl gc`".to_owned()
                } else {
                    format!(
                        "`atollctl gc` on {node}; if that machine is gone for good: `atollctl attachment evict-node {node}`"
                    )
                };
                findings.push(pending_cleanup(&format!("of {node}"), &pending, now, hint));
            }
        }
    }
    findings.push(match &site.local_tombstones {
        Err(problem) => TOMBSTONE.problem("in files", problem, "run as root; check `stateDir`"),
        Ok(local_tombstones) => {
            let readable: Vec<_> = local_tombstones.iter().filter_map(|(_, tombstone)| tombstone.as_ref()).collect();
            if let Some((path, _)) = local_tombstones.iter().find(|(_, tombstone)| tombstone.is_none()) {
                let hint = "check it; its content is lost, so `atollctl address check` must find what is left";
                TOMBSTONE.warn(path.display(), "it cannot be read", hint)
            } else if readable.is_empty() {
                TOMBSTONE.ok("in files", "none")
            } else {
                let hint = "they move to etcd with the next call that reaches it; now: `atollctl gc`";
                pending_cleanup("in files", &readable, now, hint.to_owned())
            }
        }
    });
    findings
}

/// A tombstone, fences included, is a warning only when it is old.
fn pending_cleanup(object: &str, pending: &[&TombstoneRecord], now: u64, hint: String) -> DoctorFinding {
    let oldest = pending.iter().min_by_key(|tombstone| tombstone.since);
    let (since, why) = oldest.map_or((now, String::new()), |tombstone| (tombstone.since, tombstone.note.clone()));
    let fences = pending.iter().filter(|tombstone| tombstone.kind == TombstoneKind::Fence).count();
    let age = now.saturating_sub(since);
    let found = format!("{} ({}), the oldest {} old: {why}", pending.len(), count(fences, "fence"), time(age));
    if age > OLD { TOMBSTONE.warn(object, found, hint) } else { TOMBSTONE.ok(object, found) }
}
