//! Three machines with OVN and Open vSwitch, and a central one with the databases and etcd. Programs are those of unpacked
//! packages, and the datapath is in user space: neither a service nor a kernel module is installed.

use anyhow::{Context as _, Result};
use atoll_testkit::lab::ovn::{self, OvnLab};
use atoll_testkit::lab::place::LabPlace;
use atoll_testkit::ovn::Packages;
use serde_json::json;

use crate::args::QuickstartArgs;
use crate::cluster::{PREFIX, PodMachine, RunningCluster, addresses, named};
use crate::progress::QuickstartProgress;
use crate::report::EngineLocations;

const MACHINES: usize = 3;

/// Starts everything.
pub(crate) fn start(args: &QuickstartArgs, progress: &QuickstartProgress) -> Result<RunningCluster> {
    let packages = Packages::find().context("`./quickstart --engine ovn` unpacks them")?;
    progress.step("starting etcd and the databases of OVN");
    let place = LabPlace::lasting(&args.prefix, &args.state_dir, &args.bin_dir);
    let mut lab = OvnLab::start_central(place, packages.clone())?;
    let settings = json!({ "etcd": { "prefix": PREFIX }, "cluster": addresses(), "log": { "level": "info" } });
    for number in 1..=MACHINES {
        progress.step(&format!("starting machine c{number}"));
        lab.add_chassis(&settings)?;
    }
    progress.step("atollctl init");
    lab.init()?;
    let machines = lab.chassis.iter().map(|chassis| PodMachine {
        name: Some(chassis.name.clone()),
        netns: named(&args.prefix, &chassis.name),
        config: chassis.config().clone(),
        config_file: chassis.config_file(),
    });
    let program = |name: &str| {
        let (path, libraries) = packages.located(name);
        format!("LD_LIBRARY_PATH={} {}", libraries.to_string_lossy(), path.display())
    };
    let first = lab.chassis.first().context("there are machines")?;
    let locations = EngineLocations::Ovn {
        northbound: format!("{} --db=unix:{}", program("ovn-nbctl"), lab.socket("nb").display()),
        southbound: format!("{} --db=unix:{}", program("ovn-sbctl"), lab.socket("sb").display()),
        switch: format!("{} --db=unix:{}", program("ovs-vsctl"), first.socket().display()),
    };
    Ok(RunningCluster {
        machines: machines.collect(),
        etcd: ovn::ETCD,
        store: named(&args.prefix, "central"),
        outside: ovn::OUTSIDE.parse()?,
        pins: None,
        locations,
        ovn: Some(lab),
    })
}
