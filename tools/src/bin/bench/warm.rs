//! Warm calls, one at a time: the tenant exists, and the node has caches of both servers.

use anyhow::{Context as _, Result};
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::pod::LabPod;
use serde_json::json;

use crate::progress::step;
use crate::report::{Report, ReportLine, SpeedTarget};
use crate::site::{BenchSite, Cost, STANDARD, etcd_requests, pod};
use crate::spread::{Spread, mean};

/// How often what does not vary much is measured.
const FEW: usize = 8;

/// The places of the variants.
const AT_ONCE: usize = 0;
const DATAPLANE: usize = 1;
const BESIDE: usize = 2;

/// What calls of one variant cost.
#[derive(Default)]
struct Costs {
    add: Vec<Cost>,
    del: Vec<Cost>,
    version: Vec<Cost>,
}

/// Adds its findings to the report.
pub(crate) fn measure(rounds: usize, report: &mut Report) -> Result<()> {
    step("warm calls: starting the servers");
    // As large a subnet as the standard plugins have here: addresses that cool down are no obstacle in it.
    let cluster = json!({ "subnetPrefix": 16 });
    let sites = [BenchSite::atoll(false, &cluster)?, BenchSite::atoll(true, &cluster)?, BenchSite::standard()?];
    // The first pod creates the bridge or the tenant, and stays.
    let anchors = sites.iter().map(|site| {
        let anchor = pod("anchor")?;
        site.add(&anchor)?;
        Ok(anchor)
    });
    let anchors = anchors.collect::<Result<Vec<_>>>()?;

    step(&format!("warm calls: {rounds} rounds"));
    let mut costs: [Costs; 3] = Default::default();
    for round in 0..rounds {
        for turn in 0..sites.len() {
            // Each round begins with another variant.
            let place = (turn + round) % sites.len();
            one_round(&sites[place], &mut costs[place])?;
        }
    }
    times(&costs, report);

    step("warm calls: memory, requests, processes");
    requests(&sites[AT_ONCE], report)?;
    forks(&sites[AT_ONCE], report)?;
    memory(&sites, report)?;
    size(&sites, report)?;
    for (site, anchor) in sites.into_iter().zip(anchors) {
        site.del(&anchor)?;
        site.finish()?;
    }
    Ok(())
}

fn one_round(site: &BenchSite, costs: &mut Costs) -> Result<()> {
    let pod = pod("measured")?;
    costs.version.push(site.version(&pod)?);
    let (_, add) = site.add(&pod)?;
    costs.add.push(add);
    costs.del.push(site.del(&pod)?);
    Ok(())
}

fn times(costs: &[Costs; 3], report: &mut Report) {
    let mut compare = |what: &str, place: usize, target, of: &dyn Fn(&Costs) -> Vec<f64>| {
        let (here, beside) = (Spread::of(&of(&costs[place])), Spread::of(&of(&costs[BESIDE])));
        if let Some(here) = here {
            report.find(ReportLine::new(what, "ms", target, here, beside));
        }
    };
    let wall = |costs: &[Cost]| costs.iter().map(|cost| cost.wall).collect::<Vec<_>>();
    let cpu = |costs: &[Cost]| costs.iter().map(|cost| cost.cpu).collect::<Vec<_>>();
    compare("warm ADD, active at once: wall", AT_ONCE, SpeedTarget::RatioAtMost(0.4), &|costs| wall(&costs.add));
    compare("warm ADD, active at once: CPU", AT_ONCE, SpeedTarget::RatioAtMost(0.4), &|costs| cpu(&costs.add));
    compare("warm ADD, data plane: wall", DATAPLANE, SpeedTarget::RatioAtMost(1.0), &|costs| wall(&costs.add));
    compare("warm ADD, data plane: CPU", DATAPLANE, SpeedTarget::RatioAtMost(1.0), &|costs| cpu(&costs.add));
    compare("DEL, no data plane: wall", AT_ONCE, SpeedTarget::RatioAtMost(0.9), &|costs| wall(&costs.del));
    compare("DEL, no data plane: CPU", AT_ONCE, SpeedTarget::None, &|costs| cpu(&costs.del));
    compare("DEL, data plane: wall", DATAPLANE, SpeedTarget::RatioAtMost(0.9), &|costs| wall(&costs.del));
    compare("VERSION: wall", AT_ONCE, SpeedTarget::None, &|costs| wall(&costs.version));
}

