//! `atollctl tenant prune`: lists idle tenants, and deletes them on request.

use atoll_model::clock::now;
use atoll_tenant::admin::{self, Admin, Idle};
use serde_json::json;

use crate::delete::confirm;
use crate::failure::Failure;
use crate::output::{self, OutputFormat, count};
use crate::settings::Settings;

/// Options of `tenant prune`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A tenant is idle when it has no pods. Every run records which tenants it found idle, and every new pod removes that
record. So run it today, and delete in 30 days. Tenants that an operator made, and those that have reservations, are listed
and never pruned. With MidoNet, deleting waits for the maximum request lifetime, as `tenant delete` does; a tenant that is used
again meanwhile stays.

Example: list and record
  atollctl tenant prune

Example: delete what was unused for 30 days
  atollctl tenant prune --days 30 --delete --yes")]
pub(crate) struct Prune {
    /// The idle time in days
    #[arg(long, default_value_t = 30)]
    pub(crate) days: u64,
    /// Delete the tenants that have been idle for this time
    #[arg(long)]
    pub(crate) delete: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print what would happen, and change and record nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

const DAY: u64 = 24 * 60 * 60;

pub(crate) async fn run(settings: &Settings, output: OutputFormat, options: &Prune) -> Result<String, Failure> {
    let (store, controller) = (settings.store()?, settings.controller()?);
    let admin = Admin { store: &store, engine: &controller, config: &settings.config.cluster };
    let idle = admin::idle(&admin, !options.dry_run).await?;
    let due = |idle: &Idle| idle.kept.is_none() && days(idle).is_some_and(|days| days >= options.days);
    let doomed: Vec<_> = idle.iter().filter(|idle| due(idle)).map(|idle| idle.tenant.clone()).collect();
    if !options.delete || options.dry_run || doomed.is_empty() {
        return Ok(listed(output, &idle, options, doomed.len()));
    }
    if !options.yes {
        let what = count(doomed.len(), "tenant");
        confirm(&format!("This deletes {what}."), "prune", "nothing is deleted")?;
    }
    let done = admin::prune(&admin, &doomed, settings.config.max_request_lifetime).await;
    let failed = done.iter().filter(|(_, outcome)| outcome.is_err()).count();
    let lines: Vec<String> = done
        .iter()
        .map(|(tenant, outcome)| match outcome {
            Ok(()) => format!("Tenant {tenant} is deleted."),
            Err(error) => format!("Tenant {tenant} is not deleted: {error}"),
        })
        .collect();
    match output {
        _ if failed > 0 => Err(Failure::other(format!(
            "{failed} of {} not deleted\n{}",
            count(done.len(), "tenant"),
            lines.join("\n")
        ))),
        OutputFormat::Json => Ok(output::json(&json!({"done": "pruned", "tenants": doomed}))),
        OutputFormat::Table => Ok(output::lines(&lines)),
    }
}

/// Whole days.
fn days(idle: &Idle) -> Option<u64> {
    idle.since.map(|since| now().saturating_sub(since) / DAY)
}

fn listed(output: OutputFormat, idle: &[Idle], options: &Prune, due: usize) -> String {
    if output == OutputFormat::Json {
        let one = |idle: &Idle| json!({"tenant": idle.tenant, "idleSince": idle.since, "days": days(idle), "keptBecause": idle.kept});
        return output::json(&json!({"due": due, "idle": idle.iter().map(one).collect::<Vec<_>>()}));
    }
    if idle.is_empty() {
        return "Every tenant has pods.\n".to_owned();
    }
    let row = |idle: &Idle| {
        let age = match days(idle) {
            None => "seen for the first time".to_owned(),
            Some(days) => count(usize::try_from(days).unwrap_or(usize::MAX), "day"),
        };
        [idle.tenant.to_string(), age, idle.kept.unwrap_or("-").to_owned()]
    };
    let table = output::table(["tenant", "idle", "kept because"], idle.iter().map(row));
    let summary = match (due, options.delete) {
        (0, _) => format!(
            "None of them has been idle for {}, as far as is known.",
            count(usize::try_from(options.days).unwrap_or(usize::MAX), "day")
        ),
        (due, true) => format!("would delete {}", count(due, "tenant")),
        (due, false) => format!("`atollctl tenant prune --days {} --delete` deletes {} of them.", options.days, due),
    };
    format!("{table}\n{summary}\n")
}
