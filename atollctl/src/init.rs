//! `atollctl init`: writes the cluster's record, and adopts or creates the provider router.

use std::net::IpAddr;

use atoll_ipam::pool::Block;
use atoll_model::config::Addressing;
use atoll_network::Applied;
use atoll_records::{ClusterRecord, ProviderRecord, Query, Uplink};
use atoll_store::Store;
use atoll_tenant::TenantError;
use atoll_tenant::admin::{self, InitRequest, Initialised, ProviderChoice};
use atoll_tenant::inventory::Cluster;
use ipnetwork::{IpNetwork, Ipv4Network};
use serde_json::json;

use crate::failure::Failure;
use crate::local::{self, HostRoute};
use crate::output::{self, OutputFormat};
use crate::settings::Settings;
use crate::topology;

/// Options of `init`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: show the record, then write it
  atollctl init --dry-run
  atollctl init

Example: adopt the router with the uplink, by its name
  atollctl init --provider-router 'Edge Router'

Example: make one, with its uplink on eth1 of a gateway host
  atollctl init --uplink 203.0.113.2/24,203.0.113.1,3f5e1b9a-0c5b-4f1e-9d2a-6a1f5e0c7b11,eth1

Example: etcd was restored from a backup; make every node forget what it remembers
  atollctl init --new-epoch")]
pub(crate) struct Init {
    /// Give an existing cluster a new epoch: needed after etcd was restored from a backup
    #[arg(long)]
    pub(crate) new_epoch: bool,
    /// Print what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not compare the pools with this host's own routes
    #[arg(long)]
    pub(crate) ignore_routes: bool,
    /// Adopt the provider router of this id or name
    #[arg(long, value_name = "ID|NAME", conflicts_with = "uplink")]
    pub(crate) provider_router: Option<String>,
    /// Create a provider router with this uplink; may be repeated
    #[arg(long, value_name = "ADDRESS/LENGTH,GATEWAY,HOST,INTERFACE", value_parser = uplink)]
    pub(crate) uplink: Vec<Uplink>,
}

fn uplink(text: &str) -> Result<Uplink, String> {
    let [address, gateway, host, interface] = text.split(',').collect::<Vec<_>>()[..] else {
        return Err("ADDRESS/LENGTH,GATEWAY,HOST,INTERFACE, four parts".to_owned());
    };
    let address: IpNetwork = address.parse().map_err(|_| format!("{address:?} is no address with a length"))?;
    let gateway: IpAddr = gateway.parse().map_err(|_| format!("{gateway:?} is no address"))?;
    let host = host.parse().map_err(|_| format!("{host:?} is no id of a host"))?;
    let interface = interface.parse().map_err(|error| format!("{interface:?} is no interface: {error}"))?;
    if !address.contains(gateway) || address.ip() == gateway {
        return Err(format!("the gateway {gateway} must be another address of {address}"));
    }
    Ok(Uplink { address, gateway, host, interface })
}

pub(crate) async fn run(settings: &Settings, output: OutputFormat, options: &Init) -> Result<String, Failure> {
    let (store, controller, config) = (settings.store()?, settings.controller()?, &settings.config.cluster);
    if !options.ignore_routes {
        let routes = local::routes().map_err(|error| Failure::file("read this host's routes", &error))?;
        let pools = [
            ("podCidr", config.pod_cidr),
            ("transitCidr", config.transit_cidr),
            ("nodeSideCidr", config.node_side_cidr),
        ];
        // Not `serviceCidr`: the node may have a route for services, and Atoll assigns no address of it.
        if let Some((setting, pool, route)) = overlap(&pools, &routes) {
            return Err(Failure::refused(
                format!(
                    "`cluster.{setting}` ({pool}) overlaps this host's route to {} through {}",
                    route.destination, route.interface
                ),
                format!("choose another network for `cluster.{setting}`, or use --ignore-routes if the route is meant"),
            ));
        }
    }
    let wanted = InitRequest {
        new_epoch: options.new_epoch,
        provider: match (&options.provider_router, options.uplink.as_slice()) {
            (Some(name), _) => ProviderChoice::Adopted(name.clone()),
            (None, []) => ProviderChoice::Configured,
            (None, uplinks) => ProviderChoice::Made(ProviderRecord { uplinks: uplinks.to_vec() }),
        },
    };
    if options.dry_run {
        admin::possible(config)?;
        admin::able(&controller, config).await?;
        let record = record(&store).await?;
        admin::choose_provider(&controller, config, &wanted.provider, record.as_ref()).await?;
        let there = record.as_ref().map(Cluster::of);
        let would = match (&there, options.new_epoch) {
            (None, _) => format!("write the cluster's record{}", provider(&wanted.provider)),
            (Some(cluster), true) => format!("give cluster {} a new epoch", cluster.id),
            (Some(cluster), false) => format!("change nothing: cluster {} is there", cluster.id),
        };
        return Ok(match output {
            OutputFormat::Json => {
                output::json(&json!({"would": would, "cluster": there, "notes": notes(config.addressing)}))
            }
            OutputFormat::Table => format!("would {would}\n{}", noted(config.addressing)),
        });
    }
    let (initialised, applied) = admin::init(&store, &controller, config, &wanted).await?;
    let (done, summary) = match &initialised {
        Initialised::New(_) => ("created", "The cluster's record is written."),
        Initialised::There(_) => ("kept", "The cluster's record is there, and agrees with this configuration."),
        Initialised::Renewed(_) => ("renewed", "The cluster has a new epoch: every node reads its records again."),
    };
    let cluster = Cluster::of(initialised.record());
    Ok(match output {
        OutputFormat::Json => output::json(&json!({
            "done": done, "cluster": cluster, "providerObjectsMade": applied.map(|a| a.created),
            "notes": notes(cluster.addressing),
        })),
        OutputFormat::Table => {
            format!("{summary}{}\n\n{}{}", made(applied), describe(&cluster), noted(cluster.addressing))
        }
    })
}

