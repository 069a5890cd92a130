//! `atollctl address check`: compares addresses, claims, reservations, tombstones and ports, and repairs differences on request.

use std::collections::BTreeMap;
use std::time::Duration;

use atoll_ipam::audit::{AuditFinding, AuditProblem, Observation, RepairOutcome, Repaired, agreed};
use atoll_ipam::{audit, observe, repair};
use atoll_network::{Engine, NetworkId};
use atoll_store::Store;
use atoll_tenant::TenantError;
use atoll_tenant::admin::same_engine;
use serde_json::json;

use crate::failure::Failure;
use crate::output::{self, CommandOutput, OutputFormat, count};
use crate::settings::Settings;

/// Options of `address check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Compares twice; only what both comparisons find is reported or repaired. A repair is a transaction that compares everything
it rests on. It never frees an address that a claim has; what would take a guess is left to you. Exit code 7: something was
found and not repaired, so the command can run as a job.

Example: is everything as it should be?
  atollctl address check

Example: repair what can be repaired
  atollctl address check --repair")]
pub(crate) struct CheckAttachments {
    /// Repair what can be repaired without a guess
    #[arg(long)]
    pub(crate) repair: bool,
    /// Seconds between the two comparisons; longer than a pod's start, otherwise a starting pod may be reported as
    /// without a port
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) pause: u64,
    /// Do not ask the engine for the ports
    #[arg(long)]
    pub(crate) offline: bool,
}

pub(crate) async fn run(
    settings: &Settings,
    output: OutputFormat,
    options: &CheckAttachments,
) -> Result<CommandOutput, Failure> {
    let (store, controller) = (settings.store()?, settings.controller()?);
    let controller = (!options.offline).then_some(&controller);
    let first = findings(&store, controller).await?;
    if first.is_empty() {
        return Ok(render(output, &[], &[]).into());
    }
    tokio::time::sleep(Duration::from_secs(options.pause)).await;
    let second = findings(&store, controller).await?;
    if !options.repair {
        let found = agreed(&first, second);
        return Ok(CommandOutput { text: render(output, &found, &[]), exit_code: code(found.is_empty()) });
    }
    let left: Vec<_> = agreed(&first, second.clone()).into_iter().filter(|finding| finding.fix.is_none()).collect();
    let repaired = repair(&store, &first, second, settings.config.cooldown).await?;
    let is_repaired = repaired.iter().all(|repaired| repaired.outcome == RepairOutcome::Done);
    Ok(CommandOutput { text: render(output, &left, &repaired), exit_code: code(is_repaired && left.is_empty()) })
}

/// The exit code of the process.
fn code(agrees: bool) -> u8 {
    if agrees { 0 } else { 7 }
}

async fn findings(store: &impl Store, controller: Option<&impl Engine>) -> Result<Vec<AuditFinding>, Failure> {
    let mut seen = observe(store).await?;
    if let Some(controller) = controller {
        if let Some(cluster) = &seen.cluster {
            // Another engine would report every port as missing.
            same_engine(controller.name(), &cluster.engine)?;
        }
        seen.ports = ports(&seen, controller).await?;
    }
    Ok(audit(&seen))
}

/// The pods' ports of all subnets; none without a cluster.
async fn ports(seen: &Observation, controller: &impl Engine) -> Result<Option<BTreeMap<uuid::Uuid, String>>, Failure> {
    let Some(cluster) = &seen.cluster else { return Ok(None) };
    let mut ports = BTreeMap::new();
    for tenant in seen.tenants.values() {
        for subnet in &tenant.subnets {
            let what = format!("list the ports of subnet {} of tenant {}", subnet.ordinal, tenant.name);
            let network = NetworkId { cluster: cluster.id, incarnation: tenant.incarnation };
            let found = controller.ports(network.subnet(subnet.ordinal)).await;
            let found = found.map_err(|source| TenantError::Engine { what, source })?;
            ports.extend(
                found.into_iter().map(|port| (port, format!("subnet {} of tenant {}", subnet.cidrs(), tenant.name))),
            );
        }
    }
    Ok(Some(ports))
}

fn render(output: OutputFormat, found: &[AuditFinding], repaired: &[Repaired]) -> String {
    if output == OutputFormat::Json {
        return output::json(&json!({"findings": found, "repaired": repaired}));
    }
    if found.is_empty() && repaired.is_empty() {
        return "Everything agrees: addresses, claims, reservations and tombstones.\n".to_owned();
    }
    let mut lines = Vec::new();
    for Repaired { finding, outcome } in repaired {
        let doing = finding.fix.as_ref().map(|fix| fix.doing.as_str()).unwrap_or_default();
        lines.push(match outcome {
            RepairOutcome::Done => format!("repaired: {} ({doing})", finding.text),
            RepairOutcome::Changed => format!("not repaired: {}; it changed meanwhile", finding.text),
            RepairOutcome::Unknown => format!("perhaps repaired, the answer was lost; check again: {}", finding.text),
        });
    }
    for finding in found {
        let advice = match &finding.fix {
            Some(fix) => format!("--repair {}", fix.doing),
            None if finding.problem == AuditProblem::NoPort => "`atollctl tenant repair` of its tenant".to_owned(),
            None => format!("check {}; no command repairs it", finding.object),
        };
        lines.push(format!("{}\n  try: {advice}", finding.text));
    }
    let fixable = found.iter().filter(|finding| finding.fix.is_some()).count();
    if !found.is_empty() {
        lines.push(format!("{}, of which --repair can repair {fixable}.", count(found.len(), "finding")));
    }
    output::lines(&lines)
}