/// Requests to the servers, by their own counters.
fn requests(site: &BenchSite, report: &mut Report) -> Result<()> {
    let node = site.node().context("a site with servers")?;
    let pods = (0..FEW).map(|_| pod("counted")).collect::<Result<Vec<_>>>()?;
    let each = |work: &dyn Fn(&LabPod) -> Result<()>| -> Result<[Vec<f64>; 3]> {
        let mut counts: [Vec<f64>; 3] = Default::default();
        for pod in &pods {
            let before = asked(node)?;
            work(pod)?;
            for (count, (after, before)) in counts.iter_mut().zip(asked(node)?.into_iter().zip(before)) {
                count.push(after - before);
            }
        }
        Ok(counts)
    };
    let add = each(&|pod| site.add(pod).map(drop))?;
    let del = each(&|pod| site.del(pod).map(drop))?;
    let mut find = |what: &str, limit: Option<f64>, counts: &[f64]| {
        let target = limit.map_or(SpeedTarget::None, SpeedTarget::AtMost);
        report.find(ReportLine::new(what, "", target, Spread::exactly(mean(counts)), None));
    };
    find("warm ADD: requests to etcd", Some(1.0), &add[0]);
    find("warm ADD: requests to the controller, 5.x", Some(1.0), &add[1]);
    find("warm ADD: polls of the port", None, &add[2]);
    find("DEL: requests to etcd", None, &del[0]);
    find("DEL: requests to the controller, 5.x", None, &del[1]);
    Ok(())
}

/// Requests so far: to etcd, to the controller, and those that only read one port.
fn asked(node: &LabNode) -> Result<[f64; 3]> {
    let record = node.controller_get("/mock/requests")?;
    let (mut other, mut polls) = (0.0, 0.0);
    for (what, count) in record["counters"].as_object().context("the controller's counters")? {
        let count = count.as_f64().context("a number")?;
        if what.starts_with("GET /ports/") { polls += count } else { other += count }
    }
    Ok([etcd_requests(node)?, other, polls])
}

/// Processes that an ADD starts: clones that are not threads, and programs beside its own.
fn forks(site: &BenchSite, report: &mut Report) -> Result<()> {
    let pod = pod("traced")?;
    let calls = "trace=fork,vfork,clone,clone3,execve";
    let trace = site.under(&["strace", "-f", "-qq", "-e", calls, "-e", "signal=none", "-o"], "ADD", &pod)?;
    site.del(&pod)?;
    let started = trace.lines().filter(|line| {
        let process = ["fork(", "vfork(", "clone(", "clone3("].iter().any(|call| line.contains(call));
        process && !line.contains("CLONE_THREAD")
    });
    let programs = trace.lines().filter(|line| line.contains("execve(")).count().saturating_sub(1);
    let count = u32::try_from(started.count().max(programs))?;
    report.find(ReportLine::new("warm ADD: forks", "", SpeedTarget::AtMost(0.0), Spread::exactly(count.into()), None));
    Ok(())
}

/// The largest resident set.
fn memory(sites: &[BenchSite; 3], report: &mut Report) -> Result<()> {
    let mut peaks: [[Vec<f64>; 2]; 3] = Default::default();
    for _ in 0..FEW {
        for (site, peaks) in sites.iter().zip(&mut peaks) {
            let pod = pod("weighed")?;
            for (command, peaks) in ["ADD", "DEL"].into_iter().zip(peaks) {
                peaks.push(site.peak_memory(command, &pod)?);
            }
        }
    }
    for (place, what) in [(AT_ONCE, "no data plane"), (DATAPLANE, "data plane")] {
        for (verb, command) in ["ADD", "DEL"].into_iter().enumerate() {
            let beside = Spread::of(&peaks[BESIDE][verb]);
            let here = Spread::of(&peaks[place][verb]).context("samples")?;
            let what = format!("{command}, {what}: peak memory");
            report.find(ReportLine::new(what, "MB", SpeedTarget::AtMost(10.0), here, beside));
        }
    }
    Ok(())
}

fn size(sites: &[BenchSite; 3], report: &mut Report) -> Result<()> {
    let megabytes = |path: &std::path::Path| -> Result<f64> {
        let size = std::fs::metadata(path).with_context(|| format!("look at {}", path.display()))?.len();
        Ok(f64::from(u32::try_from(size)?) / 1e6)
    };
    let ours = megabytes(&sites[AT_ONCE].program()?)?;
    let standard =
        megabytes(&sites[BESIDE].program()?)? + megabytes(&std::path::Path::new(STANDARD).join("host-local"))?;
    let (ours, standard) = (Spread::exactly(ours), Spread::exactly(standard));
    report.find(ReportLine::new("plugin: size", "MB", SpeedTarget::AtMost(6.0), ours, Some(standard)));
    Ok(())
}
