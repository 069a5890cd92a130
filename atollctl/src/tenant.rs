//! `atollctl tenant list` and `show`: the tenants, and one tenant with its subnets and pods.

use atoll_model::ids::TenantName;
use atoll_tenant::inventory::{Inventory, ListedSubnet, ListedTenant};

use crate::failure::Failure;
use crate::inventory::{absent, ask, engine_of, phase};
use crate::output::{self, OutputFormat};
use crate::settings::Settings;
use crate::topology::tenant;

/// Options of `tenant show`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: which pods has tenant red?\n  atollctl tenant show red")]
pub(crate) struct Show {
    /// The tenant
    pub(crate) tenant: TenantName,
    /// Do not ask the engine whether the pods' packets flow
    #[arg(long)]
    pub(crate) offline: bool,
}

pub(crate) async fn list(settings: &Settings, output: OutputFormat) -> Result<String, Failure> {
    let tenants = Inventory::read(&settings.store()?).await?.tenants;
    Ok(match output {
        OutputFormat::Json => output::json(&tenants),
        OutputFormat::Table if tenants.is_empty() => "no tenants\n".to_owned(),
        OutputFormat::Table => output::table(
            ["name", "phase", "namespaces", "subnets", "pods", "external address"],
            tenants.iter().map(row),
        ),
    })
}

fn row(tenant: &ListedTenant) -> [String; 6] {
    let join = |list: Vec<String>| if list.is_empty() { "-".to_owned() } else { list.join(",") };
    [
        tenant.name.to_string(),
        phase(tenant.phase).to_owned(),
        join(tenant.namespaces.iter().map(ToString::to_string).collect()),
        join(tenant.subnets.iter().map(ListedSubnet::cidrs).collect()),
        tenant.subnets.iter().map(|subnet| subnet.pods.len()).sum::<usize>().to_string(),
        tenant.transit.tenant.ip().to_string(),
    ]
}

pub(crate) async fn show(settings: &Settings, output: OutputFormat, options: &Show) -> Result<String, Failure> {
    let mut inventory = Inventory::read(&settings.store()?).await?;
    inventory.tenants.retain(|tenant| tenant.name == options.tenant);
    let Some(mut found) = inventory.tenants.pop() else { return Err(absent(&options.tenant)) };
    if !options.offline {
        ask(&engine_of(settings, &inventory)?, found.subnets.iter_mut().flat_map(|subnet| &mut subnet.pods)).await;
    }
    Ok(match output {
        OutputFormat::Json => output::json(&found),
        OutputFormat::Table => tenant(&found).draw(),
    })
}
