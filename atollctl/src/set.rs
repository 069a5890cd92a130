//! `atollctl tenant set`: quota, static routes and DNS of a tenant, and the domain of its pods' names.

use std::net::IpAddr;

use atoll_model::config::DnsConfig;
use atoll_model::ids::{PodDomain, TenantName};
use atoll_records::{ClusterRecord, Query, StaticRoute, TenantRecord, Via};
use atoll_store::Store as _;
use atoll_tenant::TenantError;
use atoll_tenant::admin::{self, Admin, Edit, Update};
use atoll_tenant::inventory::Inventory;
use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::inventory;
use crate::output::{self, OutputFormat};
use crate::progress::Progress;
use crate::settings::Settings;
use crate::topology;

/// Options of `tenant set`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Only what is given changes; `tenant show` shows what is set. A quota that is less than what the tenant has takes nothing
away. Routes are those of the tenant's router: they hold for all its pods, also for those that run. New pods get the
tenant's DNS settings where neither the pod nor its node's configuration has any.

Example: at most 4 subnets; as many addresses as they have
  atollctl tenant set red --max-subnets 4 --max-addresses none

Example: 10.9.0.0/16 is behind the pod 10.128.3.5, and no pod reaches the metadata service
  atollctl tenant set red --add-route 10.9.0.0/16=10.128.3.5 --add-route 169.254.169.254/32=reject

Example: name servers
  atollctl tenant set red --nameserver 10.128.3.9 --search red.example

Example: new pods find each other by name; the gateway is a name server that answers for nothing else
  atollctl tenant set red --pod-domain red.internal --nameserver 10.128.3.1 --search red.internal")]
pub(crate) struct Set {
    /// The tenant
    pub(crate) tenant: TenantName,
    /// Maximum number of subnets, or `none`
    #[arg(long, value_name = "NUMBER", value_parser = limit)]
    pub(crate) max_subnets: Option<Update<u32>>,
    /// Maximum number of addresses, or `none`
    #[arg(long, value_name = "NUMBER", value_parser = limit)]
    pub(crate) max_addresses: Option<Update<u32>>,
    /// A static route; VIA is an address in one of the tenant's subnets, `reject` or `blackhole`
    #[arg(long, value_name = "NETWORK=VIA", value_parser = route)]
    pub(crate) add_route: Vec<StaticRoute>,
    /// Remove the static route to this network
    #[arg(long, value_name = "NETWORK")]
    pub(crate) remove_route: Vec<IpNetwork>,
    /// A name server; any option for DNS replaces all earlier settings of DNS
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) nameserver: Vec<IpAddr>,
    /// The local domain
    #[arg(long)]
    pub(crate) domain: Option<String>,
    /// A domain of the search list
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) search: Vec<String>,
    /// An option of the resolver, such as `ndots:5`
    #[arg(long, value_name = "OPTION")]
    pub(crate) dns_option: Vec<String>,
    /// Remove all settings of DNS
    #[arg(long, conflicts_with_all = ["nameserver", "domain", "search", "dns_option"])]
    pub(crate) no_dns: bool,
    /// Answer the pods' queries for `POD.DOMAIN` and `POD.NAMESPACE.DOMAIN` in their network itself, or `none`; OVN only
    #[arg(long, value_name = "DOMAIN", value_parser = pod_domain)]
    pub(crate) pod_domain: Option<Update<PodDomain>>,
    /// Print what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

fn limit(text: &str) -> Result<Update<u32>, String> {
    match text {
        "none" => Ok(Update::Clear),
        number => match number.parse() {
            Ok(0) | Err(_) => Err("a number of at least 1, or `none`".to_owned()),
            Ok(number) => Ok(Update::To(number)),
        },
    }
}

fn pod_domain(text: &str) -> Result<Update<PodDomain>, String> {
    match text {
        "none" => Ok(Update::Clear),
        domain => PodDomain::new(domain).map(Update::To).map_err(|error| error.to_string()),
    }
}

