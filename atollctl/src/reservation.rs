//! `atollctl address reserve` and `address release`.

use atoll_records::{NamespaceRecord, Query, ReservationRecord};

use atoll_ipam::{Lifted, ReserveRequest, Reserved, lift, reservations, reserve, reserved_for};
use atoll_model::ids::{Namespace, TenantName};
use atoll_store::Store;
use serde_json::{Value, json};

use crate::args::{Output, PodRef, Release, Reserve};
use crate::failure::Failure;
use crate::output;
use crate::settings::Settings;

pub(crate) async fn run(settings: &Settings, output: Output, options: &Reserve) -> Result<String, Failure> {
    let store = settings.store()?;
    let PodRef { namespace, pod } = options.pod.clone();
    let tenant = tenant_of(&store, &namespace).await?;
    let request = ReserveRequest { tenant, address: options.address, namespace, pod, mac: options.mac };
    let (record, is_new) = match reserve(&store, &request, options.dry_run).await? {
        Reserved::New(record) => (record, true),
        Reserved::Already(record) => (record, false),
    };
    let what = what(&record);
    Ok(match output {
        Output::Json => {
            let done = if is_new { "reserved" } else { "nothing" };
            let key = if options.dry_run { "would" } else { "done" };
            output::json(
                &json!({key: if options.dry_run && is_new { "reserve" } else { done }, "reservation": shown(&record)}),
            )
        }
        Output::Table if !is_new => format!("{what} already.\n"),
        Output::Table if options.dry_run => format!("would be: {what}\n"),
        Output::Table => format!("{what} from now on.\n"),
    })
}

pub(crate) async fn release(settings: &Settings, output: Output, options: &Release) -> Result<String, Failure> {
    let store = settings.store()?;
    let record = find(&store, options).await?;
    let done = lift(&store, &record, options.dry_run).await?;
    Ok(match output {
        Output::Json if options.dry_run => output::json(&json!({"would": "release", "reservation": shown(&record)})),
        Output::Json => {
            let done = if done == Lifted::Done { "released" } else { "nothing" };
            output::json(&json!({"done": done, "reservation": shown(&record)}))
        }
        Output::Table if options.dry_run => format!("would no longer be: {}\n", what(&record)),
        Output::Table => format!("{} no longer.\n", what(&record)),
    })
}

/// The tenant that a namespace belongs to.
async fn tenant_of(store: &impl Store, namespace: &Namespace) -> Result<TenantName, Failure> {
    let key = NamespaceRecord::at(namespace);
    let record = store.read(vec![Query::key(&key)]).await?.get(&key)?;
    record.map(|record| record.record.tenant).ok_or_else(|| {
        Failure::absent(
            format!("namespace {namespace} belongs to no tenant"),
            "let it into one (`atollctl tenant join`), or start a pod in it first",
        )
    })
}

/// The reservation that is meant.
async fn find(store: &impl Store, options: &Release) -> Result<ReservationRecord, Failure> {
    if let Some(PodRef { namespace, pod }) = &options.pod {
        let found = reserved_for(store, namespace, pod).await?;
        let nothing = || Failure::absent(format!("nothing is reserved for pod {namespace}/{pod}"), SEE);
        return found.map(|found| found.record).ok_or_else(nothing);
    }
    let all = reservations(store, options.tenant.as_ref()).await?.into_iter().map(|found| found.record);
    let mut meant: Vec<_> = all.filter(|record| Some(record.address) == options.address).collect();
    match (meant.pop(), meant.as_slice()) {
        (Some(record), []) => Ok(record),
        (Some(record), others) => {
            let tenants: Vec<_> = others.iter().chain([&record]).map(|record| record.tenant.to_string()).collect();
            let message = format!("{} is reserved in several tenants: {}", record.address, tenants.join(", "));
            Err(Failure::refused(message, "say which one with --tenant"))
        }
        (None, _) => {
            let address = options.address.map(|address| address.to_string()).unwrap_or_default();
            Err(Failure::absent(format!("{address} is not reserved"), SEE))
        }
    }
}

const SEE: &str = "see `atollctl address list`";

/// As a sentence without its end.
fn what(record: &ReservationRecord) -> String {
    let ReservationRecord { tenant, address, namespace, pod, mac, .. } = record;
    let mac = mac.map(|mac| format!(" with the MAC {mac}")).unwrap_or_default();
    format!("{address} of tenant {tenant}{mac} is for pod {namespace}/{pod}")
}

/// For programs.
pub(crate) fn shown(record: &ReservationRecord) -> Value {
    let ReservationRecord { tenant, ordinal, address, namespace, pod, mac, since, .. } = record;
    json!({"tenant": tenant, "subnet": ordinal, "address": address, "namespace": namespace, "pod": pod, "mac": mac,
           "since": since})
}
