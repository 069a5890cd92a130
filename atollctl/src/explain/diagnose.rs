//! From evidence to sentences: why a pod has no network, or that nothing is wrong with it. Pure.

use atoll_tenant::inventory::PodState;
use serde::Serialize;

use super::evidence::{AddressIs, Evidence, NamespaceIs, One, Subject};
use crate::inventory::name;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    Ok,
    Note,
    Fail,
}

impl Severity {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Fail => "FAIL",
        }
    }
}

/// One sentence. The shape of its JSON is stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Diagnosis {
    pub(super) level: Severity,
    pub(super) text: String,
    pub(super) hint: Option<String>,
}

fn ok(text: impl Into<String>) -> Diagnosis {
    Diagnosis { level: Severity::Ok, text: text.into(), hint: None }
}

fn note(text: impl Into<String>, hint: impl Into<String>) -> Diagnosis {
    Diagnosis { level: Severity::Note, text: text.into(), hint: Some(hint.into()) }
}

fn fail(text: impl Into<String>, hint: impl Into<String>) -> Diagnosis {
    Diagnosis { level: Severity::Fail, text: text.into(), hint: Some(hint.into()) }
}

const AGAIN: &str = "delete the pod: its controller makes a new one, which is attached from the start";

pub(super) fn diagnose(evidence: &Evidence) -> Vec<Diagnosis> {
    let mut findings: Vec<_> = evidence.attachments.iter().flat_map(|one| attachment(evidence, one)).collect();
    if evidence.attachments.len() > 1 && matches!(evidence.asked, Subject::Pod(..)) {
        findings.push(note(
            "it has several attachments: several interfaces, or a sandbox that was replaced and not yet removed",
            "compare the containers with the runtime's (`crictl pods`)",
        ));
    }
    findings.extend(evidence.tombstones.iter().map(|tombstone| {
        let text = format!("{} is gone, but its cleanup is pending: {}", tombstone.attachment, tombstone.note);
        fail(text, cleanup_hint(&tombstone.node, evidence))
    }));
    findings.extend(evidence.address.map(address));
    if evidence.attachments.is_empty() && evidence.address.is_none() {
        findings.extend(missing(evidence));
    }
    findings
}

fn cleanup_hint(node: &str, evidence: &Evidence) -> String {
    let here = evidence.node.as_ref().is_some_and(|here| here.as_str() == node);
    let place = if here { String::new() } else { format!(" on node {node}") };
    format!(
        "`atollctl gc`{place} finishes it when etcd and the engine answer; `atollctl doctor` checks whether they do"
    )
}

fn attachment(evidence: &Evidence, one: &One) -> Vec<Diagnosis> {
    let (pod, who) = (&one.pod, name(&one.pod));
    let mut findings = Vec::new();
    if let Some(tombstone) = &one.tombstone {
        let text = format!("its DEL could not finish, and its address stays taken: {}", tombstone.note);
        return vec![fail(text, cleanup_hint(&tombstone.node, evidence))];
    }
    match one.tenant_phase {
        Some("active") => {}
        Some("building") => findings.push(fail(
            format!("tenant {} is being built, or was left half built", pod.tenant),
            format!("atollctl tenant repair {}", pod.tenant),
        )),
        Some(phase) => findings.push(fail(
            format!("tenant {} is {phase}: it goes, and its pods with it", pod.tenant),
            format!("atollctl tenant show {}", pod.tenant),
        )),
        None => findings.push(fail(format!("tenant {} has no record", pod.tenant), "atollctl address check")),
    }
    match &one.attachment_state {
        Some(step) if step.locked => findings.push(note(
            format!("a call works on it now, since {} s", step.age),
            format!("wait; the deadline of a call is {} s", evidence.deadline),
        )),
        Some(step) if step.state != "done" => findings.push(fail(
            format!("its ADD died {} s ago", step.age),
            "the runtime's next DEL or ADD cleans up; `atollctl gc` does if no call comes",
        )),
        _ => {}
    }
    match &one.link {
        _ if !one.is_here => findings.push(note(
            format!("its interface and its files can only be read on node {}", pod.node),
            format!("run this there: atollctl attachment show {}", pod.container),
        )),
        None => findings.push(fail(format!("its host interface {} is not there", pod.host_interface), AGAIN)),
        Some(link) if !link.carrier => findings.push(fail(
            format!("host interface {} has no carrier: the pod's {} is down", link.name, pod.interface),
            format!("check inside: crictl inspectp {}, then `nsenter --net=... ip link`", pod.container),
        )),
        Some(_) => {}
    }
    let doctor = format!("atollctl doctor, on node {}", pod.node);
    match pod.state {
        Some(PodState::Active) => {}
        Some(PodState::Inactive) => findings.push(fail(
            "its port is bound and not active: the engine's agent is down, or has not seen the interface",
            doctor,
        )),
        Some(PodState::Unbound) => findings.push(fail("its port is not bound to any interface", AGAIN)),
        Some(PodState::Missing) => findings.push(fail("the engine has no port for it", AGAIN)),
        Some(PodState::Unknown) => findings.push(note("the engine did not return the state of its port", doctor)),
        None => findings.push(note("the engine was not asked", "leave --offline out")),
    }
    if !findings.iter().any(|finding| finding.level == Severity::Fail) {
        let text = format!("{who} has {} and nothing that can be seen from here is wrong with it", pod.address.ip());
        findings.insert(0, ok(text));
    }
    findings
}

