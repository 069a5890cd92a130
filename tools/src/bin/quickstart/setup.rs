//! The pods of the quickstart and what they have, in namespaces and directories of its own. They are left running.

use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_model::derive::{NetworkPart, object};
use atoll_node::files::make;
use atoll_records::{ClusterRecord, SubnetEntry, TenantRecord, decode};
use atoll_testkit::lab::cni::{Cni, PodInterface};
use atoll_testkit::lab::netns::LabNetns;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use atoll_testkit::lab::wait;
use atoll_tools::engine::ToolEngine;
use serde_json::Value;

use crate::args::QuickstartArgs;
use crate::cluster::{self, PREFIX, RunningCluster, named};
use crate::matrix::{Cell, TrafficEndpoint};
use crate::progress::QuickstartProgress;
use crate::report::{Facts, PodFacts, ServerLocations, TenantFacts};
use crate::{midonet, ovn};

const TENANTS: [&str; 2] = ["red", "blue"];
const PODS: usize = 3;
/// Limit for the machines of OVN to agree on a gateway.
const GATEWAY: Duration = Duration::from_mins(1);

/// The running servers and pods.
pub(crate) struct Setup {
    prefix: String,
    atollctl: PathBuf,
    cluster: RunningCluster,
    pods: Vec<AttachedPod>,
}

struct AttachedPod {
    pod: LabPod,
    interface: PodInterface,
    /// Its ADD built the tenant.
    cold: bool,
    /// The name of its machine, if there are several.
    machine: Option<String>,
}

impl Setup {
    /// Starts the servers and the pods. The pods of a tenant are on different machines, if there are several.
    pub(crate) fn start(args: &QuickstartArgs, progress: &QuickstartProgress) -> Result<Self> {
        for directory in [&args.run_dir, &args.state_dir] {
            make::directory(directory, make::PRIVATE_DIRECTORY)
                .with_context(|| format!("create {}", directory.display()))?;
        }
        let cluster = match args.engine {
            ToolEngine::Midonet => midonet::start(args, progress)?,
            ToolEngine::Ovn => ovn::start(args, progress)?,
        };
        let mut pods = Vec::new();
        for (number, machine) in (1..=PODS).zip(cluster.machines.iter().cycle()) {
            let cni = Cni::new(&machine.netns.0, args.bin_dir.join("atoll"), machine.config.clone());
            for tenant in TENANTS {
                let name = format!("{tenant}-{number}");
                progress.step(&format!("ADD {name}"));
                let pod = LabPod::inside(tenant, &name, LabNetns::lasting(&format!("{}-{name}", args.prefix))?);
                let interface = cni.add(&pod)?;
                pods.push(AttachedPod { pod, interface, cold: number == 1, machine: machine.name.clone() });
            }
        }
        pods.sort_by_key(|one| TENANTS.iter().position(|tenant| *tenant == one.pod.namespace));
        Ok(Self { prefix: args.prefix.clone(), atollctl: args.bin_dir.join("atollctl"), cluster, pods })
    }

    /// All endpoints.
    pub(crate) fn endpoints(&self) -> Result<Vec<TrafficEndpoint>> {
        let mut all: Vec<TrafficEndpoint> = self
            .pods
            .iter()
            .map(|one| TrafficEndpoint {
                name: one.pod.name.clone(),
                tenant: Some(one.pod.namespace.clone()),
                address: one.interface.address.ip(),
                gateway: Some(one.interface.gateway),
                netns: LabNetns::at(one.pod.netns.path()),
            })
            .collect();
        if let Some(pins) = &self.cluster.pins {
            self.name_netns("outside", &pins.join("outside"))?;
        }
        let (netns, _) = named(&self.prefix, "outside");
        let address = self.cluster.outside;
        all.push(TrafficEndpoint { name: "outside".to_owned(), tenant: None, address, gateway: None, netns });
        Ok(all)
    }

