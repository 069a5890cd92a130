//! Starts the servers and pods of the quickstart, in namespaces and directories of its own, and leaves them running.

use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use atoll_model::derive::{NetworkPart, object};
use atoll_node::files::{atomic, make};
use atoll_records::{ClusterRecord, TenantRecord, decode};
use atoll_testkit::lab::cni::{Cni, PodInterface};
use atoll_testkit::lab::daemon::Lifetime;
use atoll_testkit::lab::netns::LabNetns;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::servers::{self, ControllerOptions};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::args::QuickstartArgs;
use crate::matrix::{Cell, TrafficEndpoint};
use crate::progress::QuickstartProgress;
use crate::report::{Facts, PodFacts, ServerLocations, TenantFacts};

const TENANTS: [&str; 2] = ["red", "blue"];
const PODS: usize = 3;
const PREFIX: &str = "/atoll/quickstart";
/// The host behind the provider router.
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// The running servers and pods.
pub(crate) struct Setup {
    prefix: String,
    run_dir: PathBuf,
    config_file: PathBuf,
    atollctl: PathBuf,
    node: LabNetns,
    pods: Vec<(LabPod, PodInterface, bool)>,
}

impl Setup {
    /// Starts etcd, the controller and the pods.
    pub(crate) fn start(args: &QuickstartArgs, progress: &QuickstartProgress) -> Result<Self> {
        let (run_dir, state_dir) = (args.run_dir.clone(), args.state_dir.clone());
        for directory in [&run_dir, &state_dir] {
            make::directory(directory, make::PRIVATE_DIRECTORY)
                .with_context(|| format!("create {}", directory.display()))?;
        }
        let node = LabNetns::lasting(&format!("{}-node", args.prefix))?;
        let host_id = Uuid::new_v4();
        let log = |name: &str| state_dir.join(name);

        progress.step("starting etcd");
        servers::etcd(&node, Lifetime::Lasting, &state_dir.join("etcd"), &log("etcd.log"))?;
        progress.step("starting the controller with its data plane");
        let options = ControllerOptions { run_dir: run_dir.clone(), host_id, state: None, dataplane: true };
        let program = args.bin_dir.join("mock-controller");
        servers::controller(&node, Lifetime::Lasting, &program, &options, &log("controller.log"))?;

        let config = configuration(args, host_id);
        let config_file = state_dir.join("atoll.json");
        let text = serde_json::to_string_pretty(&config)?;
        atomic::replace(&config_file, text.as_bytes(), atomic::Durability::Lossy).context("write the configuration")?;

        let mut pods = Vec::new();
        let cni = Cni::new(&node, args.bin_dir.join("atoll"), config);
        for number in 1..=PODS {
            for tenant in TENANTS {
                let name = format!("{tenant}-{number}");
                progress.step(&format!("ADD {name}"));
                let pod = LabPod::inside(tenant, &name, LabNetns::lasting(&format!("{}-{name}", args.prefix))?);
                let attached = cni.add(&pod)?;
                pods.push((pod, attached, number == 1));
            }
        }
        pods.sort_by_key(|(pod, ..)| TENANTS.iter().position(|tenant| *tenant == pod.namespace));
        let prefix = args.prefix.clone();
        Ok(Self { prefix, run_dir, config_file, atollctl: args.bin_dir.join("atollctl"), node, pods })
    }