fn address(address: AddressIs) -> Diagnosis {
    match address {
        AddressIs::CoolDown => ok("it has no owner: it was just released and is in cool-down"),
        AddressIs::Reserved => ok("it has no owner now: it is reserved (`atollctl address list`)"),
        AddressIs::Gateway => ok("it is the gateway of a subnet: a tenant's router has it"),
        AddressIs::Free => ok("it is free"),
        AddressIs::Nowhere => note(
            "it is in no subnet of any tenant",
            "`atollctl subnet list` has the subnets, `atollctl init --dry-run` the cluster's pools",
        ),
    }
}

/// There is no claim: no ADD got that far, or it was rolled back.
fn missing(evidence: &Evidence) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    let last = evidence.log.iter().rfind(|line| line.level == "ERROR");
    if let Some(line) = last {
        findings.push(fail(
            format!("its last call failed at {}, and took back what it had done: {}", line.time, line.text),
            "docs/troubleshooting.md lists what the messages mean; `atollctl doctor` checks this node",
        ));
    }
    findings.extend(evidence.namespace.as_ref().and_then(namespace));
    if findings.is_empty() && evidence.tombstones.is_empty() {
        let not_here = match &evidence.no_log {
            Some(why) => format!("the log could not be read: {why}"),
            None => "nor is it in this node's log".to_owned(),
        };
        findings.push(fail(
            format!("no ADD of it is known: there is no claim for it, {not_here}"),
            "find the pod's node (`kubectl get pod -o wide`), run this on that node, and `atollctl doctor`: does the runtime call Atoll?",
        ));
    }
    findings
}

