//! `atollctl subnet`: lists, adds and deletes subnets.

use atoll_ipam::pool::PodRange;
use atoll_ipam::reservations;
use atoll_model::ids::TenantName;
use atoll_model::range::AddressRange;
use atoll_tenant::admin::{self, Admin};
use atoll_tenant::inventory::{self, Inventory, ListedTenant};
use clap::Subcommand;
use ipnetwork::IpNetwork;
use serde_json::json;

use crate::failure::Failure;
use crate::inventory::{absent, phase};
use crate::output::{self, OutputFormat, count};
use crate::progress::Progress;
use crate::settings::Settings;

/// Commands for subnets.
#[derive(Debug, Subcommand)]
pub(crate) enum SubnetCommand {
    /// List the subnets of all tenants, or of one
    #[command(after_help = "Example:\n  atollctl subnet list red")]
    List {
        /// The tenant
        tenant: Option<TenantName>,
    },
    /// Add a subnet to a tenant
    #[command(after_help = "\
Example: a free part of the pool
  atollctl subnet add red

Example: a certain network, which must be a part of the pool
  atollctl subnet add red --cidr 10.130.0.0/20

Example: without the addresses that other machines in it have
  atollctl subnet add red --cidr 10.130.0.0/20 --exclude 10.130.0.2-10.130.0.9 10.130.15.254")]
    Add {
        /// The tenant
        tenant: TenantName,
        /// The network, at most one of IPv4 and one of IPv6; of a family without one, a free part of the pool
        #[arg(long)]
        cidr: Vec<IpNetwork>,
        /// Addresses that are not assigned to pods: 10.130.0.7, 10.130.0.7-10.130.0.20 or 10.130.0.8/29
        #[arg(long, num_args = 1.., requires = "cidr", value_name = "RANGE")]
        exclude: Vec<AddressRange>,
        /// Print what would happen, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete an empty subnet (no pods, no reservations); with MidoNet it waits for the maximum request lifetime, as deleting
    /// a tenant does
    #[command(after_help = "Example:\n  atollctl subnet list red\n  atollctl subnet delete red 2")]
    Delete {
        /// The tenant
        tenant: TenantName,
        /// The subnet's number
        ordinal: u32,
        /// Print what would happen, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

pub(crate) async fn run(settings: &Settings, output: OutputFormat, command: &SubnetCommand) -> Result<String, Failure> {
    match command {
        SubnetCommand::List { tenant } => list(settings, output, tenant.as_ref()).await,
        SubnetCommand::Add { tenant, cidr, exclude, dry_run } => {
            add(settings, output, tenant, cidr, exclude, *dry_run).await
        }
        SubnetCommand::Delete { tenant, ordinal, dry_run } => {
            delete(settings, output, tenant, *ordinal, *dry_run).await
        }
    }
}

async fn list(settings: &Settings, output: OutputFormat, tenant: Option<&TenantName>) -> Result<String, Failure> {
    let mut tenants = Inventory::read(&settings.store()?).await?.tenants;
    if let Some(name) = tenant {
        tenants.retain(|tenant| tenant.name == *name);
        if tenants.is_empty() {
            return Err(absent(name));
        }
    }
    let subnets = || tenants.iter().flat_map(|tenant| tenant.subnets.iter().map(move |subnet| (tenant, subnet)));
    Ok(match output {
        OutputFormat::Json => {
            let all: Vec<_> =
                subnets().map(|(tenant, subnet)| json!({"tenant": tenant.name, "subnet": subnet})).collect();
            output::json(&all)
        }
        OutputFormat::Table => output::table(
            ["tenant", "subnet", "network", "gateway", "phase", "pods", "room"],
            subnets().map(|(tenant, subnet)| row(tenant, subnet)),
        ),
    })
}

fn row(tenant: &ListedTenant, subnet: &inventory::ListedSubnet) -> [String; 7] {
    [
        tenant.name.to_string(),
        subnet.ordinal.to_string(),
        subnet.cidrs(),
        subnet.gateways(),
        phase(subnet.phase).to_owned(),
        subnet.pods.len().to_string(),
        room(subnet).to_string(),
    ]
}

/// How many pods a subnet can hold.
pub(crate) fn room(subnet: &inventory::ListedSubnet) -> u128 {
    PodRange::room(&subnet.prefixes, &subnet.exclude)
}

async fn add(
    settings: &Settings,
    output: OutputFormat,
    name: &TenantName,
    cidrs: &[IpNetwork],
    exclude: &[AddressRange],
    dry_run: bool,
) -> Result<String, Failure> {
    let (store, controller) = (settings.store()?, settings.controller()?);
    let admin = Admin { store: &store, engine: &controller, config: &settings.config.cluster };
    if dry_run {
        let cidrs = admin::next_subnet(&admin, name, cidrs, exclude).await?;
        let text: Vec<_> = cidrs.iter().map(ToString::to_string).collect();
        return Ok(match output {
            OutputFormat::Json => {
                let mut would = json!({"would": "add", "tenant": name});
                for (key, cidr) in ["cidr", "cidr6"].into_iter().zip(&cidrs) {
                    would[key] = json!(cidr);
                }
                output::json(&would)
            }
            OutputFormat::Table => {
                format!("would add {} to tenant {name}, unless another call takes it first\n", text.join(", "))
            }
        });
    }
    let subnet = admin::add_subnet(&admin, name, cidrs, exclude).await?;
    Ok(match output {
        OutputFormat::Json => output::json(&json!({"done": "added", "tenant": name, "subnet": subnet})),
        OutputFormat::Table => format!("Tenant {name} has subnet {}, {}, now.\n", subnet.ordinal, subnet.cidrs()),
    })
}

async fn delete(
    settings: &Settings,
    output: OutputFormat,
    name: &TenantName,
    ordinal: u32,
    dry_run: bool,
) -> Result<String, Failure> {
    let (store, controller) = (settings.store()?, settings.controller()?);
    if dry_run {
        let inventory = Inventory::read(&store).await?;
        let tenant = inventory.tenants.iter().find(|tenant| tenant.name == *name).ok_or_else(|| absent(name))?;
        let subnet = tenant.subnets.iter().find(|subnet| subnet.ordinal == ordinal);
        let pods = subnet.map_or(0, |subnet| subnet.pods.len());
        let kept = reservations(&store, Some(name)).await?;
        let kept = kept.iter().filter(|kept| kept.record.ordinal == ordinal).count();
        let would = match (subnet, pods) {
            (None, _) => format!("refuse: tenant {name} has no subnet {ordinal}"),
            (Some(_), 1..) => format!("refuse: {} in it", count(pods, "pod")),
            (Some(_), 0) if kept > 0 => format!("refuse: {} in it", count(kept, "reserved address")),
            (Some(_), 0) if tenant.subnets.len() == 1 => "refuse: it is the only subnet".to_owned(),
            (Some(subnet), 0) => format!("delete subnet {ordinal}, {}", subnet.cidrs()),
        };
        return Ok(match output {
            OutputFormat::Json => output::json(&json!({"would": would, "tenant": name})),
            OutputFormat::Table => format!("would {would}\n"),
        });
    }
    let admin = Admin { store: &store, engine: &controller, config: &settings.config.cluster };
    let max_request_lifetime = settings.config.max_request_lifetime;
    let progress = Progress::new(max_request_lifetime);
    let done = admin::delete_subnet(&admin, name, ordinal, max_request_lifetime, |step| progress.show(step)).await;
    progress.end();
    done?;
    Ok(match output {
        OutputFormat::Json => output::json(&json!({"done": "deleted", "tenant": name, "ordinal": ordinal})),
        OutputFormat::Table => format!("Subnet {ordinal} of tenant {name} is deleted.\n"),
    })
}
