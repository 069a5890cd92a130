//! `atollctl attachment show`: all facts about one pod's network, and why it has none.
//!
//! | module | what |
//! |---|---|
//! | [`evidence`] | the facts from etcd, the engine, this node and the plugin's log, as plain data, and how they are read |
//! | [`diagnose`] | from facts to sentences. Pure |
//!
//! Changes nothing. Works without the engine; on another node than the pod's it names what only that node can read.

mod diagnose;
mod evidence;
mod log;

use serde_json::json;

use self::diagnose::{Diagnosis, Severity};
pub(crate) use self::evidence::Subject;
use self::evidence::{Evidence, One};
use crate::failure::Failure;
use crate::inventory::{name, state};
use crate::output::{self, CommandOutput, OutputFormat, or_dash};
use crate::settings::Settings;

/// Options of `attachment show`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Run it on the pod's node: interface, attachment state and log can only be read there. Exit code 0: nothing is wrong with it.
7: something is. 4: nothing is known of it.

Example: why has this pod no network?
  atollctl attachment show red/web-0

Example: who holds this address?
  atollctl attachment show 10.128.3.7

Example: a container of the runtime
  atollctl attachment show 3f9a5b7c9d1e")]
pub(crate) struct ShowAttachment {
    /// NAMESPACE/POD, a pod's name, a container's id (or at least 6 characters of it), or an address
    #[arg(value_name = "WHAT")]
    pub(crate) what: Subject,
    /// Do not ask the engine whether the pod's packets flow
    #[arg(long)]
    pub(crate) offline: bool,
}

pub(crate) async fn run(
    settings: &Settings,
    output: OutputFormat,
    options: &ShowAttachment,
) -> Result<CommandOutput, Failure> {
    let evidence = Evidence::collect(settings, &options.what, options.offline).await?;
    let findings = diagnose::diagnose(&evidence);
    if evidence.is_nothing() {
        return Err(Failure::absent(
            format!("nothing is known of {}", evidence.asked),
            findings.into_iter().find_map(|finding| finding.hint).unwrap_or_default(),
        ));
    }
    let alarming = findings.iter().any(|finding| finding.level == Severity::Fail);
    let text = match output {
        OutputFormat::Json => output::json(&json!({
            "asked": evidence.asked.to_string(),
            "attachments": evidence.attachments,
            "tombstones": evidence.tombstones,
            "address": evidence.address,
            "namespace": evidence.namespace,
            "log": evidence.log,
            "findings": findings,
        })),
        OutputFormat::Table => shown(&evidence, &findings),
    };
    Ok(CommandOutput::check(text, alarming))
}

fn shown(evidence: &Evidence, findings: &[Diagnosis]) -> String {
    let mut lines = Vec::new();
    for one in &evidence.attachments {
        lines.extend(facts(one).into_iter().map(|(what, value)| format!("{what:<16} {value}")));
        lines.push(String::new());
    }
    for line in &evidence.log {
        lines.push(format!("log  {}  {}", line.time, line.text));
    }
    if !evidence.log.is_empty() {
        lines.push(String::new());
    }
    for finding in findings {
        lines.push(format!("{}  {}", finding.level.word(), finding.text));
        lines.extend(finding.hint.iter().map(|hint| format!("  try: {hint}")));
    }
    output::lines(&lines)
}

fn facts(one: &One) -> Vec<(&'static str, String)> {
    let pod = &one.pod;
    let mut facts = vec![
        ("pod", name(pod)),
        ("tenant", format!("{}, subnet {}", pod.tenant, pod.subnet)),
        ("address", pod.address.to_string()),
        ("MAC", pod.mac.clone()),
        ("node", pod.node.to_string()),
        ("container", pod.container.clone()),
        ("interface", format!("{} in network {}", pod.interface, pod.network)),
        ("port", format!("{}, {}", pod.port, state(pod))),
    ];
    let host_end = match (&one.link, one.is_here) {
        (Some(link), _) => {
            format!("{}, in {}, {}", link.name, link.place, if link.carrier { "up" } else { "no carrier" })
        }
        (None, true) => format!("{}, not on this node", pod.host_interface),
        (None, false) => format!("{}, on another node than this", pod.host_interface),
    };
    facts.push(("host interface", host_end));
    facts.push(("attachment state", or_dash(one.attachment_state.as_ref().map(evidence::AddProgress::text))));
    if let Some(tombstone) = &one.tombstone {
        facts.push(("tombstone", tombstone.note.clone()));
    }
    facts
}
