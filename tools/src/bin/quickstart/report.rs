//! The facts, as text for people and as JSON for programs. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use comfy_table::Table;
use comfy_table::presets;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::matrix::{Cell, Expected};

/// All facts.
#[derive(Serialize)]
pub(crate) struct Facts {
    /// Every answer was the expected one.
    pub(crate) ok: bool,
    pods: Vec<PodFacts>,
    tenants: Vec<TenantFacts>,
    /// Addresses that both tenants use.
    addresses_in_common: Vec<Ipv4Addr>,
    reach: Vec<Cell>,
    topology: Value,
    access: ServerLocations,
    #[serde(skip)]
    tree: String,
}

/// A pod.
#[derive(Serialize)]
pub(crate) struct PodFacts {
    pub(crate) name: String,
    pub(crate) tenant: String,
    /// Its machine, if there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) machine: Option<String>,
    pub(crate) netns: String,
    pub(crate) container: String,
    pub(crate) address: String,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) mac: String,
    /// Its ADD built the tenant.
    pub(crate) cold: bool,
    pub(crate) add_milliseconds: f64,
}

/// A tenant.
#[derive(Serialize)]
pub(crate) struct TenantFacts {
    pub(crate) name: String,
    pub(crate) router: Uuid,
    /// The router's namespace, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) router_netns: Option<String>,
    pub(crate) subnets: Vec<String>,
    /// The addresses under which the external network sees its pods: one, its own.
    pub(crate) external_addresses: Vec<Ipv4Addr>,
}

/// Where the servers and the configuration are.
#[derive(Serialize)]
pub(crate) struct ServerLocations {
    pub(crate) prefix: String,
    pub(crate) config: PathBuf,
    pub(crate) atollctl: PathBuf,
    pub(crate) etcd_prefix: String,
    pub(crate) etcd: String,
    /// The namespace in which `config` is valid.
    #[serde(skip)]
    pub(crate) machine: String,
    /// The namespace of etcd.
    #[serde(skip)]
    pub(crate) store: String,
    /// A host of the external network.
    #[serde(skip)]
    pub(crate) outside: Ipv4Addr,
    #[serde(flatten)]
    pub(crate) engine: EngineLocations,
}

/// Where the servers of the engine are.
#[derive(Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum EngineLocations {
    /// The mock controller.
    Midonet {
        /// The address of its API.
        controller: String,
    },
    /// OVN: the beginnings of commands that read a database.
    Ovn {
        /// The logical networks.
        northbound: String,
        /// The machines.
        southbound: String,
        /// The Open vSwitch of the first machine.
        switch: String,
    },
}

impl Facts {
    /// Builds the report and checks it.
    pub(crate) fn new(
        pods: Vec<PodFacts>,
        reach: Vec<Cell>,
        tenants: Vec<TenantFacts>,
        topology: Value,
        tree: String,
        access: ServerLocations,
    ) -> Self {
        let addresses_in_common = in_common(&pods);
        let publics: BTreeSet<_> = tenants.iter().flat_map(|tenant| &tenant.external_addresses).collect();
        let each_its_own =
            tenants.iter().all(|tenant| tenant.external_addresses.len() == 1) && publics.len() == tenants.len();
        let ok =
            !reach.is_empty() && reach.iter().all(|cell| cell.ok) && each_its_own && !addresses_in_common.is_empty();
        Self { ok, pods, tenants, addresses_in_common, reach, topology, access, tree }
    }
}

fn in_common(pods: &[PodFacts]) -> Vec<Ipv4Addr> {
    let of = |pod: &PodFacts| pod.address.split('/').next().and_then(|address| address.parse().ok());
    let pairs = pods.iter().flat_map(|one| pods.iter().map(move |other| (one, other)));
    let shared = pairs.filter(|(one, other)| one.tenant != other.tenant && of(one) == of(other));
    let shared: BTreeSet<Ipv4Addr> = shared.filter_map(|(one, _)| of(one)).collect();
    shared.into_iter().collect()
}

/// For programs.
pub(crate) fn json(facts: &Facts) -> String {
    let mut text =
        serde_json::to_string_pretty(facts).unwrap_or_else(|error| json!({ "error": error.to_string() }).to_string());
    text.push('\n');
    text
}

/// For programs, if the run failed before the measurements.
pub(crate) fn json_error(error: &anyhow::Error) -> String {
    format!("{}\n", json!({ "ok": false, "error": format!("{error:#}") }))
}

/// For people.
pub(crate) fn text(facts: &Facts) -> String {
    let mut text = String::new();
    let mut say = |part: &str| {
        text.push_str(part);
        text.push('\n');
    };
    say(&pods(facts));
    say("\nWho reaches whom (ping and TCP; the row asks for the column's address):");
    say(&matrix(facts));
    say(&legend(facts));
    say("\nThe tenants' networks:");
    say(facts.tree.trim_end());
    say("\nLook further:");
    say(next_steps(facts).trim_end());
    let bad = facts.reach.iter().filter(|cell| !cell.ok).count();
    say(&match (facts.ok, bad) {
        (true, _) => format!("\nAll {} answers are as expected.", facts.reach.len()),
        (false, 0) => "\nNOT as expected: see the addresses above.".to_owned(),
        (false, bad) => format!("\nNOT as expected: {bad} of {} answers, marked with !.", facts.reach.len()),
    });
    text
}