    /// ADD ends when the pod's own machine forwards its packets. Those of OVN are several: waits until all of them have the
    /// pods, and have agreed on a gateway.
    pub(crate) fn wait_for_packets(&self, endpoints: &[TrafficEndpoint], progress: &QuickstartProgress) -> Result<()> {
        let Some(lab) = &self.cluster.ovn else { return Ok(()) };
        progress.step("waiting until every machine has every pod, and one is the gateway");
        lab.synchronize()?;
        for pod in endpoints.iter().filter(|one| one.tenant.is_some()) {
            wait::until("a gateway forwards", GATEWAY, || {
                let outside = self.cluster.outside;
                ensure!(ping(&pod.netns, outside)?, "{} gets no answer from {outside}", pod.name);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The report, from the measured reachability.
    pub(crate) fn facts(&self, cells: Vec<Cell>) -> Result<Facts> {
        let cluster: ClusterRecord = self.record("cluster")?;
        let mut tenants = Vec::new();
        let everything = self.topology(true)?;
        let topology: Value = serde_json::from_str(&everything).context("atollctl topology -o json")?;
        for tenant in TENANTS {
            let record: TenantRecord = self.record(&format!("tenants/{tenant}"))?;
            let router = object(cluster.id, record.incarnation, &NetworkPart::Router);
            let pins = self.cluster.pins.as_ref();
            let router_netns = pins
                .map(|pins| self.name_netns(&format!("router-{tenant}"), &pins.join(router.to_string())))
                .transpose()?;
            let seen = cells.iter().filter(|cell| cell.to == "outside" && self.tenant_of(&cell.from) == Some(tenant));
            let mut external_addresses: Vec<Ipv4Addr> = seen.filter_map(|cell| cell.seen_as).collect();
            external_addresses.sort_unstable();
            external_addresses.dedup();
            let subnets = record.subnets.iter().map(SubnetEntry::cidrs).collect();
            tenants.push(TenantFacts { name: tenant.to_owned(), router, router_netns, subnets, external_addresses });
        }
        if let Some(pins) = &self.cluster.pins {
            self.name_netns("router-provider", &pins.join(cluster.provider_router.to_string()))?;
        }
        let pods = self.pods.iter().map(|one| PodFacts {
            name: one.pod.name.clone(),
            tenant: one.pod.namespace.clone(),
            machine: one.machine.clone(),
            netns: format!("{}-{}", self.prefix, one.pod.name),
            container: one.pod.container.clone(),
            address: one.interface.address.to_string(),
            gateway: one.interface.gateway,
            mac: one.interface.mac.clone(),
            cold: one.cold,
            add_milliseconds: (one.interface.took.as_secs_f64() * 10_000.0).round() / 10.0,
        });
        let tree = self.topology(false)?;
        Ok(Facts::new(pods.collect(), cells, tenants, topology, tree, self.access()?))
    }

    fn access(&self) -> Result<ServerLocations> {
        let machine = self.cluster.machines.first().context("there is a machine")?;
        Ok(ServerLocations {
            prefix: self.prefix.clone(),
            config: machine.config_file.clone(),
            atollctl: self.atollctl.clone(),
            etcd_prefix: PREFIX.to_owned(),
            etcd: format!("http://{}", self.cluster.etcd),
            machine: machine.netns.1.clone(),
            store: self.cluster.store.1.clone(),
            outside: self.cluster.outside,
            engine: self.cluster.locations.clone(),
        })
    }

    fn tenant_of(&self, pod: &str) -> Option<&str> {
        self.pods.iter().find(|one| one.pod.name == pod).map(|one| one.pod.namespace.as_str())
    }

    fn record<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<T> {
        let key = format!("{PREFIX}/v2/{key}");
        let value = cluster::record(&self.cluster, &key)?;
        decode(value.trim().as_bytes()).with_context(|| format!("the record {key}"))
    }

    fn topology(&self, json: bool) -> Result<String> {
        let machine = self.cluster.machines.first().context("there is a machine")?;
        let config = machine.config_file.display().to_string();
        let mut args = vec!["topology", "--config", &config];
        if json {
            args.extend(["-o", "json"]);
        }
        machine.netns.0.run(&self.atollctl.display().to_string(), &args)
    }

    /// Makes a namespace of the data plane available to `ip netns exec`.
    fn name_netns(&self, name: &str, pin: &Path) -> Result<String> {
        let name = format!("{}-{name}", self.prefix);
        let link = Path::new("/run/netns").join(&name);
        symlink(pin, &link).with_context(|| format!("name {} {name}", pin.display()))?;
        Ok(name)
    }
}
