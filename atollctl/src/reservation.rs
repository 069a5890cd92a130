//! `atollctl address reserve` and `release`: reserve an address for a pod, or delete the reservation.

use std::net::IpAddr;
use std::str::FromStr;

use atoll_ipam::{Lifted, ReserveRequest, Reserved, lift, reservations, reserve, reserved_for};
use atoll_model::attachment::Mac;
use atoll_model::ids::{Namespace, PodName, TenantName};
use atoll_records::{NamespaceRecord, Query, ReservationRecord};
use atoll_store::Store;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output::{self, OutputFormat};
use crate::settings::Settings;

/// Options of `address reserve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The pod gets this address and no other whenever it starts, on whatever node; no other pod gets it. A pod has one
reservation. An address that another pod has is refused; a pod that has it already keeps it.

Example: the pod of a StatefulSet
  atollctl address reserve 10.128.3.7 --for shop/db-0 --dry-run
  atollctl address reserve 10.128.3.7 --for shop/db-0

Example: with a MAC
  atollctl address reserve 10.128.3.8 --for shop/db-1 --mac 02:00:0a:80:03:08")]
pub(crate) struct Reserve {
    /// The address
    pub(crate) address: IpAddr,
    /// The pod of the reservation
    #[arg(long = "for", value_name = "NAMESPACE/POD")]
    pub(crate) pod: PodRef,
    /// The MAC that the pod gets with it; the derived one if omitted
    #[arg(long)]
    pub(crate) mac: Option<Mac>,
    /// Print what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Options of `address release`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["address", "pod"]), after_help = "\
A pod that runs keeps its address; the next one gets any. With a MAC the reservation stays while its pod runs with that
MAC.

Example: by address, or by pod
  atollctl address release 10.128.3.7
  atollctl address release --for shop/db-0")]
pub(crate) struct Release {
    /// The address
    pub(crate) address: Option<IpAddr>,
    /// The pod of the reservation
    #[arg(long = "for", value_name = "NAMESPACE/POD")]
    pub(crate) pod: Option<PodRef>,
    /// The tenant, if several have the address
    #[arg(long, requires = "address")]
    pub(crate) tenant: Option<TenantName>,
    /// Print what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// A pod, as `NAMESPACE/POD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodRef {
    /// Its namespace.
    pub(crate) namespace: Namespace,
    /// Its name.
    pub(crate) pod: PodName,
}

impl FromStr for PodRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, pod) = text.split_once('/').ok_or("NAMESPACE/POD is expected")?;
        let namespace = Namespace::new(namespace).map_err(|error| error.to_string())?;
        Ok(Self { namespace, pod: PodName::new(pod).map_err(|error| error.to_string())? })
    }
}

pub(crate) async fn run(settings: &Settings, output: OutputFormat, options: &Reserve) -> Result<String, Failure> {
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
        OutputFormat::Json => {
            let done = if is_new { "reserved" } else { "nothing" };
            let key = if options.dry_run { "would" } else { "done" };
            output::json(
                &json!({key: if options.dry_run && is_new { "reserve" } else { done }, "reservation": shown(&record)}),
            )
        }
        OutputFormat::Table if !is_new => format!("{what} already.\n"),
        OutputFormat::Table if options.dry_run => format!("would be: {what}\n"),
        OutputFormat::Table => format!("{what} from now on.\n"),
    })
}

pub(crate) async fn release(settings: &Settings, output: OutputFormat, options: &Release) -> Result<String, Failure> {
    let store = settings.store()?;
    let record = find(&store, options).await?;
    let done = lift(&store, &record, options.dry_run).await?;
    Ok(match output {
        OutputFormat::Json if options.dry_run => {
            output::json(&json!({"would": "release", "reservation": shown(&record)}))
        }
        OutputFormat::Json => {
            let done = if done == Lifted::Done { "released" } else { "nothing" };
            output::json(&json!({"done": done, "reservation": shown(&record)}))
        }
        OutputFormat::Table if options.dry_run => format!("would no longer be: {}\n", what(&record)),
        OutputFormat::Table => format!("{} no longer.\n", what(&record)),
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

/// The reservation that the options name.
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