fn pods(facts: &Facts) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let several = facts.pods.iter().any(|pod| pod.machine.is_some());
    let machine = several.then_some("MACHINE");
    table.set_header(["POD", "TENANT"].into_iter().chain(machine).chain([
        "ADDRESS",
        "GATEWAY",
        "EXTERNAL ADDRESS",
        "ADD",
        "",
    ]));
    for pod in &facts.pods {
        let tenant = facts.tenants.iter().find(|tenant| tenant.name == pod.tenant);
        let seen: Vec<String> =
            tenant.iter().flat_map(|tenant| &tenant.external_addresses).map(ToString::to_string).collect();
        let rest = [
            pod.address.clone(),
            pod.gateway.to_string(),
            seen.join(", "),
            format!("{:.1} ms", pod.add_milliseconds),
            if pod.cold { "cold: built the tenant's network" } else { "warm" }.to_owned(),
        ];
        table.add_row([pod.name.clone(), pod.tenant.clone()].into_iter().chain(pod.machine.clone()).chain(rest));
    }
    table.trim_fmt()
}

fn matrix(facts: &Facts) -> String {
    let mut columns: Vec<&str> = Vec::new();
    for cell in &facts.reach {
        if !columns.contains(&cell.to.as_str()) {
            columns.push(&cell.to);
        }
    }
    // The pods in their order (the first row lacks itself), then gateway and external network.
    let place = |to: &str| facts.pods.iter().position(|pod| pod.name == to).unwrap_or(facts.pods.len());
    columns.sort_by_key(|to| (place(to), *to));
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(std::iter::once("FROM \\ TO").chain(columns.iter().copied()));
    for pod in &facts.pods {
        let answers = columns.iter().map(|to| {
            let cell = facts.reach.iter().find(|cell| cell.from == pod.name && cell.to == **to);
            cell.map_or_else(|| ".".to_owned(), answer)
        });
        table.add_row(std::iter::once(pod.name.clone()).chain(answers));
    }
    table.trim_fmt()
}

/// The answer in a word; `!` marks an unexpected one.
fn answer(cell: &Cell) -> String {
    let word = match (&cell.tcp, cell.ping) {
        (Some(name), true) if *name == cell.to => "yes".to_owned(),
        (Some(name), true) => name.clone(),
        (Some(name), false) => format!("{name} (TCP only)"),
        (None, true) if cell.expected == Expected::Ping => "yes".to_owned(),
        (None, true) => "ping only".to_owned(),
        (None, false) => "-".to_owned(),
    };
    if cell.ok { word } else { format!("! {word}") }
}

fn legend(facts: &Facts) -> String {
    let shared: Vec<String> = facts.addresses_in_common.iter().map(ToString::to_string).collect();
    format!(
        "yes: that pod answers.  -: no answer, as expected between tenants.  A pod's name: both tenants use that\n\
         address ({}), and the pod of one's own tenant answered.  !: not as expected.",
        shared.join(", ")
    )
}

fn next_steps(facts: &Facts) -> String {
    let ServerLocations { prefix, config, atollctl, etcd_prefix, etcd, machine, store, outside, engine } =
        &facts.access;
    let mut lines = vec![
        ("a pod", format!("ip netns exec {prefix}-red-1 ip address")),
        ("the external network", format!("ip netns exec {prefix}-red-1 ping -c 1 {outside}")),
    ];
    let keys = format!("get --prefix {etcd_prefix} --keys-only");
    match engine {
        EngineLocations::Midonet { controller } => lines.extend([
            ("a tenant's router", format!("ip netns exec {prefix}-router-red nft list ruleset")),
            ("the provider router", format!("ip netns exec {prefix}-router-provider ip route")),
            ("the store", format!("ip netns exec {store} etcdctl {keys}")),
            (
                "the controller",
                format!("ip netns exec {machine} curl -s -H 'Accept: application/json' {controller}/routers"),
            ),
        ]),
        EngineLocations::Ovn { northbound, southbound, switch } => lines.extend([
            ("the networks", format!("{northbound} show")),
            ("the machines", format!("{southbound} show")),
            ("a machine's switch", format!("{switch} show")),
            ("the store", format!("ip netns exec {store} etcdctl --endpoints={etcd} {keys}")),
        ]),
    }
    let directory = config.parent().unwrap_or(config).display();
    let logs = match engine {
        EngineLocations::Midonet { .. } => format!("less {directory}/*.log"),
        // Each machine has a directory.
        EngineLocations::Ovn { .. } => format!("less {directory}/../*/*.log"),
    };
    lines.extend([
        (
            "the topology",
            format!("ip netns exec {machine} {} topology --config {}", atollctl.display(), config.display()),
        ),
        ("logs", logs),
        ("remove everything", down(prefix)),
    ]);
    let mut text = String::new();
    for (what, command) in lines {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {what:<20} {command}");
    }
    text
}

/// The command that removes everything.
pub(crate) fn down(prefix: &str) -> String {
    let name = prefix.strip_prefix("at-").filter(|name| *name != "qs");
    format!("./quickstart down{}", name.map(|name| format!(" --name {name}")).unwrap_or_default())
}
