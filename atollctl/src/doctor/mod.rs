//! `atollctl doctor`: checks everything that a pod's network needs, from this node, and explains what each finding means
//! and how to repair it.
//!
//! | module | what |
//! |---|---|
//! | [`seen`] | the state of a node, as plain data |
//! | [`servers`], [`ovn`], [`machine`], [`names`] | probing etcd and the engine, this machine and its container runtimes. Every probe has a time limit |
//! | [`judge`] | from the state to findings. Pure |
//!
//! # Guarantees
//! - It changes nothing: features of the kernel are tried in a temporary network namespace. With OVN it raises the number of
//!   the configuration, as `ovn-nbctl sync` does: a daemon that stopped is found by what it does not confirm.
//! - It reports what it can while other parts are down.
//! - It shows no secret.

mod judge;
mod limit;
mod machine;
mod names;
mod ovn;
mod ovn_controller;
mod seen;
mod servers;

use std::path::Path;
use std::path::PathBuf;

use atoll_model::clock;
use atoll_node::paths;
use serde_json::json;

use self::judge::{DoctorFinding, Level};
use self::seen::{DoctorEvidence, Problem};
use crate::output::{self, CommandOutput, OutputFormat, count};
use crate::runtime;
use crate::runtime::root::Root;
use crate::settings::Settings;

/// Options of `doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Works with etcd, the engine or both down; changes nothing; shows no secret. Exit code 0: no check failed, there may be
warnings. 7: a check failed.

Example: why do pods on this node get no network?
  atollctl doctor

Example: in a monitoring job
  atollctl doctor -o json | jq '.checks[] | select(.level == \"fail\")'

Example: with podman, which has no such socket
  podman ps --all --quiet --no-trunc > /run/containers.list
  atollctl doctor --sandboxes /run/containers.list")]
pub(crate) struct Doctor {
    /// Directory of the plugin's binary, may be repeated; else CNI_PATH, else those of the runtimes
    #[arg(long, value_name = "DIR")]
    pub(crate) bin_dir: Vec<PathBuf>,
    /// Directory of the network configurations; else those of the runtimes
    #[arg(long, value_name = "DIR")]
    pub(crate) conf_dir: Option<PathBuf>,
    /// CRI socket of the container runtime, may be repeated; else the usual ones of containerd, CRI-O and k3s
    #[arg(long, value_name = "SOCKET", conflicts_with = "sandboxes")]
    pub(crate) runtime_endpoint: Vec<PathBuf>,
    /// A list of the containers, as for `gc`, for runtimes without a CRI socket; no runtime is asked then
    #[arg(long, value_name = "FILE")]
    pub(crate) sandboxes: Option<PathBuf>,
}

pub(crate) async fn run(file: Option<&Path>, output: OutputFormat, options: &Doctor) -> CommandOutput {
    let findings = judge::judge(&Box::pin(probe(file, options)).await);
    let alarming = findings.iter().any(|finding| finding.level == Level::Fail);
    let text = match output {
        OutputFormat::Json => output::json(&json!({ "checks": findings, "summary": summary(&findings) })),
        OutputFormat::Table => shown(&findings),
    };
    CommandOutput::check(text, alarming)
}

async fn probe(file: Option<&Path>, options: &Doctor) -> DoctorEvidence {
    let settings = Settings::load(file);
    let (site, config) = match settings {
        Ok(settings) => {
            let site = servers::probe(&settings).await;
            (Some(site), Ok((settings.file, settings.config)))
        }
        Err(failure) => (None, Err(Problem { text: failure.message(), hint: failure.hint() })),
    };
    let names = match &config {
        Ok((_, config)) => names::probe(config).await,
        Err(_) => None,
    };
    // Claims first, containers last: a pod that comes in between is missing among the claims.
    let (runtimes, sandboxes) = if options.sandboxes.is_some() {
        (Vec::new(), machine::sandboxes(options.sandboxes.as_deref(), &[]).await)
    } else {
        let runtimes = runtime::find(&Root::own(), &options.runtime_endpoint).await;
        let sandboxes = machine::sandboxes(None, &runtimes).await;
        (runtimes, sandboxes)
    };
    let readers = machine::readers(&runtimes, &options.bin_dir, options.conf_dir.as_deref());
    let conflists: Vec<_> = readers.iter().map(machine::conflists).collect();
    let mut plugins = Vec::new();
    for (reader, conflists) in readers.iter().zip(&conflists) {
        plugins.push(machine::plugin(reader, conflists).await);
    }
    let uses_plane = config.as_ref().is_ok_and(|(_, config)| paths::router_namespaces(&config.run_dir).exists());
    DoctorEvidence {
        now: clock::now(),
        config,
        names,
        site,
        runtimes,
        plugins,
        conflists,
        sandboxes,
        has_kubelet: machine::has_kubelet(),
        kernel: machine::kernel(uses_plane),
    }
}

fn summary(findings: &[DoctorFinding]) -> serde_json::Value {
    let number = |level| findings.iter().filter(|finding| finding.level == level).count();
    json!({
        "ok": number(Level::Ok), "warn": number(Level::Warn),
        "fail": number(Level::Fail), "skip": number(Level::Skip),
    })
}

fn shown(findings: &[DoctorFinding]) -> String {
    let row = |finding: &DoctorFinding| {
        [finding.level.word().to_owned(), finding.check.to_owned(), finding.object.clone(), finding.found.clone()]
    };
    let mut text = output::table(["", "check", "object", "found"], findings.iter().map(row));
    let alarming: Vec<_> = findings.iter().filter(|f| matches!(f.level, Level::Warn | Level::Fail)).collect();
    for finding in &alarming {
        let DoctorFinding { check, level, object, found, means, hint } = finding;
        let hint = hint.as_ref().map_or_else(String::new, |hint| format!("  try: {hint}\n"));
        text = format!("{text}\n{}  {check} {object}: {found}\n  means: {means}\n{hint}", level.word());
    }
    let number = |level| findings.iter().filter(|finding| finding.level == level).count();
    format!(
        "{text}\n{}: {} ok, {}, {} failed, {} could not be checked.\n",
        count(findings.len(), "check"),
        number(Level::Ok),
        count(number(Level::Warn), "warning"),
        number(Level::Fail),
        number(Level::Skip)
    )
}