/// The cluster's record, if there is one.
async fn record(store: &impl Store) -> Result<Option<ClusterRecord>, Failure> {
    let what = "read the cluster's record".to_owned();
    let read = store.read(vec![Query::key(ClusterRecord::at())]).await;
    let read = read.map_err(|source| TenantError::Store { what, source })?;
    Ok(read.get(&ClusterRecord::at())?.map(|record| record.record))
}

/// What an operator should know about this addressing before the first pod has an address.
fn notes(addressing: Addressing) -> &'static [&'static str] {
    match addressing {
        Addressing::Unique => &[],
        Addressing::Overlapping => &[
            "with `overlapping`, http, tcp and gRPC probes, Services and hostPort do not work under a kubelet, which knows a \
             pod by its address alone; exec probes, logs, exec and port-forward do (docs/operations.md, \"Overlapping \
             addresses and Kubernetes\")",
            "addressing holds for the whole life of the cluster: choose `unique` if in doubt",
        ],
    }
}

/// The same for people.
fn noted(addressing: Addressing) -> String {
    notes(addressing).iter().fold(String::new(), |text, note| format!("{text}note: {note}\n"))
}

/// The effect on the provider router.
fn provider(provider: &ProviderChoice) -> String {
    match provider {
        ProviderChoice::Configured => String::new(),
        ProviderChoice::Adopted(name) => format!(", with the provider router {name} that is there"),
        ProviderChoice::Made(provider) => {
            let lines = provider.uplinks.iter().map(|uplink| format!("\n  uplink {}", topology::uplink(uplink)));
            format!(" and make a provider router{}", lines.collect::<String>())
        }
    }
}

fn made(applied: Option<Applied>) -> String {
    match applied {
        None => String::new(),
        Some(Applied { created: 0, updated: 0, .. }) => "\nIts provider router is as it should be.".to_owned(),
        Some(Applied { created, updated, .. }) => {
            format!("\nIts provider router: {} made, {updated} updated.", output::count(created, "object"))
        }
    }
}

fn describe(cluster: &Cluster) -> String {
    let addressing = match cluster.addressing {
        Addressing::Unique => "unique",
        Addressing::Overlapping => "overlapping",
    };
    let services = cluster.service_cidr.map(|cidr| ("services", cidr.to_string()));
    let lines = [
        ("cluster", cluster.id.to_string()),
        ("engine", cluster.engine.clone()),
        ("provider router", cluster.provider_router.to_string()),
        ("addressing", addressing.to_owned()),
        ("pod subnets", format!("/{} of {}", cluster.subnet_prefix, cluster.pod_cidr)),
        ("transit links", format!("/30 of {}", cluster.transit_cidr)),
        ("host-to-pod range", cluster.node_side_cidr.to_string()),
    ];
    let ipv6 = cluster.ipv6.map(|pools| {
        let subnets = ("pod subnets, IPv6", format!("/{} of {}", pools.subnet_prefix, pools.pod_cidr));
        [subnets, ("transit, IPv6", format!("/126 of {}", pools.transit_cidr))]
    });
    let lines: Vec<_> = lines
        .into_iter()
        .chain(ipv6.into_iter().flatten())
        .chain(services)
        .map(|(what, value)| format!("{what:<16} {value}"))
        .collect();
    lines.join("\n") + "\n"
}

/// The first pool that overlaps a route.
fn overlap<'a>(
    pools: &[(&'static str, Ipv4Network)],
    routes: &'a [HostRoute],
) -> Option<(&'static str, Ipv4Network, &'a HostRoute)> {
    pools.iter().find_map(|&(setting, pool)| {
        let route = routes.iter().find(|route| Block::from(route.destination).overlaps(Block::from(pool)))?;
        Some((setting, pool, route))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effect_of_overlapping_on_kubernetes_is_printed_and_unique_needs_no_note() {
        assert_eq!(noted(Addressing::Unique), "");
        let note = noted(Addressing::Overlapping);
        for word in ["probes", "Services", "hostPort", "exec", "docs/operations.md"] {
            assert!(note.contains(word), "{note}");
        }
    }

    #[test]
    fn a_pool_inside_or_around_a_route_overlaps_it() {
        let routes = [HostRoute { interface: "eth0".to_owned(), destination: "10.128.4.0/24".parse().expect("valid") }];
        for (pool, hit) in [("10.0.0.0/8", true), ("10.128.4.128/25", true), ("10.128.5.0/24", false)] {
            assert_eq!(overlap(&[("podCidr", pool.parse().expect("valid"))], &routes).is_some(), hit, "{pool}");
        }
    }
}
