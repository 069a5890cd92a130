//! Many concurrent ADDs in tenants that do not exist yet, then as many DELs. No data plane: only the assigned addresses
//! are checked.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result};
use atoll_testkit::lab::cni::Cni;
use atoll_testkit::lab::leftovers;
use atoll_testkit::lab::pod::LabPod;
use serde_json::json;

use crate::progress::step;
use crate::report::{Report, ReportLine, SpeedTarget};
use crate::site::{BenchSite, milliseconds};
use crate::spread::Spread;

/// Calls at a time.
const AT_A_TIME: usize = 64;
/// How many lines of one kind of fault are shown.
const SHOWN: usize = 5;

/// Adds its findings to the report.
pub(crate) fn measure(count: usize, tenants: usize, report: &mut Report) -> Result<()> {
    let site = BenchSite::atoll(false, &json!({}))?;
    let node = site.node().context("a site with servers")?;
    let runtimes = [site.cni()?];
    if all(&runtimes, count, tenants, || leftovers::of_pods(node), report)? { site.finish() } else { Ok(()) }
}

/// The same with these runtimes, which take turns. Whether there was no fault.
pub(crate) fn all(
    runtimes: &[Cni<'_>],
    count: usize,
    tenants: usize,
    leaks: impl FnOnce() -> Result<Vec<String>>,
    report: &mut Report,
) -> Result<bool> {
    step(&format!("{count} ADDs, {AT_A_TIME} at a time, {tenants} tenants: making the pods"));
    let numbers: Vec<usize> = (0..count).collect();
    let make = |number: &usize| LabPod::new(&format!("tenant-{}", number % tenants), &format!("pod-{number}"));
    let pods = in_turns(&numbers, 4, make).into_iter().collect::<Result<Vec<_>>>()?;
    let placed: Vec<(&LabPod, &Cni<'_>)> = pods.iter().zip(runtimes.iter().cycle()).collect();

    step("ADD");
    let begin = Instant::now();
    let added = in_turns(&placed, AT_A_TIME, |(pod, cni)| cni.add(pod));
    let add_seconds = begin.elapsed().as_secs_f64();
    let mut seen = BTreeSet::new();
    let answers = pods.iter().zip(&added).filter_map(|(pod, added)| Some((pod, added.as_ref().ok()?)));
    let twice = answers.filter(|(pod, at)| !seen.insert((&pod.namespace, at.address.ip())));
    let duplicates: Vec<String> =
        twice.map(|(pod, at)| format!("duplicate: {} of {} ({})", at.address, pod.namespace, pod.name)).collect();
    let took: Vec<f64> = added.iter().flatten().map(|at| milliseconds(at.took)).collect();
    let mut failures: Vec<String> =
        added.iter().filter_map(|added| Some(format!("failure: {:#}", added.as_ref().err()?))).collect();

    step("DEL");
    let begin = Instant::now();
    let deleted = in_turns(&placed, AT_A_TIME, |(pod, cni)| cni.del(pod));
    let del_seconds = begin.elapsed().as_secs_f64();
    failures.extend(deleted.into_iter().filter_map(|deleted| Some(format!("failure: {:#}", deleted.err()?))));
    let leaks = leaks()?;

    let name = format!("{count} ADDs, {AT_A_TIME} at a time, {tenants} tenants");
    let amount = |count: usize| u32::try_from(count).map(f64::from);
    for (what, list) in [("duplicates", &duplicates), ("failures", &failures), ("leaks", &leaks)] {
        let here = Spread::exactly(amount(list.len())?);
        report.find(ReportLine::new(format!("{name}: {what}"), "", SpeedTarget::AtMost(0.0), here, None));
    }
    for (what, seconds) in [("ADD", add_seconds), ("DEL", del_seconds)] {
        let here = Spread::exactly(amount(count)? / seconds);
        report.find(ReportLine::new(format!("{name}: {what}s per second"), "", SpeedTarget::None, here, None));
    }
    if let Some(took) = Spread::of(&took) {
        report.find(ReportLine::new(format!("{name}: one ADD, wall"), "ms", SpeedTarget::None, took, None));
    }
    let sound = duplicates.is_empty() && failures.is_empty() && leaks.is_empty();
    for list in [duplicates, failures, leaks.into_iter().map(|leak| format!("leak: {leak}")).collect()] {
        report.wrong(list.into_iter().take(SHOWN));
    }
    Ok(sound)
}

/// Processes the items, a fixed number at a time; the results have the order of the items.
pub(crate) fn in_turns<I: Sync, T: Send>(items: &[I], at_a_time: usize, work: impl Fn(&I) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(place) else { return done };
            done.push((place, work(item)));
        }
    };
    let mut done: Vec<(usize, T)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..at_a_time.min(items.len())).map(|_| scope.spawn(worker)).collect();
        let join = |one: std::thread::ScopedJoinHandle<'_, Vec<(usize, T)>>| {
            one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().flat_map(join).collect()
    });
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_once_and_in_order() {
        let items: Vec<usize> = (0..500).collect();
        let running = AtomicUsize::new(0);
        let most = AtomicUsize::new(0);
        let results = in_turns(&items, 7, |item| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            running.fetch_sub(1, Ordering::SeqCst);
            item * 2
        });
        assert_eq!(results, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        assert!((1..=7).contains(&most.load(Ordering::SeqCst)));
    }
}
