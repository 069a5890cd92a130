//! What a topology would become, without a kernel and without root: namespaces, filters, and what cannot be expressed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use atoll_dataplane::Unsupported;
use atoll_dataplane::compile::{
    self, BridgePort, Compiled, DeviceKind, KernelDevice, KernelPlan, KernelRoute, NextHop, RouterNamespace, TO_HOST,
    TO_PODS,
};
use atoll_model::topology::{self, Topology};
use serde::Serialize;
use uuid::Uuid;

use crate::state::{ControllerState, Tables};
use crate::state_file::{StateFile, StateFileError};

/// Why the topology could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The file could not be read.
    #[error(transparent)]
    File(#[from] StateFileError),
    /// Bindings are of several hosts, or of none that is asked for.
    #[error("topology {}: {why}; say which with --host-id", path.display())]
    Host {
        /// The file.
        path: PathBuf,
        /// What is not clear.
        why: String,
    },
}

/// What a topology would become on one host.
#[derive(Debug, Serialize)]
pub struct Checked {
    /// The host whose bindings count.
    pub host: Uuid,
    /// What is closed because it cannot be expressed: the number of entries of `unsupported` that say so.
    pub closed: usize,
    /// What cannot be expressed.
    pub unsupported: BTreeSet<Unsupported>,
    /// Router namespaces with their interfaces, routes and filters.
    pub plan: KernelPlan,
    /// Ports that would carry packets.
    pub ports: BTreeMap<Uuid, BridgePort>,
    #[serde(skip)]
    names: BTreeMap<Uuid, String>,
}

/// Checks a state file or a dump. Without a `host`, there must be one only.
pub fn check(path: &Path, host: Option<Uuid>) -> Result<Checked, CheckError> {
    let tables = StateFile::tables_of(path)?;
    let unclear = |why: String| CheckError::Host { path: path.to_owned(), why };
    let host = match (host, tables.hosts.keys().collect::<Vec<_>>().as_slice()) {
        (Some(host), _) => host,
        (None, [only]) => **only,
        (None, []) => return Err(unclear("it has no host".to_owned())),
        (None, hosts) => {
            let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
            return Err(unclear(format!("it has several hosts ({})", hosts.join(", "))));
        }
    };
    Ok(Checked::new(tables, host))
}

impl Checked {
    /// What these tables would become.
    pub fn new(tables: Tables, host: Uuid) -> Self {
        let topology = ControllerState::from_tables(tables).topology();
        let compiled = Compiled::new(topology.clone(), host);
        let plan = compiled.plan().clone();
        let mut unsupported: BTreeSet<_> =
            plan.namespaces.values().flat_map(|namespace| namespace.unsupported.iter().cloned()).collect();
        let (mut ports, mut bound) = (BTreeMap::new(), BTreeMap::new());
        for id in topology.ports.keys() {
            match compiled.pod(*id) {
                Ok(Some(pod)) => {
                    let holder = *bound.entry((pod.namespace, pod.interface.clone())).or_insert(*id);
                    if holder == *id {
                        unsupported.extend(pod.left.iter().cloned());
                        ports.insert(*id, pod);
                    } else {
                        unsupported.insert(compile::taken(*id, holder, &pod.interface));
                    }
                }
                Ok(None) => {}
                Err(refused) => drop(unsupported.insert(refused)),
            }
        }
        let closed = unsupported.iter().filter(|one| one.closes).count();
        Self { host, closed, unsupported, plan, ports, names: names(&topology) }
    }

    fn name(&self, id: Uuid) -> String {
        self.names.get(&id).map_or_else(|| id.to_string(), |name| format!("{name} ({id})"))
    }
}

