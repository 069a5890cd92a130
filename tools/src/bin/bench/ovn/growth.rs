//! A pod and a tenant while there are more and more tenants: how long ADD takes, and what it costs the daemons.

use std::path::Path;

use anyhow::{Context as _, Result};
use atoll_testkit::lab::ovn::OvnLab;
use atoll_testkit::lab::pod::LabPod;

use super::machine::first;
use super::{daemons, own};
use crate::concurrency::in_turns;
use crate::progress::step;
use crate::report::{Report, ReportLine, SpeedTarget};
use crate::site::{BenchSite, pod};
use crate::spread::Spread;

/// Tenants that are created at a time.
const AT_A_TIME: usize = 16;
/// Cold tenants at each number of tenants.
const COLD: usize = 2;
/// The daemons that the report has, and how it calls them.
const DAEMONS: [(&str, &str); 5] = [
    ("ovn-northd", "northd"),
    ("nb", "the Northbound server"),
    ("sb", "the Southbound server"),
    ("c1 ovn-controller", "ovn-controller of its machine"),
    ("c2 ovn-controller", "ovn-controller of another machine"),
];

/// Measurements at growing numbers of tenants.
pub(crate) struct Growth {
    /// How many tenants there are.
    tenants: usize,
    /// What was found at the first number.
    base: Vec<Spread>,
}

impl Growth {
    /// There are so many tenants already.
    pub(crate) fn from(tenants: usize) -> Self {
        Self { tenants, base: Vec::new() }
    }

    /// Other measurements have made so many more.
    pub(crate) fn more(&mut self, tenants: usize) {
        self.tenants += tenants;
    }

    /// Adds what a pod and a tenant cost at this number of tenants to the report.
    pub(crate) fn measure(&mut self, lab: &OvnLab, tenants: usize, pods: usize, report: &mut Report) -> Result<()> {
        let machine = first(lab)?;
        step(&format!("{tenants} tenants: creating them"));
        let names: Vec<String> = (self.tenants..tenants).map(|number| format!("grown-{number}")).collect();
        let created = in_turns(&names, AT_A_TIME, |name| machine.atollctl(&["tenant", "create", name]));
        created.into_iter().collect::<Result<Vec<_>>>()?;
        lab.synchronize()?;

        step(&format!("{tenants} tenants: {pods} pods"));
        let found = one(lab, pods, tenants)?;
        for (place, (what, here)) in found.iter().enumerate() {
            let (what, beside) = (format!("{tenants} tenants: {what}"), self.base.get(place).copied());
            report.find(ReportLine::new(what, "ms", SpeedTarget::None, *here, beside));
        }
        if self.base.is_empty() {
            self.base = found.into_iter().map(|(_, here)| here).collect();
        }
        self.tenants = tenants + COLD;
        Ok(())
    }
}

/// What a pod and a cold tenant cost now.
fn one(lab: &OvnLab, count: usize, tenants: usize) -> Result<Vec<(String, Spread)>> {
    let machine = first(lab)?;
    let site = BenchSite::ovn(machine, machine.config().clone())?;
    let log = machine.config()["log"]["file"].as_str().context("the configuration has a log")?;
    let mut found = Vec::new();

    let pods = (0..count).map(|_| pod("grown")).collect::<Result<Vec<_>>>()?;
    let (mut own, mut wall, mut del) = (Vec::new(), Vec::new(), Vec::new());
    let cost = daemons::cost(lab, || {
        for pod in &pods {
            let (_, add) = site.add(pod)?;
            own.push(add.wall - own::waited(Path::new(log), pod)?);
            wall.push(add.wall);
        }
        Ok(())
    })?;
    let gone = daemons::cost(lab, || {
        for pod in &pods {
            del.push(site.del(pod)?.wall);
        }
        Ok(())
    })?;
    for (what, samples) in
        [("warm ADD, our share", &own), ("warm ADD, wall with ovn-controller", &wall), ("DEL, wall", &del)]
    {
        found.push((what.to_owned(), Spread::of(samples).context("samples")?));
    }
    let each = f64::from(u32::try_from(count)?);
    for (name, called) in DAEMONS {
        found.push((format!("warm ADD, CPU of {called}"), Spread::exactly(cost[name] / each)));
    }
    found.push(("DEL, CPU of northd".to_owned(), Spread::exactly(gone["ovn-northd"] / each)));

    let cold = (0..COLD).map(|number| LabPod::new(&format!("cold-{tenants}-{number}"), "first"));
    let cold = cold.collect::<Result<Vec<_>>>()?;
    let mut wall = Vec::new();
    let cost = daemons::cost(lab, || {
        for pod in &cold {
            wall.push(site.add(pod)?.1.wall);
        }
        Ok(())
    })?;
    found.push(("cold ADD, wall with ovn-controller".to_owned(), Spread::of(&wall).context("samples")?));
    let each = f64::from(u32::try_from(COLD)?);
    found.push(("cold ADD, CPU of northd".to_owned(), Spread::exactly(cost["ovn-northd"] / each)));
    for pod in &cold {
        site.del(pod)?;
    }
    site.finish()?;
    Ok(found)
}
