//! `atollctl tenant set`.

use atoll_model::config::DnsConfig;
use atoll_records::{ClusterRecord, Query, TenantRecord};
use atoll_store::Store as _;
use atoll_tenant::TenantError;
use atoll_tenant::admin::{self, Admin, Edit, Update};
use atoll_tenant::inventory::Inventory;
use serde_json::{Value, json};

use crate::args::{Output, Set};
use crate::failure::Failure;
use crate::output;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::topology;

pub(crate) async fn run(settings: &Settings, output: Output, options: &Set) -> Result<String, Failure> {
    let (store, controller) = (settings.store()?, settings.controller()?);
    let name = &options.tenant;
    let edit = edit(options);
    if options.dry_run {
        let what = format!("read tenant {name}");
        let (tenant, cluster) = (TenantRecord::at(name), ClusterRecord::at());
        let read = store.read(vec![Query::key(&tenant), Query::key(&cluster)]).await;
        let read = read.map_err(|source| TenantError::Store { what, source })?;
        let before = read.get(&tenant)?.ok_or_else(|| topology::absent(name))?.record;
        if let Some(cluster) = read.get(&cluster)? {
            admin::refuse_shared(&cluster.record, &before, &edit)?;
        }
        let after = admin::edited(&before, &edit)?;
        return Ok(match output {
            Output::Json => {
                output::json(&json!({"would": "set", "tenant": name, "before": shown(&before), "after": shown(&after)}))
            }
            Output::Table if shown(&before) == shown(&after) => "would change nothing\n".to_owned(),
            Output::Table => format!("would set tenant {name} from\n{}to\n{}", lines(&before), lines(&after)),
        });
    }
    let admin = Admin { store: &store, controller: &controller, config: &settings.config.cluster };
    let wait = settings.config.timeout + settings.config.quiet_period;
    let progress = Progress::new(wait);
    let done = admin::set(&admin, name, &edit, wait, |step| progress.show(step)).await;
    progress.end();
    let (before, after) = done?;
    if output == Output::Json {
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
    }
}

fn shown(record: &TenantRecord) -> Value {
    json!({"quota": record.quota, "routes": record.routes, "dns": record.dns})
}

fn lines(record: &TenantRecord) -> String {
    let Value::Object(fields) = shown(record) else { return String::new() };
    output::lines(&fields.iter().map(|(name, value)| format!("  {name:<7} {value}")).collect::<Vec<_>>())
}