/// The names of the objects, for messages.
fn names(topology: &Topology) -> BTreeMap<Uuid, String> {
    let called = |kind: &str, name: &str| format!("{kind} {}", if name.is_empty() { "without a name" } else { name });
    let mut names = BTreeMap::new();
    names.extend(topology.routers.iter().map(|(id, router)| (*id, called("router", &router.name))));
    names.extend(topology.bridges.iter().map(|(id, bridge)| (*id, called("bridge", &bridge.name))));
    for (id, chain) in &topology.chains {
        let name = called("chain", &chain.name);
        names.extend(chain.rules.iter().zip(1..).map(|(rule, n)| (rule.id, format!("rule {n} of {name}"))));
        names.insert(*id, name);
    }
    let device = |id: Uuid, names: &BTreeMap<Uuid, String>| names.get(&id).cloned().unwrap_or_else(|| id.to_string());
    for (id, port) in &topology.ports {
        let what = match &port.binding {
            Some(binding) => format!("port {}", binding.interface),
            None => "port".to_owned(),
        };
        names.insert(*id, format!("{what} of {}", device(port.device.id(), &names)));
    }
    for (id, route) in &topology.routes {
        let topology::Route { router, destination, .. } = route;
        names.insert(*id, format!("route to {destination} of {}", device(*router, &names)));
    }
    names
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "host {}: namespaces {}, ports {}", self.host, self.plan.namespaces.len(), self.ports.len())?;
        for (id, namespace) in &self.plan.namespaces {
            self.show_namespace(f, *id, namespace)?;
        }
        if self.unsupported.is_empty() {
            return writeln!(f, "\neverything can be expressed");
        }
        writeln!(f, "\ncannot be expressed:")?;
        for one in &self.unsupported {
            let mark = if one.closes { "closed" } else { "left out" };
            writeln!(f, "  {mark}: {}, {}", self.name(one.object), one.field)?;
            writeln!(f, "    because {}: {}", one.why, one.effect)?;
        }
        match self.closed {
            0 => writeln!(f, "\nnothing is closed because of that"),
            closed => writeln!(f, "\nclosed because of that: {closed}"),
        }
    }
}

impl Checked {
    fn show_namespace(&self, f: &mut fmt::Formatter<'_>, id: Uuid, namespace: &RouterNamespace) -> fmt::Result {
        writeln!(f, "\nnamespace of {}", self.name(id))?;
        let devices = namespace.devices.iter().map(|(name, device)| row_of_device(name, device));
        let ports = self.ports.iter().filter(|(_, pod)| pod.namespace == id).map(|(id, pod)| {
            let who: Vec<_> =
                pod.allowed_sources.iter().map(|source| format!("{} {}", source.mac, source.address)).collect();
            let who = if who.is_empty() { "any address but a router's".to_owned() } else { who.join(", ") };
            [pod.interface.clone(), format!("port of {}", pod.bridge), format!("{who}, port {id}")]
        });
        table(f, "interfaces", &devices.chain(ports).collect::<Vec<_>>())?;
        let routes: Vec<_> = namespace.routes.iter().map(|route| row_of_route(namespace, route)).collect();
        table(f, "routes", &routes)?;
        writeln!(f, "  filter")?;
        let mut depth = 0;
        for line in namespace.ruleset.text.lines().filter(|line| !line.is_empty()) {
            depth -= usize::from(line == "}");
            writeln!(f, "    {:1$}{line}", "", depth * 2)?;
            depth += usize::from(line.ends_with('{'));
        }
        if !namespace.elements.is_empty() {
            writeln!(f, "  elements of links")?;
            for element in &namespace.elements {
                writeln!(f, "    {} {}", element.set.name(), element.text())?;
            }
        }
        Ok(())
    }
}

fn row_of_device(name: &str, device: &KernelDevice) -> [String; 3] {
    let addresses: Vec<_> = device.addresses.iter().map(ToString::to_string).collect();
    let what = match &device.kind {
        DeviceKind::Bridge => "bridge".to_owned(),
        DeviceKind::Link { name, bridge: Some(bridge), .. } => format!("port of {bridge}, to {name}"),
        DeviceKind::Link { name, .. } => format!("link to {name}"),
        DeviceKind::Host { end, .. } => format!("link to {end} of this machine"),
        DeviceKind::Uplink { external: Some(external) } => format!("uplink, to {} if it is missing", external.address),
        DeviceKind::Uplink { external: None } => "uplink".to_owned(),
    };
    [name.to_owned(), what, [vec![device.mac.to_string()], addresses].concat().join(" ")]
}

fn row_of_route(namespace: &RouterNamespace, route: &KernelRoute<String>) -> [String; 3] {
    let source = namespace.sources.iter().find(|source| source.table == route.table);
    let from = match route.table {
        TO_PODS => " from this machine".to_owned(),
        TO_HOST => " to answer this machine".to_owned(),
        _ => source.map(|source| format!(" from {}", source.network)).unwrap_or_default(),
    };
    let next = match &route.next {
        NextHop::Via { device, gateway } => format!("by {gateway} through {device}"),
        NextHop::Direct { device } => format!("through {device}"),
        NextHop::BlackHole => "dropped".to_owned(),
        NextHop::Prohibit => "refused".to_owned(),
    };
    [format!("{}{from}", route.destination), next, format!("weight {}", route.metric)]
}

/// Rows in columns, with a title.
fn table(f: &mut fmt::Formatter<'_>, title: &str, rows: &[[String; 3]]) -> fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(f, "  {title}")?;
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let (first, second) = (width(0), width(1));
    rows.iter().try_for_each(|[a, b, c]| writeln!(f, "    {a:first$}  {b:second$}  {c}"))
}
