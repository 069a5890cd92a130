//! One machine with etcd and the mock controller, whose data plane forwards packets.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use atoll_node::files::atomic;
use atoll_testkit::lab::daemon::Lifetime;
use atoll_testkit::lab::netns::LabNetns;
use atoll_testkit::lab::servers::{self, ControllerOptions};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::args::QuickstartArgs;
use crate::cluster::{PREFIX, PodMachine, RunningCluster, addresses, named};
use crate::progress::QuickstartProgress;
use crate::report::EngineLocations;

/// The host behind the provider router.
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// Starts both servers.
pub(crate) fn start(args: &QuickstartArgs, progress: &QuickstartProgress) -> Result<RunningCluster> {
    let (run_dir, state_dir) = (&args.run_dir, &args.state_dir);
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
    Ok(RunningCluster {
        machines: vec![PodMachine { name: None, netns: named(&args.prefix, "node"), config, config_file }],
        etcd: servers::ETCD,
        store: named(&args.prefix, "node"),
        outside: EXTERNAL,
        pins: Some(run_dir.join("dataplane")),
        ovn: None,
        locations: EngineLocations::Midonet { controller: format!("http://{}{}", servers::CONTROLLER, servers::API) },
    })
}

fn configuration(args: &QuickstartArgs, host_id: Uuid) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "atoll", "type": "atoll",
        "nodeName": "quickstart", "hostId": host_id, "runDir": args.run_dir, "stateDir": args.state_dir,
        "etcd": { "endpoints": [format!("http://{}", servers::ETCD)], "prefix": PREFIX },
        "controller": { "endpoints": [format!("http://{}{}", servers::CONTROLLER, servers::API)] },
        "cluster": addresses(),
        "log": { "file": args.state_dir.join("cni.log"), "level": "info" },
    })
}
