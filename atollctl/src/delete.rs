//! `atollctl tenant delete`: asks before it forces, shows its progress.

use atoll_model::ids::TenantName;
use std::io::{BufRead as _, IsTerminal as _, Write as _};

use atoll_ipam::reservations;
use atoll_tenant::admin::{self, Admin, Deletion};
use atoll_tenant::inventory::{Inventory, ListedTenant};
use serde_json::json;

use crate::failure::Failure;
use crate::inventory::{absent, name};
use crate::output::{self, OutputFormat, count};
use crate::progress::Progress;
use crate::settings::Settings;

/// Options of `tenant delete`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A tenant that has pods is not deleted; they are listed. With --force they lose network and addresses at once.
Reservations of its addresses are lifted. With MidoNet, deleting waits for the maximum request lifetime (45 s by default): after
that, late requests create nothing. Interrupted, the same command goes on where it stopped.

Example: what would deleting red do?
  atollctl tenant delete red --dry-run

Example: in a script
  atollctl tenant delete red --force --yes")]
pub(crate) struct Delete {
    /// The tenant
    pub(crate) tenant: TenantName,
    /// Delete it even if it has pods
    #[arg(long)]
    pub(crate) force: bool,
    /// Do not ask for the tenant's name
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

pub(crate) async fn run(settings: &Settings, output: OutputFormat, options: &Delete) -> Result<String, Failure> {
    let (store, controller) = (settings.store()?, settings.controller()?);
    let tenant = &options.tenant;
    if options.dry_run {
        let mut inventory = Inventory::read(&store).await?;
        inventory.tenants.retain(|found| found.name == *tenant);
        let Some(found) = inventory.tenants.pop() else { return Err(absent(tenant)) };
        return Ok(match output {
            OutputFormat::Json => output::json(&json!({"would": "delete", "blockedBy": pods(&found), "tenant": found})),
            OutputFormat::Table => consequences(&found, reservations(&store, Some(tenant)).await?.len()),
        });
    }
    if options.force && !options.yes {
        let question = format!("Pods of tenant {tenant} lose network and addresses at once.");
        confirm(&question, tenant.as_str(), &format!("tenant {tenant} is not deleted"))?;
    }
    let admin = Admin { store: &store, engine: &controller, config: &settings.config.cluster };
    let how = Deletion { request_lifetime: settings.config.max_request_lifetime, force: options.force };
    let progress = Progress::new(how.request_lifetime);
    let done = admin::delete(&admin, tenant, how, |step| progress.show(step)).await;
    progress.end();
    done?;
    Ok(match output {
        OutputFormat::Json => output::json(&json!({"done": "deleted", "tenant": tenant})),
        OutputFormat::Table => {
            format!("Tenant {tenant} is deleted: its network, its subnets and its place among the transit links.\n")
        }
    })
}

/// The effects of the deletion, for people.
fn consequences(tenant: &ListedTenant, kept: usize) -> String {
    let mut lines = vec![format!(
        "would delete tenant {}: router, transit ports, routes and {} in the engine",
        tenant.name,
        count(tenant.subnets.len(), "subnet")
    )];
    lines.extend(tenant.subnets.iter().map(|subnet| format!("  subnet {} would be free again", subnet.cidrs())));
    if kept > 0 {
        lines.push(format!("  {} would be lifted", count(kept, "reservation")));
    }
    let namespaces = tenant.namespaces.iter();
    lines.extend(namespaces.map(|name| format!("  the next pod of namespace {name} would get a new tenant")));
    match pods(tenant).as_slice() {
        [] => lines.push("nothing is in the way".to_owned()),
        pods => {
            lines.push(format!("{} in the way:", count(pods.len(), "pod")));
            lines.extend(pods.iter().map(|pod| format!("  {pod}")));
        }
    }
    output::lines(&lines)
}

fn pods(tenant: &ListedTenant) -> Vec<String> {
    let pods = tenant.subnets.iter().flat_map(|subnet| &subnet.pods);
    pods.map(|pod| format!("{} on {} ({})", name(pod), pod.node, pod.address.ip())).collect()
}

/// An operator confirms by typing the name of the object. `otherwise`: the message if the operator does not.
pub(crate) fn confirm(question: &str, name: &str, otherwise: &str) -> Result<(), Failure> {
    let refused = |why: &str| Failure::refused(format!("{otherwise}: {why}"), "use --yes in a script");
    if !std::io::stdin().is_terminal() {
        return Err(refused("there is no terminal to confirm"));
    }
    let mut prompt = std::io::stderr().lock();
    drop(write!(prompt, "{question} Type its name: ").and_then(|()| prompt.flush()));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|error| refused(&error.to_string()))?;
    if answer.trim() == name { Ok(()) } else { Err(refused("another name was typed")) }
}
