//! `atollctl tenant create`, `plan` and `repair`: create a tenant's objects, show their drift, and repair it.

use std::collections::BTreeSet;

use atoll_model::ids::TenantName;
use atoll_records::{TenantRecord, Versioned};
use atoll_tenant::admin::{self, Admin, PlannedChange};
use atoll_tenant::inventory::Inventory;
use serde_json::json;

use crate::failure::Failure;
use crate::output::{self, CommandOutput, OutputFormat, count};
use crate::settings::Settings;

/// Options of `tenant create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: a tenant for two namespaces
  atollctl tenant create shop
  atollctl tenant join shop shop-frontend
  atollctl tenant join shop shop-backend

Example: many tenants, whose networks the engine makes together (with OVN: one computation of northd for up to 100)
  atollctl tenant create red blue green")]
pub(crate) struct Create {
    /// Its name; of several tenants, their names
    #[arg(required = true, value_name = "TENANT")]
    pub(crate) tenants: Vec<TenantName>,
    /// Print what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Options of `tenant repair`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: after a switch was deleted by hand
  atollctl tenant repair red --dry-run
  atollctl tenant repair red")]
pub(crate) struct Repair {
    /// The tenant
    pub(crate) tenant: TenantName,
    /// Print what would happen, and change nothing; the same as `plan`
    #[arg(long)]
    pub(crate) dry_run: bool,
}

pub(crate) async fn create(
    settings: &Settings,
    output: OutputFormat,
    options: &Create,
) -> Result<CommandOutput, Failure> {
    let (store, controller) = (settings.store()?, settings.controller()?);
    let admin = Admin { store: &store, engine: &controller, config: &settings.config.cluster };
    match options.tenants.as_slice() {
        [name] if options.dry_run => {
            let would = would_create(&Inventory::read(&store).await?, name);
            Ok(CommandOutput::from(match output {
                OutputFormat::Json => output::json(&json!({"would": would, "tenant": name})),
                OutputFormat::Table => format!("would {would}\n"),
            }))
        }
        [name] => {
            let tenant = admin::create(&admin, name).await?.record;
            Ok(CommandOutput::from(match output {
                OutputFormat::Json => output::json(&json!({"done": "created", "tenant": tenant})),
                OutputFormat::Table => created(name),
            }))
        }
        names if options.dry_run => {
            let inventory = Inventory::read(&store).await?;
            let would = |name: &TenantName| json!({"would": would_create(&inventory, name), "tenant": name});
            let lines: Vec<_> =
                names.iter().map(|name| format!("{name}: would {}", would_create(&inventory, name))).collect();
            Ok(CommandOutput::from(match output {
                OutputFormat::Json => output::json(&names.iter().map(would).collect::<Vec<_>>()),
                OutputFormat::Table => output::lines(&lines),
            }))
        }
        names => {
            let names: Vec<_> = names.iter().collect::<BTreeSet<_>>().into_iter().cloned().collect();
            let results = Box::pin(admin::create_together(&admin, &names)).await?;
            Ok(several(output, names.iter().zip(results.into_iter().map(|result| result.map_err(Failure::from)))))
        }
    }
}

fn would_create(inventory: &Inventory, name: &TenantName) -> &'static str {
    let is_there = inventory.tenants.iter().any(|tenant| tenant.name == *name);
    if is_there { "refuse: the tenant is there already" } else { "create the tenant" }
}

fn created(name: &TenantName) -> String {
    format!("Tenant {name} exists. It has no namespace yet: add one with `atollctl tenant join {name} NAMESPACE`.\n")
}

/// What became of each of several tenants. The exit code is that of the first failure.
fn several<'a>(
    output: OutputFormat,
    results: impl Iterator<Item = (&'a TenantName, Result<Versioned<TenantRecord>, Failure>)>,
) -> CommandOutput {
    let (mut made, mut failed, mut text, mut exit_code) = (Vec::new(), Vec::new(), String::new(), 0);
    for (name, result) in results {
        match result {
            Ok(tenant) => {
                text.push_str(&created(name));
                made.push(tenant.record);
            }
            Err(failure) => {
                if exit_code == 0 {
                    exit_code = failure.exit_code();
                }
                let hint = failure.hint();
                let tried = hint.as_ref().map_or_else(String::new, |hint| format!("  try: {hint}\n"));
                text = format!("{text}Tenant {name} was not created: {}\n{tried}", failure.message());
                failed.push(json!({"tenant": name, "error": failure.message(), "hint": hint}));
            }
        }
    }
    let text = match output {
        OutputFormat::Json => output::json(&json!({"done": "created", "tenants": made, "failed": failed})),
        OutputFormat::Table => text,
    };
    CommandOutput { text, exit_code }
}

pub(crate) async fn plan(settings: &Settings, output: OutputFormat, name: &TenantName) -> Result<String, Failure> {
    let (store, controller) = (settings.store()?, settings.controller()?);
    let admin = Admin { store: &store, engine: &controller, config: &settings.config.cluster };
    let plan = admin::plan(&admin, name).await?;
    Ok(match output {
        OutputFormat::Json => output::json(&plan),
        OutputFormat::Table => shown(name, &plan),
    })
}

fn shown(name: &TenantName, plan: &[PlannedChange]) -> String {
    if plan.is_empty() {
        return format!("Tenant {name} is as it should be: nothing would change.\n");
    }
    let rows = plan.iter().map(|step| {
        [step.action.to_owned(), step.kind.clone(), step.role.clone(), step.id.to_string(), step.differences.join("; ")]
    });
    let table = output::table(["action", "kind", "role", "id", "difference"], rows);
    match plan.iter().filter(|step| step.action == "leave").count() {
        0 => table,
        foreign => format!(
            "{table}\n{} with another owner in conflict: `repair` stops there; check it in the engine.\n",
            count(foreign, "object")
        ),
    }
}

pub(crate) async fn repair(settings: &Settings, output: OutputFormat, options: &Repair) -> Result<String, Failure> {
    let name = &options.tenant;
    if options.dry_run {
        return plan(settings, output, name).await;
    }
    let (store, controller) = (settings.store()?, settings.controller()?);
    let admin = Admin { store: &store, engine: &controller, config: &settings.config.cluster };
    let before = admin::plan(&admin, name).await?;
    admin::repair(&admin, name, settings.config.max_request_lifetime).await?;
    let after = admin::plan(&admin, name).await?;
    if !after.is_empty() {
        return Err(Failure::other(format!(
            "tenant {name} still differs after the repair; another process may be changing it:\n{}",
            shown(name, &after)
        )));
    }
    Ok(match output {
        OutputFormat::Json => output::json(&json!({"done": "repaired", "tenant": name, "repaired": before})),
        OutputFormat::Table if before.is_empty() => format!("Tenant {name} was as it should be.\n"),
        OutputFormat::Table => format!("Tenant {name} matches its record again; repaired:\n\n{}", shown(name, &before)),
    })
}
