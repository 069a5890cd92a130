//! `atollctl attachment`.

use atoll_tenant::inventory::{Inventory, Pod};

use crate::args::{List, Output};
use crate::failure::Failure;
use crate::output::{self, or_dash};
use crate::settings::Settings;
use crate::topology::{ask, state};

pub(crate) async fn list(settings: &Settings, output: Output, options: &List) -> Result<String, Failure> {
    let inventory = Inventory::read(&settings.store()?).await?;
    let mut pods: Vec<Pod> = inventory.pods().filter(|pod| meant(pod, options)).cloned().collect();
    if !options.offline {
        ask(&settings.controller()?, pods.iter_mut()).await;
    }
    Ok(match output {
        Output::Json => output::json(&pods),
        Output::Table if pods.is_empty() => "no attachments\n".to_owned(),
        Output::Table => output::table(
            ["address", "tenant", "namespace", "pod", "node", "interface", "host interface", "container", "state"],
            pods.iter().map(row),
        ),
    })
}

fn meant(pod: &Pod, options: &List) -> bool {
    let List { tenant, namespace, pod: name, node, address, offline: _ } = options;
    tenant.as_ref().is_none_or(|tenant| *tenant == pod.tenant)
        && namespace.as_ref().is_none_or(|namespace| pod.namespace.as_ref() == Some(namespace))
        && name.as_ref().is_none_or(|name| pod.pod.as_ref() == Some(name))
        && node.as_ref().is_none_or(|node| *node == pod.node)
        && address.is_none_or(|address| address == pod.address.ip())
}

fn row(pod: &Pod) -> [String; 9] {
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
