//! `atollctl tenant create`, `plan` and `repair`: create a tenant's objects, show their drift, and repair it.

use atoll_model::ids::TenantName;
use atoll_tenant::admin::{self, Admin, PlannedChange};
use atoll_tenant::inventory::Inventory;
use serde_json::json;

use crate::failure::Failure;
use crate::output::{self, OutputFormat, count};
use crate::settings::Settings;

/// Options of `tenant create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: a tenant for two namespaces
  atollctl tenant create shop
  atollctl tenant join shop shop-frontend
  atollctl tenant join shop shop-backend")]
pub(crate) struct Create {
    /// Its name
    pub(crate) tenant: TenantName,
    /// Print what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Options of `tenant repair`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: after a bridge was deleted by hand
  atollctl tenant repair red --dry-run
  atollctl tenant repair red")]
pub(crate) struct Repair {
    /// The tenant
    pub(crate) tenant: TenantName,
    /// Print what would happen, and change nothing; the same as `plan`
    #[arg(long)]
    pub(crate) dry_run: bool,
}

pub(crate) async fn create(settings: &Settings, output: OutputFormat, options: &Create) -> Result<String, Failure> {
    let (store, controller) = (settings.store()?, settings.controller()?);
    let name = &options.tenant;
    if options.dry_run {
        let there = Inventory::read(&store).await?.tenants.iter().any(|tenant| tenant.name == *name);
        let would = if there { "refuse: the tenant is there already" } else { "create the tenant" };
        return Ok(match output {
            OutputFormat::Json => output::json(&json!({"would": would, "tenant": name})),
            OutputFormat::Table => format!("would {would}\n"),
        });
    }
    let admin = Admin { store: &store, engine: &controller, config: &settings.config.cluster };
    let tenant = admin::create(&admin, name).await?.record;
    Ok(match output {
        OutputFormat::Json => output::json(&json!({"done": "created", "tenant": tenant})),
        OutputFormat::Table => format!(
            "Tenant {name} exists. It has no namespace yet: add one with `atollctl tenant join {name} NAMESPACE`.\n"
        ),
    })
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
            "{table}\n{} with another owner in conflict: `repair` stops there; check it in the controller.\n",
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
    admin::repair(&admin, name).await?;
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
