//! The engine OVN: our share of a call beside the standard plugins, and what a pod and a tenant cost the daemons of OVN. Two
//! machines with OVN's programs from Debian's packages; the datapath is in user space. One lab serves all measurements.
//!
//! | module | what |
//! |---|---|
//! | [`own`] | calls one at a time: what of them is ours, over TLS and over plain TCP |
//! | [`growth`] | a pod and a tenant, while there are more and more tenants |
//! | [`machine`] | the machine of pods that are measured one at a time |
//! | [`daemons`] | the CPU time of the daemons |

mod daemons;
mod growth;
mod machine;
mod own;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::netns::output;
use atoll_testkit::lab::ovn::{OvnLab, OvnMachine};
use atoll_testkit::ovn::Packages;
use serde_json::json;

use crate::concurrency;
use crate::progress::step;
use crate::report::Report;
use growth::Growth;

/// How many rounds and calls are measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OvnAmount {
    /// Calls one at a time.
    rounds: usize,
    /// Calls at a time.
    concurrency: usize,
    /// Pods at each number of tenants.
    pods: usize,
    /// Numbers of tenants, ascending; the first is what the others are compared with.
    tenants: &'static [usize],
}

pub(crate) const FULL: OvnAmount = OvnAmount { rounds: 60, concurrency: 200, pods: 16, tenants: &[2, 100, 500] };
pub(crate) const QUICK: OvnAmount = OvnAmount { rounds: 10, concurrency: 64, pods: 8, tenants: &[2, 100] };

/// Machines; pods that are measured one at a time are on the first.
const MACHINES: usize = 2;

pub(crate) fn measure(amount: OvnAmount) -> Result<Report> {
    let mut report = Report::begin();
    let packages = Packages::find().context("`./bench --engine ovn` unpacks them")?;
    let version = output(packages.command("ovn-northd").arg("--version"))?;
    report.engine(version.lines().next().unwrap_or_default().to_owned());
    step("starting OVN");
    // As large a subnet as the standard plugins have here: addresses that cool down are no obstacle in it.
    let settings = json!({ "log": { "level": "info" }, "cluster": { "subnetPrefix": 16 } });
    let lab = OvnLab::start(MACHINES, &settings)?;
    // Beside the lab's own connections over TLS.
    for (program, ssl, tcp) in [
        ("ovn-nbctl", "pssl:6641:0.0.0.0", "ptcp:6651:0.0.0.0"),
        ("ovn-sbctl", "pssl:6642:0.0.0.0", "ptcp:6652:0.0.0.0"),
    ] {
        lab.ctl(program, &["--inactivity-probe=60000", "set-connection", ssl, tcp])?;
    }
    let anchors = own::measure(&lab, amount.rounds, &mut report)?;
    let mut growth = Growth::from(anchors.len());
    for (place, tenants) in amount.tenants.iter().copied().enumerate() {
        growth.measure(&lab, tenants, amount.pods, &mut report)?;
        // While a cold tenant is cheap.
        if place == 0 {
            growth.more(concurrent(&lab, amount.concurrency, &mut report)?);
        }
    }
    for anchor in anchors {
        machine::first(&lab)?.cni()?.del(&anchor)?;
    }
    lab.finish_after_cleanup()?;
    report.end();
    Ok(report)
}

/// Many calls at a time, on both machines. Returns the number of their tenants, which remain.
fn concurrent(lab: &OvnLab, count: usize, report: &mut Report) -> Result<usize> {
    const TENANTS: usize = 5;
    let runtimes = lab.chassis.iter().map(OvnMachine::cni).collect::<Result<Vec<_>>>()?;
    let before = lab.leftovers()?;
    let left =
        || -> Result<Vec<String>> { Ok(lab.leftovers()?.into_iter().filter(|line| !before.contains(line)).collect()) };
    let leaks = || {
        // Pending cleanup is no leak: later calls complete it.
        let cleaned = lab.clean_up(|| {
            let left = left()?;
            ensure!(left.is_empty(), "left: {left:?}");
            Ok(())
        });
        if cleaned.is_ok() { Ok(Vec::new()) } else { left() }
    };
    concurrency::all(&runtimes, count, TENANTS, leaks, report)?;
    Ok(TENANTS)
}
