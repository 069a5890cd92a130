//! `atollctl attachment list`: pods' interfaces with their addresses.

use std::net::IpAddr;

use atoll_model::ids::{Namespace, NodeName, TenantName};
use atoll_tenant::inventory::{Inventory, ListedPod};

use crate::failure::Failure;
use crate::inventory::{ask, engine_of, state};
use crate::output::{self, OutputFormat, or_dash};
use crate::settings::Settings;

/// Options of `attachment list`.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "\
Example: who holds 10.128.3.7?
  atollctl attachment list --address 10.128.3.7

Example: the pods of one node
  atollctl attachment list --node n1")]
pub(crate) struct ListAttachments {
    /// Only of this tenant
    #[arg(long)]
    pub(crate) tenant: Option<TenantName>,
    /// Only of this namespace
    #[arg(long)]
    pub(crate) namespace: Option<Namespace>,
    /// Only of this pod
    #[arg(long)]
    pub(crate) pod: Option<String>,
    /// Only on this node
    #[arg(long)]
    pub(crate) node: Option<NodeName>,
    /// Only with this address
    #[arg(long)]
    pub(crate) address: Option<IpAddr>,
    /// Do not ask the engine whether the pods' packets flow
    #[arg(long)]
    pub(crate) offline: bool,
}

pub(crate) async fn list(
    settings: &Settings,
    output: OutputFormat,
    options: &ListAttachments,
) -> Result<String, Failure> {
    let inventory = Inventory::read(&settings.store()?).await?;
    let mut pods: Vec<ListedPod> = inventory.pods().filter(|pod| meant(pod, options)).cloned().collect();
    if !options.offline {
        ask(&engine_of(settings, &inventory)?, pods.iter_mut()).await;
    }
    Ok(match output {
        OutputFormat::Json => output::json(&pods),
        OutputFormat::Table if pods.is_empty() => "no attachments\n".to_owned(),
        OutputFormat::Table => output::table(
            ["address", "tenant", "namespace", "pod", "node", "interface", "host interface", "container", "state"],
            pods.iter().map(row),
        ),
    })
}

fn meant(pod: &ListedPod, options: &ListAttachments) -> bool {
    let ListAttachments { tenant, namespace, pod: name, node, address, offline: _ } = options;
    tenant.as_ref().is_none_or(|tenant| *tenant == pod.tenant)
        && namespace.as_ref().is_none_or(|namespace| pod.namespace.as_ref() == Some(namespace))
        && name.as_ref().is_none_or(|name| pod.pod.as_ref() == Some(name))
        && node.as_ref().is_none_or(|node| *node == pod.node)
        && address.is_none_or(|address| address == pod.address.ip())
}

fn row(pod: &ListedPod) -> [String; 9] {
    [
        pod.address.ip().to_string(),
        pod.tenant.to_string(),
        or_dash(pod.namespace.as_ref()),
        or_dash(pod.pod.as_ref()),
        pod.node.to_string(),
        pod.interface.clone(),
        pod.host_interface.clone(),
        pod.container.chars().take(12).collect(),
        state(pod),
    ]
}
