//! `atollctl tenant join` and `leave`: admit a namespace to a tenant, or remove it.

use atoll_model::ids::{Namespace, TenantName};
use atoll_tenant::admin::{self, Admin};
use atoll_tenant::inventory::Inventory;
use serde_json::json;

use crate::failure::Failure;
use crate::inventory::absent;
use crate::output::{self, OutputFormat, count};
use crate::settings::Settings;

/// Options of `tenant join` and `tenant leave`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Running pods keep their network until they are made again. A namespace that has pods moves only with --new-pods-only; the
pods that stay behind are listed.

Example: two namespaces share the tenant red, until they no longer do
  atollctl tenant join red blue --dry-run
  atollctl tenant join red blue
  atollctl tenant leave red blue")]
pub(crate) struct Member {
    /// The tenant
    pub(crate) tenant: TenantName,
    /// The namespace
    pub(crate) namespace: Namespace,
    /// Move it even if it has pods
    #[arg(long)]
    pub(crate) new_pods_only: bool,
    /// Print what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What would happen, as far as it can be predicted.
fn planned(inventory: &Inventory, options: &Member, joins: bool) -> Result<String, Failure> {
    let Member { tenant, namespace, new_pods_only, .. } = options;
    if !inventory.tenants.iter().any(|found| found.name == *tenant) {
        return Err(absent(tenant));
    }
    let now = inventory.tenants.iter().find(|found| found.namespaces.contains(namespace)).map(|found| &found.name);
    let pods = inventory.pods().filter(|pod| pod.namespace.as_ref() == Some(namespace)).count();
    Ok(match (now, joins, pods) {
        (Some(now), true, _) if now == tenant => {
            format!("change nothing: namespace {namespace} belongs to tenant {tenant}")
        }
        (None, false, _) => format!("change nothing: namespace {namespace} belongs to no tenant"),
        (Some(now), false, _) if now != tenant => format!("refuse: namespace {namespace} belongs to tenant {now}"),
        (_, _, 1..) if !new_pods_only => format!("refuse: namespace {namespace} has {}", count(pods, "pod")),
        (_, true, _) => {
            format!("let namespace {namespace} into tenant {tenant}; {} would stay behind", count(pods, "pod"))
        }
        (_, false, _) => {
            format!("take namespace {namespace} out of tenant {tenant}; {} would stay behind", count(pods, "pod"))
        }
    })
}

/// `joins`: into the tenant; else out of it.
pub(crate) async fn run(
    settings: &Settings,
    output: OutputFormat,
    options: &Member,
    joins: bool,
) -> Result<String, Failure> {
    let (store, controller) = (settings.store()?, settings.controller()?);
    let admin = Admin { store: &store, engine: &controller, config: &settings.config.cluster };
    let Member { tenant, namespace, new_pods_only, dry_run } = options;
    if *dry_run {
        let would = planned(&Inventory::read(&store).await?, options, joins)?;
        return Ok(match output {
            OutputFormat::Json => output::json(&json!({"would": would, "tenant": tenant, "namespace": namespace})),
            OutputFormat::Table => format!("would {would}\n"),
        });
    }
    let moved = if joins {
        admin::join(&admin, tenant, namespace, *new_pods_only).await?
    } else {
        admin::leave(&admin, tenant, namespace, *new_pods_only).await?
    };
    if output == OutputFormat::Json {
        return Ok(output::json(&json!({
            "changed": moved.changed,
            "namespace": namespace,
            "before": moved.before,
            "now": joins.then_some(tenant),
            "leftBehind": moved.left_behind,
        })));
    }
    let mut lines = vec![match (moved.changed, joins) {
        (true, true) => format!("Namespace {namespace} belongs to tenant {tenant} now."),
        (true, false) => format!("Namespace {namespace} belongs to no tenant now; its next pod gets one of its own."),
        (false, true) => format!("Namespace {namespace} belonged to tenant {tenant} already."),
        (false, false) => format!("Namespace {namespace} belonged to no tenant already."),
    }];
    if !moved.left_behind.is_empty() {
        let pods = count(moved.left_behind.len(), "pod");
        lines.push(format!("{pods} keep their old network until they are made again:"));
        lines.extend(moved.left_behind.iter().map(|claim| {
            let pod = claim.pod.as_deref().unwrap_or(claim.attachment.container.as_str());
            format!("  {namespace}/{pod} on {}", claim.attachment.node)
        }));
    }
    Ok(output::lines(&lines))
}