fn namespace(namespace: &NamespaceIs) -> Option<Diagnosis> {
    let NamespaceIs { name, tenant, phase, taken, room } = namespace;
    let tenant = tenant.as_ref()?;
    if *taken as u128 >= *room {
        return Some(fail(
            format!("tenant {tenant} of namespace {name} is full: {taken} of {room} addresses are taken"),
            format!("atollctl subnet add {tenant}; `atollctl address check` finds addresses without an owner"),
        ));
    }
    match phase {
        Some("active") | None => None,
        Some(phase) => Some(fail(
            format!("tenant {tenant} of namespace {name} is {phase}"),
            format!("atollctl tenant show {tenant}; if no call is working on it: atollctl tenant repair {tenant}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::ids::ClaimId;
    use atoll_node::netns::Netns;
    use atoll_tenant::inventory::ListedPod;
    use uuid::Uuid;

    use super::super::evidence::{AddProgress, TombstoneInfo};
    use super::super::log::Line;
    use super::*;
    use crate::links::HostEnd;

    fn one() -> One {
        let link = HostEnd { place: Netns::Own, name: "at50926f89922e".to_owned(), index: 7, carrier: true };
        One {
            pod: ListedPod {
                address: "10.128.3.7/24".parse().expect("valid"),
                tenant: "red".parse().expect("valid"),
                subnet: 1,
                namespace: Some("red".parse().expect("valid")),
                pod: Some("web-0".to_owned()),
                node: "n1".parse().expect("valid"),
                network: "atoll".to_owned(),
                container: "3f9a5b7c9d1e2f3a".to_owned(),
                interface: "eth0".to_owned(),
                host_interface: "at50926f89922e".to_owned(),
                mac: "02:00:00:00:00:01".to_owned(),
                port: Uuid::from_u128(9),
                claim: ClaimId(Uuid::from_u128(10)),
                since: 0,
                state: Some(PodState::Active),
            },
            is_here: true,
            link: Some(link),
            attachment_state: Some(AddProgress { state: "done", locked: false, age: 30 }),
            tombstone: None,
            tenant_phase: Some("active"),
        }
    }

    fn evidence(attachments: Vec<One>) -> Evidence {
        Evidence {
            asked: "red/web-0".parse().expect("valid"),
            node: Some("n1".parse().expect("valid")),
            deadline: 60,
            attachments,
            tombstones: vec![],
            address: None,
            namespace: None,
            log: vec![],
            no_log: None,
        }
    }

    fn text(evidence: &Evidence) -> String {
        let line = |finding: &Diagnosis| {
            let hint = finding.hint.as_ref().map_or_else(String::new, |hint| format!("\n  try: {hint}"));
            format!("{}  {}{hint}\n", finding.level.word(), finding.text)
        };
        diagnose(evidence).iter().map(line).collect()
    }

    type Change = fn(&mut One);

    #[test]
    fn each_reason_has_a_sentence_and_something_to_try() {
        let tombstone = || TombstoneInfo {
            attachment: "n1/atoll/3f9a5b7c9d1e2f3a/eth0".to_owned(),
            node: "n1".to_owned(),
            note: "the engine did not answer in time".to_owned(),
            since: 10,
            not_before: 10,
        };
        let changes: &[(&str, Change)] = &[
            ("well", |_| {}),
            ("controller down", |o| o.pod.state = Some(PodState::Unknown)),
            ("inactive", |o| o.pod.state = Some(PodState::Inactive)),
            ("unbound", |o| o.pod.state = Some(PodState::Unbound)),
            ("no port", |o| o.pod.state = Some(PodState::Missing)),
            ("not asked", |o| o.pod.state = None),
            ("no link", |o| o.link = None),
            ("no carrier", |o| o.link.as_mut().expect("there").carrier = false),
            ("elsewhere", |o| {
                o.is_here = false;
                o.link = None;
                o.attachment_state = None;
            }),
            ("adding now", |o| o.attachment_state = Some(AddProgress { state: "adding", locked: true, age: 3 })),
            ("died", |o| o.attachment_state = Some(AddProgress { state: "adding", locked: false, age: 300 })),
            ("building", |o| o.tenant_phase = Some("building")),
            ("no tenant", |o| o.tenant_phase = None),
        ];
        let mut all = String::new();
        for (what, change) in changes {
            let mut one = one();
            change(&mut one);
            all = format!("{all}# {what}\n{}", text(&evidence(vec![one])));
        }
        let in_tombstones = One { tombstone: Some(tombstone()), ..one() };
        all = format!("{all}# tombstone\n{}", text(&evidence(vec![in_tombstones])));
        let mut seen = evidence(vec![]);
        all = format!("{all}# never heard of\n{}", text(&seen));
        seen.log = vec![Line {
            time: "2026-01-01T00:00:00Z".to_owned(),
            level: "ERROR".to_owned(),
            text: "ADD: failed: subnet is full".to_owned(),
        }];
        all = format!("{all}# failed\n{}", text(&seen));
        seen.log.clear();
        let space = |taken, room, phase| NamespaceIs {
            name: "red".to_owned(),
            tenant: Some("red".to_owned()),
            phase: Some(phase),
            taken,
            room,
        };
        for (what, namespace) in [("full", space(253, 253, "active")), ("going", space(1, 253, "deleting"))] {
            seen.namespace = Some(namespace);
            all = format!("{all}# {what}\n{}", text(&seen));
        }
        seen.namespace = None;
        seen.tombstones = vec![tombstone()];
        all = format!("{all}# pending\n{}", text(&seen));
        insta::assert_snapshot!("sentences", all);
    }
}
