//! Calls one at a time, in a tenant that exists: over TLS, over plain TCP, and those of the standard plugins, in turn. ADD waits
//! for ovn-controller; the rest of its time is ours.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use atoll_testkit::lab::ovn::OvnLab;
use atoll_testkit::lab::pod::LabPod;
use serde_json::Value;

use super::daemons;
use super::machine::{first, plain};
use crate::progress::step;
use crate::report::{Report, ReportLine, SpeedTarget};
use crate::site::{BenchSite, pod};
use crate::spread::Spread;

/// The places of the variants.
const TLS: usize = 0;
const BESIDE: usize = 2;
/// How they are called.
const NAMES: [&str; 2] = ["TLS", "plain TCP"];
/// How often what does not vary much is measured.
const FEW: usize = 8;

/// What calls of one variant cost.
#[derive(Default)]
struct OwnCosts {
    /// The wall time of ADD without waiting for ovn-controller.
    own: Vec<f64>,
    wall: Vec<f64>,
    cpu: Vec<f64>,
    del_wall: Vec<f64>,
    del_cpu: Vec<f64>,
}

/// Adds its findings to the report. Returns the first pods of two tenants, which stay.
pub(crate) fn measure(lab: &OvnLab, rounds: usize, report: &mut Report) -> Result<Vec<LabPod>> {
    let machine = first(lab)?;
    let sites = [
        BenchSite::ovn(machine, machine.config().clone())?,
        BenchSite::ovn(machine, plain(machine))?,
        BenchSite::standard()?,
    ];
    let anchors = vec![pod("anchor")?, LabPod::new("other", "anchor")?];
    for anchor in &anchors {
        sites[TLS].add(anchor)?;
    }
    let beside = pod("anchor")?;
    sites[BESIDE].add(&beside)?;
    let log = machine.config()["log"]["file"].as_str().context("the configuration has a log")?;

    step(&format!("warm calls: {rounds} rounds"));
    let mut costs: [OwnCosts; 3] = Default::default();
    for round in 0..rounds {
        for turn in 0..sites.len() {
            // Each round begins with another variant.
            let place = (turn + round) % sites.len();
            let (site, costs) = (&sites[place], &mut costs[place]);
            let pod = pod("measured")?;
            let (_, add) = site.add(&pod)?;
            let waited = if place == BESIDE { 0.0 } else { waited(Path::new(log), &pod)? };
            costs.own.push(add.wall - waited);
            costs.wall.push(add.wall);
            costs.cpu.push(add.cpu);
            let del = site.del(&pod)?;
            costs.del_wall.push(del.wall);
            costs.del_cpu.push(del.cpu);
        }
    }
    for (place, name) in NAMES.into_iter().enumerate() {
        let mut find = |what: String, of: &dyn Fn(&OwnCosts) -> &Vec<f64>| -> Result<()> {
            let here = Spread::of(of(&costs[place])).context("samples")?;
            let beside = Spread::of(of(&costs[BESIDE]));
            report.find(ReportLine::new(what, "ms", SpeedTarget::None, here, beside));
            Ok(())
        };
        find(format!("warm ADD, {name}: our share, wall"), &|costs| &costs.own)?;
        find(format!("warm ADD, {name}: CPU"), &|costs| &costs.cpu)?;
        find(format!("warm ADD, {name}: wall, with ovn-controller"), &|costs| &costs.wall)?;
        find(format!("DEL, {name}: wall"), &|costs| &costs.del_wall)?;
        find(format!("DEL, {name}: CPU"), &|costs| &costs.del_cpu)?;
    }
    memory(&sites, report)?;
    handshakes(lab, &sites, report)?;
    sites[BESIDE].del(&beside)?;
    for site in sites {
        site.finish()?;
    }
    Ok(anchors)
}

/// How long the ADD of this pod waited for ovn-controller, by its own trace.
pub(crate) fn waited(log: &Path, pod: &LabPod) -> Result<f64> {
    let text = fs::read_to_string(log).with_context(|| format!("read {}", log.display()))?;
    for line in text.lines().rev() {
        let line: Value = serde_json::from_str(line).with_context(|| format!("{}: {line}", log.display()))?;
        if line["message"] == "done" && line["command"] == "ADD" && line["container"] == pod.container.as_str() {
            return line["stages"]["packets"].as_f64().with_context(|| format!("no stage \"packets\": {line}"));
        }
    }
    anyhow::bail!("{}: no ADD of {} is done", log.display(), pod.container)
}

/// The largest resident set, by `time`.
fn memory(sites: &[BenchSite; 3], report: &mut Report) -> Result<()> {
    let mut peaks: [[Vec<f64>; 2]; 2] = Default::default();
    let measured = [&sites[TLS], &sites[BESIDE]];
    for _ in 0..FEW {
        for (site, peaks) in measured.into_iter().zip(&mut peaks) {
            let pod = pod("weighed")?;
            for (command, peaks) in ["ADD", "DEL"].into_iter().zip(peaks) {
                peaks.push(site.peak_memory(command, &pod)?);
            }
        }
    }
    for (verb, command) in ["ADD", "DEL"].into_iter().enumerate() {
        let here = Spread::of(&peaks[0][verb]).context("samples")?;
        let beside = Spread::of(&peaks[1][verb]);
        let what = format!("{command}, TLS: peak memory");
        report.find(ReportLine::new(what, "MB", SpeedTarget::None, here, beside));
    }
    Ok(())
}

/// What a pod costs the server of Northbound, which has one thread, with a handshake for each call and without.
fn handshakes(lab: &OvnLab, sites: &[BenchSite; 3], report: &mut Report) -> Result<()> {
    let mut each = Vec::new();
    for site in &sites[..NAMES.len()] {
        let pods = (0..FEW).map(|_| pod("counted")).collect::<Result<Vec<_>>>()?;
        let cost = daemons::cost(lab, || pods.iter().try_for_each(|pod| site.add(pod).map(drop)))?;
        pods.iter().try_for_each(|pod| site.del(pod).map(drop))?;
        each.push(Spread::exactly(cost["nb"] / f64::from(u32::try_from(FEW)?)));
    }
    let what = "warm ADD, TLS: CPU of the Northbound server, beside plain TCP";
    report.find(ReportLine::new(what, "ms", SpeedTarget::None, each[0], Some(each[1])));
    Ok(())
}