fn route(text: &str) -> Result<StaticRoute, String> {
    let (destination, via) = text.split_once('=').ok_or("NETWORK=VIA, such as 10.9.0.0/16=10.128.3.5")?;
    let destination = destination.parse().map_err(|_| format!("{destination:?} is no network"))?;
    let via = match via {
        "reject" => Via::Reject,
        "blackhole" => Via::Blackhole,
        address => {
            Via::Gateway(address.parse().map_err(|_| format!("{address:?} is no address, `reject` or `blackhole`"))?)
        }
    };
    Ok(StaticRoute { destination, via })
}

pub(crate) async fn run(settings: &Settings, output: OutputFormat, options: &Set) -> Result<String, Failure> {
    let (store, controller) = (settings.store()?, settings.controller()?);
    let name = &options.tenant;
    let edit = edit(options);
    if options.dry_run {
        admin::refuse_unsupported(&controller, name, &edit).await?;
        let what = format!("read tenant {name}");
        let (tenant, cluster) = (TenantRecord::at(name), ClusterRecord::at());
        let read = store.read(vec![Query::key(&tenant), Query::key(&cluster)]).await;
        let read = read.map_err(|source| TenantError::Store { what, source })?;
        let before = read.get(&tenant)?.ok_or_else(|| inventory::absent(name))?.record;
        if let Some(cluster) = read.get(&cluster)? {
            admin::refuse_shared(&cluster.record, &before, &edit)?;
        }
        let after = admin::edited(&before, &edit)?;
        return Ok(match output {
            OutputFormat::Json => {
                output::json(&json!({"would": "set", "tenant": name, "before": shown(&before), "after": shown(&after)}))
            }
            OutputFormat::Table if shown(&before) == shown(&after) => "would change nothing\n".to_owned(),
            OutputFormat::Table => format!("would set tenant {name} from\n{}to\n{}", lines(&before), lines(&after)),
        });
    }
    let admin = Admin { store: &store, engine: &controller, config: &settings.config.cluster };
    let wait = settings.config.timeout + settings.config.max_request_lifetime;
    let progress = Progress::new(wait);
    let done = admin::set(&admin, name, &edit, wait, |step| progress.show(step)).await;
    progress.end();
    let (before, after) = done?;
    if output == OutputFormat::Json {
        return Ok(output::json(
            &json!({"done": "set", "tenant": name, "before": shown(&before), "after": shown(&after)}),
        ));
    }
    let tenant = Inventory::read(&store).await?.tenants.into_iter().find(|tenant| tenant.name == *name);
    let set: Vec<String> = tenant.iter().flat_map(topology::settings).map(|line| format!("  {line}")).collect();
    Ok(match set.as_slice() {
        [] => format!("Tenant {name} has no quota, no static routes and no DNS of its own.\n"),
        set => format!("Tenant {name} has now:\n{}", output::lines(set)),
    })
}

fn edit(options: &Set) -> Edit {
    let dns = DnsConfig {
        nameservers: options.nameserver.iter().map(ToString::to_string).collect(),
        domain: options.domain.clone(),
        search: options.search.clone(),
        options: options.dns_option.clone(),
    };
    Edit {
        subnets: options.max_subnets.clone().unwrap_or_default(),
        addresses: options.max_addresses.clone().unwrap_or_default(),
        add_routes: options.add_route.clone(),
        remove_routes: options.remove_route.clone(),
        dns: match dns {
            _ if options.no_dns => Update::Clear,
            dns if dns == DnsConfig::default() => Update::Keep,
            dns => Update::To(dns),
        },
        pod_domain: options.pod_domain.clone().unwrap_or_default(),
    }
}

fn shown(record: &TenantRecord) -> Value {
    let mut shown = json!({"quota": record.quota, "routes": record.routes, "dns": record.dns});
    if let Some(domain) = &record.pod_domain {
        shown["podDomain"] = json!(domain);
    }
    shown
}

fn lines(record: &TenantRecord) -> String {
    let Value::Object(fields) = shown(record) else { return String::new() };
    output::lines(&fields.iter().map(|(name, value)| format!("  {name:<7} {value}")).collect::<Vec<_>>())
}