    /// All endpoints.
    pub(crate) fn endpoints(&self) -> Result<Vec<TrafficEndpoint>> {
        let mut all: Vec<TrafficEndpoint> = self
            .pods
            .iter()
            .map(|(pod, attached, _)| TrafficEndpoint {
                name: pod.name.clone(),
                tenant: Some(pod.namespace.clone()),
                address: attached.address.ip(),
                gateway: Some(attached.gateway),
                netns: LabNetns::at(pod.netns.path()),
            })
            .collect();
        let outside = self.pin("outside");
        self.name_netns("outside", &outside)?;
        let netns = LabNetns::at(outside);
        all.push(TrafficEndpoint { name: "outside".to_owned(), tenant: None, address: EXTERNAL, gateway: None, netns });
        Ok(all)
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
            let netns = self.name_netns(&format!("router-{tenant}"), &self.pin(&router.to_string()))?;
            let seen = cells.iter().filter(|cell| cell.to == "outside" && self.tenant_of(&cell.from) == Some(tenant));
            let mut external_addresses: Vec<Ipv4Addr> = seen.filter_map(|cell| cell.seen_as).collect();
            external_addresses.sort_unstable();
            external_addresses.dedup();
            let subnets = record.subnets.iter().map(|subnet| subnet.cidr.to_string()).collect();
            tenants.push(TenantFacts {
                name: tenant.to_owned(),
                router,
                router_netns: netns,
                subnets,
                external_addresses,
            });
        }
        self.name_netns("router-provider", &self.pin(&cluster.provider_router.to_string()))?;
        let pods = self.pods.iter().map(|(pod, attached, cold)| PodFacts {
            name: pod.name.clone(),
            tenant: pod.namespace.clone(),
            netns: format!("{}-{}", self.prefix, pod.name),
            container: pod.container.clone(),
            address: attached.address.to_string(),
            gateway: attached.gateway,
            mac: attached.mac.clone(),
            cold: *cold,
            add_milliseconds: (attached.took.as_secs_f64() * 10_000.0).round() / 10.0,
        });
        let tree = self.topology(false)?;
        Ok(Facts::new(pods.collect(), cells, tenants, topology, tree, self.access()))
    }

    fn access(&self) -> ServerLocations {
        ServerLocations {
            prefix: self.prefix.clone(),
            config: self.config_file.clone(),
            atollctl: self.atollctl.clone(),
            etcd_prefix: PREFIX.to_owned(),
            etcd: format!("http://{}", servers::ETCD),
            controller: format!("http://{}{}", servers::CONTROLLER, servers::API),
        }
    }

    fn tenant_of(&self, pod: &str) -> Option<&str> {
        self.pods.iter().find(|(one, ..)| one.name == pod).map(|(one, ..)| one.namespace.as_str())
    }

    fn record<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<T> {
        let endpoint = format!("--endpoints=http://{}", servers::ETCD);
        let key = format!("{PREFIX}/v2/{key}");
        let value = self.node.run("etcdctl", &[&endpoint, "get", "--print-value-only", &key])?;
        decode(value.trim().as_bytes()).with_context(|| format!("the record {key}"))
    }

    fn topology(&self, json: bool) -> Result<String> {
        let config = self.config_file.display().to_string();
        let mut args = vec!["topology", "--config", &config];
        if json {
            args.extend(["-o", "json"]);
        }
        self.node.run(&self.atollctl.display().to_string(), &args)
    }

    /// Where the data plane pins a namespace.
    fn pin(&self, name: &str) -> PathBuf {
        self.run_dir.join("dataplane").join(name)
    }

    /// Makes a namespace of the data plane available to `ip netns exec`.
    fn name_netns(&self, name: &str, pin: &Path) -> Result<String> {
        let name = format!("{}-{name}", self.prefix);
        let link = Path::new("/run/netns").join(&name);
        symlink(pin, &link).with_context(|| format!("name {} {name}", pin.display()))?;
        Ok(name)
    }
}

fn configuration(args: &QuickstartArgs, host_id: Uuid) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "atoll", "type": "atoll",
        "nodeName": "quickstart", "hostId": host_id, "runDir": args.run_dir, "stateDir": args.state_dir,
        "etcd": { "endpoints": [format!("http://{}", servers::ETCD)], "prefix": PREFIX },
        "controller": { "endpoints": [format!("http://{}{}", servers::CONTROLLER, servers::API)] },
        // So small that two tenants with three pods each have addresses in common: each subnet has five addresses for
        // pods.
        "cluster": { "addressing": "overlapping", "podCidr": "10.128.0.0/16", "subnetPrefix": 29 },
        "log": { "file": args.state_dir.join("cni.log"), "level": "info" },
    })
}
